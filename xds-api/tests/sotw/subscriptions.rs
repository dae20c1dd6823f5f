//! Rules C and E: what a list of names asks for, and what a client that returns is sent.

use crate::script::{check, check_names_only};

#[test]
fn c1_a_first_request_without_names_asks_for_all() {
    check(
        "C1",
        "mesh CDS a=1
         > CDS
         < CDS 1: a=1
         > CDS !ack
         mesh CDS b=1
         < CDS 2: a=1 b=1
         > CDS !ack",
    );
}

#[test]
fn c1_no_names_after_names_ask_for_nothing() {
    check(
        "C1",
        "mesh CDS a=1 b=1
         > CDS
         < CDS 1: a=1 b=1
         > CDS a !ack
         < CDS 2: a=1
         > CDS !ack
         mesh CDS a=2 b=2",
    );
}

#[test]
fn c2_the_wildcard_is_left_by_leaving_it_out() {
    check(
        "C2",
        "mesh CDS A=1 B=1
         > CDS * A
         < CDS 1: A=1 B=1
         > CDS A !ack
         mesh CDS B=2
         mesh CDS A=2
         < CDS 2: A=2
         > CDS !ack
         mesh CDS A=3",
    );
}

#[test]
fn c2_a_name_may_be_left_out_beside_the_wildcard() {
    check(
        "C2",
        "mesh CDS a=1
         > CDS * a gone
         < CDS 1: a=1 ?gone
         > CDS * !ack
         mesh CDS a=2
         < CDS 2: a=2
         > CDS * !ack
         mesh CDS gone=1
         < CDS 3: a=2 gone=1",
    );
}

#[test]
fn c2_the_wildcard_may_be_asked_for_by_its_name() {
    check(
        "C2",
        "mesh CDS a=1 b=1
         > CDS a
         < CDS 1: a=1
         > CDS * !ack
         < CDS 2: a=1 b=1",
    );
}

#[test]
fn c2_all_may_be_asked_for_by_name_after_it_was_by_no_names() {
    check(
        "C2",
        "mesh CDS a=1
         > CDS
         < CDS 1: a=1
         > CDS * !ack
         mesh CDS a=2
         < CDS 2: a=2
         > CDS !ack
         mesh CDS a=3",
    );
}

#[test]
fn c3_a_client_that_only_names_gets_nothing_for_no_names() {
    check_names_only(
        "C3",
        "mesh LDS a=1
         > LDS
         mesh LDS a=2
         > LDS a
         < LDS 1: a=2
         > LDS !ack
         mesh LDS a=3",
    );
}

#[test]
fn c4_a_list_of_one_empty_name_asks_for_nothing() {
    check(
        "C4",
        "mesh CDS a=1
         > CDS a
         < CDS 1: a=1
         > CDS '' !ack
         mesh CDS a=2
         mesh EDS a=1
         > EDS ''
         mesh EDS a=2",
    );
}

#[test]
fn c5_names_that_are_added_come_though_nothing_changed() {
    check(
        "C5",
        "mesh CDS a=1 b=1
         mesh EDS a=1 b=1
         > CDS a
         < CDS 1: a=1
         > CDS a b !ack
         < CDS 2: a=1 b=1
         > EDS a
         < EDS 3: a=1
         > EDS a b !ack
         < EDS 4: b=1",
    );
}

#[test]
fn c5_names_that_are_dropped_are_silently_forgotten_and_come_again_when_they_return() {
    check(
        "C5",
        "mesh CDS a=1 b=1
         mesh EDS a=1 b=1
         > CDS a b
         < CDS 1: a=1 b=1
         > CDS a !ack
         mesh CDS b=2
         mesh CDS b=1
         > CDS a b !ack
         < CDS 2: a=1 b=1
         > EDS a b
         < EDS 3: a=1 b=1
         > EDS a !ack
         > EDS a b !ack
         < EDS 4: b=1",
    );
}

#[test]
fn c8_what_does_not_exist_comes_when_it_does() {
    check(
        "C8",
        "mesh CDS a=1
         > CDS a late
         < CDS 1: a=1 ?late
         > CDS a late !ack
         mesh CDS late=1
         < CDS 2: a=1 late=1
         > EDS late
         < EDS 3: ?late
         > EDS late !ack
         mesh EDS late=1
         < EDS 4: late=1",
    );
}

#[test]
fn c13_a_locator_without_parameters_is_its_name() {
    check(
        "C13",
        "mesh EDS a=1 b=1
         > EDS !locator:a
         < EDS 1: a=1",
    );
}

#[test]
fn e3_all_of_nothing_is_an_empty_answer() {
    check(
        "E3",
        "> CDS
         < CDS 1:
         > CDS !ack
         mesh CDS a=1
         < CDS 2: a=1",
    );
}

#[test]
fn e4_a_client_that_returns_is_sent_everything() {
    check(
        "E4",
        "mesh CDS a=1
         mesh EDS a=1
         > CDS !version:900150983cd24fb0d6963f7d28e17f72
         < CDS 1: a=1
         > EDS a !version:900150983cd24fb0d6963f7d28e17f72
         < EDS 2: a=1",
    );
}

//! Rules D and F: what a response must hold, in which order responses come, and what is said of what is missing.

use xds_api::sotw::Server;
use xds_api::type_url::TypeUrl;

use crate::mesh::Mesh;
use crate::script::{check, request};

#[test]
fn d1_clusters_and_listeners_are_always_the_whole_set() {
    for kind in ["CDS", "LDS"] {
        let script = "mesh CDS a=1 b=1 c=1
             > CDS a b
             < CDS 1: a=1 b=1
             > CDS a b !ack
             mesh CDS b=2
             < CDS 2: a=1 b=2
             > CDS a b !ack
             mesh CDS b-
             < CDS 3: a=1 ?b
             > CDS a b !ack
             mesh CDS a-
             < CDS 4: ?a";
        check("D1", &script.replace("CDS", kind));
    }
}

#[test]
fn d1_under_a_wildcard_a_deletion_is_an_omission() {
    check(
        "D1",
        "mesh LDS a=1 b=1
         > LDS
         < LDS 1: a=1 b=1
         > LDS !ack
         mesh LDS b-
         < LDS 2: a=1
         > LDS !ack
         mesh LDS a-
         < LDS 3:",
    );
}

#[test]
fn d1_of_the_other_types_only_what_changed_is_sent() {
    for kind in ["EDS", "RDS", "SDS", "ECDS"] {
        let script = "mesh EDS a=1 b=1 c=1
             > EDS a b
             < EDS 1: a=1 b=1
             > EDS a b !ack
             mesh EDS b=2 c=2
             < EDS 2: b=2";
        check("D1", &script.replace("EDS", kind));
    }
}

#[test]
fn d1_what_only_a_wildcard_covered_goes_without_a_word() {
    check(
        "D1",
        "mesh SDS a=1 b=1
         > SDS *
         < SDS 1: a=1 b=1
         > SDS * !ack
         mesh SDS b-
         mesh SDS a=2
         < SDS 2: a=2",
    );
}

#[test]
fn d2_a_name_twice_is_sent_once() {
    check(
        "D2",
        "mesh CDS a=1
         > CDS a a *
         < CDS 1: a=1",
    );
}

#[test]
fn d4_what_is_referred_to_comes_first() {
    check(
        "D4",
        "hold LDS RDS ECDS CDS EDS SDS
         mesh RDS r=1
         mesh ECDS x=1
         mesh LDS l=1
         mesh SDS s=1
         mesh EDS e=1
         mesh CDS c=1
         > RDS r
         > ECDS x
         > LDS l
         > SDS s
         > EDS e
         > CDS c
         release
         < CDS 1: c=1
         < EDS 2: e=1
         < SDS 3: s=1
         < LDS 4: l=1
         < ECDS 5: x=1
         < RDS 6: r=1",
    );
}

#[test]
fn d4_d7_what_goes_stays_until_nothing_can_refer_to_it() {
    check(
        "D4 D7",
        "fill EDS
         mesh CDS old=1
         mesh EDS old=1
         mesh RDS r=old
         > CDS
         < CDS 1: old=1
         > EDS old
         < EDS 2: old=1
         > RDS r
         < RDS 3: r=old
         > CDS !ack
         > EDS old !ack
         > RDS r !ack
         hold CDS EDS RDS
         mesh CDS new=1 old-
         mesh EDS old-
         mesh RDS r=new
         release
         < CDS 4: new=1 old=1
         < RDS 5: r=new
         > CDS !ack
         > RDS r !ack
         < CDS 6: new=1
         > CDS !ack
         < EDS 7: old=",
    );
}

#[test]
fn d5_a_cluster_that_changes_brings_its_endpoints_again() {
    check(
        "D5",
        "mesh CDS a=1@ b=1@
         mesh EDS a=1 b=1
         > CDS
         < CDS 1: a=1@ b=1@
         > EDS a b
         < EDS 2: a=1 b=1
         > EDS a b !ack
         > CDS !ack
         mesh CDS a=2@
         < CDS 3: a=2@ b=1@
         < EDS 4: a=1
         > EDS a b !ack:2
         > EDS a b !ack:4
         > CDS !ack",
    );
}

#[test]
fn d5_endpoints_are_asked_for_again_while_a_cluster_warms_and_only_then() {
    check(
        "D5",
        "mesh CDS a=1@ b=1@
         mesh EDS a=1 b=1
         > EDS a b
         < EDS 1: a=1 b=1
         > EDS a b !ack
         > CDS
         < CDS 2: a=1@ b=1@
         < EDS 3: a=1 b=1
         > EDS a b !ack
         > CDS !ack
         mesh CDS a=2@
         < CDS 4: a=2@ b=1@
         < EDS 5: a=1
         > EDS a b !ack:5
         > EDS a b !ack:5
         < EDS 6: a=1
         > EDS a b !ack:6
         > CDS !ack
         > EDS a b !ack:6",
    );
}

#[test]
fn d8_what_must_be_whole_is_not_split() {
    let pieces = |kind| {
        let mut mesh = Mesh::default();
        for name in ["a", "b", "c", "d"] {
            mesh.set(kind, name, &"x".repeat(400_000));
        }
        let mut server = Server::of_the_world();
        let first = server.differences(request(kind, &["a", "b", "c", "d"]));
        server.request(first).unwrap();
        server.next(&mesh).unwrap().resources.len()
    };
    assert_eq!(pieces(TypeUrl::Listener), 4);
    assert_eq!(pieces(TypeUrl::Cluster), 4);
    assert_eq!(pieces(TypeUrl::Endpoints), 3);
}

#[test]
fn f_a_placeholder_stands_in_for_what_is_missing() {
    check(
        "F",
        "fill EDS RDS
         > EDS a
         < EDS 1: a=
         > EDS a !ack
         > RDS r
         < RDS 2: r=
         > RDS r !ack
         mesh EDS a=1
         < EDS 3: a=1
         > EDS a !ack
         mesh EDS a-
         < EDS 4: a=
         > EDS a !ack
         mesh EDS a-",
    );
}

#[test]
fn f1_what_does_not_exist_is_said_once_and_not_in_place_of_what_does() {
    check(
        "F1",
        "mesh LDS a=1
         > LDS a b
         < LDS 1: a=1 ?b
         > LDS a b !ack
         mesh LDS a=2
         < LDS 2: a=2
         > LDS a b c !ack
         < LDS 3: a=2 ?c
         > LDS a b c !ack
         > RDS r
         < RDS 4: ?r
         > RDS r !ack
         > RDS r s !ack
         < RDS 5: ?s",
    );
}

#[test]
fn an_empty_sign_of_life_would_delete_everything_and_is_not_sent() {
    let mut mesh = Mesh::default();
    mesh.set(TypeUrl::Listener, "a", "1");
    let mut server = Server::of_the_world();
    let first = server.differences(request(TypeUrl::Listener, &["a"]));
    server.request(first).unwrap();
    let mut ack = request(TypeUrl::Listener, &["a"]);
    ack.response_nonce = server.next(&mesh).unwrap().nonce.to_string();
    let ack = server.differences(ack);
    server.request(ack).unwrap();
    assert!(server.is_idle() && server.beat(TypeUrl::Listener).is_none());
}

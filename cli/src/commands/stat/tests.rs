//! What is asked for, and what becomes of the answer.

use clap::Parser;

use super::*;
use crate::args::{Arguments, Command};

fn asked(words: &str) -> [String; 4] {
    let words = ["maille", "stat"]
        .into_iter()
        .chain(words.split_whitespace());
    let Ok(Command::Stat(args)) = Arguments::try_parse_from(words).map(|one| one.command) else {
        panic!("it is a command line of stat");
    };
    let request = request(&args);
    [
        request.service_namespace,
        request.service,
        request.client_namespace,
        request.client,
    ]
}

#[test]
fn a_name_is_of_the_namespace_that_is_meant_unless_it_says_another() {
    assert_eq!(asked(""), ["default", "", "", ""]);
    assert_eq!(asked("-A"), ["", "", "", ""]);
    assert_eq!(asked("-n shop svc/web"), ["shop", "web", "", ""]);
    assert_eq!(asked("-n shop --from web-1"), ["shop", "", "shop", "web-1"]);
    assert_eq!(asked("--from pay/db-1"), ["default", "", "pay", "db-1"]);
    assert_eq!(asked("-n shop --to pay/db"), ["pay", "db", "", ""]);
    assert_eq!(
        asked("-n shop workload/web-1 --to pay/db"),
        ["pay", "db", "shop", "web-1"]
    );
    assert_eq!(asked("-n shop workload"), ["", "", "shop", ""]);
}

fn loads() -> Vec<api::Load> {
    let native = api::Load {
        client: "shop/web-1".to_owned(),
        kind: "maille-proxy".to_owned(),
        service: "shop/api".to_owned(),
        port: 80,
        issued: 100,
        succeeded: 90,
        failed: 10,
        timed: 100,
        total_seconds: 0.5,
        measured_millis: 50_000,
        ..api::Load::default()
    };
    let envoy = api::Load {
        client: "shop/web-2".to_owned(),
        kind: "envoy".to_owned(),
        issued: 60,
        succeeded: 60,
        in_progress: 3,
        timed: 0,
        failed: 0,
        total_seconds: 0.0,
        measured_millis: 60_000,
        ..native.clone()
    };
    let opaque = api::Load {
        client: String::new(),
        kind: String::new(),
        service: "shop/db".to_owned(),
        port: 5432,
        connections_opened: 4,
        connections_open: 2,
        measured_millis: 60_000,
        ..api::Load::default()
    };
    vec![native, envoy, opaque]
}

#[test]
fn a_line_is_a_service_or_a_client_or_each_pair() {
    let shown = |end, apart| table(end, apart, &loads()).render(apart);
    insta::assert_snapshot!("services", shown(End::Service, false));
    insta::assert_snapshot!("workloads", shown(End::Workload, false));
    insta::assert_snapshot!("apart", shown(End::Service, true));
}

#[test]
fn a_program_is_told_of_each_client_and_null_where_nothing_is_known() {
    let answer = for_programs(api::LoadsResponse {
        window_seconds: 60,
        loads: loads(),
        reporters: vec![api::Reporter {
            client: "shop/web-3".to_owned(),
            kind: "gRPC".to_owned(),
            ..api::Reporter::default()
        }],
        ..api::LoadsResponse::default()
    });
    insta::assert_json_snapshot!(answer);
}

#[test]
fn it_is_said_whose_word_it_is_and_what_is_missing() {
    let reporter = |client: &str, kind: &str, reports| api::Reporter {
        client: client.to_owned(),
        kind: kind.to_owned(),
        reports,
        age_millis: 0,
    };
    let mut answer = api::LoadsResponse {
        window_seconds: 60,
        ..api::LoadsResponse::default()
    };
    assert_eq!(
        remarks(&answer),
        ["nobody has reported anything within 60 s"]
    );
    answer.reporters = vec![
        reporter("shop/a", "maille-proxy", true),
        reporter("shop/b", "envoy", true),
        reporter("shop/c", "maille-proxy", true),
    ];
    let mute = (0..7).map(|number| reporter(&format!("shop/m{number}"), "gRPC", false));
    answer.reporters.extend(mute);
    answer.silent_controllers = vec!["c2".to_owned()];
    answer.full_controllers = vec!["c1".to_owned()];
    assert_eq!(
        remarks(&answer),
        [
            "the last 60 s, as reported by 1 envoy, 2 maille-proxy",
            "connected, but without a report: shop/m0 (gRPC), shop/m1 (gRPC), shop/m2 (gRPC), shop/m3 (gRPC), shop/m4 (gRPC) and 2 more",
            "c2 does not answer: what was reported to it is missing",
            "c1 had no room for all that was reported to it: something is missing",
        ]
    );
}

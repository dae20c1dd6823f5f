//! One test a rule, by the numbers of our list of what an xDS server must keep (A transport, B versions, C
//! subscriptions, D contents and order, E reconnection). Rules that only state-of-the-world has are not here.

use std::collections::BTreeSet;

use xds_api::conversation::Standing;
use xds_api::delta::{Client, Refusal, Server, Verdict};
use xds_api::envoy::config::core::v3::Node;
use xds_api::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
};
use xds_api::google::protobuf::Any;
use xds_api::type_url::TypeUrl;

use crate::mesh::Mesh;
use crate::script::check;

fn request(type_url: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node {
            id: "shop/web".into(),
            ..Default::default()
        }),
        type_url: type_url.into(),
        ..Default::default()
    }
}

#[test]
fn a2_a_request_without_a_type_ends_the_stream() {
    assert_eq!(Server::new().request(request("")), Err(Refusal::NoType));
}

#[test]
fn a3_the_node_comes_once_and_later_ones_are_ignored() {
    let mut server = Server::new();
    let nameless = DeltaDiscoveryRequest {
        node: None,
        ..request(TypeUrl::Cluster.as_str())
    };
    assert_eq!(server.request(nameless.clone()), Err(Refusal::NoNode));
    server.request(request(TypeUrl::Cluster.as_str())).unwrap();
    server.request(nameless).unwrap();
    let other = Node {
        id: "other/one".into(),
        ..Default::default()
    };
    let request = DeltaDiscoveryRequest {
        node: Some(other),
        ..request(TypeUrl::Secret.as_str())
    };
    server.request(request).unwrap();
    assert_eq!(server.node().unwrap().id, "shop/web");
}

#[test]
fn a4_an_unknown_type_is_no_error_and_has_no_answer() {
    let mut server = Server::new();
    let taken = server
        .request(request("type.googleapis.com/envoy.Nope"))
        .unwrap();
    assert_eq!(taken.kind, None);
    assert!(server.next(&Mesh::default()).is_none());
}

#[test]
fn a5_types_are_independent() {
    check(
        "A5",
        "mesh CDS a=1
         mesh LDS a=1
         > CDS +a
         < CDS 1: a=1
         > LDS +a
         < LDS 2: a=1
         > CDS nack:bad
         mesh LDS a=2
         mesh CDS a=2
         < CDS 3: a=2
         > LDS ack:2
         < LDS 4: a=2",
    );
}

#[test]
fn a6_no_type_need_come_first() {
    check(
        "A6",
        "mesh EDS a=1
         mesh CDS a=1@
         > EDS +a
         < EDS 1: a=1
         > EDS ack
         > CDS
         < CDS 2: a=1@
         < EDS 3: a=1",
    );
}

#[test]
fn a7_streams_of_one_node_do_not_know_each_other() {
    let (mut one, mut two) = (Server::new(), Server::new());
    let mut mesh = Mesh::default();
    mesh.set(TypeUrl::Cluster, "a", "1");
    one.request(request(TypeUrl::Cluster.as_str())).unwrap();
    two.request(request(TypeUrl::Cluster.as_str())).unwrap();
    assert_eq!(one.next(&mesh).unwrap().resources.len(), 1);
    drop(one);
    assert_eq!(two.next(&mesh).unwrap().resources.len(), 1);
}

#[test]
fn a8_one_bad_resource_does_not_end_a_stream() {
    check(
        "A8",
        "mesh CDS a=1
         > CDS
         < CDS 1: a=1
         > CDS nack:bad
         mesh CDS b=1
         < CDS 2: b=1",
    );
}

#[test]
fn a10_more_names_than_can_be_kept_are_refused() {
    let mut server = Server::new();
    let mut first = request(TypeUrl::Listener.as_str());
    first.resource_names_subscribe = (0..100_000).map(|number| number.to_string()).collect();
    server.request(first).unwrap();
    let mut second = request(TypeUrl::Secret.as_str());
    second.resource_names_subscribe = vec!["one more".into()];
    assert_eq!(server.request(second), Err(Refusal::TooManyNames));
    let mut long = request(TypeUrl::Listener.as_str());
    long.resource_names_unsubscribe = vec!["x".repeat(1025)];
    assert_eq!(server.request(long), Err(Refusal::LongName(1025)));
}

#[test]
fn a10_names_that_come_and_go_without_an_answer_are_refused_in_the_end() {
    let mut server = Server::new();
    let mut mesh = Mesh::default();
    mesh.set(TypeUrl::Endpoints, "a", "1");
    let mut first = request(TypeUrl::Endpoints.as_str());
    first.resource_names_subscribe = vec!["a".into()];
    server.request(first).unwrap();
    server.next(&mesh).unwrap();
    let mut refused = false;
    for round in 0..8 {
        let names: Vec<String> = (0..50_000).map(|one| format!("{round}/{one}")).collect();
        let mut come = request(TypeUrl::Endpoints.as_str());
        come.resource_names_subscribe = names.clone();
        let mut go = request(TypeUrl::Endpoints.as_str());
        go.resource_names_unsubscribe = names;
        for request in [come, go] {
            match server.request(request) {
                Ok(_) => assert!(server.next(&mesh).is_none()),
                Err(refusal) => refused = refusal == Refusal::TooManyWaiting,
            }
        }
    }
    assert!(refused);
}

#[test]
fn b1_nonces_are_unique_within_a_stream() {
    let mut server = Server::new();
    let mut mesh = Mesh::default();
    let mut nonces = BTreeSet::new();
    for round in 0..50 {
        for kind in TypeUrl::ALL {
            mesh.set(kind, "a", &format!("{round}"));
            server.changed(kind, &"a".into());
            if round == 0 {
                server.request(request(kind.as_str())).unwrap();
            }
        }
        while let Some(response) = server.next(&mesh) {
            assert!(
                response.nonce > 0 && nonces.insert(response.nonce),
                "{response:?}"
            );
            let nonce = response.nonce.to_string();
            let ack = DeltaDiscoveryRequest {
                response_nonce: nonce,
                ..request(response.kind.as_str())
            };
            assert_eq!(
                server.request(ack).unwrap().verdict,
                Some(Verdict::Accepted)
            );
        }
    }
    assert_eq!(nonces.len(), 300);
}

#[test]
fn b2_a_version_is_a_property_of_the_bytes() {
    let mut mesh = Mesh::default();
    mesh.set(TypeUrl::Cluster, "a", "1");
    mesh.set(TypeUrl::Cluster, "b", "1");
    let version = |name| {
        xds_api::delta::View::get(&mesh, TypeUrl::Cluster, name)
            .unwrap()
            .version()
    };
    assert_eq!(version("a"), version("b"));
}

#[test]
fn b3_b7_a_verdict_is_told_by_error_detail_and_comes_after_the_names() {
    let mut server = Server::new();
    let mut mesh = Mesh::default();
    mesh.set(TypeUrl::Cluster, "a", "1");
    mesh.set(TypeUrl::Cluster, "b", "1");
    let mut first = request(TypeUrl::Cluster.as_str());
    first.resource_names_subscribe = vec!["a".into()];
    server.request(first).unwrap();
    let nonce = server.next(&mesh).unwrap().nonce.to_string();
    let mut nack = DeltaDiscoveryRequest {
        response_nonce: nonce,
        ..request(TypeUrl::Cluster.as_str())
    };
    nack.resource_names_subscribe = vec!["b".into()];
    nack.error_detail = Some(xds_api::google::rpc::Status {
        message: "no".into(),
        ..Default::default()
    });
    let taken = server.request(nack).unwrap();
    assert_eq!(taken.verdict, Some(Verdict::Rejected("no".into())));
    assert_eq!(taken.subscribed, ["b".into()]);
    assert_eq!(&**server.next(&mesh).unwrap().resources[0].name(), "b");
}

#[test]
fn b5_what_was_rejected_is_not_sent_again_until_it_changes() {
    check(
        "B5",
        "mesh CDS a=1
         > CDS
         < CDS 1: a=1
         > CDS nack:bad
         mesh CDS a=1
         mesh CDS a=2
         < CDS 2: a=2",
    );
}

#[test]
fn b6_a_rejection_does_not_turn_the_server_back() {
    check(
        "B6",
        "mesh CDS good=1 bad=1
         > CDS
         < CDS 1: bad=1 good=1
         > CDS nack:bad
         restart
         > CDS have:good=1
         < CDS 1: bad=1",
    );
}

#[test]
fn b10_names_count_whatever_the_nonce_says() {
    check(
        "B10",
        "mesh CDS a=1 b=1 c=1
         > CDS +a
         < CDS 1: a=1
         > CDS +b ack:77
         > CDS +c
         > CDS ack:1
         < CDS 2: b=1 c=1",
    );
}

#[test]
fn b11_an_acknowledgement_with_nothing_new_gets_silence() {
    check(
        "B11",
        "mesh CDS a=1
         > CDS
         < CDS 1: a=1
         > CDS ack
         > CDS ack:1
         > CDS
         mesh CDS a=1",
    );
}

#[test]
fn b12_changes_under_way_come_together_in_their_last_state() {
    check(
        "B12",
        "mesh CDS a=1 b=1
         > CDS
         < CDS 1: a=1 b=1
         mesh CDS a=2
         mesh CDS a=3 b-
         mesh CDS c=1
         > CDS ack
         < CDS 2: a=3 c=1 -b",
    );
}

#[test]
fn b12_what_goes_and_returns_unchanged_is_not_sent() {
    check(
        "B12",
        "mesh CDS a=1
         > CDS
         < CDS 1: a=1
         mesh CDS a-
         mesh CDS a=1
         > CDS ack",
    );
}

#[test]
fn b13_a_late_answer_holds_back_its_own_type_only() {
    check(
        "B13",
        "mesh CDS a=1
         mesh EDS a=1
         > CDS
         < CDS 1: a=1
         > EDS +a
         < EDS 2: a=1
         > EDS ack
         mesh CDS a=2
         mesh EDS a=2
         < EDS 3: a=2",
    );
}

#[test]
fn c1_a_first_request_without_names_asks_for_all() {
    check(
        "C1",
        "mesh CDS a=1
         > CDS
         < CDS 1: a=1
         > CDS ack
         mesh CDS b=1
         < CDS 2: b=1",
    );
}

#[test]
fn c2_the_wildcard_is_left_by_its_name_only() {
    check(
        "C2",
        "mesh CDS a=1 b=1
         > CDS
         < CDS 1: a=1 b=1
         > CDS ack +a
         < CDS 2: a=1
         > CDS ack -*
         mesh CDS b=2
         mesh CDS a=2
         < CDS 3: a=2
         > CDS ack -a
         mesh CDS a=3",
    );
}

#[test]
fn c2_the_wildcard_may_be_asked_for_by_its_name() {
    check(
        "C2",
        "mesh CDS a=1 b=1
         > CDS +a
         < CDS 1: a=1
         > CDS ack +*
         < CDS 2: b=1",
    );
}

#[test]
fn c2_what_was_left_with_a_response_in_flight_is_taken_back_should_all_be_asked_for() {
    check(
        "C2",
        "mesh CDS a=1
         > CDS +a
         < CDS 1: a=1
         mesh CDS a-
         > CDS -a
         > CDS +*
         > CDS ack
         < CDS 2: -a
         > CDS ack -*
         > CDS +*
         < CDS 3:",
    );
    check(
        "C2",
        "mesh CDS a=1
         > CDS
         < CDS 1: a=1
         mesh CDS a-
         > CDS -*
         > CDS +*
         > CDS ack
         < CDS 2: -a",
    );
}

#[test]
fn c3_a_client_that_only_names_gets_nothing_for_no_names() {
    let mut server = Server::new().names_only();
    let mut mesh = Mesh::default();
    mesh.set(TypeUrl::Cluster, "a", "1");
    server.request(request(TypeUrl::Cluster.as_str())).unwrap();
    assert!(server.next(&mesh).is_none());
}

#[test]
fn c4_an_empty_name_is_an_unknown_name() {
    check(
        "C4",
        "mesh CDS a=1
         > CDS +''
         < CDS 1: - ?",
    );
}

#[test]
fn c6_what_is_asked_for_again_is_sent_again() {
    check(
        "C6",
        "mesh CDS a=1 b=1
         > CDS +a +*
         < CDS 1: a=1 b=1
         > CDS ack +a
         < CDS 2: a=1
         > CDS ack +*
         < CDS 3: a=1 b=1
         > CDS ack -a +a
         < CDS 4: a=1",
    );
}

#[test]
fn c7_an_unsubscription_is_answered_only_under_a_wildcard() {
    check(
        "C7",
        "mesh CDS a=1
         > CDS +a +gone
         < CDS 1: a=1 -gone ?gone
         > CDS ack -a -never
         > CDS +*
         < CDS 2: a=1
         > CDS ack +a +gone
         < CDS 3: a=1 -gone ?gone
         > CDS ack -a
         < CDS 4: a=1
         > CDS ack -gone
         < CDS 5: -gone",
    );
}

#[test]
fn c8_what_does_not_exist_is_said_so_and_comes_when_it_does() {
    check(
        "C8",
        "> EDS +late
         < EDS 1: -late ?late
         > EDS ack
         mesh EDS late=1
         < EDS 2: late=1",
    );
}

#[test]
fn c9_a_client_ignores_what_it_did_not_ask_for() {
    let mut client = Client::new();
    client.connect(Node::default());
    client.subscribe(TypeUrl::Cluster, &["a".into()]).unwrap();
    let received = client.receive(response(&["a", "b"])).unwrap();
    assert_eq!(received.resources.len(), 1);
    client.accept(received);
    assert_eq!(client.held(TypeUrl::Cluster).len(), 1);
}

#[test]
fn c11_a_name_can_be_asked_for_beside_the_wildcard() {
    check(
        "C11",
        "mesh CDS a=1
         > CDS
         < CDS 1: a=1
         > CDS ack +on-demand
         < CDS 2: -on-demand ?on-demand
         > CDS ack
         mesh CDS on-demand=1
         < CDS 3: on-demand=1",
    );
}

#[test]
fn c12_names_are_opaque() {
    check(
        "C12",
        "mesh CDS xdstp://m/t/a?x=1=1
         > CDS +xdstp://m/t/a?x
         < CDS 1: xdstp://m/t/a?x=1=1",
    );
}

#[test]
fn c13_a_locator_without_parameters_is_its_name() {
    check(
        "C13",
        "mesh CDS a=1
         > CDS locator:a
         < CDS 1: a=1",
    );
}

fn response(names: &[&str]) -> DeltaDiscoveryResponse {
    let type_url = TypeUrl::Cluster.to_string();
    let resource = |name: &&str| Resource {
        name: (*name).into(),
        version: "1".into(),
        resource: Some(Any {
            type_url: type_url.clone(),
            value: "x".into(),
        }),
        ..Default::default()
    };
    DeltaDiscoveryResponse {
        type_url: type_url.clone(),
        nonce: "n".into(),
        resources: names.iter().map(resource).collect(),
        ..Default::default()
    }
}

fn check_rejected(response: DeltaDiscoveryResponse, reason: &str) {
    let mut client = Client::new();
    client.connect(Node::default());
    client.subscribe_all(TypeUrl::Cluster).unwrap();
    let rejected = client.receive(response).unwrap_err();
    assert!(rejected.reason.contains(reason), "{}", rejected.reason);
    assert_eq!(rejected.request.response_nonce, "n");
    assert_eq!(
        rejected.request.error_detail.unwrap().message,
        rejected.reason
    );
}

#[test]
fn d2_a_name_twice_in_one_response_is_an_error() {
    check_rejected(response(&["a", "a"]), "twice");
    let mut both = response(&["a"]);
    both.removed_resources.push("a".into());
    check_rejected(both, "both");
    check(
        "D2",
        "mesh CDS a=1
         > CDS +a +a +*
         < CDS 1: a=1",
    );
}

#[test]
fn d3_only_differences_are_sent_and_only_what_is_held_is_removed() {
    check(
        "D3",
        "mesh CDS a=1 b=1
         > CDS
         < CDS 1: a=1 b=1
         > CDS ack
         mesh CDS b=2 never-
         < CDS 2: b=2
         > CDS ack
         mesh CDS b-
         < CDS 3: -b
         > CDS ack
         mesh CDS b-",
    );
}

#[test]
fn d4_what_is_referred_to_comes_first() {
    check(
        "D4",
        "hold LDS RDS CDS EDS SDS
         mesh RDS r=1
         mesh LDS l=1
         mesh SDS s=1
         mesh EDS e=1
         mesh CDS c=1
         > RDS +r
         > LDS +l
         > SDS +s
         > EDS +e
         > CDS +c
         release
         < CDS 1: c=1
         < EDS 2: e=1
         < SDS 3: s=1
         < LDS 4: l=1
         < RDS 5: r=1",
    );
}

#[test]
fn d4_removals_wait_until_nothing_can_refer_to_what_goes() {
    check(
        "D4",
        "mesh CDS old=1
         mesh EDS old=1
         mesh RDS r=old
         > CDS
         < CDS 1: old=1
         > EDS +old
         < EDS 2: old=1
         > RDS +r
         < RDS 3: r=old
         > CDS ack
         > EDS ack
         > RDS ack
         hold CDS EDS RDS
         mesh CDS new=1 old-
         mesh EDS old-
         mesh RDS r=new
         release
         < CDS 4: new=1
         < RDS 5: r=new
         > CDS ack
         > RDS ack
         < CDS 6: -old
         > CDS ack
         < EDS 7: -old ?old",
    );
}

#[test]
fn d5_a_cluster_that_changes_brings_its_endpoints_again() {
    check(
        "D5",
        "mesh CDS a=1@
         mesh EDS a=1
         > CDS
         < CDS 1: a=1@
         > EDS +a
         < EDS 2: a=1
         > EDS ack
         > CDS ack
         mesh CDS a=2@
         < CDS 3: a=2@
         < EDS 4: a=1",
    );
}

#[test]
fn d5_endpoints_asked_for_after_the_cluster_came_are_sent_even_if_held() {
    check(
        "D5",
        "mesh CDS a=2@
         mesh EDS a=1
         > CDS have:a=1@
         < CDS 1: a=2@
         > EDS +a have:a=1
         < EDS 2: a=1",
    );
}

#[test]
fn d8_a_big_answer_is_split_and_each_part_has_its_nonce() {
    let mut server = Server::new();
    let mut mesh = Mesh::default();
    let text = "x".repeat(400_000);
    for name in ["a", "b", "c", "d"] {
        mesh.set(TypeUrl::Cluster, name, &text);
    }
    server.request(request(TypeUrl::Cluster.as_str())).unwrap();
    let first = server.next(&mesh).unwrap();
    assert_eq!(first.resources.len(), 3);
    assert!(server.next(&mesh).is_none());
    let nonce = first.nonce.to_string();
    let ack = DeltaDiscoveryRequest {
        response_nonce: nonce,
        ..request(TypeUrl::Cluster.as_str())
    };
    server.request(ack).unwrap();
    let second = server.next(&mesh).unwrap();
    assert_eq!(
        (second.resources.len(), second.nonce > first.nonce),
        (1, true)
    );
}

#[test]
fn d9_a_resource_of_another_type_than_its_response_is_an_error() {
    let mut other = response(&["a"]);
    other.resources[0].resource.as_mut().unwrap().type_url = TypeUrl::Listener.to_string();
    check_rejected(other, "in a response of");
    let mut bodiless = response(&["a"]);
    bodiless.resources[0].resource = None;
    check_rejected(bodiless, "no body");
    let mut unknown = response(&[]);
    unknown.type_url = "type.googleapis.com/envoy.Nope".into();
    check_rejected(unknown, "not asked for");
}

#[test]
fn f_a_placeholder_stands_in_for_what_is_missing() {
    check(
        "F",
        "fill RDS
         > RDS +r
         < RDS 1: r=
         > RDS ack
         mesh RDS r=1
         < RDS 2: r=1
         > RDS ack
         mesh RDS r-
         < RDS 3: r=
         > RDS ack +r
         < RDS 4: r=",
    );
}

#[test]
fn f1_what_was_named_and_is_missing_is_an_error_of_the_response_too() {
    check(
        "F1",
        "mesh CDS a=1
         > CDS +* +b
         < CDS 1: a=1 -b ?b
         > CDS ack
         mesh CDS a-
         < CDS 2: -a",
    );
}

#[test]
fn e1_after_a_reconnection_only_differences_are_sent() {
    check(
        "E1",
        "mesh CDS same=1 changed=2 new=1
         > CDS have:same=1 have:changed=1 have:gone=1
         < CDS 1: changed=2 new=1 -gone
         > CDS ack have:same=0",
    );
    check(
        "E1",
        "mesh EDS same=1 changed=2
         > EDS +same +changed +gone have:same=1 have:changed=1 have:gone=1 have:unasked=1
         < EDS 1: changed=2 -gone -unasked ?gone",
    );
}

#[test]
fn e2_e3_nothing_is_sent_again_but_a_wildcard_is_greeted() {
    check(
        "E2 E3",
        "mesh CDS a=1
         mesh EDS a=1
         > CDS have:a=1
         < CDS 1:
         > EDS +a have:a=1",
    );
    check(
        "E3",
        "> CDS
         < CDS 1:",
    );
}

#[test]
fn e5_what_was_removed_and_is_still_asked_for_is_answered_again() {
    check(
        "E5",
        "mesh EDS a=1
         > EDS +a +late have:a=1
         < EDS 1: -late ?late",
    );
}

/// Type, name, version's presence and what became of it, after a client named `a` and `b`.
fn stands(server: &Server) -> Vec<(String, bool, Standing)> {
    let stands = server.stands().into_iter();
    stands
        .map(|one| (one.name.to_string(), one.version.is_some(), one.standing))
        .collect()
}

#[test]
fn what_became_of_a_resource_is_known() {
    let (mut server, mut mesh) = (Server::new(), Mesh::default());
    mesh.set(TypeUrl::Cluster, "a", "1");
    let mut first = request(TypeUrl::Cluster.as_str());
    first.resource_names_subscribe = vec!["a".into(), "b".into()];
    server.request(first).unwrap();
    let one = |name: &str, known, standing| (name.to_owned(), known, standing);
    let check = |server: &Server, a: (bool, Standing), b| {
        assert_eq!(stands(server), [one("a", a.0, a.1), one("b", false, b)]);
    };
    check(&server, (false, Standing::Requested), Standing::Requested);
    let answer = |server: &mut Server, nonce: u64, error: Option<&str>| {
        let status = |text: &str| xds_api::google::rpc::Status {
            message: text.to_owned(),
            ..Default::default()
        };
        let answer = DeltaDiscoveryRequest {
            response_nonce: nonce.to_string(),
            error_detail: error.map(status),
            ..request(TypeUrl::Cluster.as_str())
        };
        server.request(answer).unwrap();
    };
    let nonce = server.next(&mesh).unwrap().nonce;
    check(&server, (true, Standing::Sent), Standing::Absent);
    answer(&mut server, nonce, Some("no"));
    let refused = Standing::Refused("no".into());
    check(&server, (true, refused.clone()), Standing::Absent);
    // What is said of another response changes nothing.
    answer(&mut server, nonce, None);
    check(&server, (true, refused), Standing::Absent);
    mesh.set(TypeUrl::Cluster, "a", "2");
    server.changed(TypeUrl::Cluster, &"a".into());
    let nonce = server.next(&mesh).unwrap().nonce;
    check(&server, (true, Standing::Sent), Standing::Absent);
    answer(&mut server, nonce, None);
    check(&server, (true, Standing::Accepted), Standing::Absent);
    let mut leave = request(TypeUrl::Cluster.as_str());
    leave.resource_names_unsubscribe = vec!["a".into(), "b".into()];
    server.request(leave).unwrap();
    assert_eq!(stands(&server), []);
}

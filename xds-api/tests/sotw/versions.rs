//! Rules A and B: types, versions, nonces, ACK and NACK.

use xds_api::resource::Version;
use xds_api::sotw::{Refusal, Server, Verdict};
use xds_api::type_url::TypeUrl;

use crate::mesh::Mesh;
use crate::script::{check, request};

#[test]
fn a2_a_request_without_a_type_ends_the_stream() {
    let mut server = Server::of_the_world();
    let mut nameless = request(TypeUrl::Cluster, &[]);
    nameless.type_url.clear();
    let request = server.differences(nameless);
    assert_eq!(server.request(request), Err(Refusal::NoType));
}

#[test]
fn a4_an_unknown_type_is_no_error_and_has_no_answer() {
    let mut server = Server::of_the_world();
    let mut unknown = request(TypeUrl::Cluster, &["a"]);
    unknown.type_url = "type.googleapis.com/envoy.Nope".into();
    let request = server.differences(unknown);
    assert_eq!(server.request(request).unwrap().kind, None);
    assert!(server.next(&Mesh::default()).is_none());
}

#[test]
fn a5_types_are_independent() {
    check(
        "A5",
        "mesh CDS a=1
         mesh LDS a=1
         > CDS a
         < CDS 1: a=1
         > LDS a
         < LDS 2: a=1
         > CDS a !nack:bad
         mesh LDS a=2
         mesh CDS a=2
         < CDS 3: a=2
         > LDS a !ack:2
         < LDS 4: a=2",
    );
}

#[test]
fn a5_a_nonce_of_another_type_says_nothing() {
    check(
        "A5",
        "mesh CDS a=1
         mesh LDS a=1
         > CDS a
         < CDS 1: a=1
         > LDS a
         < LDS 2: a=1
         > CDS a !ack:2
         mesh CDS a=2
         > CDS a !ack:1
         < CDS 3: a=2",
    );
}

/// The answer to one request for these names, as its version.
fn version(mesh: &Mesh, kind: TypeUrl, names: &[&str]) -> Version {
    let mut server = Server::of_the_world();
    let request = server.differences(request(kind, names));
    server.request(request).unwrap();
    server.next(mesh).unwrap().version.unwrap()
}

#[test]
fn b2_a_version_is_that_of_the_data() {
    let mut mesh = Mesh::default();
    mesh.set(TypeUrl::Cluster, "a", "1");
    mesh.set(TypeUrl::Cluster, "b", "1");
    let all = version(&mesh, TypeUrl::Cluster, &[]);
    assert_eq!(all, version(&mesh, TypeUrl::Cluster, &["b", "a"]));
    assert_ne!(all, version(&mesh, TypeUrl::Cluster, &["a"]));
    mesh.set(TypeUrl::Cluster, "a", "2");
    let changed = version(&mesh, TypeUrl::Cluster, &[]);
    assert_ne!(all, changed);
    mesh.set(TypeUrl::Cluster, "a", "1");
    assert_eq!(all, version(&mesh, TypeUrl::Cluster, &[]));
}

#[test]
fn b2_the_version_of_a_part_is_that_of_all_that_is_held() {
    let mut mesh = Mesh::default();
    mesh.set(TypeUrl::Endpoints, "a", "1");
    mesh.set(TypeUrl::Endpoints, "b", "1");
    let mut server = Server::of_the_world();
    let first = server.differences(request(TypeUrl::Endpoints, &["a", "b"]));
    server.request(first).unwrap();
    let nonce = server.next(&mesh).unwrap().nonce.to_string();
    let mut ack = request(TypeUrl::Endpoints, &["a", "b"]);
    ack.response_nonce = nonce;
    let ack = server.differences(ack);
    server.request(ack).unwrap();
    mesh.set(TypeUrl::Endpoints, "b", "2");
    server.changed(TypeUrl::Endpoints, &"b".into());
    let response = server.next(&mesh).unwrap();
    assert_eq!(response.resources.len(), 1);
    let fresh = version(&mesh, TypeUrl::Endpoints, &["a", "b"]);
    assert_eq!(response.version, Some(fresh));
}

#[test]
fn b3_b4_a_verdict_is_told_by_error_detail_whatever_the_version_is() {
    let mut mesh = Mesh::default();
    mesh.set(TypeUrl::Cluster, "a", "1");
    let mut server = Server::of_the_world();
    let first = server.differences(request(TypeUrl::Cluster, &[]));
    server.request(first).unwrap();
    let mut answer = request(TypeUrl::Cluster, &[]);
    answer.response_nonce = server.next(&mesh).unwrap().nonce.to_string();
    answer.version_info = "an older one".into();
    let ack = server.differences(answer.clone());
    assert_eq!(
        server.request(ack).unwrap().verdict,
        Some(Verdict::Accepted)
    );
    mesh.set(TypeUrl::Cluster, "a", "2");
    server.changed(TypeUrl::Cluster, &"a".into());
    let response = server.next(&mesh).unwrap();
    answer.response_nonce = response.nonce.to_string();
    answer.version_info = response.version.unwrap().to_string();
    answer.error_detail = Some(xds_api::google::rpc::Status {
        message: "no".into(),
        ..Default::default()
    });
    let nack = server.differences(answer);
    let taken = server.request(nack).unwrap();
    assert_eq!(taken.verdict, Some(Verdict::Rejected("no".into())));
}

#[test]
fn b5_what_was_rejected_is_not_sent_again_until_it_changes() {
    check(
        "B5",
        "mesh CDS a=1
         > CDS
         < CDS 1: a=1
         > CDS !nack:bad
         mesh CDS a=1
         > CDS !ack:1
         mesh CDS a=2
         < CDS 2: a=2",
    );
}

#[test]
fn b7_names_that_come_with_a_rejection_count() {
    check(
        "B7",
        "mesh EDS a=1 b=1
         > EDS a
         < EDS 1: a=1
         > EDS a b !nack:bad
         < EDS 2: b=1",
    );
}

#[test]
fn b8_names_count_though_their_nonce_is_stale() {
    check(
        "B8",
        "mesh EDS a=1 b=1 c=1
         > EDS a
         < EDS 1: a=1
         > EDS a !ack:1
         mesh EDS a=2
         < EDS 2: a=2
         > EDS a b !ack:1
         > EDS a b c !ack:1
         mesh EDS a=3
         > EDS a b c !ack:2
         < EDS 3: a=3 b=1 c=1",
    );
}

#[test]
fn b8_a_nonce_of_an_earlier_stream_is_no_verdict() {
    check(
        "B8",
        "mesh CDS a=1
         > CDS a !ack:7 !version:1
         < CDS 1: a=1
         > CDS a !ack:7
         mesh CDS a=2
         > CDS a !ack:1
         < CDS 2: a=2",
    );
}

#[test]
fn b9_an_empty_nonce_beside_an_unanswered_response_only_subscribes() {
    check(
        "B9",
        "mesh CDS a=1 b=1
         > CDS a
         < CDS 1: a=1
         > CDS a b
         > CDS a b !ack:1
         < CDS 2: a=1 b=1
         > CDS a b !ack:2",
    );
}

#[test]
fn b11_an_acknowledgement_with_nothing_new_gets_silence() {
    check(
        "B11",
        "mesh CDS a=1
         mesh EDS a=1
         > CDS a
         < CDS 1: a=1
         > CDS a !ack
         > CDS a !ack:1
         > CDS a
         > EDS a
         < EDS 2: a=1
         > EDS a !ack
         > EDS a !ack:2
         mesh CDS a=1",
    );
}

#[test]
fn b12_changes_under_way_come_together_in_their_last_state() {
    check(
        "B12",
        "mesh EDS a=1 b=1 c=1
         > EDS a
         < EDS 1: a=1
         > EDS a b !ack:0
         mesh EDS a=2
         mesh EDS a=3
         > EDS a c !ack:0
         > EDS a c !ack:1
         < EDS 2: a=3 c=1",
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
         > EDS a
         < EDS 2: a=1
         > EDS a !ack
         mesh CDS a=2
         mesh EDS a=2
         < EDS 3: a=2",
    );
}

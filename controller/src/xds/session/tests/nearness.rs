//! What is near comes first, and where that is may change under a client's stream.

use prost::Message;
use xds_api::envoy::config::endpoint::v3::ClusterLoadAssignment;

use super::*;

const WEB: &str = "shop/web:81";

/// A stream of a client at some place, which asked for a service's endpoints.
fn stage(dialect: Dialect, locality: &str) -> Stage {
    let mut stage = Stage::new();
    stage.log.run(moved(locality)).accepted().unwrap();
    stage.cache.publish(&stage.log.state).unwrap();
    let own = Own {
        workload: Name::new("shop", "caller"),
        identity: "spiffe://test.mesh/ns/shop/sa/default".into(),
        dialect,
    };
    let published = stage.cache.published();
    stage.session = Session::new(own, &stage.cache, published);
    stage.request(TypeUrl::Endpoints, &[WEB]);
    stage
}

fn moved(locality: &str) -> Command {
    let locality = match locality {
        "" => String::new(),
        text => format!("locality: {text}"),
    };
    puts(&format!(
        "apiVersion: maille.dev/v1alpha1\nkind: Workload\nmetadata: {{name: caller, namespace: shop}}\nspec: {{{locality}}}\n"
    ))
}

/// Which localities the stream would be sent, nearest first.
fn nearest_first(stage: &Stage) -> Vec<String> {
    let sight = Sight::new(&stage.cache, &stage.session.published, &stage.session.own);
    let found = sight.get(TypeUrl::Endpoints, &WEB.into()).unwrap();
    let assignment = ClusterLoadAssignment::decode(found.resource.body().clone()).unwrap();
    let mut groups: Vec<_> = assignment
        .endpoints
        .into_iter()
        .map(|group| {
            let place = group.locality.unwrap_or_default();
            (group.priority, format!("{}/{}", place.region, place.zone))
        })
        .collect();
    groups.sort();
    groups
        .into_iter()
        .map(|(priority, place)| format!("{priority} {place}"))
        .collect()
}

#[test]
fn a_client_that_moves_is_told_anew_what_is_near() {
    let mut stage = stage(Dialect::Envoy, "eu/a");
    stage.answers();
    assert_eq!(nearest_first(&stage), ["0 eu/a", "1 eu/b"]);
    let expected = previewed(&stage, &moved("eu/b"));
    assert_eq!(expected, ["EDS +shop/web:81"]);
    stage.log.run(moved("eu/b")).accepted().unwrap();
    stage.publish();
    assert_eq!(really_sent(&mut stage), expected);
    assert_eq!(nearest_first(&stage), ["0 eu/b", "1 eu/a"]);
    stage.log.run(moved("eu/c")).accepted().unwrap();
    stage.publish();
    stage.answers();
    assert_eq!(nearest_first(&stage), ["0 eu/a", "0 eu/b"]);
}

#[test]
fn who_is_nowhere_sees_what_everybody_does() {
    for dialect in [Dialect::Envoy, Dialect::Grpc] {
        let nowhere = stage(dialect, "");
        let priorities = nearest_first(&nowhere).into_iter();
        let all: BTreeSet<char> = priorities.filter_map(|text| text.chars().next()).collect();
        assert_eq!(all, ['0'].into(), "{dialect:?}");
    }
    // gRPC is told of the healthy alone, and all of those are in one place.
    assert_eq!(nearest_first(&stage(Dialect::Grpc, "eu/b")), ["0 eu/a"]);
}

#[test]
fn a_balancer_that_hashes_takes_all_places_alike() {
    let mut stage = stage(Dialect::Envoy, "eu/a");
    stage.answers();
    assert_eq!(nearest_first(&stage), ["0 eu/a", "1 eu/b"]);
    stage.log.run(puts("apiVersion: maille.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: hashed, namespace: shop}\nspec: {targetRef: {name: web, port: 81}, balancer: {type: maglev}}\n")).accepted().unwrap();
    stage.publish();
    assert_eq!(nearest_first(&stage), ["0 eu/a", "0 eu/b"]);
}

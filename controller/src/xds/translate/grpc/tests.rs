//! Versions of everything that a gRPC program is served, which pin its bytes, and what a person must be able to rely on in it. That gRPC takes it and
//! does what it says is shown with a real one, in the workspace's tests.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write;

use prost::{Message, Name as MessageName};
use xds_api::envoy::config::cluster::v3::Cluster;
use xds_api::envoy::config::core::v3::{TransportSocket, transport_socket};
use xds_api::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds_api::envoy::config::listener::v3::{Listener, filter};
use xds_api::envoy::config::route::v3::route::Action;
use xds_api::envoy::config::route::v3::route_action::ClusterSpecifier;
use xds_api::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use xds_api::envoy::config::route::v3::{Route, RouteAction, RouteConfiguration, WeightedCluster};
use xds_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use xds_api::envoy::extensions::transport_sockets::tls::v3::{
    DownstreamTlsContext, UpstreamTlsContext, common_tls_context::ValidationContextType,
};

use super::*;
use crate::model::kinds::http_route::Match;
use crate::model::tests::{Log, instance, puts};
use crate::model::{Command, Instance, Name};
use crate::xds::translate::matching::route_match;
use crate::xds::translate::native::tests::sample;

const SERVING: &str = "serve/shop/api-1/0.0.0.0:50051";

/// The native dialect's sample, and a gRPC server `api-1` behind the service `api`.
fn mesh() -> Log {
    let mut log = sample();
    register(&mut log, server("api-1"));
    let port = "apiVersion: v1\nkind: Service\nmetadata: {name: api, namespace: shop}\nspec: {selector: {app: api}, ports: [{port: 80, targetPort: 50051, appProtocol: grpc}]}\n";
    log.run(puts(port)).accepted().unwrap();
    log
}

fn server(name: &str) -> Instance {
    let mut one = instance(name, 1);
    one.name = Name::new("shop", name);
    one.addresses = vec!["10.0.0.9".to_owned()];
    one.labels = [("app".to_owned(), "api".to_owned())].into();
    one.ports[0].port = 50051;
    one.identity = "spiffe://test.mesh/ns/shop/sa/api".to_owned();
    one.mesh = 3;
    one
}

fn register(log: &mut Log, one: Instance) {
    log.run(Command::Register(one)).accepted().unwrap();
}

fn put(log: &mut Log, kind: &str, version: &str, name: &str, spec: &str) {
    let text = format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
    );
    log.run(puts(&text)).accepted().unwrap();
}

fn read<M: Message + Default>(log: &Log, kind: TypeUrl, name: &str) -> M {
    let found = translate(log.state.mesh(), kind, &name.into()).unwrap();
    M::decode(found.resource.body().clone()).unwrap()
}

fn tls<M: Message + Default + MessageName>(socket: Option<TransportSocket>) -> M {
    let Some(transport_socket::ConfigType::TypedConfig(any)) = socket.unwrap().config_type else {
        panic!("a transport socket has a configuration")
    };
    assert_eq!(any.type_url, M::type_url());
    M::decode(any.value).unwrap()
}

/// Everything that is reached from some listeners.
fn reached(log: &Log, listeners: &[&str]) -> BTreeMap<(TypeUrl, Arc<str>), Option<Translated>> {
    let open = listeners.iter();
    let mut open: Vec<(TypeUrl, Arc<str>)> = open
        .map(|name| (TypeUrl::Listener, Arc::from(*name)))
        .collect();
    let mut found = BTreeMap::new();
    while let Some((kind, name)) = open.pop() {
        if !found.contains_key(&(kind, name.clone())) {
            let made = translate(log.state.mesh(), kind, &name);
            open.extend(made.iter().flat_map(|made| made.links.iter().cloned()));
            found.insert((kind, name), made);
        }
    }
    found
}

/// Level 1's bytes: a change of any of them re-sends that resource to every program in the middle of an upgrade.
#[test]
fn the_bytes_of_level_1_do_not_change() {
    let mut text = String::new();
    let listeners = [
        "web.shop.mesh:80",
        "web.shop.mesh:81",
        "api.shop.mesh:80",
        SERVING,
    ];
    for ((kind, name), made) in reached(&mesh(), &listeners) {
        let version = made.map_or("(missing)".to_owned(), |made| {
            made.resource.version().to_string()
        });
        writeln!(text, "{} {name} {version}", kind.short()).unwrap();
    }
    insta::assert_snapshot!("level_1", text);
}

#[test]
fn what_is_not_there_or_not_http_has_no_listener() {
    let log = mesh();
    for name in [
        "db.shop.mesh:5432",
        "web.shop.mesh:82",
        "nobody.shop.mesh:80",
        "in/shop/web-1",
        "out/web.shop:80",
        "serve/shop/api-1/0.0.0.0:50052",
        "serve/shop/web-1/0.0.0.0:8080",
    ] {
        let found = translate(log.state.mesh(), TypeUrl::Listener, &name.into());
        assert!(found.is_none(), "{name}");
    }
}

/// The routes of `api` with these rules: name, path and method conditions, what is done.
fn routes(log: &Log, port: &str) -> Vec<String> {
    let routes: RouteConfiguration = read(log, TypeUrl::Route, port);
    let routes = routes.virtual_hosts.into_iter().flat_map(|one| one.routes);
    let line = |route: Route| {
        let condition = route.r#match.unwrap();
        let path = format!("{:?}", condition.path_specifier.unwrap());
        let headers: Vec<_> = condition.headers.into_iter().map(|one| one.name).collect();
        let done = match route.action.unwrap() {
            Action::Route(_) => "forwarded",
            Action::DirectResponse(_) => "refused",
            other => panic!("{other:?}"),
        };
        format!("{path} {} {done}", headers.join(","))
    };
    routes.map(line).collect()
}

#[test]
fn only_conditions_that_a_call_can_meet_are_kept() {
    let mut log = mesh();
    let mut check = |matches: &str, filters: &str, expected: &[&str]| {
        let spec = format!(
            "{{parentRefs: [{{kind: Service, name: api}}], rules: [{{matches: [{matches}], filters: [{filters}], backendRefs: [{{name: api, port: 80}}]}}]}}"
        );
        put(
            &mut log,
            "HTTPRoute",
            "gateway.networking.k8s.io/v1",
            "api",
            &spec,
        );
        assert_eq!(routes(&log, "shop/api:80"), expected, "{matches} {filters}");
    };
    let refused = r#"Prefix("/")  refused"#;
    let prefix = |value: &str| format!("{{path: {{type: PathPrefix, value: {value}}}}}");
    check(&prefix("/"), "", &[r#"Prefix("/")  forwarded"#]);
    check(&prefix("/a.S"), "", &[r#"Prefix("/a.S/")  forwarded"#]);
    check(&prefix("/a.S/"), "", &[r#"Prefix("/a.S/")  forwarded"#]);
    check(&prefix("/a.S/Get"), "", &[r#"Path("/a.S/Get")  forwarded"#]);
    check(&prefix("/a.S/Get/more"), "", &[refused]);
    let exact = |value: &str| format!("{{path: {{type: Exact, value: {value}}}}}");
    check(&exact("/a.S/Get"), "", &[r#"Path("/a.S/Get")  forwarded"#]);
    check(&exact("/a.S"), "", &[refused]);
    check("{method: POST}", "", &[r#"Prefix("/")  forwarded"#]);
    check("{method: GET}", "", &[refused]);
    check("{queryParams: [{name: q, value: x}]}", "", &[refused]);
    check(
        "{headers: [{name: X-User, value: x}]}",
        "",
        &[r#"Prefix("/") x-user forwarded"#],
    );
    // What cannot be kept and must not be passed over.
    check(
        &prefix("/"),
        "{type: URLRewrite, urlRewrite: {hostname: other.test}}",
        &[refused],
    );
    // What is left out.
    check(
        &prefix("/"),
        "{type: RequestHeaderModifier, requestHeaderModifier: {remove: [x-user]}}",
        &[r#"Prefix("/")  forwarded"#],
    );
}

fn action(log: &Log) -> RouteAction {
    let routes: RouteConfiguration = read(log, TypeUrl::Route, "shop/api:80");
    match routes.virtual_hosts[0].routes[0].action.clone().unwrap() {
        Action::Route(action) => action,
        other => panic!("{other:?}"),
    }
}

#[test]
fn timeouts_and_retries_are_those_that_grpc_has() {
    let mut log = mesh();
    let mut check = |policy: &str, timeouts: &str, limit: Option<i64>, retries: &str| {
        let spec = format!("{{targetRef: {{kind: Service, name: api}}, {policy}}}");
        put(
            &mut log,
            "TrafficPolicy",
            "maille.dev/v1alpha1",
            "api",
            &spec,
        );
        let spec = format!(
            "{{parentRefs: [{{kind: Service, name: api}}], rules: [{{{timeouts} backendRefs: [{{name: api, port: 80}}]}}]}}"
        );
        put(
            &mut log,
            "HTTPRoute",
            "gateway.networking.k8s.io/v1",
            "api",
            &spec,
        );
        let action = action(&log);
        let found = action
            .max_stream_duration
            .and_then(|one| one.max_stream_duration);
        assert_eq!(found.map(|one| one.seconds), limit, "{policy} {timeouts}");
        let found = action.retry_policy.map(|one| one.retry_on);
        assert_eq!(found.unwrap_or_default(), retries, "{policy} {timeouts}");
    };
    check("timeout: 10s", "", Some(10), "");
    check("timeout: 0s", "", None, "");
    check("timeout: 10s", "timeouts: {request: 3s},", Some(3), "");
    let attempt = "timeouts: {request: 3s, backendRequest: 1s},";
    check("timeout: 10s", attempt, Some(1), "");
    let retried = "timeout: 10s, retries: {attempts: 2, on: [5xx, unavailable, internal]}";
    check(retried, attempt, Some(3), "unavailable,internal");
    check("timeout: 10s, retries: {attempts: 2}", "", Some(10), "");
}

#[test]
fn a_share_of_a_missing_service_fails_at_once() {
    let share = |name: &str| ClusterWeight {
        name: name.to_owned(),
        ..Default::default()
    };
    let clusters = vec![share("shop/api:80"), share("shop/gone:80")];
    let action = Action::Route(RouteAction {
        cluster_specifier: Some(ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters,
        })),
        ..Default::default()
    });
    let told = Route {
        r#match: Some(route_match(&Match::default())),
        action: Some(action),
        ..Default::default()
    };
    let understood = route::understood(told, &["shop/api:80".into()].into());
    let Some(Action::Route(action)) = understood[0].action.clone() else {
        panic!("{understood:?}")
    };
    let specifier = action.cluster_specifier;
    let Some(ClusterSpecifier::WeightedClusters(weighted)) = specifier else {
        panic!("{specifier:?}")
    };
    let names: Vec<_> = weighted.clusters.into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["shop/api:80", NOWHERE]);
    for kind in [TypeUrl::Cluster, TypeUrl::Endpoints] {
        assert!(translate(mesh().state.mesh(), kind, &NOWHERE.into()).is_some());
    }
}

/// Whom a client of `api` calls, over what, and whom it expects there.
fn callees(log: &Log) -> (Vec<String>, Option<Vec<String>>) {
    let assignment: ClusterLoadAssignment = read(log, TypeUrl::Endpoints, "shop/api:80");
    let mut lines = Vec::new();
    for group in assignment.endpoints {
        assert!(group.locality.is_some());
        let weight = group.load_balancing_weight.unwrap().value;
        assert_eq!(weight as usize, group.lb_endpoints.len());
        for one in group.lb_endpoints {
            let text = format!("{one:?}");
            let port = ["4743", "50051"]
                .into_iter()
                .find(|port| text.contains(port));
            let sni = if text.contains("50051.maille") {
                "sni"
            } else {
                ""
            };
            lines.push(format!("{} {sni}", port.unwrap()));
        }
    }
    let cluster: Cluster = read(log, TypeUrl::Cluster, "shop/api:80");
    let names = cluster.transport_socket.map(|socket| {
        let context: UpstreamTlsContext = tls(Some(socket));
        let common = context.common_tls_context.unwrap();
        let Some(ValidationContextType::CombinedValidationContext(trusted)) =
            common.validation_context_type
        else {
            panic!("{common:?}")
        };
        let names = trusted
            .default_validation_context
            .unwrap()
            .match_subject_alt_names
            .into_iter();
        names
            .map(|one| format!("{:?}", one.match_pattern.unwrap()))
            .collect()
    });
    (lines, names)
}

#[test]
fn beside_endpoints_in_the_mesh_those_outside_are_left_out() {
    let id = |name: &str| format!("Exact(\"spiffe://test.mesh/ns/shop/sa/{name}\")");
    let mut log = mesh();
    assert_eq!(
        callees(&log),
        (vec!["50051 sni".to_owned()], Some(vec![id("api")]))
    );
    let mut native = server("api-2");
    native.mesh = 1;
    native.identity = "spiffe://test.mesh/ns/shop/sa/native".to_owned();
    register(&mut log, native);
    let outside = "apiVersion: maille.dev/v1alpha1\nkind: Workload\nmetadata: {name: api-0, namespace: shop, labels: {app: api}}\nspec: {addresses: [192.0.2.1]}\n";
    log.run(puts(outside)).accepted().unwrap();
    let (lines, names) = callees(&log);
    assert_eq!(lines, ["50051 sni", "4743 sni"]);
    assert_eq!(names, Some(vec![id("api"), id("native")]));
    let end = |name: &str| crate::model::command::InstanceEnd {
        name: Name::new("shop", name),
        generation: 1,
    };
    let ends = vec![end("api-1"), end("api-2")];
    let end = crate::model::command::EndInstances { ends };
    log.run(Command::EndInstances(end)).accepted().unwrap();
    assert_eq!(callees(&log), (vec!["50051 ".to_owned()], None));
}

#[test]
fn where_there_is_nobody_nobody_is_expected() {
    let mut log = mesh();
    let end = crate::model::command::EndInstances {
        ends: vec![crate::model::command::InstanceEnd {
            name: Name::new("shop", "api-1"),
            generation: 1,
        }],
    };
    log.run(Command::EndInstances(end)).accepted().unwrap();
    let nobody = vec!["Exact(\"spiffe://test.mesh/nobody\")".to_owned()];
    assert_eq!(callees(&log), (Vec::new(), Some(nobody)));
}

/// The filters of the server, and whether it must be told who calls.
fn serving(log: &Log) -> (Vec<String>, bool) {
    let listener: Listener = read(log, TypeUrl::Listener, SERVING);
    let [chain] = listener.filter_chains.try_into().unwrap();
    let context: DownstreamTlsContext = tls(chain.transport_socket);
    let Some(filter::ConfigType::TypedConfig(any)) = chain.filters[0].config_type.clone() else {
        panic!("a filter has a configuration")
    };
    let manager = HttpConnectionManager::decode(any.value).unwrap();
    let names = manager.http_filters.into_iter().map(|one| one.name);
    (
        names.collect(),
        context.require_client_certificate.unwrap().value,
    )
}

#[test]
fn a_server_has_its_rules_and_asks_for_a_certificate() {
    let mut log = mesh();
    let router = "envoy.filters.http.router";
    assert_eq!(
        serving(&log),
        (vec!["deny".to_owned(), router.to_owned()], true)
    );
    let spec = "{action: Allow, rules: [{from: [{namespaces: [shop]}]}]}";
    put(
        &mut log,
        "AuthorizationPolicy",
        "maille.dev/v1alpha1",
        "zz",
        spec,
    );
    assert_eq!(serving(&log).0, ["deny", "allow", router]);
    let permissive = "apiVersion: maille.dev/v1alpha1\nkind: MeshSettings\nmetadata: {name: default, namespace: maille-system}\nspec: {}\n";
    log.run(puts(permissive)).accepted().unwrap();
    assert!(serving(&log).1, "whatever else is permitted elsewhere");
}

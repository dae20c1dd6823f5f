//! The objects that are applied for the demo.

use serde_json::{Value, json};

use super::{
    FRESH, GREETER, GUEST, HTTP, HTTP2, IDLE, NAMESPACE, Programs, SECURE, SPLIT, Set, Workload,
    programs,
};

/// The objects that the demo applies, without what depends on where it runs.
pub(crate) fn objects(sets: &[Set]) -> Vec<Value> {
    let http = [("http", HTTP.number, Some("http"))];
    let of_the_api = IDLE.service;
    let alike = FRESH
        .iter()
        .map(|target| target.service)
        .chain([of_the_api]);
    let mut objects = sets.iter().flat_map(of_set).collect::<Vec<_>>();
    objects.extend(alike.map(|name| service(name, &[("app", "api")], &http)));
    objects.extend(programs(sets).into_iter().flat_map(of_programs));
    objects.extend([private_part(), strangers(sets)]);
    objects
}

fn of_set(set: &Set) -> Vec<Value> {
    let http = [("http", HTTP.number, Some("http"))];
    let api = [
        ("http", HTTP.number, Some("http")),
        ("http2", HTTP2.number, Some("kubernetes.io/h2c")),
        ("secure", SECURE.number, Some("tls")),
    ];
    let whole = |workload: &Workload, ports: &[_]| {
        service(workload.account, &[("app", workload.account)], ports)
    };
    let [first, second] = &set.api;
    vec![
        whole(&set.web, &http),
        whole(first, &api),
        service(first.name, first.labels, &http),
        service(second.name, second.labels, &http),
        whole(&set.greeter, &[("grpc", 9000, Some("grpc"))]),
        whole(&set.banner, &[("banner", 7100, None)]),
        route(set),
    ]
}

/// The program's own service, and one of which it has a tenth.
fn of_programs(programs: &Programs) -> Vec<Value> {
    let (native, program, port) = (GREETER, programs.greeter, SPLIT.port);
    let mut own = service(
        program.account,
        program.labels,
        &[("grpc", port, Some("grpc"))],
    );
    // On loopback the program has a port of its own, and nothing before it that would translate.
    own["spec"]["ports"][0]["targetPort"] = json!("grpc");
    let split = service(
        SPLIT.service,
        native.labels,
        &[("grpc", port, Some("grpc"))],
    );
    let backend =
        |account: &str, weight: u32| json!({"name": account, "port": port, "weight": weight});
    let parents = json!([{"group": "", "kind": "Service", "name": SPLIT.service, "port": port}]);
    let backends = json!([backend(native.account, 90), backend(program.account, 10)]);
    let route = object(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        SPLIT.service,
        json!({"parentRefs": parents, "rules": [{"backendRefs": backends}]}),
    );
    vec![own, split, route]
}

fn object(version: &str, kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec})
}

fn service(name: &str, selector: &[(&str, &str)], ports: &[(&str, u16, Option<&str>)]) -> Value {
    let selector = selector
        .iter()
        .map(|(key, value)| (key.to_string(), json!(value)))
        .collect::<serde_json::Map<_, _>>();
    let ports = ports.iter().map(|(name, number, protocol)| {
        let mut port = json!({"name": name, "port": number});
        if let Some(protocol) = protocol {
            port["appProtocol"] = json!(protocol);
        }
        port
    });
    object(
        "v1",
        "Service",
        name,
        json!({"selector": selector, "ports": ports.collect::<Vec<_>>()}),
    )
}

fn route(set: &Set) -> Value {
    let port = HTTP.number;
    let [first, second] = &set.api;
    let backend = |version: &Workload, weight: u32| json!({"name": version.name, "port": port, "weight": weight});
    let parents = json!([{"group": "", "kind": "Service", "name": first.account, "port": port}]);
    let rules = json!([{"backendRefs": [backend(first, 90), backend(second, 10)]}]);
    object(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        first.account,
        json!({"parentRefs": parents, "rules": rules}),
    )
}

/// The path that guests are denied.
pub(crate) const PRIVATE: &str = "/private";
/// The policy that denies it to them.
pub(crate) const NO_GUESTS: &str = "no-guests";

fn private_part() -> Value {
    let from = json!([{"identities": [GUEST.identity()]}]);
    let rules = json!([{"from": from, "to": [{"paths": [format!("{PRIVATE}*")]}]}]);
    let spec =
        json!({"selector": {"matchLabels": {"app": "api"}}, "action": "Deny", "rules": rules});
    object(
        "maille.dev/v1alpha1",
        "AuthorizationPolicy",
        NO_GUESTS,
        spec,
    )
}

/// The policy that bars strangers.
pub(crate) const NO_STRANGERS: &str = "no-strangers";

/// Whose connections and requests are refused wherever they go: a denied identity for every protocol.
fn strangers(sets: &[Set]) -> Value {
    let barred = sets.iter().map(|set| set.stranger);
    let barred = barred.chain(programs(sets).map(|programs| programs.stranger));
    let barred = barred.map(|stranger| stranger.identity());
    let rules = json!([{"from": [{"identities": barred.collect::<Vec<_>>()}]}]);
    object(
        "maille.dev/v1alpha1",
        "AuthorizationPolicy",
        NO_STRANGERS,
        json!({"action": "Deny", "rules": rules}),
    )
}

/// The mesh's settings: whether plain text is accepted by the API.
pub(crate) fn settings(strict: bool) -> Value {
    let mode = if strict { "Strict" } else { "Permissive" };
    let overrides = json!([{"namespace": NAMESPACE, "matchLabels": {"app": "api"}, "mode": mode}]);
    json!({
        "apiVersion": "maille.dev/v1alpha1", "kind": "MeshSettings",
        "metadata": {"name": "default", "namespace": "maille-system"},
        "spec": {"mtls": {"mode": "Permissive", "overrides": overrides}},
    })
}

/// Explicit listeners for a client without redirection: `(listen, target)` each.
pub(crate) fn upstreams(workload: &Workload, listeners: &[(String, super::Target)]) -> Value {
    let upstreams =
        listeners.iter().map(|(listen, target)| json!({"listen": listen, "service": {"name": target.service, "port": target.port}})).collect::<Vec<_>>();
    object(
        "maille.dev/v1alpha1",
        "Workload",
        workload.name,
        json!({"serviceAccount": workload.account, "upstreams": upstreams}),
    )
}

/// A small object that the checks write again and again, each under a name of its own.
pub(crate) fn written(name: &str) -> Value {
    object(
        "maille.dev/v1alpha1",
        "Workload",
        name,
        json!({"serviceAccount": "written"}),
    )
}

/// Objects as a document for `apply`.
pub(crate) fn document(objects: &[Value]) -> String {
    objects
        .iter()
        .map(|object| format!("---\n{object}\n"))
        .collect()
}

//! What the demo consists of: workloads, services, and the objects that are applied for them.

use serde_json::{Value, json};

use super::namespaces::Host;

/// The namespace of everything.
pub(crate) const NAMESPACE: &str = "demo";
/// The mesh's trust domain.
pub(crate) const TRUST_DOMAIN: &str = "demo.maille.dev";

/// A port of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) name: &'static str,
    pub(crate) number: u16,
    /// As the sidecar's configuration names it.
    pub(crate) protocol: &'static str,
}

/// A workload: a host with an application and a sidecar.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) account: &'static str,
    pub(crate) labels: &'static [(&'static str, &'static str)],
    pub(crate) ports: &'static [Port],
    pub(crate) host: Host,
    /// Only the checks need it.
    pub(crate) spare: bool,
}

const HTTP: Port = Port {
    name: "http",
    number: 8080,
    protocol: "http1",
};
const HTTP2: Port = Port {
    name: "http2",
    number: 8081,
    protocol: "http2",
};
const GRPC: Port = Port {
    name: "grpc",
    number: 9000,
    protocol: "grpc",
};
/// Its protocol is found out: nobody tells the mesh that this server speaks first.
const BANNER: Port = Port {
    name: "banner",
    number: 7100,
    protocol: "detect",
};
/// A second port of the banner's application, which the mesh does not know: for a direct connection beside one through the mesh.
pub(crate) const BANNER_DIRECT: u16 = 7101;

/// The web front.
pub(crate) const WEB: Workload = workload("web", "web", &[("app", "web")], &[HTTP], Host(21));
/// The API's first version.
pub(crate) const API_V1: Workload = workload(
    "api-v1",
    "api",
    &[("app", "api"), ("version", "v1")],
    &[HTTP, HTTP2],
    Host(22),
);
/// The API's second version.
pub(crate) const API_V2: Workload = workload(
    "api-v2",
    "api",
    &[("app", "api"), ("version", "v2")],
    &[HTTP, HTTP2],
    Host(23),
);
/// The gRPC service.
pub(crate) const GREETER: Workload = workload(
    "greeter",
    "greeter",
    &[("app", "greeter")],
    &[GRPC],
    Host(24),
);
/// The server-first TCP service.
pub(crate) const BANNER_HOST: Workload = workload(
    "banner",
    "banner",
    &[("app", "banner")],
    &[BANNER],
    Host(25),
);
/// Calls, and may not call the API's private part. Serves nothing.
pub(crate) const GUEST: Workload = Workload {
    spare: true,
    ..workload("guest", "guest", &[("app", "guest")], &[], Host(26))
};
/// Takes the place of `api-v1` while the checks replace an endpoint.
pub(crate) const API_V1_SPARE: Workload = Workload {
    spare: true,
    ..workload(
        "api-v1b",
        "api",
        &[("app", "api"), ("version", "v1")],
        &[HTTP, HTTP2],
        Host(27),
    )
};

/// All workloads.
pub(crate) const WORKLOADS: [Workload; 7] = [
    WEB,
    API_V1,
    API_V2,
    GREETER,
    BANNER_HOST,
    GUEST,
    API_V1_SPARE,
];

const fn workload(
    name: &'static str,
    account: &'static str,
    labels: &'static [(&'static str, &'static str)],
    ports: &'static [Port],
    host: Host,
) -> Workload {
    Workload {
        name,
        account,
        labels,
        ports,
        host,
        spare: false,
    }
}

impl Workload {
    /// The identity that its certificate carries.
    pub(crate) fn identity(&self) -> String {
        format!("spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{}", self.account)
    }
}

/// A port of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) service: &'static str,
    pub(crate) port: u16,
}

/// The API over HTTP/1, behind the 90/10 route.
pub(crate) const API: Target = Target {
    service: "api",
    port: 8080,
};
/// The API over HTTP/2.
pub(crate) const API_H2: Target = Target {
    service: "api",
    port: 8081,
};
/// The gRPC service.
pub(crate) const GREETER_GRPC: Target = Target {
    service: "greeter",
    port: 9000,
};
/// The server-first service.
pub(crate) const BANNER_TCP: Target = Target {
    service: "banner",
    port: 7100,
};
/// A destination that the outage check calls once and then leaves alone until no controller is there.
pub(crate) const IDLE: Target = Target {
    service: "idle",
    port: 8080,
};

/// Destinations that the failover check has never called before: one for each disturbance.
pub(crate) const FRESH: [Target; 4] = [
    Target {
        service: "fresh-0",
        port: 8080,
    },
    Target {
        service: "fresh-1",
        port: 8080,
    },
    Target {
        service: "fresh-2",
        port: 8080,
    },
    Target {
        service: "fresh-3",
        port: 8080,
    },
];

/// Every destination that a client of the demo calls.
pub(crate) fn targets() -> Vec<Target> {
    [API, API_H2, GREETER_GRPC, BANNER_TCP, IDLE]
        .into_iter()
        .chain(FRESH)
        .collect()
}

/// The objects that the demo applies, without what depends on where it runs.
pub(crate) fn objects() -> Vec<Value> {
    let http = [("http", 8080, Some("http"))];
    let api = [
        ("http", 8080, Some("http")),
        ("http2", 8081, Some("kubernetes.io/h2c")),
    ];
    let mut objects = vec![
        service("web", &[("app", "web")], &http),
        service("api", &[("app", "api")], &api),
        service("api-v1", &[("app", "api"), ("version", "v1")], &http),
        service("api-v2", &[("app", "api"), ("version", "v2")], &http),
        service(
            "greeter",
            &[("app", "greeter")],
            &[("grpc", 9000, Some("grpc"))],
        ),
        service("banner", &[("app", "banner")], &[("banner", 7100, None)]),
        service("idle", &[("app", "api")], &http),
        route(),
        private_part(),
    ];
    objects.extend(
        FRESH
            .iter()
            .map(|target| service(target.service, &[("app", "api")], &http)),
    );
    objects
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

fn route() -> Value {
    let backend = |name: &str, weight: u32| json!({"name": name, "port": 8080, "weight": weight});
    let parents = json!([{"group": "", "kind": "Service", "name": "api", "port": 8080}]);
    let rules = json!([{"backendRefs": [backend("api-v1", 90), backend("api-v2", 10)]}]);
    object(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        "api",
        json!({"parentRefs": parents, "rules": rules}),
    )
}

/// The path that guests are denied.
pub(crate) const PRIVATE: &str = "/private";

fn private_part() -> Value {
    let from = json!([{"identities": [GUEST.identity()]}]);
    let rules = json!([{"from": from, "to": [{"paths": [format!("{PRIVATE}*")]}]}]);
    let spec =
        json!({"selector": {"matchLabels": {"app": "api"}}, "action": "Deny", "rules": rules});
    object(
        "maille.dev/v1alpha1",
        "AuthorizationPolicy",
        "no-guests",
        spec,
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
pub(crate) fn upstreams(workload: &Workload, listeners: &[(String, Target)]) -> Value {
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

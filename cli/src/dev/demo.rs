//! What the demo consists of: workloads and services, the same for each kind of sidecar.

mod objects;
mod programs;

use super::namespaces::Host;

pub(crate) use objects::{
    NO_GUESTS, NO_STRANGERS, PRIVATE, document, objects, settings, upstreams, written,
};
pub(crate) use programs::{Programs, SPLIT, programs};

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

/// What a sidecar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `maille-proxy run`.
    Native,
    /// Envoy, with `maille-proxy agent` beside it.
    Envoy,
    /// A program with gRPC's xDS in it, with `maille-proxy agent` beside it.
    Grpc,
}

impl Kind {
    /// As the names of checks say it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Native => "native",
            Kind::Envoy => "envoy",
            Kind::Grpc => "grpc",
        }
    }
}

/// A workload: a host with an application and a sidecar.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) account: &'static str,
    pub(crate) kind: Kind,
    /// The application that it serves with, of those of `maille dev-app`.
    pub(crate) app: Option<&'static str>,
    pub(crate) labels: &'static [(&'static str, &'static str)],
    pub(crate) ports: &'static [Port],
    pub(crate) host: Host,
    /// Only the checks need it.
    pub(crate) spare: bool,
}

const fn port(name: &'static str, number: u16, protocol: &'static str) -> Port {
    Port {
        name,
        number,
        protocol,
    }
}

const HTTP: Port = port("http", 8080, "http1");
const HTTP2: Port = port("http2", 8081, "http2");
/// The application's own TLS.
pub(crate) const SECURE: Port = port("secure", 8443, "tls");
const GRPC: Port = port("grpc", 9000, "grpc");
/// Its protocol is found out: nobody tells the mesh that this server speaks first.
const BANNER: Port = port("banner", 7100, "detect");
/// A second port of the banner's application, which the mesh does not know: for a direct connection beside one through the mesh.
pub(crate) const BANNER_DIRECT: u16 = 7101;
const API_PORTS: &[Port] = &[HTTP, HTTP2, SECURE];

/// What is there once for each kind of sidecar.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set {
    pub(crate) kind: Kind,
    /// The web front.
    pub(crate) web: Workload,
    /// The API's two versions.
    pub(crate) api: [Workload; 2],
    /// The gRPC service.
    pub(crate) greeter: Workload,
    /// The server-first TCP service.
    pub(crate) banner: Workload,
    /// Calls, and may call nothing. Serves nothing.
    pub(crate) stranger: Workload,
}

/// The sets of a demo: the first is always there.
static SETS: [Set; 2] = [
    NATIVE,
    Set {
        kind: Kind::Envoy,
        web: envoy(WEB, "web-envoy", "web-envoy", &[("app", "web-envoy")], 31),
        api: [
            envoy(
                API_V1,
                "api-v1-envoy",
                "api-envoy",
                &[("app", "api-envoy"), ("version", "v1")],
                32,
            ),
            envoy(
                API_V2,
                "api-v2-envoy",
                "api-envoy",
                &[("app", "api-envoy"), ("version", "v2")],
                33,
            ),
        ],
        greeter: envoy(
            GREETER,
            "greeter-envoy",
            "greeter-envoy",
            &[("app", "greeter-envoy")],
            34,
        ),
        banner: envoy(
            BANNER_HOST,
            "banner-envoy",
            "banner-envoy",
            &[("app", "banner-envoy")],
            35,
        ),
        stranger: envoy(
            STRANGER,
            "stranger-envoy",
            "stranger-envoy",
            &[("app", "stranger-envoy")],
            36,
        ),
    },
];

const NATIVE: Set = Set {
    kind: Kind::Native,
    web: WEB,
    api: [API_V1, API_V2],
    greeter: GREETER,
    banner: BANNER_HOST,
    stranger: STRANGER,
};

/// The web front.
pub(crate) const WEB: Workload = serving("web", "web", "web", &[("app", "web")], &[HTTP], 21);
/// The API's first version.
pub(crate) const API_V1: Workload = api("api-v1", &[("app", "api"), ("version", "v1")], 22);
/// The API's second version.
pub(crate) const API_V2: Workload = api("api-v2", &[("app", "api"), ("version", "v2")], 23);
const GREETER: Workload = serving(
    "greeter",
    "greeter",
    "greeter",
    &[("app", "greeter")],
    &[GRPC],
    24,
);
/// The server-first TCP service.
pub(crate) const BANNER_HOST: Workload = serving(
    "banner",
    "banner",
    "banner",
    &[("app", "banner")],
    &[BANNER],
    25,
);
/// Calls, and may not call the API's private part. Serves nothing.
pub(crate) const GUEST: Workload = calling("guest", &[("app", "guest")], 26);
const STRANGER: Workload = calling("stranger", &[("app", "stranger")], 28);
/// Takes the place of `api-v1` while the checks replace an endpoint.
pub(crate) const API_V1_SPARE: Workload = Workload {
    spare: true,
    ..api("api-v1b", &[("app", "api"), ("version", "v1")], 27)
};

type Labels = &'static [(&'static str, &'static str)];

const fn serving(
    name: &'static str,
    account: &'static str,
    app: &'static str,
    labels: Labels,
    ports: &'static [Port],
    host: u8,
) -> Workload {
    Workload {
        name,
        account,
        kind: Kind::Native,
        app: Some(app),
        labels,
        ports,
        host: Host(host),
        spare: false,
    }
}

const fn api(name: &'static str, labels: Labels, host: u8) -> Workload {
    serving(name, "api", "api", labels, API_PORTS, host)
}

const fn calling(name: &'static str, labels: Labels, host: u8) -> Workload {
    Workload {
        app: None,
        spare: true,
        ..serving(name, name, "", labels, &[], host)
    }
}

/// The same behind Envoy.
const fn envoy(
    like: Workload,
    name: &'static str,
    account: &'static str,
    labels: Labels,
    host: u8,
) -> Workload {
    Workload {
        name,
        account,
        kind: Kind::Envoy,
        labels,
        host: Host(host),
        ..like
    }
}

/// The native set, and with `envoy` the same again behind Envoy.
pub(crate) fn sets(envoy: bool) -> &'static [Set] {
    if envoy { &SETS } else { &SETS[..1] }
}

/// All workloads of a demo.
pub(crate) fn workloads(sets: &[Set]) -> Vec<Workload> {
    let mut all = sets.iter().flat_map(Set::workloads).collect::<Vec<_>>();
    all.extend(programs(sets).iter().flat_map(|all| all.workloads()));
    all.extend([GUEST, API_V1_SPARE]);
    all
}

impl Workload {
    /// The identity that its certificate carries.
    pub(crate) fn identity(&self) -> String {
        format!("spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{}", self.account)
    }

    /// The set that it belongs to, or is like.
    pub(crate) fn set(&self) -> &'static Set {
        match self.kind {
            Kind::Native | Kind::Grpc => &SETS[0],
            Kind::Envoy => &SETS[1],
        }
    }
}

impl Set {
    fn workloads(&self) -> Vec<Workload> {
        let [first, second] = self.api;
        vec![
            self.web,
            first,
            second,
            self.greeter,
            self.banner,
            self.stranger,
        ]
    }

    /// The API over HTTP/1, behind the 90/10 route.
    pub(crate) const fn api_http(&self) -> Target {
        Target::of(&self.api[0], HTTP)
    }

    /// The API over HTTP/2.
    pub(crate) const fn api_http2(&self) -> Target {
        Target::of(&self.api[0], HTTP2)
    }

    /// The API over its own TLS.
    pub(crate) const fn api_secure(&self) -> Target {
        Target::of(&self.api[0], SECURE)
    }

    /// The gRPC service.
    pub(crate) const fn greeter_grpc(&self) -> Target {
        Target::of(&self.greeter, GRPC)
    }

    /// The server-first service.
    pub(crate) const fn banner_tcp(&self) -> Target {
        Target::of(&self.banner, BANNER)
    }

    fn targets(&self) -> [Target; 5] {
        [
            self.api_http(),
            self.api_http2(),
            self.api_secure(),
            self.greeter_grpc(),
            self.banner_tcp(),
        ]
    }
}

/// A port of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) service: &'static str,
    pub(crate) port: u16,
}

impl Target {
    /// Services are called as the accounts of those who serve them.
    const fn of(workload: &Workload, port: Port) -> Target {
        Target {
            service: workload.account,
            port: port.number,
        }
    }

    const fn like_the_api(service: &'static str) -> Target {
        Target {
            service,
            port: HTTP.number,
        }
    }
}

/// The API over HTTP/1, behind the 90/10 route.
pub(crate) const API: Target = NATIVE.api_http();
/// The API over HTTP/2.
pub(crate) const API_H2: Target = NATIVE.api_http2();
/// The gRPC service.
pub(crate) const GREETER_GRPC: Target = NATIVE.greeter_grpc();
/// The server-first service.
pub(crate) const BANNER_TCP: Target = NATIVE.banner_tcp();
/// A destination that the outage check calls once and then leaves alone until no controller is there.
pub(crate) const IDLE: Target = Target::like_the_api("idle");

/// Destinations that the failover check has never called before: one for each disturbance.
pub(crate) const FRESH: [Target; 4] = [
    Target::like_the_api("fresh-0"),
    Target::like_the_api("fresh-1"),
    Target::like_the_api("fresh-2"),
    Target::like_the_api("fresh-3"),
];

/// Every destination that a client of the demo calls.
pub(crate) fn targets(sets: &[Set]) -> Vec<Target> {
    let programs = programs(sets).map(Programs::greeter_grpc);
    let all = sets.iter().flat_map(Set::targets).chain(programs);
    all.chain([IDLE]).chain(FRESH).collect()
}

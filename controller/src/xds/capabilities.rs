//! What each kind of client keeps of what is written: one table, from which the warnings at `apply` and `docs/capabilities.md` are made.
//!
//! What stands here as different is *tuning*, kept as far as the client can and said where it was written.

mod expressions;

use std::sync::Arc;

use crate::model::kinds::traffic_policy::{Algorithm, Retries, RetryOn};
use crate::model::kinds::{TrafficPolicySpec, mesh_settings::Defaults};
use crate::model::{AnyObject, InstanceEntry, Mesh, MeshMode};

/// A way in which a kind of client keeps something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// As written.
    Wholly,
    /// In another way; what it does instead.
    Otherwise(&'static str),
}
use Kept::{Otherwise, Wholly};

/// Something that can be written, and what becomes of it. The native proxy keeps everything.
struct Capability {
    /// The kinds and fields, as a person knows them.
    what: &'static str,
    by_envoy: Kept,
    by_grpc: Kept,
    /// The field's path in an object that says it.
    said: fn(&AnyObject) -> Option<String>,
}

/// A kind of client that may keep something otherwise.
struct Other {
    /// As which it registers.
    mode: MeshMode,
    /// For people.
    those: &'static str,
    kept: fn(&Capability) -> Kept,
}

const OTHERS: [Other; 2] = [
    Other {
        mode: MeshMode::Envoy,
        those: "Envoys",
        kept: |one| one.by_envoy,
    },
    Other {
        mode: MeshMode::Grpc,
        those: "gRPC programs",
        kept: |one| one.by_grpc,
    },
];

/// What is the same whatever an object says.
const fn never(_: &AnyObject) -> Option<String> {
    None
}

const fn row(what: &'static str, by_envoy: Kept, by_grpc: Kept) -> Capability {
    Capability {
        what,
        by_envoy,
        by_grpc,
        said: never,
    }
}

impl Capability {
    const fn said(self, said: fn(&AnyObject) -> Option<String>) -> Self {
        Self { said, ..self }
    }
}

const TOO_OFTEN: &str = "the routes of the port are refused as a whole, and the client keeps what it had (`maille proxies` shows it): repeat less, or split the rule";
const NESTED: &str = "these are single characters, and other texts match: write the class out";

const CAPABILITIES: [Capability; 27] = [
    row(
        "`Service`: ports, `targetPort` by number and name, `appProtocol`",
        Wholly,
        Otherwise("ports that may be HTTP; beside endpoints in the mesh those outside are left out"),
    ),
    row(
        "`HTTPRoute`: matches on path, method, headers and query",
        Wholly,
        Otherwise("every call is a POST without a query: what asks for another is left out"),
    ),
    row(
        "regular expressions: repetitions beyond 1,000, those within each other multiplied",
        Otherwise(TOO_OFTEN),
        Otherwise(TOO_OFTEN),
    )
    .said(expressions::repeats_too_often),
    row(
        "regular expressions: classes within classes, `[a-z&&[^b]]`",
        Otherwise(NESTED),
        Otherwise(NESTED),
    )
    .said(expressions::nests_classes),
    row(
        "`HTTPRoute`: weights, header changes, redirects, rewrites, timeouts",
        Wholly,
        Otherwise(
            "weights and timeouts, that of an attempt only where nothing is retried; changes to headers are left out; a redirect or a rewrite ends the call with `UNAVAILABLE`",
        ),
    ),
    row(
        "`GRPCRoute`: matches on service, method and headers; weights, header changes",
        Wholly,
        Otherwise("changes to headers are left out"),
    ),
    row(
        "routes of the client's own namespace to a `Service` of another; several parents, and ports of them",
        Wholly,
        Wholly,
    ),
    row(
        "`AuthorizationPolicy`: allow and deny, by identity, namespace, port, method and path",
        Wholly,
        Wholly,
    ),
    row(
        "`AuthorizationPolicy` for opaque connections, before the application hears of them",
        Wholly,
        Otherwise("a gRPC program has no such connections"),
    ),
    row(
        "`MeshSettings.mtls` and its overrides",
        Wholly,
        Otherwise("a server takes mutual TLS alone, where plain text is permitted too"),
    ),
    row(
        "`Workload.upstreams`",
        Wholly,
        Otherwise("a gRPC program calls services by their names"),
    ),
    row("`TrafficPolicy.timeout`", Wholly, Wholly),
    row(
        "`TrafficPolicy.connectTimeout`",
        Wholly,
        Otherwise("left out: gRPC has its own"),
    )
    .said(connect_timeout),
    row(
        "`TrafficPolicy.limits`",
        Wholly,
        Otherwise("`maxRequests` alone, 1,024 where nothing is said"),
    )
    .said(limits),
    row(
        "`TrafficPolicy.ejection`",
        Wholly,
        Otherwise(
            "who fails in every call of an interval is ejected, from `consecutiveErrors` calls on; never the only endpoint",
        ),
    )
    .said(ejection),
    row(
        "`TrafficPolicy.retries`: attempts and pauses",
        Wholly,
        Wholly,
    ),
    row(
        "`TrafficPolicy.retries`: the budget, the limit of an attempt",
        Wholly,
        Otherwise("left out, but for the limit of the only attempt"),
    )
    .said(bounded_retries),
    row(
        "`TrafficPolicy.retries.on`: statuses of HTTP and gRPC, `gateway-error`, `5xx`",
        Wholly,
        Otherwise("gRPC's statuses alone"),
    )
    .said(http_statuses),
    row(
        "`TrafficPolicy.retries.on`: `reset`, `refused-stream`",
        Otherwise(
            "to an Envoy that calls, a refused stream is a reset too; an Envoy before the application answers either with 503, which only `gateway-error` sees",
        ),
        Otherwise("gRPC repeats by itself what a server has certainly not seen, and nothing else of these"),
    )
    .said(resets),
    row("balancing: `roundRobin`", Wholly, Wholly),
    row(
        "balancing: `ringHash`",
        Wholly,
        Otherwise("by the header; without one at random, not by the client's address"),
    ),
    row(
        "balancing: `leastRequest`, `maglev`",
        Wholly,
        Otherwise("a gRPC program balances by `roundRobin` and `ringHash` instead"),
    )
    .said(balanced_otherwise),
    row(
        "balancing: `peakEwma`",
        Otherwise("an Envoy balances by `leastRequest` instead"),
        Otherwise("a gRPC program balances by `roundRobin` instead"),
    )
    .said(peak_ewma),
    row(
        "near endpoints first, by locality",
        Wholly,
        Otherwise("further ones only once none of the nearer is healthy"),
    ),
    row(
        "why a request failed; metrics",
        Otherwise(
            "in Envoy's words, and no header `maille-error`; by Envoy's names, at its administration",
        ),
        Otherwise("by gRPC's statuses; the program has its own metrics"),
    ),
    row(
        "load reports, for `maille stat`: requests by service and port, what failed, what is under way, connections",
        Otherwise(
            "an Envoy times no answers; what it calls of a service in the first seconds after it heard of it may be missing",
        ),
        Otherwise("a gRPC program times no answers, and has no opaque connections"),
    ),
    row(
        "names by DNS, the application's health, registration: by the agent beside it",
        Wholly,
        Wholly,
    ),
];

/// What is worth saying of an object that is written to a mesh with Envoys or gRPC programs in it: path and text.
pub(crate) fn warnings(mesh: &Mesh, object: &AnyObject) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for Other { mode, those, kept } in OTHERS {
        let differs = |one: &Capability| match kept(one) {
            Wholly => None,
            Otherwise(how) => {
                let text = format!("{}: {how} (this mesh has {those})", one.what);
                Some(((one.said)(object)?, text))
            }
        };
        let found: Vec<_> = CAPABILITIES.iter().filter_map(differs).collect();
        // Few objects say any of it: only then are the instances, which may be many, looked at.
        let is_one = |entry: &Arc<InstanceEntry>| entry.instance.mesh() == mode;
        if !found.is_empty() && mesh.instances().values().any(is_one) {
            all.extend(found);
        }
    }
    all
}

/// `docs/capabilities.md`.
#[cfg(test)]
fn page() -> String {
    use std::fmt::Write;

    let mut page = String::from(
        "# What each kind of client keeps\n\nMade from the code (`controller/src/xds/capabilities.rs`); a test compares. Where an Envoy or a gRPC program does it otherwise, `maille apply` says so of objects that ask for it, once the mesh has some. `docs/grpc.md` says more of the last column.\n\n| | maille-proxy | Envoy | gRPC program |\n|---|---|---|---|\n",
    );
    let text = |kept| match kept {
        Wholly => "yes",
        Otherwise(how) => how,
    };
    for one in &CAPABILITIES {
        let (envoy, grpc) = (text(one.by_envoy), text(one.by_grpc));
        writeln!(page, "| {} | yes | {envoy} | {grpc} |", one.what)
            .expect("writing to a String does not fail");
    }
    page
}

/// What a policy says, of one service or by default of all.
enum Policy<'a> {
    Own(&'a TrafficPolicySpec),
    Defaults(&'a Defaults),
}

fn policy(object: &AnyObject) -> Option<Policy<'_>> {
    match object {
        AnyObject::TrafficPolicy(policy) => Some(Policy::Own(&policy.spec)),
        AnyObject::MeshSettings(settings) => Some(Policy::Defaults(&settings.spec.defaults)),
        _ => None,
    }
}

impl<'a> Policy<'a> {
    fn retries(&self) -> Option<&'a Retries> {
        match self {
            Self::Own(spec) => spec.retries.as_ref(),
            Self::Defaults(defaults) => defaults.retries.as_ref(),
        }
    }

    fn algorithm(&self) -> Option<Algorithm> {
        let balancer = match self {
            Self::Own(spec) => &spec.balancer,
            Self::Defaults(defaults) => &defaults.balancer,
        };
        Some(balancer.as_ref()?.algorithm)
    }

    /// The path of a field, of either.
    fn path(&self, own: &str, default: &str) -> String {
        match self {
            Self::Own(_) => own,
            Self::Defaults(_) => default,
        }
        .to_owned()
    }
}

fn connect_timeout(object: &AnyObject) -> Option<String> {
    let policy = policy(object)?;
    let is_said = match &policy {
        Policy::Own(spec) => spec.connect_timeout.is_some(),
        Policy::Defaults(defaults) => defaults.connect_timeout.is_some(),
    };
    is_said.then(|| policy.path("spec.connectTimeout", "spec.defaults.connectTimeout"))
}

/// Those that gRPC leaves out.
fn limits(object: &AnyObject) -> Option<String> {
    let policy = policy(object)?;
    let limits = match &policy {
        Policy::Own(spec) => &spec.limits,
        Policy::Defaults(defaults) => &defaults.limits,
    };
    let limits = limits.as_ref()?;
    let is_said = limits.max_connections.is_some() || limits.max_pending_requests.is_some();
    is_said.then(|| policy.path("spec.limits", "spec.defaults.limits"))
}

fn ejection(object: &AnyObject) -> Option<String> {
    let policy = policy(object)?;
    let is_said = match &policy {
        Policy::Own(spec) => spec.ejection.is_some(),
        Policy::Defaults(defaults) => defaults.ejection.is_some(),
    };
    is_said.then(|| policy.path("spec.ejection", "spec.defaults.ejection"))
}

fn bounded_retries(object: &AnyObject) -> Option<String> {
    let policy = policy(object)?;
    let retries = policy.retries()?;
    let is_said = retries.budget.is_some() || retries.per_try_timeout.is_some();
    is_said.then(|| policy.path("spec.retries", "spec.defaults.retries"))
}

fn retried(object: &AnyObject, is_meant: fn(&RetryOn) -> bool) -> Option<String> {
    let policy = policy(object)?;
    let is_said = policy.retries()?.on.iter().any(is_meant);
    is_said.then(|| policy.path("spec.retries.on", "spec.defaults.retries.on"))
}

fn http_statuses(object: &AnyObject) -> Option<String> {
    retried(object, |one| {
        matches!(
            one,
            RetryOn::ServerError | RetryOn::GatewayError | RetryOn::Status(_)
        )
    })
}

fn resets(object: &AnyObject) -> Option<String> {
    retried(object, |one| {
        matches!(one, RetryOn::Reset | RetryOn::RefusedStream)
    })
}

fn balanced(object: &AnyObject, is_meant: fn(Algorithm) -> bool) -> Option<String> {
    let policy = policy(object)?;
    let is_said = policy.algorithm().is_some_and(is_meant);
    is_said.then(|| policy.path("spec.balancer.type", "spec.defaults.balancer.type"))
}

fn balanced_otherwise(object: &AnyObject) -> Option<String> {
    balanced(object, |one| {
        matches!(one, Algorithm::LeastRequest | Algorithm::Maglev)
    })
}

fn peak_ewma(object: &AnyObject) -> Option<String> {
    balanced(object, |one| one == Algorithm::PeakEwma)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::model::Command;
    use crate::model::tests::{Log, instance};

    fn said(mesh: &Log, spec: &str) -> Vec<String> {
        let text = format!(
            "apiVersion: maille.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {{targetRef: {{name: web}}, {spec}}}\n"
        );
        let reading = crate::language::read([("p.yaml", text.as_str())]);
        assert!(reading.problems.is_empty(), "{:?}", reading.problems);
        let found = warnings(mesh.state.mesh(), &reading.objects[0].object);
        found.into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn what_an_envoy_does_otherwise_is_said_where_there_are_envoys() {
        let mut log = Log::new();
        let reset = "retries: {attempts: 1, on: [reset]}";
        let peak = "balancer: {type: peakEwma}";
        assert!(said(&log, reset).is_empty());
        let mut envoy = instance("web-1", 1);
        envoy.mesh = 2;
        log.run(Command::Register(envoy)).accepted().unwrap();
        assert_eq!(said(&log, reset), ["spec.retries.on"]);
        assert_eq!(said(&log, peak), ["spec.balancer.type"]);
        assert!(
            said(
                &log,
                "retries: {attempts: 1, on: [gateway-error]}, balancer: {type: maglev}"
            )
            .is_empty()
        );
    }

    #[test]
    fn what_a_grpc_program_does_otherwise_is_said_where_there_are_some() {
        let mut log = Log::new();
        let check = |log: &Log, spec: &str, expected: &[&str]| {
            assert_eq!(said(log, spec), expected, "{spec}");
        };
        check(&log, "connectTimeout: 2s", &[]);
        let mut program = instance("web-1", 1);
        program.mesh = MeshMode::Grpc as i32;
        log.run(Command::Register(program)).accepted().unwrap();
        check(&log, "connectTimeout: 2s", &["spec.connectTimeout"]);
        check(&log, "limits: {maxRequests: 3}", &[]);
        check(&log, "limits: {maxConnections: 3}", &["spec.limits"]);
        check(&log, "ejection: {consecutiveErrors: 3}", &["spec.ejection"]);
        check(&log, "timeout: 1s", &[]);
        let retries = |on: &str| format!("retries: {{attempts: 1, on: [{on}]}}");
        check(&log, &retries("unavailable"), &[]);
        check(&log, &retries("gateway-error"), &["spec.retries.on"]);
        check(&log, &retries("503"), &["spec.retries.on"]);
        check(
            &log,
            "retries: {attempts: 1, on: [unavailable], perTryTimeout: 1s}",
            &["spec.retries"],
        );
        check(&log, "balancer: {type: ringHash}", &[]);
        check(&log, "balancer: {type: maglev}", &["spec.balancer.type"]);
        check(&log, "balancer: {type: peakEwma}", &["spec.balancer.type"]);
    }

    #[test]
    fn an_expression_that_others_read_otherwise_is_said_where_it_stands() {
        let text = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec: {parentRefs: [{kind: Service, name: web}], rules: [{matches: [{path: {type: RegularExpression, value: '/a{1001}'}}]}]}\n";
        let reading = crate::language::read([("r.yaml", text)]);
        assert!(reading.problems.is_empty(), "{:?}", reading.problems);
        let mut log = Log::new();
        let said = |log: &Log| warnings(log.state.mesh(), &reading.objects[0].object);
        assert_eq!(said(&log), []);
        let mut program = instance("web-1", 1);
        program.mesh = 3;
        log.run(Command::Register(program)).accepted().unwrap();
        let [(path, text)] = &said(&log)[..] else {
            panic!("{:?}", said(&log));
        };
        assert_eq!(path, "spec.rules[0].matches[0].path.value");
        assert!(text.ends_with("(this mesh has gRPC programs)"), "{text}");
    }

    #[test]
    fn the_page_is_made_from_the_table() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/capabilities.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(file, page()).unwrap();
        }
        let page_there = std::fs::read_to_string(file).unwrap_or_default();
        assert_eq!(
            page_there,
            page(),
            "docs/capabilities.md is old: run this test with UPDATE_DOCS=1"
        );
    }
}

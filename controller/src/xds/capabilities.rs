//! What each kind of client keeps of what is written: one table, from which the warnings at `apply` and `docs/capabilities.md` are made.
//!
//! What stands here as different is *tuning*, kept as far as the client can and said where it was written; but for one row, where a restriction comes
//! late: see opaque connections.

mod expressions;

use std::sync::Arc;

use crate::model::kinds::traffic_policy::{Algorithm, RetryOn};
use crate::model::kinds::{TrafficPolicySpec, mesh_settings::Defaults};
use crate::model::{AnyObject, InstanceEntry, Mesh, MeshMode};

/// A way in which an Envoy keeps something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// As written.
    Wholly,
    /// In another way; what it does instead.
    Otherwise(&'static str),
}

/// Something that can be written, and what becomes of it. The native proxy keeps everything.
struct Capability {
    /// The kinds and fields, as a person knows them.
    what: &'static str,
    by_envoy: Kept,
    /// Whether it is the same with a gRPC program; for the rest of those see `docs/grpc.md`.
    by_grpc_alike: bool,
    /// The field's path in an object that says it.
    said: fn(&AnyObject) -> Option<String>,
}

/// What is the same whatever an object says.
const fn never(_: &AnyObject) -> Option<String> {
    None
}

const fn wholly(what: &'static str) -> Capability {
    Capability {
        what,
        by_envoy: Kept::Wholly,
        by_grpc_alike: false,
        said: never,
    }
}

const fn otherwise(
    what: &'static str,
    how: &'static str,
    said: fn(&AnyObject) -> Option<String>,
) -> Capability {
    Capability {
        what,
        by_envoy: Kept::Otherwise(how),
        by_grpc_alike: false,
        said,
    }
}

const CAPABILITIES: [Capability; 19] = [
    wholly("`Service`: ports, `targetPort` by number and name, `appProtocol`"),
    wholly("`HTTPRoute`: matches on path, method, headers and query"),
    Capability {
        by_grpc_alike: true,
        ..otherwise(
            "regular expressions: repetitions beyond 1,000, those within each other multiplied",
            "an Envoy and a gRPC program refuse the routes of the port as a whole, and keep what they had (`maille proxies` shows it): repeat less, or split the rule",
            expressions::repeats_too_often,
        )
    },
    Capability {
        by_grpc_alike: true,
        ..otherwise(
            "regular expressions: classes within classes, `[a-z&&[^b]]`",
            "to an Envoy and a gRPC program these are single characters, and other texts match: write the class out",
            expressions::nests_classes,
        )
    },
    wholly("`HTTPRoute`: weights, header changes, redirects, rewrites, timeouts"),
    wholly("`GRPCRoute`: matches on service, method and headers; weights, header changes"),
    wholly(
        "routes of the client's own namespace to a `Service` of another; several parents, and ports of them",
    ),
    wholly("`AuthorizationPolicy`: allow and deny, by identity, namespace, port, method and path"),
    otherwise(
        "`AuthorizationPolicy` for opaque connections",
        "an Envoy asks when the client's first bytes arrive: none of them pass, but a greeting of the server's has",
        never,
    ),
    wholly("`MeshSettings.mtls` and its overrides; `Workload.upstreams`"),
    wholly(
        "`TrafficPolicy`: time limits, `limits`, `ejection`, the budget and the pauses of retries",
    ),
    wholly("`TrafficPolicy.retries.on`: statuses of HTTP and gRPC, `gateway-error`, `5xx`"),
    otherwise(
        "`TrafficPolicy.retries.on`: `reset`, `refused-stream`",
        "to an Envoy that calls, a refused stream is a reset too; an Envoy before the application answers either with 503, which only `gateway-error` sees",
        resets,
    ),
    wholly("balancing: `leastRequest`, `roundRobin`, `ringHash`, `maglev`"),
    otherwise(
        "balancing: `peakEwma`",
        "an Envoy balances by `leastRequest` instead",
        peak_ewma,
    ),
    otherwise(
        "near endpoints first, by locality",
        "an Envoy takes all localities alike",
        never,
    ),
    otherwise(
        "why a request failed",
        "in Envoy's words, and no header `maille-error`",
        never,
    ),
    otherwise("metrics", "by Envoy's names, at its administration", never),
    wholly("names by DNS, the application's health, registration: by the agent beside it"),
];

/// What is worth saying of an object that is written to a mesh with clients of a kind that differs: path and text.
pub(crate) fn warnings(mesh: &Mesh, object: &AnyObject) -> Vec<(String, String)> {
    let differs = |one: &Capability| match one.by_envoy {
        Kept::Wholly => None,
        Kept::Otherwise(how) => Some((one.by_grpc_alike, (one.said)(object)?, one.what, how)),
    };
    let found: Vec<_> = CAPABILITIES.iter().filter_map(differs).collect();
    // Few objects say any of it: only then are the instances, which may be many, looked at.
    if found.is_empty() {
        return Vec::new();
    }
    let has = |mode: MeshMode| {
        let is = |entry: &Arc<InstanceEntry>| entry.instance.mesh() == mode;
        mesh.instances().values().any(is)
    };
    let (envoys, programs) = (has(MeshMode::Envoy), has(MeshMode::Grpc));
    let told = |(by_grpc_alike, path, what, how)| {
        let who = match (envoys, programs && by_grpc_alike) {
            (true, true) => "Envoys and gRPC programs",
            (true, false) => "Envoys",
            (false, true) => "gRPC programs",
            (false, false) => return None,
        };
        Some((path, format!("{what}: {how} (this mesh has {who})")))
    };
    found.into_iter().filter_map(told).collect()
}

/// `docs/capabilities.md`.
#[cfg(test)]
fn page() -> String {
    use std::fmt::Write;

    let mut page = String::from(
        "# What each kind of sidecar keeps\n\nMade from the code (`controller/src/xds/capabilities.rs`); a test compares. Where an Envoy does it otherwise, `maille apply` says so of objects that ask for it, once the mesh has Envoys; what a gRPC program keeps stands in [grpc.md](grpc.md).\n\n| | maille-proxy | Envoy |\n|---|---|---|\n",
    );
    for one in &CAPABILITIES {
        let envoy = match one.by_envoy {
            Kept::Wholly => "yes",
            Kept::Otherwise(how) => how,
        };
        writeln!(page, "| {} | yes | {envoy} |", one.what)
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

fn resets(object: &AnyObject) -> Option<String> {
    let (retries, path) = match policy(object)? {
        Policy::Own(spec) => (&spec.retries, "spec.retries.on"),
        Policy::Defaults(defaults) => (&defaults.retries, "spec.defaults.retries.on"),
    };
    let on = &retries.as_ref()?.on;
    let resets = |one: &RetryOn| matches!(one, RetryOn::Reset | RetryOn::RefusedStream);
    on.iter().any(resets).then(|| path.to_owned())
}

fn peak_ewma(object: &AnyObject) -> Option<String> {
    let (balancer, path) = match policy(object)? {
        Policy::Own(spec) => (&spec.balancer, "spec.balancer.type"),
        Policy::Defaults(defaults) => (&defaults.balancer, "spec.defaults.balancer.type"),
    };
    let algorithm = balancer.as_ref()?.algorithm;
    (algorithm == Algorithm::PeakEwma).then(|| path.to_owned())
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
    fn what_programs_with_grpc_do_alike_is_said_where_there_are_some() {
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
        // What only an Envoy does otherwise is not said of them.
        let peak = super::tests::said(&log, "balancer: {type: peakEwma}");
        assert!(peak.is_empty(), "{peak:?}");
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

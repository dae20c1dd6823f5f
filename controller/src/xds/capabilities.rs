//! What each kind of client keeps of what is written: one table, from which the warnings at `apply` and `docs/capabilities.md` are made.
//!
//! What stands here as different is *tuning*, kept as far as the client can and said where it was written.

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
    /// The field's path in an object that says it.
    said: fn(&AnyObject) -> Option<&'static str>,
}

/// What is the same whatever an object says.
const fn never(_: &AnyObject) -> Option<&'static str> {
    None
}

const fn wholly(what: &'static str) -> Capability {
    Capability {
        what,
        by_envoy: Kept::Wholly,
        said: never,
    }
}

const CAPABILITIES: [Capability; 17] = [
    wholly("`Service`: ports, `targetPort` by number and name, `appProtocol`"),
    wholly("`HTTPRoute`: matches on path, method, headers and query"),
    wholly("`HTTPRoute`: weights, header changes, redirects, rewrites, timeouts"),
    wholly("`GRPCRoute`: matches on service, method and headers; weights, header changes"),
    wholly(
        "routes of the client's own namespace to a `Service` of another; several parents, and ports of them",
    ),
    wholly("`AuthorizationPolicy`: allow and deny, by identity, namespace, port, method and path"),
    wholly("`AuthorizationPolicy` for opaque connections, before the application hears of them"),
    wholly("`MeshSettings.mtls` and its overrides; `Workload.upstreams`"),
    wholly(
        "`TrafficPolicy`: time limits, `limits`, `ejection`, the budget and the pauses of retries",
    ),
    wholly("`TrafficPolicy.retries.on`: statuses of HTTP and gRPC, `gateway-error`, `5xx`"),
    Capability {
        what: "`TrafficPolicy.retries.on`: `reset`, `refused-stream`",
        by_envoy: Kept::Otherwise(
            "to an Envoy that calls, a refused stream is a reset too; an Envoy before the application answers either with 503, which only `gateway-error` sees",
        ),
        said: resets,
    },
    wholly("balancing: `leastRequest`, `roundRobin`, `ringHash`, `maglev`"),
    Capability {
        what: "balancing: `peakEwma`",
        by_envoy: Kept::Otherwise("an Envoy balances by `leastRequest` instead"),
        said: peak_ewma,
    },
    Capability {
        what: "near endpoints first, by locality",
        by_envoy: Kept::Otherwise("an Envoy takes all localities alike"),
        said: never,
    },
    Capability {
        what: "why a request failed",
        by_envoy: Kept::Otherwise("in Envoy's words, and no header `maille-error`"),
        said: never,
    },
    Capability {
        what: "metrics",
        by_envoy: Kept::Otherwise("by Envoy's names, at its administration"),
        said: never,
    },
    wholly("names by DNS, the application's health, registration: by the agent beside it"),
];

/// What is worth saying of an object that is written to a mesh with Envoys in it: path and text.
pub(crate) fn warnings(mesh: &Mesh, object: &AnyObject) -> Vec<(&'static str, String)> {
    let differs = |one: &Capability| match one.by_envoy {
        Kept::Wholly => None,
        Kept::Otherwise(how) => {
            let text = format!("{}: {how} (this mesh has Envoys)", one.what);
            Some(((one.said)(object)?, text))
        }
    };
    let found: Vec<_> = CAPABILITIES.iter().filter_map(differs).collect();
    // Few objects say any of it: only then are the instances, which may be many, looked at.
    let is_envoy = |entry: &Arc<InstanceEntry>| entry.instance.mesh() == MeshMode::Envoy;
    match found.is_empty() || mesh.instances().values().any(is_envoy) {
        true => found,
        false => Vec::new(),
    }
}

/// `docs/capabilities.md`.
#[cfg(test)]
fn page() -> String {
    use std::fmt::Write;

    let mut page = String::from(
        "# What each kind of sidecar keeps\n\nMade from the code (`controller/src/xds/capabilities.rs`); a test compares. Where an Envoy does it otherwise, `maille apply` says so of objects that ask for it, once the mesh has Envoys.\n\n| | maille-proxy | Envoy |\n|---|---|---|\n",
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

fn resets(object: &AnyObject) -> Option<&'static str> {
    let (retries, path) = match policy(object)? {
        Policy::Own(spec) => (&spec.retries, "spec.retries.on"),
        Policy::Defaults(defaults) => (&defaults.retries, "spec.defaults.retries.on"),
    };
    let on = &retries.as_ref()?.on;
    let resets = |one: &RetryOn| matches!(one, RetryOn::Reset | RetryOn::RefusedStream);
    on.iter().any(resets).then_some(path)
}

fn peak_ewma(object: &AnyObject) -> Option<&'static str> {
    let (balancer, path) = match policy(object)? {
        Policy::Own(spec) => (&spec.balancer, "spec.balancer.type"),
        Policy::Defaults(defaults) => (&defaults.balancer, "spec.defaults.balancer.type"),
    };
    let algorithm = balancer.as_ref()?.algorithm;
    (algorithm == Algorithm::PeakEwma).then_some(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::model::Command;
    use crate::model::tests::{Log, instance};

    fn said(mesh: &Log, spec: &str) -> Vec<&'static str> {
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

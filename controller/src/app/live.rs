//! Whether a state of the mesh is live: whether everybody who is there has acknowledged it. Who has no stream anywhere counts as behind.

use std::collections::BTreeSet;
use std::sync::Arc;

use xds_api::maille::v1::{AwaitLiveResponse, Proxy};
use xds_api::node::{ENVOY_AGENT, GRPC_AGENTS, NATIVE_AGENT};

use crate::model::{InstanceEntry, Mesh, MeshMode, Name};

/// How many of those that are behind are named.
const NAMED: usize = 100;

/// Looks at every stream of every controller, and at the registered workloads, which have one or are behind. Only whom the caller sees is named.
pub(super) fn judge(
    mesh: &Mesh,
    streams: Vec<Proxy>,
    index: u64,
    sees: &dyn Fn(&str) -> bool,
) -> AwaitLiveResponse {
    let absent = absent(mesh, &streams);
    let clients = streams.len() + absent.len();
    let late = streams.into_iter().filter(|one| one.clean_through < index);
    let behind: Vec<Proxy> = late.chain(absent).collect();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let all = count(behind.len());
    let (mut laggards, unseen): (Vec<Proxy>, Vec<Proxy>) =
        behind.into_iter().partition(|one| sees(&one.node));
    laggards.sort_by_key(|one| !refuses(one, index));
    laggards.truncate(NAMED);
    let refusals = unseen.iter().filter(|one| refuses(one, index)).count();
    AwaitLiveResponse {
        clients: count(clients),
        behind: all,
        laggards,
        unseen: count(unseen.len()),
        unseen_refusals: count(refusals),
    }
}

/// Whether waiting longer is of no use: somebody has refused it.
pub(super) fn is_refused(answer: &AwaitLiveResponse, index: u64) -> bool {
    answer.unseen_refusals > 0 || answer.laggards.iter().any(|one| refuses(one, index))
}

/// Whether a client has refused what it was sent up to this index. An older refusal that still stands says nothing yet: what comes may mend it.
pub(super) fn refuses(proxy: &Proxy, index: u64) -> bool {
    !proxy.last_nack.is_empty() && proxy.answered_through >= index
}

/// The registered workloads that have no stream at any controller.
pub(super) fn absent(mesh: &Mesh, streams: &[Proxy]) -> Vec<Proxy> {
    let connected: BTreeSet<&str> = streams.iter().map(|one| one.node.as_str()).collect();
    let registered = mesh.instances().iter();
    let absent = registered
        .filter(|(_, entry)| entry.instance.mesh() != MeshMode::None)
        .filter(|(name, _)| !connected.contains(name.to_string().as_str()));
    let proxy = |(name, entry): (&Name, &Arc<InstanceEntry>)| Proxy {
        node: name.to_string(),
        kind: match entry.instance.mesh() {
            MeshMode::Envoy => ENVOY_AGENT.to_owned(),
            MeshMode::Grpc => GRPC_AGENTS.to_owned(),
            MeshMode::Native | MeshMode::None => NATIVE_AGENT.to_owned(),
        },
        spiffe_id: entry.instance.identity.clone(),
        ..Default::default()
    };
    absent.map(proxy).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::model::Command;
    use crate::model::tests::{Log, instance};

    fn stream(node: &str, clean_through: u64, nack: &str) -> Proxy {
        Proxy {
            node: node.to_owned(),
            controller: "c1".to_owned(),
            clean_through,
            last_nack: nack.to_owned(),
            answered_through: clean_through.max(9),
            ..Default::default()
        }
    }

    /// The names of those behind index 9, the refusing ones first.
    fn behind(streams: Vec<Proxy>) -> (u32, Vec<String>) {
        let mut log = Log::new();
        log.run(Command::Register(instance("web-1", 1)))
            .accepted()
            .unwrap();
        let answer = judge(log.state.mesh(), streams, 9, &|_| true);
        assert_eq!((answer.unseen, answer.unseen_refusals), (0, 0));
        let names = answer.laggards.into_iter().map(|one| one.node).collect();
        (answer.clients, names)
    }

    #[test]
    fn who_has_not_acknowledged_it_or_has_no_stream_is_behind() {
        assert_eq!(behind(vec![stream("default/web-1", 9, "")]), (1, vec![]));
        let absent = vec!["default/web-1".to_owned()];
        assert_eq!(behind(vec![]), (1, absent.clone()));
        assert_eq!(behind(vec![stream("x/y", 12, "")]), (2, absent));
        let several = vec![
            stream("default/web-1", 8, ""),
            stream("x/y", 9, ""),
            stream("x/z", 3, "no such thing"),
        ];
        let expected = vec!["x/z".to_owned(), "default/web-1".to_owned()];
        assert_eq!(behind(several), (3, expected));
    }

    #[test]
    fn who_is_in_a_namespace_that_the_caller_may_not_see_is_counted_and_not_named() {
        let log = Log::new();
        let mut streams = vec![stream("shop/web-1", 8, "")];
        streams.extend((0..NAMED).map(|at| stream(&format!("bank/db-{at}"), 3, "")));
        let judge = |streams: &[Proxy]| {
            let sees = |node: &str| node.starts_with("shop/");
            let answer = judge(log.state.mesh(), streams.to_vec(), 9, &sees);
            let names: Vec<String> = answer.laggards.iter().map(|one| one.node.clone()).collect();
            let counts = (answer.behind, answer.unseen, answer.unseen_refusals);
            (names, counts, is_refused(&answer, 9))
        };
        let own = vec!["shop/web-1".to_owned()];
        assert_eq!(judge(&streams), (own.clone(), (101, 100, 0), false));
        // Nobody waits for one that has refused it, and its words are not told.
        streams.push(stream("bank/db-x", 3, "no such thing"));
        assert_eq!(judge(&streams), (own, (102, 101, 1), true));
    }

    #[test]
    fn an_older_refusal_that_stands_refuses_nothing_new() {
        let mut one = stream("x/y", 3, "no such thing");
        assert!(refuses(&one, 9));
        one.answered_through = 8;
        assert!(!refuses(&one, 9));
        assert!(!refuses(&stream("x/y", 9, ""), 9));
    }
}

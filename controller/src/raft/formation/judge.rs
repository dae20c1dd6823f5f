//! What one round of asking means: wait, found, go on as a member, or end. Pure.

use std::collections::BTreeMap;

use xds_api::maille::v1 as proto;

use crate::raft::types::{NodeId, Peer};

/// Rounds for which two that started at once under one name look at each other before one of them gives way.
const TWIN_ROUNDS: u32 = 25;

/// What this round's answers mean.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// This directory is a member already.
    Member(NodeId),
    /// This controller writes the first membership.
    Found(BTreeMap<NodeId, Peer>),
    /// Not yet, and why.
    Wait(String),
    /// Never, and why.
    Refuse(String),
}

/// A controller that may found a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Founder {
    pub(super) name: String,
    pub(super) directory: String,
    pub(super) address: String,
}

/// What the answers of the others in a round, counted from 0, mean for `own`.
pub(super) fn judge(
    own: &Founder,
    expect: u32,
    answers: &[proto::HelloResponse],
    round: u32,
) -> Step {
    let others: Vec<_> = answers
        .iter()
        .filter(|answer| answer.directory != own.directory)
        .collect();
    if let Some(same) = others.iter().find(|answer| answer.name == own.name) {
        return judge_twin(own, same, round);
    }
    if let Some(member) = others.iter().find(|answer| answer.your_node != 0) {
        return Step::Member(member.your_node);
    }
    if let Some(member) = others.iter().find(|answer| answer.initialized) {
        return Step::Wait(format!(
            "a controller token: {} is in a cluster already, which does not know this data directory; make one with `maille token create \
             --controller` and set `joinTokenFile`",
            member.name
        ));
    }
    if expect == 0 {
        return Step::Wait(
            "`bootstrapExpect` or `joinTokenFile` in its configuration: neither is set".into(),
        );
    }
    if let Some(other) = others.iter().find(|answer| answer.expect != expect) {
        return Step::Wait(format!(
            "one `bootstrapExpect`: {} expects {} controllers, this one {expect}",
            other.name, other.expect
        ));
    }
    let mut founders = BTreeMap::from([(own.directory.clone(), own.address.clone())]);
    founders.extend(
        others
            .iter()
            .map(|answer| (answer.directory.clone(), answer.peer_address.clone())),
    );
    match founders.len().cmp(&(expect as usize)) {
        std::cmp::Ordering::Less => Step::Wait(format!(
            "{} more controllers",
            expect as usize - founders.len()
        )),
        std::cmp::Ordering::Greater => Step::Wait(format!(
            "fewer controllers: {} found each other, {expect} are expected",
            founders.len()
        )),
        std::cmp::Ordering::Equal if founders.keys().next() != Some(&own.directory) => {
            Step::Wait("the controller with the lowest directory id to found the cluster".into())
        }
        std::cmp::Ordering::Equal => {
            let peers = founders
                .into_iter()
                .map(|(directory, address)| Peer { directory, address });
            Step::Found((1..).zip(peers).collect())
        }
    }
}

/// Another directory's controller has the same name. The one that came second ends; whoever was there in the first round came first.
fn judge_twin(own: &Founder, twin: &proto::HelloResponse, round: u32) -> Step {
    let gives_way = round >= TWIN_ROUNDS && own.directory > twin.directory;
    if round == 0 || twin.initialized || gives_way {
        return Step::Refuse(format!(
            "this controller's name is taken: the one at {} is called `{}` too; give each its own `name`",
            twin.peer_address, own.name
        ));
    }
    Step::Wait(format!(
        "the controller at {} to end: it came later and is called `{}` too; give each its own `name`",
        twin.peer_address, own.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Founder {
        Founder {
            name: "a".into(),
            directory: "d1".into(),
            address: "a:1".into(),
        }
    }

    fn other(name: &str, directory: &str) -> proto::HelloResponse {
        proto::HelloResponse {
            name: name.into(),
            directory: directory.into(),
            peer_address: format!("{name}:1"),
            expect: 3,
            ..proto::HelloResponse::default()
        }
    }

    #[track_caller]
    fn check_waits(answers: &[proto::HelloResponse], expected: &str) {
        match judge(&own(), 3, answers, 1) {
            Step::Wait(why) => assert!(why.contains(expected), "{why}"),
            step => panic!("{step:?} instead of waiting for {expected}"),
        }
    }

    #[test]
    fn the_lowest_directory_founds_with_exactly_the_expected() {
        let peer = |directory: &str, address: &str| Peer {
            directory: directory.into(),
            address: address.into(),
        };
        let step = judge(
            &own(),
            3,
            &[other("c", "d3"), other("b", "d2"), other("a", "d1")],
            0,
        );
        let members = BTreeMap::from([
            (1, peer("d1", "a:1")),
            (2, peer("d2", "b:1")),
            (3, peer("d3", "c:1")),
        ]);
        assert_eq!(step, Step::Found(members));
    }

    #[test]
    fn everybody_else_waits_and_says_for_what() {
        check_waits(&[], "2 more controllers");
        check_waits(&[other("b", "d2")], "1 more");
        check_waits(
            &[other("b", "d0"), other("c", "d3")],
            "the controller with the lowest",
        );
        check_waits(
            &[other("b", "d2"), other("c", "d3"), other("e", "d4")],
            "fewer controllers",
        );
        check_waits(&[other("a", "d2")], "it came later");
        let apart = proto::HelloResponse {
            expect: 5,
            ..other("b", "d2")
        };
        check_waits(&[apart], "one `bootstrapExpect`");
        let member = proto::HelloResponse {
            initialized: true,
            ..other("b", "d2")
        };
        check_waits(&[member], "a controller token");
    }

    #[test]
    fn who_is_in_the_membership_is_a_member() {
        let founder = proto::HelloResponse {
            initialized: true,
            your_node: 2,
            ..other("b", "d0")
        };
        assert_eq!(judge(&own(), 3, &[founder], 0), Step::Member(2));
    }

    #[test]
    fn of_two_with_one_name_the_second_ends() {
        let is_refused =
            |twin: proto::HelloResponse, round: u32| match judge(&own(), 3, &[twin], round) {
                Step::Refuse(why) => {
                    assert!(
                        why.contains("`a`")
                            && why.contains("a:1")
                            && why.contains("give each its own `name`"),
                        "{why}"
                    );
                    true
                }
                Step::Wait(_) => false,
                step => panic!("{step:?}"),
            };
        assert!(is_refused(other("a", "d2"), 0));
        assert!(!is_refused(other("a", "d2"), 1));
        let member = proto::HelloResponse {
            initialized: true,
            ..other("a", "d2")
        };
        assert!(is_refused(member, 1));
        // Of two that started at once, one.
        assert!(!is_refused(other("a", "d2"), TWIN_ROUNDS));
        assert!(is_refused(other("a", "d0"), TWIN_ROUNDS));
    }
}

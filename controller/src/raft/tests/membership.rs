//! Forming, joining by token, removing, handing over.
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use xds_api::join_token::JoinToken;

use super::cluster::{Cluster, PATIENCE, has, until, write, written};
use crate::model::codec::sha256;
use crate::model::{Command, Member, Proposal, Token, TokenPurpose};
use crate::raft::{MembersError, Raft};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_controllers_form_a_cluster_in_any_order_and_any_takes_a_write() {
    let mut cluster = Cluster::new(&["c1", "c2", "c3"]);
    for name in ["c3", "c1"] {
        cluster.start(name).await;
    }
    let waiting = cluster.raft("c1");
    until("two of three to wait", || {
        waiting
            .waiting_for()
            .borrow()
            .contains("1 more")
            .then_some(())
    })
    .await;
    assert!(waiting.propose(write("early")).await.is_err());
    cluster.start("c2").await;
    cluster.settled().await;
    let mut last = 0;
    for name in ["c1", "c2", "c3"] {
        let applied = written(&cluster.raft(name), name).await;
        assert!(
            applied.index > last,
            "{} is not after {last}",
            applied.index
        );
        last = applied.index;
        assert!(
            has(&cluster.raft(name).state().borrow().clone(), name)
                || cluster.leader().await != name
        );
    }
    let state = cluster.equal_states(last).await;
    assert!(["c1", "c2", "c3"].iter().all(|name| has(&state, name)));
    assert_eq!(state.cluster_id(), cluster.id);
    assert_eq!(state.members().len(), 3);
    let again = cluster.raft("c2").propose(write("c1")).await.unwrap();
    assert_eq!(
        again.index,
        cluster.raft("c3").propose(write("c1")).await.unwrap().index,
        "a repeated write is applied once"
    );
}

async fn token(raft: &Raft, id: &str) -> String {
    let join = JoinToken {
        id: id.to_owned(),
        secret: b"secret".to_vec(),
        spiffe_id: String::new(),
        controllers: vec![],
        roots_sha256: vec![[0; 32]],
    };
    let token = Token {
        id: id.to_owned(),
        secret_sha256: sha256(b"secret").to_vec().into(),
        purpose: TokenPurpose::Controller as i32,
        spiffe_id: String::new(),
        expires_at: i64::MAX / 2000,
        used_at: 0,
        used_by: String::new(),
        author: String::new(),
    };
    let applied = raft
        .propose(raft.internal(Command::CreateToken(token)))
        .await
        .unwrap();
    assert_eq!(applied.refusal, None);
    join.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_joins_by_token_votes_and_can_be_removed() {
    let mut cluster = Cluster::of_three(|_| ()).await;
    written(&cluster.raft("c1"), "before").await;
    let text = token(&cluster.raft("c2"), "t1").await;
    for name in ["c4", "c5"] {
        cluster.add(name);
        cluster.nodes.get_mut(name).unwrap().token = Some(text.clone());
    }
    cluster.start("c4").await;
    let new = cluster.raft("c4");
    until("the newcomer to vote", || {
        let leader = cluster
            .running()
            .find(|(_, raft)| *raft.0.leads.borrow())?
            .1
            .clone();
        leader
            .members()
            .iter()
            .any(|status| status.member.name == "c4" && status.is_voter)
            .then_some(())
    })
    .await;
    written(&new, "through the newcomer").await;
    // The token is used up: another directory is refused, with words.
    cluster.start("c5").await;
    let late = cluster.raft("c5");
    until("the second user of a token to be refused", || {
        late.waiting_for().borrow().contains("used").then_some(())
    })
    .await;
    cluster.stop("c5", true).await;

    let node = new.node().unwrap();
    assert!(node > 3, "an id was used twice");
    let leader = cluster.leader().await;
    let victim = ["c1", "c2", "c3"]
        .into_iter()
        .find(|name| *name != leader)
        .unwrap();
    assert_eq!(
        cluster.raft("c4").remove_member(victim).await.unwrap(),
        cluster.raft(victim).node().unwrap()
    );
    let gone = cluster.raft("c4");
    until("the member to be gone", || {
        (!gone
            .members()
            .iter()
            .any(|status| status.member.name == victim))
        .then_some(())
    })
    .await;
    cluster.stop(victim, true).await;
    let applied = written(&new, "after").await;
    let state = cluster.equal_states(applied.index).await;
    assert!(has(&state, "before") && has(&state, "through the newcomer"));
    assert_eq!(state.members().len(), 3);
    let unknown = new.remove_member(victim).await.unwrap_err();
    assert!(
        matches!(&unknown, MembersError::NotFound { known, .. } if known.contains("c4")),
        "{unknown}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_would_lose_the_quorum_is_refused() {
    let mut cluster = Cluster::of_three(|_| ()).await;
    let leader = cluster.leader().await;
    let others: Vec<&str> = ["c1", "c2", "c3"]
        .into_iter()
        .filter(|name| *name != leader)
        .collect();
    cluster.stop(others[0], true).await;
    let raft = cluster.raft(others[1]);
    until("the leader to miss it", || {
        let leader = cluster.raft(&leader);
        leader
            .members()
            .iter()
            .any(|status| status.member.name == others[0] && !status.is_reachable)
            .then_some(())
    })
    .await;
    let refused = raft.remove_member(others[1]).await.unwrap_err();
    assert!(refused.to_string().contains("no quorum"), "{refused}");
    written(&raft, "still here").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_and_before_a_planned_stop() {
    let mut cluster = Cluster::of_three(|_| ()).await;
    let first = cluster.leader().await;
    let second = ["c1", "c2", "c3"]
        .into_iter()
        .find(|name| *name != first)
        .unwrap();
    // Asked of a controller that does not lead.
    assert_eq!(
        cluster
            .raft(second)
            .transfer_leadership(Some(second))
            .await
            .unwrap(),
        second
    );
    written(&cluster.raft(&first), "under the second").await;
    let third = cluster
        .raft(second)
        .transfer_leadership(None)
        .await
        .unwrap();
    assert_ne!(third, second);
    cluster.settled().await;

    let leader = cluster.leader().await;
    let other = ["c1", "c2", "c3"]
        .into_iter()
        .find(|name| *name != leader)
        .unwrap();
    let raft = cluster.raft(other);
    let started = Instant::now();
    cluster.stop(&leader, false).await;
    written(&raft, "after a planned stop").await;
    assert!(started.elapsed() < PATIENCE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_was_cut_short_is_finished_by_asking_again() {
    let cluster = Cluster::of_three(|_| ()).await;
    let raft = cluster.raft("c2");
    // Out of the membership already, and still described: the leader died between the two entries.
    let left = Member {
        id: 99,
        name: "c9".into(),
        directory: "00000000-0000-4000-8000-000000000009".into(),
        peer_address: "127.0.0.1:9".into(),
        max_level: 1,
        min_level: 1,
        ..Member::default()
    };
    let described = Proposal {
        client: "test of removal".into(),
        command: Command::PutMember(left),
        ..write("c9")
    };
    let described = raft.propose(described).await.unwrap();
    assert_eq!(described.refusal, None);
    until("the description to arrive", || {
        raft.state()
            .borrow()
            .members()
            .contains_key(&99)
            .then_some(())
    })
    .await;
    assert_eq!(raft.remove_member("c9").await, Ok(99));
    until("the name to be free", || {
        (!raft.state().borrow().members().contains_key(&99)).then_some(())
    })
    .await;
    assert!(matches!(
        raft.remove_member("c9").await,
        Err(MembersError::NotFound { .. })
    ));
}

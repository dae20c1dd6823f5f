//! Killing, restarting, disk troubles.
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use super::cluster::{Cluster, PATIENCE, has, until, written};
use crate::agreement::AgreementError;

const NAMES: [&str; 3] = ["c1", "c2", "c3"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_die_one_after_another_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::of_three(|_| ()).await;
    let mut acknowledged = Vec::new();
    let mut last = 0;
    for round in 0..4 {
        let leader = cluster.leader().await;
        let other = NAMES.into_iter().find(|name| *name != leader).unwrap();
        for write in 0..10 {
            let name = format!("r{round}-w{write}");
            last = written(&cluster.raft(other), &name).await.index;
            acknowledged.push(name);
        }
        cluster.stop(&leader, true).await;
        let started = Instant::now();
        let name = format!("r{round}-after");
        last = last.max(written(&cluster.raft(other), &name).await.index);
        eprintln!(
            "round {round}: a write {:?} after the leader was killed",
            started.elapsed()
        );
        acknowledged.push(name);
        cluster.start(&leader).await;
    }
    let state = cluster.equal_states(last).await;
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|name| !has(&state, name))
        .collect();
    assert!(lost.is_empty(), "lost {lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_connections_break_is_followed_without_any_random_timeout() {
    let mut cluster = Cluster::of_three(|_| ()).await;
    let leader = cluster.leader().await;
    for (_, raft) in cluster.running() {
        raft.core().unwrap().engine.runtime_config().elect(false);
    }
    cluster.crash(&leader);
    let other = NAMES.into_iter().find(|name| *name != leader).unwrap();
    written(&cluster.raft(other), "after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_was_stopped_whole_goes_on_where_it_was() {
    let mut cluster = Cluster::of_three(|_| ()).await;
    let last = written(&cluster.raft("c1"), "before").await.index;
    let before = cluster.equal_states(last).await;
    for name in NAMES {
        cluster.stop(name, true).await;
    }
    for name in NAMES {
        cluster.start(name).await;
    }
    let raft = cluster.raft("c2");
    tokio::time::timeout(PATIENCE, raft.ready())
        .await
        .expect("not ready in time");
    let last = written(&raft, "after").await.index;
    let after = cluster.equal_states(last).await;
    assert!(has(&after, "before") && has(&after, "after"));
    assert_eq!(after.mesh().incarnation(), before.mesh().incarnation());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_another_cluster_is_refused() {
    let mut cluster = Cluster::of_three(|_| ()).await;
    for name in NAMES {
        cluster.stop(name, true).await;
    }
    cluster.id = "00000000-0000-4000-8000-000000000000".to_owned();
    cluster.start("c1").await;
    let raft = cluster.raft("c1");
    let why = until("a refusal", || {
        let why = raft.waiting_for().borrow().clone();
        why.contains("another cluster").then_some(why)
    })
    .await;
    assert!(why.contains(&cluster.id), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_are_refused_before_the_disk_is_full_and_come_back_by_themselves() {
    let reserve = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut cluster = Cluster::new(&["c1"]);
    let is_full = reserve.clone();
    cluster.change = Box::new(move |settings| {
        let full = is_full.load(std::sync::atomic::Ordering::SeqCst);
        settings.reserve = Some(if full { u64::MAX } else { 1 });
    });
    cluster.start("c1").await;
    cluster.settled().await;
    written(&cluster.raft("c1"), "with room").await;
    for full in [true, false] {
        cluster.stop("c1", true).await;
        reserve.store(full, std::sync::atomic::Ordering::SeqCst);
        cluster.start("c1").await;
        let raft = cluster.raft("c1");
        tokio::time::timeout(PATIENCE, raft.ready())
            .await
            .expect("not ready in time");
        assert!(has(&raft.state().borrow(), "with room"));
        let answer = raft.propose(super::cluster::write("another")).await;
        match full {
            true => assert!(
                matches!(&answer, Err(AgreementError::Unavailable(text)) if text.contains("nearly full")),
                "{answer:?}"
            ),
            false => assert!(answer.is_ok(), "{answer:?}"),
        }
    }
}

//! How new an answer is.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::cluster::{Cluster, has, until, written};
use crate::raft::Consistency;
use crate::raft::confirm::own_vote;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_controller_reads_what_was_written_through_another() {
    let cluster = Cluster::of_three(|_| ()).await;
    for round in 0..20 {
        let name = format!("round-{round}");
        let (writer, reader) = (["c1", "c2", "c3"][round % 3], ["c2", "c3", "c1"][round % 3]);
        written(&cluster.raft(writer), &name).await;
        let consistency = match round % 2 {
            0 => Consistency::Default,
            _ => Consistency::Consistent,
        };
        let read = cluster.raft(reader).read(consistency).await.unwrap();
        assert!(
            has(&read.state, &name),
            "{reader} did not see {name} by {consistency:?}"
        );
        assert_eq!(read.age, Duration::ZERO);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_only_a_stale_read_is_answered_and_says_how_old_it_is() {
    let mut cluster = Cluster::of_three(|_| ()).await;
    let applied = written(&cluster.raft("c1"), "kept").await;
    cluster.equal_states(applied.index).await;
    for name in ["c1", "c2"] {
        cluster.stop(name, true).await;
    }
    let left = cluster.raft("c3");
    until("the last one to miss the others", || {
        let age = left
            .0
            .core
            .borrow()
            .as_ref()
            .map(|core| crate::raft::status::silence(core))?;
        (age > Duration::from_secs(1)).then_some(())
    })
    .await;
    let stale = left.read(Consistency::Stale).await.unwrap();
    assert!(has(&stale.state, "kept"));
    assert!(stale.age > Duration::from_secs(1), "{:?}", stale.age);
    assert!(left.read(Consistency::Default).await.is_err());
    assert!(left.read(Consistency::Consistent).await.is_err());
    assert!(
        left.propose(super::cluster::write("refused"))
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_led_before_is_not_confirmed_any_more() {
    let cluster = Cluster::of_three(|_| ()).await;
    let before = cluster.leader().await;
    let old = cluster.raft(&before);
    let core = old.0.core.borrow().clone().unwrap();
    let vote = own_vote(&core).await.unwrap();
    assert!(old.confirm(&core, vote).await.is_ok());
    old.transfer_leadership(None).await.unwrap();
    assert!(old.confirm(&core, vote).await.is_err());
    assert!(old.read(Consistency::Consistent).await.is_ok());
}

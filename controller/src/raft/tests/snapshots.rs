//! Compaction, installing, saving, restoring.
#![allow(clippy::unwrap_used)]

use super::cluster::{Cluster, PATIENCE, has, until, written};
use crate::peer_ca::{AdminCertificate, Grant, Secrets, init};
use crate::raft::restore;
use crate::store::snapshot::inspect;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_away_too_long_gets_a_snapshot_and_restarts_from_it() {
    let mut cluster = Cluster::of_three(|settings| {
        settings.snapshot_every = 20;
        settings.keep_log = 5;
        settings.segment_bytes = 32 << 10;
    })
    .await;
    let leader = cluster.leader().await;
    let away = ["c1", "c2", "c3"]
        .into_iter()
        .find(|name| *name != leader)
        .unwrap();
    cluster.stop(away, true).await;
    let raft = cluster.raft(&leader);
    let mut last = 0;
    for number in 0..200 {
        last = written(&raft, &format!("w{number}")).await.index;
    }
    until("the log to be cut", || {
        (raft.status().purged > 100).then_some(())
    })
    .await;
    cluster.start(away).await;
    let state = cluster.equal_states(last).await;
    assert!((0..200).all(|number| has(&state, &format!("w{number}"))));
    let late = cluster.raft(away);
    assert!(
        late.status().snapshot > 100,
        "no snapshot was installed: {:?}",
        late.status()
    );
    cluster.stop(away, true).await;
    cluster.start(away).await;
    let again = cluster.raft(away);
    tokio::time::timeout(PATIENCE, again.ready())
        .await
        .expect("not ready in time");
    assert!(again.status().purged > 100);
    let state = cluster.equal_states(last).await;
    assert!((0..200).all(|number| has(&state, &format!("w{number}"))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_snapshot_becomes_a_new_cluster() {
    let mut cluster = Cluster::new(&["c1"]);
    cluster.start("c1").await;
    cluster.settled().await;
    let raft = cluster.raft("c1");
    let before = written(&raft, "kept").await;
    let saved = raft.save_snapshot().await.unwrap();
    let copy = cluster.path().join("saved.snapshot");
    std::fs::copy(saved.path(), &copy).unwrap();
    let incarnation = raft.state().borrow().mesh().incarnation();
    cluster.stop("c1", false).await;
    assert_eq!(inspect(&copy).unwrap().header.cluster, cluster.id);

    let same = restore(
        &cluster.path().join("same"),
        &copy,
        &cluster.id,
        "127.0.0.1:1",
    )
    .unwrap_err();
    assert!(same.to_string().contains("this very cluster"), "{same}");
    let mut new = Cluster::new(&["n1"]);
    let directory = new.nodes["n1"].directory.clone();
    let restored = restore(&directory, &copy, &new.id, &new.nodes["n1"].address).unwrap();
    assert!(restored.incarnation > incarnation);
    assert_eq!(restored.from_cluster, cluster.id);
    let full = restore(&directory, &copy, &new.id, "127.0.0.1:1").unwrap_err();
    assert!(full.to_string().contains("empty directory"), "{full}");

    new.start("n1").await;
    new.settled().await;
    let raft = new.raft("n1");
    let after = written(&raft, "new").await;
    assert!(after.index > before.index, "the mesh index went back");
    let state = raft.state().borrow().clone();
    assert!(has(&state, "kept") && has(&state, "new"));
    assert_eq!(state.cluster_id(), new.id);
    assert_eq!(state.mesh().incarnation(), restored.incarnation);
    assert_eq!(state.members().len(), 1);
    new.stop("n1", false).await;
    new.start("n1").await;
    let raft = new.raft("n1");
    tokio::time::timeout(PATIENCE, raft.ready())
        .await
        .expect("not ready in time");
    assert!(has(&raft.state().borrow(), "new"));
}

#[test]
fn secrets_of_another_cluster_have_another_id() {
    let home = tempfile::tempdir().unwrap();
    let ids: Vec<String> = ["a", "b"]
        .iter()
        .map(|name| {
            let path = home.path().join(name);
            let admin = AdminCertificate {
                name: "ada".to_owned(),
                grant: Grant::everything(),
                directory: path.join("admin"),
                endpoints: vec![],
            };
            init(&path.join("secrets"), "mesh.local", &admin, None).unwrap();
            Secrets::load(&path.join("secrets"))
                .unwrap()
                .cluster_id()
                .to_owned()
        })
        .collect();
    assert_ne!(ids[0], ids[1]);
}

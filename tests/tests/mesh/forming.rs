//! A cluster forms whatever the order of starting, takes writes anywhere, and keeps them when its leader dies.

use std::time::Duration;

use anyhow::{Context, ensure};
use maille_tests::cluster::{Cluster, apply, writer};
use maille_tests::mesh::service;
use maille_tests::{client, wait};
use tonic::Code;
use xds_api::generated::maille::v1 as api;

/// The median must be below 0.8 s; one may be slower, and other tests hold the cores.
const FAILOVER_LIMIT: Duration = Duration::from_secs(10);

fn get(consistency: api::Consistency) -> api::GetRequest {
    api::GetRequest {
        kind: "Service".into(),
        all_namespaces: true,
        consistency: consistency.into(),
        ..Default::default()
    }
}

async fn names(
    cluster: &Cluster,
    index: usize,
    consistency: api::Consistency,
) -> anyhow::Result<Vec<String>> {
    let answer = cluster
        .admin(index)
        .await?
        .get(get(consistency))
        .await?
        .into_inner();
    Ok(answer
        .objects
        .into_iter()
        .map(|object| object.name)
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_say_who_leads_and_where_the_mesh_stands() -> anyhow::Result<()> {
    let mut cluster = Cluster::found(3).await?;
    let leader = cluster.ready().await?;
    let index = cluster
        .apply(&service("metered", "a", "http").to_string())
        .await?;
    for place in cluster.running() {
        let leads = u8::from(place == leader);
        let wanted = [
            format!("maille_controller_raft_leads {leads}"),
            "maille_controller_members 3".into(),
            format!("maille_controller_mesh_index {index}"),
            "maille_controller_mesh_objects 1".into(),
        ];
        let health = cluster.controllers[place].address("health");
        wait::until("the metrics follow", FAILOVER_LIMIT, async || {
            let scraped = client::get(health, "/metrics").await?.body;
            for line in &wanted {
                ensure!(
                    scraped.lines().any(|found| found == line),
                    "no `{line}` in\n{scraped}"
                );
            }
            Ok::<_, anyhow::Error>(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_forms_whatever_the_order_of_starting() -> anyhow::Result<()> {
    for order in [[2, 0, 1], [1, 2, 0]] {
        let mut cluster = Cluster::prepare(3, |_| ()).await?;
        cluster.start(order[0])?;
        // Alone it must wait, however long: it answers, and has no leader.
        let status = wait::until("the first answers", Duration::from_secs(15), async || {
            cluster.status(order[0]).await
        })
        .await?;
        ensure!(
            status.leader.is_empty(),
            "one of three founded a cluster: {status:?}"
        );
        cluster.start(order[1])?;
        cluster.start(order[2])?;
        cluster.ready().await?;
        let ids: Vec<String> = cluster
            .statuses()
            .await?
            .into_iter()
            .map(|status| status.cluster_id)
            .collect();
        ensure!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        cluster.agreed().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_to_any_controller_is_applied_once_and_read_everywhere() -> anyhow::Result<()> {
    let mut cluster = Cluster::found(3).await?;
    let mut last = 0;
    for index in 0..3 {
        let written = cluster
            .apply_at(
                index,
                &service(&format!("by-{index}"), "a", "http").to_string(),
            )
            .await?;
        ensure!(
            written > last,
            "the mesh index went from {last} to {written}"
        );
        last = written;
        for reader in 0..3 {
            for consistency in [api::Consistency::Default, api::Consistency::Consistent] {
                let seen = names(&cluster, reader, consistency).await?;
                ensure!(
                    seen.contains(&format!("by-{index}")),
                    "controller {reader}, {consistency:?}: {seen:?}"
                );
            }
        }
    }
    // The same write once more, at another controller: one change, one index.
    let request = api::ApplyRequest {
        documents: vec![api::Document {
            file: "-".into(),
            text: service("twice", "a", "http").to_string(),
        }],
        client: writer(),
        sequence: 1,
        ..Default::default()
    };
    let first = cluster
        .admin(0)
        .await?
        .apply(request.clone())
        .await?
        .into_inner();
    let second = cluster.admin(1).await?.apply(request).await?.into_inner();
    ensure!(first == second, "{first:?} and then {second:?}");
    // What changes nothing moves no index.
    let again = cluster
        .apply(&service("twice", "a", "http").to_string())
        .await?;
    ensure!(
        again == first.index,
        "an unchanged object moved the index from {} to {again}",
        first.index
    );
    cluster.agreed().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_leader_costs_no_write_and_comes_back() -> anyhow::Result<()> {
    let mut cluster = Cluster::found(3).await?;
    for round in 0..2 {
        let leader = cluster.ready().await?;
        let before = format!("before-{round}");
        cluster
            .apply_at(leader, &service(&before, "a", "http").to_string())
            .await?;
        cluster.kill(leader).await?;
        let during = format!("during-{round}");
        let yaml = service(&during, "a", "http").to_string();
        wait::until("a write is accepted again", FAILOVER_LIMIT, async || {
            apply(&mut cluster.any().await?, &yaml).await
        })
        .await?;
        cluster.start(leader)?;
        cluster.ready().await?;
        for reader in 0..3 {
            let seen = names(&cluster, reader, api::Consistency::Consistent).await?;
            ensure!(
                seen.contains(&before) && seen.contains(&during),
                "controller {reader}: {seen:?}"
            );
        }
    }
    cluster.agreed().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_only_stale_reads_are_answered() -> anyhow::Result<()> {
    let mut cluster = Cluster::found(3).await?;
    cluster
        .apply(&service("kept", "a", "http").to_string())
        .await?;
    cluster.agreed().await?;
    cluster.kill(1).await?;
    cluster.kill(2).await?;
    wait::until(
        "the one left has lost its leader's lease",
        FAILOVER_LIMIT,
        async || {
            let stale = cluster
                .admin(0)
                .await?
                .get(get(api::Consistency::Stale))
                .await?
                .into_inner();
            let age = stale.state.context("an answer names its state")?.age_millis;
            wait::ensure(age > 1000, format!("its age is {age} ms")).map_err(anyhow::Error::msg)
        },
    )
    .await?;
    ensure!(names(&cluster, 0, api::Consistency::Stale).await? == ["kept"]);
    for consistency in [api::Consistency::Default, api::Consistency::Consistent] {
        let refused = cluster
            .admin(0)
            .await?
            .get(get(consistency))
            .await
            .unwrap_err();
        ensure!(
            refused.code() == Code::Unavailable,
            "{consistency:?}: {refused}"
        );
    }
    let mut client = cluster.admin(0).await?;
    let write = client.apply(api::ApplyRequest {
        documents: vec![api::Document {
            file: "-".into(),
            text: service("lost", "a", "http").to_string(),
        }],
        client: writer(),
        sequence: 1,
        ..Default::default()
    });
    let refused = write.await.unwrap_err();
    ensure!(
        matches!(refused.code(), Code::Unavailable | Code::DeadlineExceeded),
        "{refused}"
    );
    cluster.start(1)?;
    cluster.ready().await?;
    ensure!(
        names(&cluster, 1, api::Consistency::Consistent)
            .await?
            .contains(&"kept".to_owned())
    );
    Ok(())
}

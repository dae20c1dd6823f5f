//! What is compared: a cluster of three, a writer of it, and its leader's death.

use bytes::Bytes;
use maille_tests::cluster::Cluster;
use xds_api::generated::maille::v1 as api;

use crate::etcd::{self, Etcd};

/// One of the two clusters.
pub(crate) enum Contestant {
    Maille(Box<Cluster>),
    Etcd(Etcd),
}

/// One writer, with a connection of its own.
pub(crate) enum Writer {
    Maille {
        client: Box<maille_tests::admin::Client>,
        name: String,
        sequence: u64,
    },
    Etcd(etcd::Client),
}

impl Contestant {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Maille(_) => "maille",
            Self::Etcd(_) => "etcd 3.6",
        }
    }

    /// The place of the member that leads.
    pub(crate) async fn leader(&mut self) -> anyhow::Result<usize> {
        match self {
            Self::Maille(cluster) => cluster.ready().await,
            Self::Etcd(cluster) => cluster.leader().await,
        }
    }

    /// The members that run.
    pub(crate) fn running(&self) -> Vec<usize> {
        match self {
            Self::Maille(cluster) => cluster.running(),
            Self::Etcd(cluster) => cluster.running(),
        }
    }

    pub(crate) async fn kill(&mut self, place: usize) -> anyhow::Result<()> {
        match self {
            Self::Maille(cluster) => cluster.kill(place).await,
            Self::Etcd(cluster) => cluster.kill(place).await,
        }
    }

    pub(crate) fn restart(&mut self, place: usize) -> anyhow::Result<()> {
        match self {
            Self::Maille(cluster) => cluster.start(place),
            Self::Etcd(cluster) => cluster.restart(place),
        }
    }

    pub(crate) async fn writer(&self, place: usize) -> anyhow::Result<Writer> {
        Ok(match self {
            Self::Maille(cluster) => Writer::Maille {
                client: Box::new(cluster.admin(place).await?),
                name: maille_tests::cluster::writer(),
                sequence: 0,
            },
            Self::Etcd(cluster) => Writer::Etcd(cluster.client(place).await?),
        })
    }
}

impl Writer {
    /// One acknowledged write of `value` under `key`: an object for Maille, a key for etcd.
    pub(crate) async fn write(&mut self, key: &str, value: &str) -> anyhow::Result<()> {
        match self {
            Self::Etcd(client) => {
                client
                    .put(key.to_owned(), Bytes::copy_from_slice(value.as_bytes()))
                    .await
            }
            Self::Maille {
                client,
                name,
                sequence,
            } => {
                *sequence += 1;
                let text = format!(
                    "apiVersion: maille.dev/v1alpha1\nkind: Workload\nmetadata:\n  namespace: bench\n  name: {key}\n  annotations:\n    value: \"{value}\"\nspec: {{}}\n"
                );
                let document = api::Document {
                    file: "bench".into(),
                    text,
                };
                client
                    .apply(api::ApplyRequest {
                        documents: vec![document],
                        client: name.clone(),
                        sequence: *sequence,
                        ..Default::default()
                    })
                    .await?;
                Ok(())
            }
        }
    }
}

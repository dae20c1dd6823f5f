//! What is found on every controller after the kills.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::ensure;
use xds_api::maille::v1 as api;

use crate::cluster::Cluster;
use crate::writers::Counts;

/// A controller that was just started has a whole log to apply, and makes every resource once to hash it.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);
/// Of what is missing, what is shown.
const EXAMPLES: usize = 5;

/// The outcome of a run.
#[derive(Debug, Default)]
pub struct Evidence {
    /// By controller: acknowledged, and not there.
    pub missing: BTreeMap<String, Vec<(String, String)>>,
    /// The controllers' views at the same entry of the log, where they differ.
    pub unequal: Vec<String>,
    /// The resources' types that were compared.
    pub types: usize,
}

impl Evidence {
    /// Compares every controller's objects with what was acknowledged, and the controllers with each other.
    pub async fn gather(cluster: &mut Cluster, counts: &Counts) -> anyhow::Result<Self> {
        let statuses = settled(cluster).await?;
        let mut evidence = Self::default();
        let views: Vec<View> = statuses.iter().map(View::of).collect();
        evidence.types = views[0].resources.len();
        if views.iter().any(|view| *view != views[0]) {
            evidence.unequal = views.iter().map(ToString::to_string).collect();
        }
        for one in &cluster.controllers {
            let there = objects(&mut one.patient.clone()).await?;
            let missing: Vec<_> = counts
                .objects()
                .filter(|object| !there.contains(object))
                .collect();
            if !missing.is_empty() {
                evidence.missing.insert(one.name.clone(), missing);
            }
        }
        Ok(evidence)
    }

    /// Acknowledged writes that at least one controller does not have.
    pub fn lost(&self) -> usize {
        self.missing
            .values()
            .flatten()
            .collect::<HashSet<_>>()
            .len()
    }

    /// Whether nothing is lost and all are equal.
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.unequal.is_empty()
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lost", self.lost())?;
        for (controller, missing) in &self.missing {
            let examples = &missing[..missing.len().min(EXAMPLES)];
            write!(
                f,
                "; {controller} lacks {}, among them {examples:?}",
                missing.len()
            )?;
        }
        match self.unequal.as_slice() {
            [] => write!(
                f,
                "; all controllers equal, {} types of resources",
                self.types
            ),
            unequal => write!(f, "; unequal: {}", unequal.join(" | ")),
        }
    }
}

/// What must be equal.
#[derive(Debug, PartialEq, Eq)]
struct View {
    applied: u64,
    index: u64,
    incarnation: u64,
    mesh: String,
    resources: BTreeMap<String, String>,
}

impl View {
    fn of(status: &api::StatusResponse) -> Self {
        let state = status.state.clone().unwrap_or_default();
        Self {
            applied: status.applied,
            index: state.index,
            incarnation: state.incarnation,
            mesh: status.mesh_hash.clone(),
            resources: status.resource_hashes.clone().into_iter().collect(),
        }
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "entry {} index {} mesh {:.12}",
            self.applied, self.index, self.mesh
        )?;
        for (name, hash) in &self.resources {
            write!(f, " {name} {hash:.12}")?;
        }
        Ok(())
    }
}

/// Waits until every controller has applied the same entry, the last that is committed.
async fn settled(cluster: &mut Cluster) -> anyhow::Result<Vec<api::StatusResponse>> {
    cluster.leader().await?;
    let deadline = Instant::now() + SETTLE_LIMIT;
    loop {
        cluster.check_alive()?;
        let asked = cluster.controllers.iter().map(|one| {
            let mut client = one.patient.clone();
            async move { client.status(api::StatusRequest {}).await }
        });
        let answers = futures_util::future::join_all(asked).await;
        let heard: Vec<String> = answers
            .iter()
            .map(|answer| format!("{answer:.200?}"))
            .collect();
        let statuses: Vec<_> = answers
            .into_iter()
            .flatten()
            .map(tonic::Response::into_inner)
            .collect();
        let committed = statuses
            .iter()
            .map(|status| status.committed)
            .max()
            .unwrap_or_default();
        let is_settled = statuses.len() == cluster.controllers.len()
            && statuses.iter().all(|status| status.applied == committed);
        if is_settled {
            return Ok(statuses);
        }
        ensure!(
            Instant::now() < deadline,
            "not settled within {SETTLE_LIMIT:?}: {}",
            heard.join("\n")
        );
    }
}

/// Everything that one controller has applied.
async fn objects(client: &mut crate::admin::Client) -> anyhow::Result<HashSet<(String, String)>> {
    let request = api::GetRequest {
        kind: "all".to_owned(),
        all_namespaces: true,
        consistency: api::Consistency::Stale.into(),
        ..Default::default()
    };
    let objects = client.get(request).await?.into_inner().objects;
    Ok(objects
        .into_iter()
        .map(|object| (object.namespace, object.name))
        .collect())
}

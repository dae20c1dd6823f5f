//! Apply, get and delete: the mesh's objects over the admin API.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tonic::{Status, async_trait};
use xds_api::generated::maille::v1 as api;

use super::{
    Author, Objects,
    documents::{self, Plan},
    view,
};
use crate::{
    agreement::{Agreement, AgreementError},
    model::{Applied, Proposal, State},
};

/// A state, and how sure it is.
#[derive(Clone, Debug)]
pub struct ReadView {
    /// The state.
    pub state: Arc<State>,
    /// How long ago this controller last heard of a leader; nothing where the state is confirmed.
    pub age: Duration,
}

/// Reads of the asked freshness.
pub trait Reads: fmt::Debug + Send + Sync + 'static {
    /// The state, as fresh as asked.
    fn read(
        &self,
        consistency: api::Consistency,
    ) -> BoxFuture<'static, Result<ReadView, AgreementError>>;
}

/// The mesh's objects, as the admin API asks for them.
#[derive(Clone, Debug)]
pub struct MeshObjects {
    agreement: Arc<dyn Agreement>,
    reads: Arc<dyn Reads>,
    controller: String,
}

impl MeshObjects {
    /// Objects of this cluster, answered by the controller of this name.
    pub fn new(
        agreement: Arc<dyn Agreement>,
        reads: Arc<dyn Reads>,
        controller: impl Into<String>,
    ) -> Self {
        Self {
            agreement,
            reads,
            controller: controller.into(),
        }
    }

    /// Writes a plan, or gives the answer that it would get.
    ///
    /// A dry run is the real thing on a copy of the state that is thrown away. A write is not tried first: `apply` says the
    /// same, and asking twice would cost every good write for the sake of the bad ones.
    async fn write(&self, plan: &Plan, write: Write<'_>) -> Result<Applied, Status> {
        plan.check(write.author)?;
        let applied = if write.dry_run {
            let state = self.agreement.read().await?;
            // Nothing is in force by it, so the index is the one that it was tried at.
            Applied {
                index: state.mesh().index(),
                ..plan.try_on(&state, write.author.as_str())
            }
        } else {
            let proposal = Proposal {
                author: write.author.to_string(),
                client: write.client.to_owned(),
                sequence: write.sequence,
                time_millis: 0,
                command: plan.command(),
            };
            self.agreement.propose(proposal).await?
        };
        applied.accepted().map_err(|refusal| plan.status(&refusal))
    }
}

struct Write<'a> {
    author: &'a Author,
    client: &'a str,
    sequence: u64,
    dry_run: bool,
}

#[async_trait]
impl Objects for MeshObjects {
    async fn apply(
        &self,
        author: &Author,
        request: api::ApplyRequest,
    ) -> Result<api::ApplyResponse, Status> {
        let plan = documents::puts(&request.documents)?;
        let (client, sequence, dry_run) =
            (request.client.as_str(), request.sequence, request.dry_run);
        let applied = self
            .write(
                &plan,
                Write {
                    author,
                    client,
                    sequence,
                    dry_run,
                },
            )
            .await?;
        let state = self.agreement.state().borrow().clone();
        let mut warnings = plan.warnings.clone();
        warnings.extend(plan.differences(state.mesh()));
        Ok(api::ApplyResponse {
            index: applied.index,
            results: documents::results(&applied),
            warnings,
        })
    }

    async fn get(&self, request: api::GetRequest) -> Result<api::GetResponse, Status> {
        let read = self.reads.read(request.consistency()).await?;
        let mesh = read.state.mesh();
        let objects = view::list(mesh, &request)?;
        let state = api::ReadState {
            index: mesh.index(),
            incarnation: mesh.incarnation(),
            age_millis: u64::try_from(read.age.as_millis()).unwrap_or(u64::MAX),
            controller: self.controller.clone(),
        };
        Ok(api::GetResponse {
            state: Some(state),
            objects,
        })
    }

    async fn delete(
        &self,
        author: &Author,
        request: api::DeleteRequest,
    ) -> Result<api::DeleteResponse, Status> {
        let plan = documents::deletes(&request)?;
        let (client, sequence) = (request.client.as_str(), request.sequence);
        let applied = self
            .write(
                &plan,
                Write {
                    author,
                    client,
                    sequence,
                    dry_run: false,
                },
            )
            .await?;
        Ok(api::DeleteResponse {
            index: applied.index,
            results: documents::results(&applied),
        })
    }
}

#[cfg(test)]
mod tests;

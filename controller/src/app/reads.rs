//! Reads of the asked freshness, from Raft.

use futures_util::future::BoxFuture;
use xds_api::maille::v1 as api;

use crate::admin::{ReadView, Reads};
use crate::agreement::AgreementError;
use crate::raft::{Consistency, Raft};

#[derive(Debug)]
pub(super) struct RaftReads(pub(super) Raft);

impl Reads for RaftReads {
    fn read(
        &self,
        consistency: api::Consistency,
    ) -> BoxFuture<'static, Result<ReadView, AgreementError>> {
        let raft = self.0.clone();
        let consistency = match consistency {
            api::Consistency::Default => Consistency::Default,
            api::Consistency::Consistent => Consistency::Consistent,
            api::Consistency::Stale => Consistency::Stale,
        };
        Box::pin(async move {
            let read = raft.read(consistency).await?;
            Ok(ReadView {
                state: read.state,
                age: read.age,
            })
        })
    }
}

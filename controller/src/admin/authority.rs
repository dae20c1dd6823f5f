//! The certificate authority as an operator sees it: roots, issuers, and the record of every leaf.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use xds_api::maille::v1::{AuthorityResponse, Certificate, IssuanceLogRequest, IssuanceRecord};

use crate::identity::{Authority, Standing};
use crate::pki;
use crate::supervise::Stage;

/// Records on their way to a reader that is slow.
const RECORDS_AHEAD: usize = 256;

/// The issuance log, record by record.
pub(super) type RecordStream = Pin<Box<dyn Stream<Item = Result<IssuanceRecord, Status>> + Send>>;

/// The authority's calls.
#[derive(Debug, Clone)]
pub(super) struct AuthorityCalls {
    authority: Authority,
    stage: Stage,
}

impl AuthorityCalls {
    pub(super) fn new(authority: Authority, stage: Stage) -> Self {
        Self { authority, stage }
    }

    /// Whether this controller cannot sign.
    pub(super) fn is_sealed(&self) -> bool {
        *self.authority.standing().borrow() != Standing::Issuing
    }

    /// From this controller's state: it must answer without a quorum too.
    pub(super) fn describe(&self) -> Result<AuthorityResponse, Status> {
        let state = self.authority.agreement().state().borrow().clone();
        let roots: Result<Vec<_>, Status> = state
            .mesh()
            .roots()
            .iter()
            .map(|root| certificate(&root.certificate, ""))
            .collect();
        let issuers: Result<Vec<_>, Status> = state
            .issuers()
            .values()
            .map(|issuer| certificate(&issuer.certificate, &issuer.controller))
            .collect();
        Ok(AuthorityResponse {
            trust_domain: state.mesh().trust_domain().to_owned(),
            roots: roots?,
            issuers: issuers?,
            sealed: self.is_sealed(),
            issued: state.issuance().count(),
            chain_head: hex::encode(state.issuance().head()),
            leaf_lifetime_seconds: u32::try_from(
                self.authority.leaf_lifetime(state.mesh()).as_secs(),
            )
            .unwrap_or(u32::MAX),
        })
    }

    /// The records of one agreed state, so that the chain's end is the head that `describe` shows or a later one.
    pub(super) async fn log(&self, request: IssuanceLogRequest) -> Result<RecordStream, Status> {
        let state = self.authority.agreement().read().await?;
        let (sender, receiver) = tokio::sync::mpsc::channel(RECORDS_AHEAD);
        self.stage.task("issuance log", async move {
            for record in state.issuance().records_from(request.from) {
                if !request.spiffe_id.is_empty() && record.spiffe_id != request.spiffe_id {
                    continue;
                }
                // The reader has gone.
                if sender.send(Ok(record_view(record))).await.is_err() {
                    return;
                }
            }
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }
}

fn certificate(der: &Bytes, controller: &str) -> Result<Certificate, Status> {
    let facts =
        pki::parse(der).map_err(|failure| Status::data_loss(format!("a certificate {failure}")))?;
    Ok(Certificate {
        subject: facts.subject,
        controller: controller.to_owned(),
        serial: facts.serial,
        not_before: facts.term.not_before,
        not_after: facts.term.not_after,
        der: der.clone(),
        fingerprint: hex::encode(facts.sha256),
    })
}

fn record_view(record: &crate::model::IssuanceRecord) -> IssuanceRecord {
    IssuanceRecord {
        number: record.number,
        spiffe_id: record.spiffe_id.clone(),
        serial: record.serial.clone(),
        not_before: record.not_before,
        not_after: record.not_after,
        leaf_sha256: record.leaf_sha256.clone(),
        key_sha256: record.key_sha256.clone(),
        controller: record.controller.clone(),
        reason: record.reason.clone(),
        workload: record.workload.clone(),
        previous: record.previous.clone(),
        hash: record.hash.clone(),
    }
}

//! The `Identity` service: the roots for everybody, leaves for those who may have them.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tonic::{Request, Response, Status};
use tracing::{info, warn};
use xds_api::maille::v1::identity_server::{Identity, IdentityServer};
use xds_api::maille::v1::{
    BundleRequest, BundleResponse, CertifyRequest, CertifyResponse, SecretsRequest, SecretsResponse,
};

use super::accounts::AccountError;
use super::authority::{Asking, Authority};
use super::handout::{HandoutError, hand_out};
use super::issue::IssueError;
use crate::agreement::AgreementError;
use crate::model::State;
use crate::tls::Caller;

/// A request holds a PKCS#10 and a token; far below this.
const MAX_REQUEST: usize = 64 * 1024;

/// Answers `maille.v1.Identity`.
#[derive(Debug, Clone)]
pub struct IdentityService {
    authority: Authority,
    secrets: PathBuf,
}

impl IdentityService {
    /// The tonic service; `secrets` is the secrets directory. `tls::Caller` must stand in each request's extensions.
    pub fn server(authority: Authority, secrets: PathBuf) -> IdentityServer<Self> {
        IdentityServer::new(Self { authority, secrets }).max_decoding_message_size(MAX_REQUEST)
    }
}

#[tonic::async_trait]
impl Identity for IdentityService {
    async fn bundle(
        &self,
        _request: Request<BundleRequest>,
    ) -> Result<Response<BundleResponse>, Status> {
        let state = self.authority.agreement().state().borrow().clone();
        if state.mesh().roots().is_empty() {
            return Err(Status::unavailable(
                "the mesh has no root yet; ask again in a second",
            ));
        }
        Ok(Response::new(BundleResponse {
            trust_domain: state.mesh().trust_domain().to_owned(),
            roots: roots(&state),
        }))
    }

    async fn certify(
        &self,
        request: Request<CertifyRequest>,
    ) -> Result<Response<CertifyResponse>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let message = request.into_inner();
        let asking = Asking {
            request: &message.csr,
            token: &message.join_token,
            account_token: &message.service_account_token,
            leaf: caller.as_ref().and_then(|caller| caller.leaf.as_deref()),
            workload: &message.workload,
        };
        let remote = caller.as_ref().and_then(|caller| caller.remote);
        let certified = self.authority.certify(asking).await.map_err(|refusal| {
            info!(?remote, workload = message.workload, %refusal, "no certificate");
            status(&refusal)
        })?;
        Ok(Response::new(CertifyResponse {
            spiffe_id: certified.spiffe_id,
            chain: certified
                .chain
                .iter()
                .map(|der| Bytes::copy_from_slice(der))
                .collect(),
            roots: roots(&certified.state),
            not_before: certified.not_before,
            not_after: certified.not_after,
            renew_at: certified.renew_at,
            server_time_millis: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| {
                    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
                }),
        }))
    }

    async fn secrets(
        &self,
        request: Request<SecretsRequest>,
    ) -> Result<Response<SecretsResponse>, Status> {
        let remote = request
            .extensions()
            .get::<Caller>()
            .and_then(|caller| caller.remote);
        let token = request.into_inner().join_token;
        // A read, for the token may have been made a moment ago at another controller.
        let state = self.authority.agreement().read().await?;
        match hand_out(&state, &token, &self.secrets) {
            Ok((token, secrets)) => {
                info!(
                    ?remote,
                    token, "handed the cluster's secrets to a new controller"
                );
                Ok(Response::new(secrets))
            }
            Err(refusal) => {
                warn!(?remote, %refusal, "refused the cluster's secrets");
                Err(handout_status(&refusal))
            }
        }
    }
}

fn handout_status(refusal: &HandoutError) -> Status {
    match refusal {
        HandoutError::Token(_) => Status::unauthenticated(refusal.to_string()),
        HandoutError::Secrets(source) => Status::internal(format!("{refusal}: {source}")),
    }
}

fn roots(state: &State) -> Vec<Bytes> {
    state
        .mesh()
        .roots()
        .iter()
        .map(|root| root.certificate.clone())
        .collect()
}

fn status(refusal: &IssueError) -> Status {
    let text = refusal.to_string();
    match refusal {
        IssueError::Request(_) | IssueError::Workload(_) => Status::invalid_argument(text),
        IssueError::Account(AccountError::Unavailable(_)) => Status::unavailable(text),
        IssueError::Account(_)
        | IssueError::Token(_)
        | IssueError::Nobody
        | IssueError::NotRenewable(_) => Status::unauthenticated(text),
        IssueError::Busy => Status::resource_exhausted(text),
        IssueError::Refused(_) => Status::failed_precondition(text),
        IssueError::NotIssuing(_)
        | IssueError::Agreement(AgreementError::Unknown(_) | AgreementError::Unavailable(_)) => {
            Status::unavailable(text)
        }
        IssueError::Sign(_) => Status::internal(text),
    }
}

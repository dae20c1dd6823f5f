//! How a certificate is got from a controller: the first by a join token, the next by the one before.

use super::credentials::{self, CredentialError, Credentials, Parts};
use super::key::{KeyError, PrivateKey};
use super::verify::check_identity;
use crate::config::HostPort;
use crate::controllers::{ConnectError, connect};
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tonic::{Code, Status};
use tracing::warn;
use xds_api::join_token::JoinToken;
use xds_api::maille::v1::identity_client::IdentityClient;
use xds_api::maille::v1::{BundleRequest, CertifyRequest, CertifyResponse};

/// For one call. Issuing waits for a log entry; longer means that there is no quorum, and another controller has none either.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// Leaves are valid from five minutes back, so this much skew does no harm yet and is worth a word.
const SKEW_ALARM: Duration = Duration::from_secs(2);

/// A join that cannot succeed however often it is tried.
#[derive(Debug, thiserror::Error)]
pub enum JoinFailure {
    /// The token is expired, used, revoked or unknown.
    #[error(
        "the controller at {controller} refused the join token `{token}`: {reason}; make a new one with `maille token create`"
    )]
    Token {
        /// Who refused.
        controller: HostPort,
        /// The token's id.
        token: String,
        /// In the controller's words.
        reason: String,
    },
    /// Somebody else answers at the controllers' addresses, or the token is another mesh's.
    #[error(
        "no root that the controller at {controller} serves has the hash in the join token; the token is another mesh's, or somebody else answers there"
    )]
    Roots {
        /// Who served them.
        controller: HostPort,
    },
}

/// A certificate could not be got.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// Trying again is of no use.
    #[error(transparent)]
    Join(#[from] JoinFailure),
    /// The controller did not answer.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The controller answered with an error.
    #[error("the controller at {controller} did not issue a certificate: {}", .source.message())]
    Call {
        /// Which one.
        controller: HostPort,
        /// Its answer.
        source: Status,
    },
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What came is not what was asked for.
    #[error("the controller at {controller} issued {found}, not {expected}")]
    Identity {
        /// Which one.
        controller: HostPort,
        /// What came.
        found: String,
        /// What was asked for.
        expected: String,
    },
    /// What came cannot be used.
    #[error(transparent)]
    Unusable(#[from] CredentialError),
}

impl IssueError {
    /// Whether the controller understood and refused, so that neither time nor another controller helps.
    pub(super) fn refused(&self) -> bool {
        match self {
            Self::Join(_) => true,
            Self::Call { source, .. } => refused(source),
            _ => false,
        }
    }
}

fn refused(status: &Status) -> bool {
    let codes = [
        Code::InvalidArgument,
        Code::NotFound,
        Code::AlreadyExists,
        Code::FailedPrecondition,
        Code::PermissionDenied,
        Code::Unauthenticated,
    ];
    codes.contains(&status.code())
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// The exact SPIFFE id.
    pub(super) identity: Arc<str>,
    /// Its trust domain.
    pub(super) trust_domain: Arc<str>,
    /// `<namespace>/<workload>`, for the issuance log.
    pub(super) workload: String,
}

/// The first certificate. The key is the caller's, so that a second attempt asks for the same.
pub(super) async fn join(
    controller: &HostPort,
    token: &JoinToken,
    wanted: &Wanted,
    key: &PrivateKey,
) -> Result<Credentials, IssueError> {
    let roots = fetch_roots(controller, token).await?;
    let tls = credentials::joining(&roots, &wanted.trust_domain);
    let request = CertifyRequest {
        csr: key.request()?.into(),
        join_token: token.to_string(),
        workload: wanted.workload.clone(),
        service_account_token: String::new(),
    };
    let issued = certify(controller, tls, request, wanted, key).await;
    issued.map_err(|error| match error {
        IssueError::Call { controller, source } if refused(&source) => JoinFailure::Token {
            controller,
            token: token.id.clone(),
            reason: source.message().to_owned(),
        }
        .into(),
        other => other,
    })
}

/// The next certificate, with a new key.
pub(super) async fn renew(
    controller: &HostPort,
    current: &Credentials,
    wanted: &Wanted,
) -> Result<Credentials, IssueError> {
    let key = PrivateKey::generate()?;
    let request = CertifyRequest {
        csr: key.request()?.into(),
        join_token: String::new(),
        workload: wanted.workload.clone(),
        service_account_token: String::new(),
    };
    certify(controller, current.controller(), request, wanted, &key).await
}

/// The roots that the token vouches for, of those that the controller serves.
async fn fetch_roots(
    controller: &HostPort,
    token: &JoinToken,
) -> Result<Vec<CertificateDer<'static>>, IssueError> {
    let channel = connect(controller, credentials::fetching_roots()).await?;
    let call = async { IdentityClient::new(channel).bundle(BundleRequest {}).await };
    let bundle = limited(call).await.map_err(|source| IssueError::Call {
        controller: controller.clone(),
        source,
    })?;
    let vouched = |root: &Bytes| {
        let hash = digest(&SHA256, root);
        let known = |known: &[u8; 32]| hash.as_ref() == known;
        token.roots_sha256.iter().any(known)
    };
    let roots = bundle.into_inner().roots.into_iter().filter(vouched);
    let roots: Vec<_> = roots.map(certificate).collect();
    if roots.is_empty() {
        let controller = controller.clone();
        return Err(JoinFailure::Roots { controller }.into());
    }
    Ok(roots)
}

async fn certify(
    controller: &HostPort,
    tls: Arc<ClientConfig>,
    request: CertifyRequest,
    wanted: &Wanted,
    key: &PrivateKey,
) -> Result<Credentials, IssueError> {
    let channel = connect(controller, tls).await?;
    let asked = SystemTime::now();
    let call = async { IdentityClient::new(channel).certify(request).await };
    let issued = limited(call).await.map_err(|source| IssueError::Call {
        controller: controller.clone(),
        source,
    })?;
    let issued = issued.into_inner();
    warn_of_skew(controller, asked, issued.server_time_millis);
    accept(controller, issued, wanted, key)
}

async fn limited<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::deadline_exceeded("it did not answer in time")),
    }
}

fn accept(
    controller: &HostPort,
    issued: CertifyResponse,
    wanted: &Wanted,
    key: &PrivateKey,
) -> Result<Credentials, IssueError> {
    let chain: Vec<_> = issued.chain.into_iter().map(certificate).collect();
    check_identity(chain.first(), &wanted.identity).map_err(|found| IssueError::Identity {
        controller: controller.clone(),
        found,
        expected: wanted.identity.to_string(),
    })?;
    let parts = Parts {
        identity: Arc::clone(&wanted.identity),
        trust_domain: Arc::clone(&wanted.trust_domain),
        key: key.clone(),
        chain,
        roots: issued.roots.into_iter().map(certificate).collect(),
        not_before: issued.not_before,
        not_after: issued.not_after,
        renew_at: issued.renew_at,
    };
    Ok(Credentials::new(parts)?)
}

fn certificate(der: Bytes) -> CertificateDer<'static> {
    CertificateDer::from(der.to_vec())
}

/// The controller's clock was read between `asked` and now.
fn warn_of_skew(controller: &HostPort, asked: SystemTime, server_millis: i64) {
    let Ok(server_millis) = u64::try_from(server_millis) else {
        return;
    };
    let server = UNIX_EPOCH + Duration::from_millis(server_millis);
    let skew = skew(asked, SystemTime::now(), server);
    if skew > SKEW_ALARM {
        warn!(%controller, ?skew, "the clocks differ; certificates depend on them, set the time by NTP on both hosts");
    }
}

/// How far `server` lies outside of what is possible by the own clock.
fn skew(asked: SystemTime, answered: SystemTime, server: SystemTime) -> Duration {
    let early = asked.duration_since(server);
    let late = server.duration_since(answered);
    early.or(late).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_counts_only_beyond_the_time_that_the_call_took() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let check = |server, expected| {
            let found = skew(at(100), at(103), at(server));
            assert_eq!(found, Duration::from_secs(expected), "server at {server}");
        };
        check(100, 0);
        check(102, 0);
        check(103, 0);
        check(96, 4);
        check(108, 5);
    }
}

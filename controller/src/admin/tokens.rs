//! Join tokens: made, listed, revoked.

use std::sync::Arc;

use tonic::Status;
use xds_api::maille::v1::create_token_request::Purpose;
use xds_api::maille::v1::{
    CreateTokenRequest, CreateTokenResponse, ListTokensResponse, RevokeTokenRequest,
    RevokeTokenResponse, Token as TokenView,
};

use super::Author;
use crate::agreement::{Agreement, refusal_status};
use crate::identity::{NewToken, TokenError, new_token};
use crate::model::command::RevokeToken;
use crate::model::{Command, Proposal, TokenPurpose};

/// The tokens' calls.
#[derive(Debug, Clone)]
pub(super) struct Tokens {
    agreement: Arc<dyn Agreement>,
}

impl Tokens {
    pub(super) fn new(agreement: Arc<dyn Agreement>) -> Self {
        Self { agreement }
    }

    pub(super) async fn create(
        &self,
        author: &Author,
        request: CreateTokenRequest,
    ) -> Result<CreateTokenResponse, Status> {
        let purpose = match Purpose::try_from(request.purpose) {
            Ok(Purpose::Workload) => TokenPurpose::Workload,
            Ok(Purpose::Controller) => TokenPurpose::Controller,
            Ok(Purpose::Unspecified) | Err(_) => TokenPurpose::Unspecified,
        };
        let wanted = NewToken {
            purpose,
            namespace: request.namespace,
            service_account: request.service_account,
            lifetime_seconds: request.lifetime_seconds,
        };
        // A read, so that members and roots that were agreed on a moment ago stand in the token.
        let state = self.agreement.read().await?;
        let (token, shown) = new_token(&state, &wanted)
            .map_err(|refusal: TokenError| Status::invalid_argument(refusal.to_string()))?;
        let (id, expires_at, spiffe_id) =
            (token.id.clone(), token.expires_at, token.spiffe_id.clone());
        // Not deduplicated by the caller's sequence: the secret is never stored, so a repeated call cannot be answered
        // with the first one's token. It makes another, and the first expires unused.
        let proposal = proposal(author, ("", 0), Command::CreateToken(token));
        let applied = self.agreement.propose(proposal).await?.accepted();
        let applied = applied.map_err(|refusal| refusal_status(&refusal))?;
        Ok(CreateTokenResponse {
            id,
            token: shown.to_string(),
            expires_at,
            spiffe_id,
            index: applied.index,
        })
    }

    pub(super) async fn list(&self) -> Result<ListTokensResponse, Status> {
        let state = self.agreement.read().await?;
        let view = |token: &crate::model::Token| TokenView {
            id: token.id.clone(),
            purpose: match token.purpose() {
                TokenPurpose::Workload => Purpose::Workload,
                TokenPurpose::Controller => Purpose::Controller,
                TokenPurpose::Unspecified => Purpose::Unspecified,
            }
            .into(),
            spiffe_id: token.spiffe_id.clone(),
            expires_at: token.expires_at,
            used_at: token.used_at,
            author: token.author.clone(),
        };
        Ok(ListTokensResponse {
            tokens: state.tokens().values().map(|token| view(token)).collect(),
        })
    }

    pub(super) async fn revoke(
        &self,
        author: &Author,
        request: RevokeTokenRequest,
    ) -> Result<RevokeTokenResponse, Status> {
        // A caller that asks again hears that it was revoked, and not that there is no such token.
        let write = (request.client.as_str(), request.sequence);
        let command = Command::RevokeToken(RevokeToken { id: request.id });
        let proposal = proposal(author, write, command);
        let applied = self.agreement.propose(proposal).await?.accepted();
        let applied = applied.map_err(|refusal| refusal_status(&refusal))?;
        Ok(RevokeTokenResponse {
            index: applied.index,
        })
    }
}

fn proposal(author: &Author, (client, sequence): (&str, u64), command: Command) -> Proposal {
    Proposal {
        author: author.to_string(),
        client: client.to_owned(),
        sequence,
        time_millis: 0,
        command,
    }
}

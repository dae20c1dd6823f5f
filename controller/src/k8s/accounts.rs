//! Service accounts' tokens are reviewed by the API server that issued them.

use std::time::Duration;

use futures_util::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::identity::{AUDIENCE, Account, AccountError, Accounts};

/// How the API server names a service account, before its namespace and name.
const USER: &str = "system:serviceaccount:";
/// Where it names the pod that a token is bound to.
const POD: &str = "authentication.kubernetes.io/pod-name";
/// A pod waits for its certificate meanwhile; it asks again.
const LIMIT: Duration = Duration::from_secs(5);

/// Asks the API server.
#[derive(Clone)]
pub struct Reviewer(pub Client);

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Reviewer").finish_non_exhaustive()
    }
}

impl Accounts for Reviewer {
    fn review(&self, token: String) -> BoxFuture<'static, Result<Account, AccountError>> {
        let reviews: Api<TokenReview> = Api::all(self.0.clone());
        Box::pin(async move {
            let asked = TokenReview {
                spec: TokenReviewSpec {
                    audiences: Some(vec![AUDIENCE.to_owned()]),
                    token: Some(token),
                },
                ..TokenReview::default()
            };
            let create = PostParams::default();
            let answer = tokio::time::timeout(LIMIT, reviews.create(&create, &asked)).await;
            let answer = answer
                .map_err(|_| AccountError::Unavailable(format!("no answer within {LIMIT:?}")))?
                .map_err(|error| AccountError::Unavailable(error.to_string()))?;
            let status = answer.status.unwrap_or_default();
            if status.authenticated != Some(true) {
                let why = status.error.filter(|error| !error.is_empty());
                let why = why.unwrap_or_else(|| "the API server does not know it".to_owned());
                return Err(AccountError::Refused(why));
            }
            // An API server without audiences answers without them; it has not looked at whom the token is for.
            let audiences = status.audiences.unwrap_or_default();
            if !audiences.iter().any(|one| one == AUDIENCE) {
                let why = format!("it is not for the audience `{AUDIENCE}`");
                return Err(AccountError::Refused(why));
            }
            account(&status.user.unwrap_or_default())
        })
    }
}

fn account(user: &UserInfo) -> Result<Account, AccountError> {
    let name = user.username.as_deref().unwrap_or_default();
    let parts = name
        .strip_prefix(USER)
        .and_then(|rest| rest.split_once(':'));
    let Some((namespace, account)) = parts else {
        let why = format!("`{name}` is no service account");
        return Err(AccountError::Refused(why));
    };
    let extra = user.extra.as_ref().and_then(|extra| extra.get(POD));
    let Some(pod) = extra.and_then(|names| names.first()) else {
        let why = "it is bound to no pod; mount one by a `serviceAccountToken` volume".to_owned();
        return Err(AccountError::Refused(why));
    };
    Ok(Account {
        namespace: namespace.to_owned(),
        name: account.to_owned(),
        pod: pod.clone(),
    })
}

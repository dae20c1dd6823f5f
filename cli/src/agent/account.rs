//! The service account that a node must name: that of its certificate.

use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;
use xds_api::join_token::JoinToken;

use super::settings::Settings;
use crate::failure::{Exit, Failure, Outcome};
use crate::http_get::exchange;

/// Between two questions to an agent that has no certificate yet.
const PAUSE: Duration = Duration::from_millis(50);

/// What is needed of the agent's `/status`.
#[derive(Deserialize)]
struct Status {
    identity: Option<String>,
}

/// What the running agent says, or the join token.
///
/// # Errors
/// There is neither.
pub async fn known(settings: &Settings) -> Outcome<String> {
    if let Some(account) = ask(settings).await {
        return Ok(account);
    }
    let token = settings.join_token_file.as_ref();
    let token = token.and_then(|path| std::fs::read_to_string(path).ok());
    let token = token.and_then(|text| text.trim().parse::<JoinToken>().ok());
    let account = token.and_then(|token| account(&token.spiffe_id));
    account.ok_or_else(|| {
        let message = format!(
            "the service account is not known: no agent answers at {}, and there is no join token in a file",
            settings.listen.admin
        );
        Failure::new(Exit::NotFound, message).next("name it with --service-account, or start the agent")
    })
}

/// What the agent says, once it has a certificate.
pub async fn certified(settings: &Settings) -> String {
    loop {
        if let Some(account) = ask(settings).await {
            return account;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(settings: &Settings) -> Option<String> {
    let address = &settings.listen.admin;
    let (status, text) = exchange(address, Method::GET, "/status", String::new())
        .await
        .ok()?;
    if status != StatusCode::OK {
        return None;
    }
    let status: Status = serde_json::from_str(&text).ok()?;
    account(&status.identity?)
}

/// The last part of `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
fn account(identity: &str) -> Option<String> {
    let (_, account) = identity.rsplit_once("/sa/")?;
    (!account.is_empty()).then(|| account.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_the_end_of_an_identity() {
        let check = |identity: &str, expected: Option<&str>| {
            assert_eq!(account(identity).as_deref(), expected, "{identity}");
        };
        check("spiffe://mesh.test/ns/shop/sa/web", Some("web"));
        check("spiffe://mesh.test/ns/shop/sa/", None);
        check("spiffe://mesh.test/admin/root", None);
    }
}

//! `maille token`: one-time tokens by which workloads and controllers join.

use serde::Serialize;
use xds_api::generated::maille::v1 as api;
use xds_api::generated::maille::v1::create_token_request::Purpose;

use crate::args::operate::{Token, TokenAction, TokenCreate};
use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::printer::{Printer, Rows, or_dash, say, time};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    id: String,
    token: String,
    spiffe_id: String,
    expires_at: String,
    index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    id: String,
    purpose: &'static str,
    spiffe_id: String,
    expires_at: String,
    used_at: String,
    author: String,
}

#[derive(Serialize)]
struct Revoked {
    revoked: String,
    index: u64,
}

pub(super) async fn run(args: &Token, cluster: &Cluster, printer: Printer) -> Outcome {
    match &args.action {
        TokenAction::Create(create) => make(create, cluster, printer).await,
        TokenAction::List => list(cluster, printer).await,
        TokenAction::Revoke { id } => revoke(id, cluster, printer).await,
    }
}

async fn make(args: &TokenCreate, cluster: &Cluster, printer: Printer) -> Outcome {
    let purpose = if args.controller {
        Purpose::Controller
    } else {
        Purpose::Workload
    };
    let request = api::CreateTokenRequest {
        purpose: purpose.into(),
        namespace: if args.controller {
            String::new()
        } else {
            args.namespace.clone()
        },
        service_account: args.service_account.clone().unwrap_or_default(),
        lifetime_seconds: args.lifetime,
        client: cluster.writer().to_string(),
        sequence: 1,
    };
    let answer = cluster
        .call(async |mut client| Ok(client.create_token(request.clone()).await?.into_inner()))
        .await;
    let answer = answer.map_err(|status| Failure::from_status("create a token", &status, &[]))?;
    let expires_at = time(answer.expires_at);
    if !printer.for_programs() {
        let grants = if args.controller {
            "one controller may join".to_string()
        } else {
            format!("grants {} once", answer.spiffe_id)
        };
        say(&format!(
            "token {}: {grants}, until {expires_at}; it is not shown again",
            answer.id
        ));
    }
    let created = Created {
        id: answer.id,
        token: answer.token,
        spiffe_id: answer.spiffe_id,
        expires_at,
        index: answer.index,
    };
    printer.text(&created, || format!("{}\n", created.token))
}

async fn list(cluster: &Cluster, printer: Printer) -> Outcome {
    let answer = cluster
        .call(async |mut client| {
            Ok(client
                .list_tokens(api::ListTokensRequest {})
                .await?
                .into_inner())
        })
        .await;
    let answer = answer.map_err(|status| Failure::from_status("list the tokens", &status, &[]))?;
    let tokens = answer.tokens.into_iter().map(listed).collect::<Vec<_>>();
    printer.result(&tokens, || {
        let mut rows = Rows::new(["id", "purpose", "identity", "expires", "used"]).wide(["author"]);
        for token in &tokens {
            rows.push([
                &token.id,
                token.purpose,
                &or_dash(&token.spiffe_id),
                &token.expires_at,
                &token.used_at,
                &token.author,
            ]);
        }
        rows
    })
}

fn listed(token: api::Token) -> Listed {
    let purpose = match token.purpose() {
        Purpose::Workload => "workload",
        Purpose::Controller => "controller",
        Purpose::Unspecified => "unknown",
    };
    let (expires_at, used_at) = (time(token.expires_at), time(token.used_at));
    Listed {
        id: token.id,
        purpose,
        spiffe_id: token.spiffe_id,
        expires_at,
        used_at,
        author: token.author,
    }
}

async fn revoke(id: &str, cluster: &Cluster, printer: Printer) -> Outcome {
    let request = api::RevokeTokenRequest {
        id: id.to_string(),
        client: cluster.writer().to_string(),
        sequence: 1,
    };
    let answer = cluster
        .call(async |mut client| Ok(client.revoke_token(request.clone()).await?.into_inner()))
        .await;
    let answer = answer
        .map_err(|status| Failure::from_status(&format!("revoke token {id}"), &status, &[]))?;
    printer.text(
        &Revoked {
            revoked: id.to_string(),
            index: answer.index,
        },
        || format!("revoked {id}\n"),
    )
}

//! A request without a certificate: answered in permissive mode, refused in strict mode, while the mesh's own requests go on.

use std::time::Duration;

use serde_json::json;

use crate::args::dev::{Family, Protocol};
use crate::dev::demo::{self, API_V1, WEB};
use crate::dev::mesh::{Caller, Load, Mesh};
use crate::failure::Outcome;

use super::{Check, until};

/// Requests of each kind.
const REQUESTS: u64 = 50;
/// From a change of settings until every sidecar acts on it.
const SPREAD_LIMIT: Duration = Duration::from_secs(20);

pub(super) async fn run(mesh: &mut Mesh) -> Outcome<Vec<Check>> {
    let plain = |mesh: &Mesh, count: u64| Load {
        reconnect: true,
        ..Load::of(
            Protocol::Http1,
            mesh.ground.layout.outside(&API_V1, 8080),
            count,
        )
    };
    let before = match mesh.ground.layout.namespaces() {
        true => mesh.count(Caller::Outsider, plain(mesh, REQUESTS)).await?,
        // Without redirection only the mesh port leads in, and it takes plain text from nobody who did not go through a redirection.
        false => Default::default(),
    };
    mesh.apply(&[demo::settings(true)]).await?;
    until(SPREAD_LIMIT, async || {
        let tally = mesh.count(Caller::Outsider, plain(mesh, 1)).await?;
        Ok((tally.ok == 0, ()))
    })
    .await?;
    let refused = mesh.count(Caller::Outsider, plain(mesh, REQUESTS)).await?;
    let own = mesh
        .count(
            Caller::Workload(WEB),
            Load::of(
                Protocol::Http1,
                mesh.target(&WEB, demo::API, Family::V4),
                REQUESTS,
            ),
        )
        .await?;
    let failed = before.failed + before.refused + refused.ok + own.failed + own.refused;
    let turned_away = refused.failed + refused.refused;
    let detail = json!({
        "plaintextOkWhilePermissive": before.ok,
        "plaintextOkWhileStrict": refused.ok,
        "meshOkWhileStrict": own.ok,
        "asTheClientSawIt": refused.errors.first(),
        "errors": ([before.errors, own.errors].concat()),
    });
    let sent = before.sent + refused.sent + own.sent;
    let passed = failed == 0 && turned_away == REQUESTS;
    Ok(vec![Check {
        name: "strict-refuses-plaintext".into(),
        passed,
        sent,
        failed,
        refused: turned_away,
        detail,
    }])
}

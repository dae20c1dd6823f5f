//! A client that claims to be somebody else: the header that it forges never reaches the application.

use serde_json::json;

use crate::args::dev::{Family, Protocol};
use crate::dev::demo::{self, API_V1, TRUST_DOMAIN, WEB};
use crate::dev::mesh::{Caller, Load, Mesh};
use crate::failure::Outcome;

use super::Check;

/// Requests of each kind.
const REQUESTS: u64 = 100;

fn forged() -> String {
    format!("spiffe://{TRUST_DOMAIN}/ns/demo/sa/forged")
}

/// The header by which a client claims to be somebody else.
pub(super) fn forged_header() -> String {
    let forged = forged();
    format!("x-forwarded-client-cert: By=spiffe://x/y;Hash=00;URI={forged}")
}

pub(super) async fn run(mesh: &mut Mesh) -> Outcome<Vec<Check>> {
    let (forged, header) = (forged(), forged_header());
    let load = |target: String| Load {
        headers: vec![header.clone()],
        ..Load::of(Protocol::Http1, target, REQUESTS)
    };
    let meshed = mesh
        .count(
            Caller::Workload(WEB),
            load(mesh.target(&WEB, demo::API, Family::V4)),
        )
        .await?;
    let right = meshed
        .identities
        .keys()
        .all(|identity| *identity == WEB.identity());
    let mut detail = json!({"forged": forged, "seenFromMesh": meshed.identities});
    let mut sum = meshed.clone();
    let mut stripped = right;
    // Without redirection nobody outside the mesh gets past its own side to an application.
    if mesh.ground.layout.namespaces() {
        let plain = mesh
            .count(
                Caller::Outsider,
                load(mesh.ground.layout.outside(&API_V1, 8080)),
            )
            .await?;
        stripped &= plain.identities.keys().all(|identity| identity == "-");
        detail["seenFromOutside"] = json!(plain.identities);
        sum.sent += plain.sent;
        sum.failed += plain.failed;
        sum.refused += plain.refused;
        sum.errors.extend(plain.errors);
    }
    Ok(vec![Check::calls("forged-xfcc", &sum, stripped, detail)])
}

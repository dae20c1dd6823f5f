//! Every kind of client with every kind of server, in every protocol: calls that succeed, the client seen as who it is, TLS 1.3 on the wire, and
//! another identity refused. With an Envoy as the client, the weights of the route too.

use rustix::process::geteuid;
use serde_json::{Value, json};

use crate::args::dev::Dev;
use crate::dev::app::GREETED;
use crate::dev::app::tally::Tally;
use crate::dev::demo::{Kind, NO_STRANGERS, Set};
use crate::dev::mesh::{Load, Mesh};
use crate::failure::Outcome;

use super::denied::denials;
use super::failover::{counts, total};
use super::traffic::{self, Called, FAMILIES, PROTOCOLS, Spoken};
use super::wire::{Findings, Flows, Recording, marker, restart};
use super::xfcc::forged_header;
use super::{Check, programs, split, wanted};

/// What the names of all checks here begin with.
pub(super) const PREFIX: &str = "matrix-";
/// Calls of each protocol over each family.
pub(super) const CALLS: u64 = 40;
/// Connections for them: an Envoy waits half a second for the client's first bytes where nobody has declared the protocol.
pub(super) const CONNECTIONS: u32 = 8;
/// Calls of somebody who is denied everything.
pub(super) const DENIED: u64 = 10;

pub(super) async fn run(args: &Dev, mesh: &mut Mesh) -> Outcome<Vec<Check>> {
    let mut checks = Vec::new();
    for client in mesh.sets {
        for server in mesh.sets {
            checks.extend(pair(args, mesh, (client, server)).await?);
            let name = name((client, server), "split-90-10");
            if client.kind == Kind::Envoy && wanted(args, &[&name]) {
                checks.push(split::measure(args, mesh, &name, (client, server)).await?);
            }
        }
    }
    checks.extend(programs::run(args, mesh).await?);
    Ok(checks)
}

fn name((client, server): (&Set, &Set), what: &str) -> String {
    format!(
        "{PREFIX}{}-{}-{what}",
        client.kind.name(),
        server.kind.name()
    )
}

/// All protocols between two kinds, every connection of which begins within one capture.
async fn pair(args: &Dev, mesh: &mut Mesh, pair: (&Set, &Set)) -> Outcome<Vec<Check>> {
    let is_wanted = |spoken: &&Spoken| wanted(args, &[&name(pair, spoken.name)]);
    let protocols = PROTOCOLS.iter().filter(is_wanted).collect::<Vec<_>>();
    if protocols.is_empty() {
        return Ok(Vec::new());
    }
    let recording = match geteuid().is_root() {
        true => Some(Recording::start(mesh, &name(pair, "wire")).await?),
        false => None,
    };
    let (client, server) = pair;
    restart(mesh, &client.web, server.api_http()).await?;
    let mut cells = Vec::new();
    for spoken in protocols {
        cells.push(Cell::fill(mesh, pair, spoken).await?);
    }
    let flows = match recording {
        Some(recording) => Some(recording.stop().await?),
        None => None,
    };
    let judged = cells.into_iter().map(|cell| {
        let check = name(pair, cell.spoken.name);
        cell.judge(check, mesh, server, flows.as_ref())
    });
    Ok(judged.collect())
}

/// One protocol between two kinds.
struct Cell<'a> {
    spoken: &'a Spoken,
    marker: String,
    /// By family.
    calls: Vec<Called>,
    /// The calls of somebody who is denied.
    denied: Tally,
    /// How many the server's side says it has denied meanwhile.
    denials: u64,
}

impl<'a> Cell<'a> {
    async fn fill(
        mesh: &mut Mesh,
        (client, server): (&Set, &Set),
        spoken: &'a Spoken,
    ) -> Outcome<Cell<'a>> {
        let marker = marker();
        let load = |count| Load {
            body: marker.clone(),
            headers: vec![forged_header()],
            connections: CONNECTIONS,
            ..Load::of(spoken.protocol, "", count)
        };
        let mut calls = Vec::new();
        for (_, family) in FAMILIES {
            let load = Load {
                family: Some(family),
                ..load(CALLS)
            };
            calls.push(traffic::call(mesh, &client.web, server, spoken, load).await?);
        }
        let (servers, stranger) = ((spoken.servers)(server), client.stranger);
        let before = denials(mesh, &servers, NO_STRANGERS, &stranger).await?;
        let denied = traffic::call(mesh, &stranger, server, spoken, load(DENIED)).await?;
        let after = denials(mesh, &servers, NO_STRANGERS, &stranger).await?;
        Ok(Cell {
            spoken,
            marker,
            calls,
            denied: denied.tally,
            denials: after.saturating_sub(before),
        })
    }

    fn judge(self, name: String, mesh: &Mesh, server: &Set, flows: Option<&Flows>) -> Check {
        let tallies = self.calls.iter().map(|called| &called.tally);
        let tally = total(&tallies.collect::<Vec<_>>());
        let seen = self.calls.iter().all(|called| called.seen);
        let families = FAMILIES.iter().map(|(family, _)| family.to_string());
        let by_family = families.zip(self.calls.iter().map(|called| called.detail.clone()));
        let mut detail = json!({
            "calls": by_family.collect::<serde_json::Map<_, Value>>(),
            "denied": counts(&self.denied),
            "deniedByServer": self.denials,
            "asTheDeniedSawIt": self.denied.errors.first(),
        });
        let greeted = self
            .denied
            .errors
            .iter()
            .any(|text| text.ends_with(GREETED));
        detail["deniedWasGreeted"] = json!(greeted);
        let none_answered = self.denied.ok == 0 && self.denied.sent == DENIED;
        let denied = none_answered && !greeted && self.denials >= DENIED;
        let wire = flows.is_none_or(|flows| {
            let servers = (self.spoken.servers)(server);
            let found = Findings::of(flows, mesh, &servers, self.marker.as_bytes());
            detail["serverHellos"] = json!(found.hellos);
            detail["selectingTls13"] = json!(found.tls13);
            detail["flowsWithMarker"] = json!(found.markers);
            detail["flowsPastTheMesh"] = json!(found.direct);
            found.hellos > 0
                && found.hellos == found.tls13
                && found.markers == 0
                && found.direct == 0
        });
        let refused = self.denied.failed + self.denied.refused;
        let check = Check::calls(&name, &tally, seen && denied && wire, detail);
        Check {
            sent: check.sent + self.denied.sent,
            failed: check.failed + self.denied.ok,
            refused,
            ..check
        }
    }
}

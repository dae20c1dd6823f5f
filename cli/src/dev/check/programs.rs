//! The matrix's part of gRPC programs without sidecars, as clients and as servers.

use std::time::Duration;

use rustix::process::geteuid;
use serde_json::json;

use crate::args::dev::{Dev, Family, Protocol};
use crate::dev::app::tally::Tally;
use crate::dev::demo::{self, Kind, NO_STRANGERS, Programs, SPLIT, Set, Target, Workload};
use crate::dev::mesh::{Caller, Load, Mesh};
use crate::failure::Outcome;

use super::denied::denials;
use super::failover::counts;
use super::matrix::{CALLS, CONNECTIONS, DENIED, PREFIX};
use super::wire::{Findings, Recording, marker, restart};
use super::xfcc::forged_header;
use super::{Check, split, until, wanted};

/// Until a program has its configuration, or a sidecar knows of a program.
const REACHABLE_LIMIT: Duration = Duration::from_secs(30);

/// Who calls and who is called, of one kind.
#[derive(Clone, Copy)]
struct End {
    kind: Kind,
    caller: Workload,
    stranger: Workload,
    greeter: Workload,
    target: Target,
}

impl End {
    fn of_set(set: &Set) -> End {
        End {
            kind: set.kind,
            caller: set.web,
            stranger: set.stranger,
            greeter: set.greeter,
            target: set.greeter_grpc(),
        }
    }

    fn of_programs(programs: &Programs) -> End {
        End {
            kind: Kind::Grpc,
            caller: programs.caller,
            stranger: programs.stranger,
            greeter: programs.greeter,
            target: programs.greeter_grpc(),
        }
    }
}

pub(super) async fn run(args: &Dev, mesh: &mut Mesh) -> Outcome<Vec<Check>> {
    let Some(programs) = demo::programs(mesh.sets) else {
        return Ok(Vec::new());
    };
    let own = End::of_programs(programs);
    let mut ends = mesh.sets.iter().map(End::of_set).collect::<Vec<_>>();
    ends.push(own);
    let mut checks = Vec::new();
    let pairs = ends
        .iter()
        .flat_map(|client| ends.iter().map(move |server| (client, server)));
    for (client, server) in
        pairs.filter(|(client, server)| client.kind == Kind::Grpc || server.kind == Kind::Grpc)
    {
        let name = format!("{PREFIX}{}-{}-grpc", client.kind.name(), server.kind.name());
        if wanted(args, &[&name]) {
            checks.push(cell(mesh, &name, (client, server)).await?);
        }
    }
    let name = format!("{PREFIX}grpc-split-90-10");
    if wanted(args, &[&name]) {
        checks.push(weights(args, mesh, &name, (&own, programs)).await?);
    }
    Ok(checks)
}

/// Calls as any application calls, or as a program does.
async fn call(mesh: &mut Mesh, client: &Workload, target: Target, load: Load) -> Outcome<Tally> {
    if client.kind == Kind::Grpc {
        return mesh.count_grpc(client, target, load).await;
    }
    let target = mesh.target(client, target, Family::V4);
    mesh.count(Caller::Workload(*client), Load { target, ..load })
        .await
}

async fn reachable(mesh: &mut Mesh, client: &Workload, target: Target) -> Outcome {
    until(REACHABLE_LIMIT, async || {
        let tally = call(mesh, client, target, Load::of(Protocol::Grpc, "", 1)).await?;
        Ok((tally.ok == 1, ()))
    })
    .await
    .map(drop)
}

/// One client with one server, every connection of which begins within the capture.
async fn cell(mesh: &mut Mesh, name: &str, (client, server): (&End, &End)) -> Outcome<Check> {
    reachable(mesh, &client.caller, server.target).await?;
    let recording = match geteuid().is_root() {
        true => Some(Recording::start(mesh, name).await?),
        false => None,
    };
    if client.kind != Kind::Grpc {
        restart(mesh, &client.caller, demo::API).await?;
    }
    let marker = marker();
    let load = |count| Load {
        body: marker.clone(),
        headers: vec![forged_header()],
        connections: CONNECTIONS,
        ..Load::of(Protocol::Grpc, "", count)
    };
    let tally = call(mesh, &client.caller, server.target, load(CALLS)).await?;
    let (servers, stranger) = ([server.greeter], &client.stranger);
    let before = denials(mesh, &servers, NO_STRANGERS, stranger).await?;
    let denied = call(mesh, stranger, server.target, load(DENIED)).await?;
    let after = denials(mesh, &servers, NO_STRANGERS, stranger).await?;
    let counted = after.saturating_sub(before);
    let identity = client.caller.identity();
    let seen = tally.identities.keys().eq([&identity]);
    let mut detail = json!({
        "servers": tally.servers,
        "identity": if seen { json!(identity) } else { json!(tally.identities) },
        "denied": counts(&denied),
        "deniedByServer": counted,
        "asTheDeniedSawIt": denied.errors.first(),
    });
    let mut wire = true;
    if let Some(recording) = recording {
        let flows = recording.stop().await?;
        let found = Findings::of(&flows, mesh, &servers, marker.as_bytes());
        detail["serverHellos"] = json!(found.hellos);
        detail["selectingTls13"] = json!(found.tls13);
        detail["flowsWithMarker"] = json!(found.markers);
        detail["flowsPastTheMesh"] = json!(found.direct);
        let secret = found.markers == 0 && found.direct == 0;
        wire = secret && found.hellos > 0 && found.hellos == found.tls13;
    }
    // A program counts nothing; that PERMISSION_DENIED came is its word.
    let by_server = server.kind == Kind::Grpc || counted >= DENIED;
    let kept_out = denied.refused == DENIED && denied.ok == 0 && by_server;
    let check = Check::calls(name, &tally, seen && kept_out && wire, detail);
    Ok(Check {
        sent: check.sent + denied.sent,
        failed: check.failed + denied.ok + denied.failed,
        refused: denied.refused,
        ..check
    })
}

/// The share of the program's answers where it is to have a tenth.
async fn weights(
    args: &Dev,
    mesh: &mut Mesh,
    name: &str,
    (client, programs): (&End, &Programs),
) -> Outcome<Check> {
    reachable(mesh, &client.caller, SPLIT).await?;
    let load = Load {
        connections: CONNECTIONS,
        ..Load::of(Protocol::Grpc, "", args.split_requests)
    };
    let tally = call(mesh, &client.caller, SPLIT, load).await?;
    Ok(split::judge(name, &tally, programs.greeter.name))
}

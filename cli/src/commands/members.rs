//! `maille members`: the controllers of the cluster.

use serde::Serialize;
use xds_api::generated::maille::v1 as api;

use crate::args::operate::{Members, MembersAction};
use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::printer::{Printer, Rows, yes_no};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    id: u64,
    name: String,
    role: &'static str,
    reachable: bool,
    lag: u64,
    peer_address: String,
    xds_address: String,
    admin_address: String,
    version: String,
    min_level: u32,
    max_level: u32,
}

#[derive(Serialize)]
struct Removed {
    removed: u64,
}

#[derive(Serialize)]
struct Transferred {
    leader: String,
}

pub(super) async fn run(args: &Members, cluster: &Cluster, printer: Printer) -> Outcome {
    match args.action.as_ref().unwrap_or(&MembersAction::List) {
        MembersAction::List => list(cluster, printer).await,
        MembersAction::Remove { member } => remove(member, cluster, printer).await,
        MembersAction::Transfer { member } => transfer(member, cluster, printer).await,
    }
}

async fn list(cluster: &Cluster, printer: Printer) -> Outcome {
    let answer = cluster.members().await;
    let answer = answer.map_err(|status| Failure::from_status("list the members", &status, &[]))?;
    let members = answer.members.into_iter().map(member).collect::<Vec<_>>();
    printer.result(&members, || {
        let mut rows = Rows::new(["id", "name", "role", "reachable", "lag", "version"])
            .wide(["peers", "xds", "admin", "levels"]);
        for member in &members {
            rows.push([
                member.id.to_string(),
                member.name.clone(),
                member.role.to_string(),
                yes_no(member.reachable).to_string(),
                member.lag.to_string(),
                member.version.clone(),
                member.peer_address.clone(),
                member.xds_address.clone(),
                member.admin_address.clone(),
                format!("{}-{}", member.min_level, member.max_level),
            ]);
        }
        rows
    })
}

fn member(member: api::Member) -> Member {
    let role = match (member.leader, member.voter) {
        (true, _) => "leader",
        (false, true) => "voter",
        (false, false) => "learner",
    };
    Member {
        id: member.id,
        name: member.name,
        role,
        reachable: member.reachable,
        lag: member.lag,
        peer_address: member.peer_address,
        xds_address: member.xds_address,
        admin_address: member.admin_address,
        version: member.version,
        min_level: member.min_level,
        max_level: member.max_level,
    }
}

async fn remove(member: &str, cluster: &Cluster, printer: Printer) -> Outcome {
    let request = api::RemoveMemberRequest {
        member: member.to_string(),
    };
    let answer = cluster
        .call_once(async |mut client| Ok(client.remove_member(request.clone()).await?.into_inner()))
        .await;
    let answer =
        answer.map_err(|status| Failure::from_status(&format!("remove {member}"), &status, &[]))?;
    let next = "its data directory cannot be used again; stop the process";
    printer.text(&Removed { removed: answer.id }, || {
        format!("removed {member} (id {}): {next}\n", answer.id)
    })
}

async fn transfer(member: &str, cluster: &Cluster, printer: Printer) -> Outcome {
    let request = api::TransferLeadershipRequest {
        member: member.to_string(),
    };
    let answer = cluster
        .call_once(async |mut client| {
            Ok(client
                .transfer_leadership(request.clone())
                .await?
                .into_inner())
        })
        .await;
    let answer =
        answer.map_err(|status| Failure::from_status("hand over leadership", &status, &[]))?;
    let leader = answer.leader;
    printer.text(
        &Transferred {
            leader: leader.clone(),
        },
        || format!("{leader} leads\n"),
    )
}

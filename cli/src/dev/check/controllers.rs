//! Three controllers, all reachable, one leader on whom all agree, and the same mesh everywhere.

use std::collections::BTreeSet;

use serde_json::json;

use crate::dev::mesh::Mesh;
use crate::failure::{Failure, Outcome};

use super::Check;

pub(super) async fn run(mesh: &mut Mesh) -> Outcome<Vec<Check>> {
    mesh.controllers.ready().await?;
    let leader = mesh.controllers.leader().await?;
    let name = mesh.controllers.members[leader].name;
    let cluster = mesh.controllers.cluster();
    let members = cluster.members().await;
    let members =
        members.map_err(|status| Failure::from_status("list the members", &status, &[]))?;
    let members = members.members;
    let views = mesh
        .controllers
        .views()
        .await
        .into_iter()
        .filter_map(Result::ok)
        .collect::<Vec<_>>();
    let hashes = views
        .iter()
        .map(|view| {
            (
                view.state.as_ref().map_or(0, |state| state.index),
                view.mesh_hash.clone(),
            )
        })
        .collect::<BTreeSet<_>>();
    let indices = hashes
        .iter()
        .map(|(index, _)| index)
        .collect::<BTreeSet<_>>();
    let reachable = members
        .iter()
        .filter(|member| member.reachable && member.voter)
        .count();
    let passed = reachable == 3
        && views.len() == 3
        && views.iter().all(|view| view.leader == name)
        && indices.len() == hashes.len();
    let detail = json!({
        "leader": name,
        "voters": reachable,
        "term": views.iter().map(|view| view.term).max(),
        "meshIndex": indices.iter().max(),
        "hashes": hashes,
    });
    Ok(vec![Check::of("controllers", passed, detail)])
}

//! `maille rollout`: the change that a part of the clients sees.

use serde::Serialize;
use xds_api::generated::maille::v1::{self as api, move_rollout_request::Step};

use crate::args::objects::{Rollout, RolloutCommand};
use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::printer::{Printer, Rows, say};

use super::{outcome, wait};

#[derive(Serialize)]
struct View {
    id: u64,
    share: u32,
    author: String,
    objects: Vec<String>,
}

pub(super) async fn run(args: &Rollout, cluster: &Cluster, printer: Printer) -> Outcome {
    let (step, limit) = match &args.command {
        None => return show(cluster, printer).await,
        Some(RolloutCommand::Finish(limit)) => (Step::Finish, limit),
        Some(RolloutCommand::Abort(limit)) => (Step::Abort, limit),
    };
    let answer = advance(cluster, 0, step, 0).await?;
    match step {
        Step::Abort => say(&format!("the rollout {} is taken back", answer.id)),
        _ => outcome::print(printer, answer.index, answer.results, Vec::new(), false)?,
    }
    match limit.wait {
        Some(limit) => wait::until_live(cluster, answer.index, limit).await,
        None => Ok(()),
    }
}

/// Moves a rollout on; 0: whichever is under way.
pub(super) async fn advance(
    cluster: &Cluster,
    id: u64,
    step: Step,
    share: u32,
) -> Outcome<api::MoveRolloutResponse> {
    let request = api::MoveRolloutRequest {
        id,
        step: step as i32,
        share,
        client: cluster.writer().to_string(),
        sequence: sequence(step, share),
    };
    let answer = cluster
        .call(async |mut client| Ok(client.move_rollout(request.clone()).await?.into_inner()))
        .await;
    answer.map_err(|status| Failure::from_status("move the rollout", &status, &[]))
}

/// A run's writes grow with the share, after the beginning, which is 1; the end comes last.
fn sequence(step: Step, share: u32) -> u64 {
    match step {
        Step::Widen => 1 + u64::from(share),
        _ => 1 + 100,
    }
}

async fn show(cluster: &Cluster, printer: Printer) -> Outcome {
    let answer = cluster
        .call(async |mut client| Ok(client.status(api::StatusRequest {}).await?.into_inner()))
        .await;
    let answer = answer.map_err(|status| Failure::from_status("status", &status, &[]))?;
    let views: Vec<View> = answer.rollout.into_iter().map(view).collect();
    if views.is_empty() && !printer.for_programs() {
        say("no rollout is under way");
        return Ok(());
    }
    printer.result(&views, || {
        let mut rows = Rows::new(["id", "share", "author", "objects"]);
        for view in &views {
            rows.push([
                view.id.to_string(),
                format!("{}%", view.share),
                view.author.clone(),
                view.objects.join(", "),
            ]);
        }
        rows
    })
}

fn view(rollout: api::Rollout) -> View {
    View {
        id: rollout.id,
        share: rollout.share,
        author: rollout.author,
        objects: rollout.objects,
    }
}

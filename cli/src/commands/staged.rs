//! `maille apply --staged`: a share of the clients after the other, and back where one refuses.

use std::time::Duration;

use xds_api::generated::maille::v1::{self as api, move_rollout_request::Step};

use crate::args::objects::Apply;
use crate::cluster::Cluster;
use crate::failure::{Exit, Failure, Outcome};
use crate::printer::{Printer, say};

use super::{outcome, rollout, wait};

pub(super) async fn run(
    args: &Apply,
    documents: Vec<api::Document>,
    cluster: &Cluster,
    printer: Printer,
) -> Outcome {
    let shares = shares(&args.staged)?;
    let limit = args.wait.wait.unwrap_or(wait::DEFAULT_LIMIT);
    let Some((first, rest)) = shares.split_first() else {
        return Ok(());
    };
    let request = api::StageRequest {
        documents,
        share: *first,
        client: cluster.writer().to_string(),
        sequence: 1,
    };
    let answer = cluster
        .call(async |mut client| Ok(client.stage(request.clone()).await?.into_inner()))
        .await;
    let begun =
        answer.map_err(|status| Failure::from_status("stage", &status, &request.documents))?;
    if begun.id == 0 {
        return outcome::print(printer, begun.index, begun.results, begun.warnings, false);
    }
    reached(*first, begun.stage);
    settle(cluster, begun.id, begun.index, limit).await?;
    for share in rest {
        let wider = rollout::advance(cluster, begun.id, Step::Widen, *share).await?;
        reached(*share, wider.stage);
        settle(cluster, begun.id, wider.index, limit).await?;
    }
    let finished = rollout::advance(cluster, begun.id, Step::Finish, 0).await?;
    outcome::print(
        printer,
        finished.index,
        finished.results,
        begun.warnings,
        false,
    )?;
    match args.wait.wait {
        Some(limit) => wait::until_live(cluster, finished.index, limit).await,
        None => Ok(()),
    }
}

/// Ascending, and to the end: the stages before the last.
fn shares(given: &[u32]) -> Outcome<Vec<u32>> {
    let ascending = given.is_sorted_by(|one, next| one < next);
    match given.split_last() {
        Some((100, stages)) if ascending && !stages.is_empty() => Ok(stages.to_vec()),
        _ => {
            let message = "--staged takes growing shares that end with 100%";
            Err(Failure::new(Exit::Usage, message).next("for example --staged 10%,50%,100%"))
        }
    }
}

fn reached(share: u32, stage: Option<api::Stage>) {
    // A controller that was asked again does not count again.
    let Some(stage) = stage else { return };
    say(&format!(
        "at {share}%: {} of {} clients that it concerns",
        stage.reached, stage.concerned
    ));
}

/// Waits until those who see it have acknowledged it, and takes it back where they do not.
async fn settle(cluster: &Cluster, id: u64, index: u64, limit: Duration) -> Outcome {
    let Err(failure) = wait::until_live(cluster, index, limit).await else {
        return Ok(());
    };
    say("takes the rollout back");
    let aborted = rollout::advance(cluster, id, Step::Abort, 0).await;
    Err(match aborted {
        Ok(_) => failure.next(
            "what had begun was taken back: nothing has changed; mend the objects and apply again",
        ),
        Err(other) => failure.next(format!(
            "it could not be taken back ({other}); do that with `maille rollout abort`"
        )),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn shares_grow_to_the_whole() {
        assert_eq!(shares(&[10, 50, 100]).unwrap(), [10, 50]);
        for wrong in [&[10, 50][..], &[100], &[50, 10, 100], &[10, 10, 100]] {
            assert_eq!(shares(wrong).unwrap_err().exit(), Exit::Usage, "{wrong:?}");
        }
    }
}

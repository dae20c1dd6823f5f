//! What a change would do before it is written, and a change that goes to a part of the clients first.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use tonic::Status;
use xds_api::maille::v1 as api;
use xds_api::maille::v1::move_rollout_request::Step;

use super::documents::{self, Plan};
use super::{Author, Clients};
use crate::agreement::{Agreement, refusal_status};
use crate::model::command::{MoveRollout, RolloutStep, StageObjects, WriteObjects};
use crate::model::rollout::place;
use crate::model::{Applied, Command, Name, Proposal, State};

/// Answers what concerns changes that are not everybody's yet.
#[derive(Debug, Clone)]
pub(super) struct Rollouts {
    agreement: Arc<dyn Agreement>,
    clients: Arc<dyn Clients>,
}

/// The clients that a change concerns, in the order in which it reaches them.
struct Concerned(Vec<u32>);

impl Concerned {
    fn of(salt: u64, previews: &[api::Preview]) -> Self {
        let clients = previews.iter().flat_map(|preview| &preview.clients);
        let nodes: BTreeSet<&str> = clients.map(|client| client.node.as_str()).collect();
        let names = nodes.into_iter().filter_map(|node| node.split_once('/'));
        let mut places: Vec<u32> = names
            .map(|(namespace, name)| place(salt, &Name::new(namespace, name)))
            .collect();
        places.sort_unstable();
        Self(places)
    }

    /// The last place of a share of them, at least one; where it concerns nobody, of all places.
    fn through(&self, share: u32) -> u32 {
        let reached = (self.0.len() * share as usize).div_ceil(100);
        match self.0.get(reached.saturating_sub(1)) {
            Some(place) => *place,
            None => u32::MAX / 100 * share,
        }
    }

    fn stage(&self, through: u32) -> api::Stage {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let reached = self.0.iter().filter(|place| **place <= through).count();
        api::Stage {
            concerned: count(self.0.len()),
            reached: count(reached),
        }
    }
}

impl Rollouts {
    pub(super) fn new(agreement: Arc<dyn Agreement>, clients: Arc<dyn Clients>) -> Self {
        Self { agreement, clients }
    }

    /// What an apply would do, with whom. Nothing is written.
    pub(super) async fn preview(
        &self,
        author: &Author,
        request: &api::PreviewRequest,
    ) -> Result<api::PreviewResponse, Status> {
        let plan = documents::puts(&request.documents)?;
        plan.check(author)?;
        let state = self.agreement.read().await?;
        let applied = plan.try_on(&state, author.as_str()).accepted();
        let applied = applied.map_err(|refusal| plan.status(&refusal))?;
        let index = state.mesh().index();
        let preview = self.clients.preview(plan.command(), index).await?;
        Ok(api::PreviewResponse {
            state: Some(api::ReadState {
                index,
                incarnation: state.mesh().incarnation(),
                ..Default::default()
            }),
            results: documents::results(&applied),
            warnings: warnings(&plan, &state),
            preview: Some(preview),
        })
    }

    /// Begins a rollout.
    pub(super) async fn stage(
        &self,
        author: &Author,
        request: api::StageRequest,
    ) -> Result<api::StageResponse, Status> {
        check_share(request.share)?;
        let plan = documents::puts(&request.documents)?;
        plan.check(author)?;
        let write = plan.write.clone();
        let salt = salt(&request.client, request.sequence);
        let stage = |write: WriteObjects, through: u32, share: u32| {
            Command::StageObjects(StageObjects {
                write,
                salt,
                through,
                share,
            })
        };
        let state = self.agreement.read().await?;
        if let Some(applied) = state.answered(&request.client, request.sequence) {
            return begun_before(&plan, &state, applied.clone());
        }
        let everybody = stage(write.clone(), u32::MAX, request.share);
        let (_, tried) = state.tried(author.as_str(), everybody.clone());
        tried.accepted().map_err(|refusal| plan.status(&refusal))?;
        let preview = self
            .clients
            .preview(everybody, state.mesh().index())
            .await?;
        let concerned = Concerned::of(salt, &[preview]);
        let through = concerned.through(request.share);
        let proposal = Proposal {
            author: author.to_string(),
            client: request.client,
            sequence: request.sequence,
            time_millis: 0,
            command: stage(write, through, request.share),
        };
        let applied = self.agreement.propose(proposal).await?.accepted();
        let applied = applied.map_err(|refusal| plan.status(&refusal))?;
        Ok(api::StageResponse {
            stage: Some(concerned.stage(through)),
            ..begun(&plan, &state, &applied)
        })
    }

    /// Moves a rollout on.
    pub(super) async fn advance(
        &self,
        author: &Author,
        request: api::MoveRolloutRequest,
    ) -> Result<api::MoveRolloutResponse, Status> {
        let state = self.agreement.read().await?;
        if let Some(applied) = state.answered(&request.client, request.sequence) {
            let applied = applied.clone().accepted();
            let applied = applied.map_err(|refusal| refusal_status(&refusal))?;
            return Ok(api::MoveRolloutResponse {
                index: applied.index,
                id: request.id,
                results: documents::results(&applied),
                stage: None,
            });
        }
        let under_way = state.mesh().rollout();
        let id = match (request.id, under_way) {
            (0, None) => return Err(Status::not_found("no rollout is under way")),
            (0, Some(rollout)) => rollout.id(),
            (id, _) => id,
        };
        if let Some(rollout) = under_way {
            let mut keys = rollout.keys();
            keys.try_for_each(|key| author.must_reach(&key.name.namespace))?;
        }
        let mut command = MoveRollout {
            id,
            ..Default::default()
        };
        let mut stage = None;
        match request.step() {
            Step::Unspecified => {
                return Err(Status::invalid_argument(
                    "which step: widen, finish or abort?",
                ));
            }
            Step::Finish => command.set_step(RolloutStep::Finish),
            Step::Abort => command.set_step(RolloutStep::Abort),
            Step::Widen => {
                check_share(request.share)?;
                let concerned = self.concerned(&state, id).await?;
                let reached = under_way.map_or(0, |rollout| rollout.through());
                command.set_step(RolloutStep::Widen);
                command.share = request.share;
                command.through = concerned.through(request.share).max(reached);
                stage = Some(concerned.stage(command.through));
            }
        }
        let proposal = Proposal {
            author: author.to_string(),
            client: request.client,
            sequence: request.sequence,
            time_millis: 0,
            command: Command::MoveRollout(command),
        };
        let applied = self.agreement.propose(proposal).await?.accepted();
        let applied = applied.map_err(|refusal| refusal_status(&refusal))?;
        Ok(api::MoveRolloutResponse {
            index: applied.index,
            id,
            results: documents::results(&applied),
            stage,
        })
    }

    /// Whom a rollout concerns: those that it would reach yet, and those that would go back were it aborted.
    async fn concerned(&self, state: &State, id: u64) -> Result<Concerned, Status> {
        let salt = state.mesh().rollout().map_or(0, |rollout| rollout.salt());
        let mut previews = Vec::new();
        for (step, through) in [(RolloutStep::Widen, u32::MAX), (RolloutStep::Abort, 0)] {
            let command = Command::MoveRollout(MoveRollout {
                id,
                step: step as i32,
                through,
                share: 0,
            });
            let index = state.mesh().index();
            previews.push(self.clients.preview(command, index).await?);
        }
        Ok(Concerned::of(salt, &previews))
    }
}

/// A rollout, for people.
pub(super) fn describe(state: &State) -> Option<api::Rollout> {
    let rollout = state.mesh().rollout()?;
    Some(api::Rollout {
        id: rollout.id(),
        share: rollout.share(),
        author: rollout.author().to_owned(),
        objects: rollout.keys().map(ToString::to_string).collect(),
    })
}

/// What is told of a beginning, but for how many it has reached.
fn begun(plan: &Plan, state: &State, applied: &Applied) -> api::StageResponse {
    let is_new = applied.objects.iter().any(|one| one.outcome != 0);
    api::StageResponse {
        index: applied.index,
        id: if is_new { applied.index } else { 0 },
        results: documents::results(applied),
        warnings: warnings(plan, state),
        stage: None,
    }
}

/// The same to a caller that asks again because it has not heard the answer.
fn begun_before(
    plan: &Plan,
    state: &State,
    applied: Applied,
) -> Result<api::StageResponse, Status> {
    let applied = applied
        .accepted()
        .map_err(|refusal| plan.status(&refusal))?;
    Ok(begun(plan, state, &applied))
}

fn warnings(plan: &Plan, state: &State) -> Vec<String> {
    let mut warnings = plan.warnings.clone();
    warnings.extend(plan.differences(state.mesh()));
    warnings
}

fn check_share(share: u32) -> Result<(), Status> {
    if (1..100).contains(&share) {
        return Ok(());
    }
    let text = format!(
        "a stage reaches 1 to 99 percent of the clients, not {share}; to reach all, finish the rollout"
    );
    Err(Status::invalid_argument(text))
}

/// The same for the same write, so that asking twice is asking once.
fn salt(client: &str, sequence: u64) -> u64 {
    let hash = digest(&SHA256, format!("{client} {sequence}").as_bytes());
    let first = hash.as_ref().first_chunk();
    first.map_or(0, |first| u64::from_be_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_reaches_its_share_and_at_least_one() {
        let concerned = Concerned((1..=20).map(|place| place * 1000).collect());
        let check = |share, reached| {
            let through = concerned.through(share);
            assert_eq!(concerned.stage(through).reached, reached, "{share} %");
        };
        check(1, 1);
        check(10, 2);
        check(11, 3);
        check(50, 10);
        check(99, 20);
        assert_eq!(Concerned(Vec::new()).through(50), u32::MAX / 100 * 50);
    }
}

//! A change goes to a part of the clients first, to more of them, and to all or to none.

use std::sync::Arc;

use crate::model::{
    Applied, Refusal, RefusalCode, State,
    command::{MoveRollout, RolloutStep, StageObjects},
    limits::STAGED_OBJECTS,
    rollout::{Rollout, RolloutRow},
};

impl State {
    pub(super) fn stage(
        &mut self,
        command: &StageObjects,
        author: &Arc<str>,
    ) -> Result<Applied, Refusal> {
        if let Some(under_way) = self.mesh.rollout() {
            return Err(conflict(format!(
                "the rollout {} of {} is under way, at {} %; finish or abort it first",
                under_way.id(),
                under_way.author(),
                under_way.share()
            )));
        }
        let written = self.written(&command.write, author)?;
        let outcomes = Applied {
            objects: written.outcomes.clone(),
            ..Applied::default()
        };
        if written.touched.is_empty() {
            return Ok(outcomes);
        }
        if written.touched.len() > STAGED_OBJECTS {
            let text = format!(
                "a rollout may change {STAGED_OBJECTS} objects, not {}; roll them out in parts",
                written.touched.len()
            );
            return Err(Refusal::new(RefusalCode::Exhausted, text));
        }
        let mut pool = self.vip_pool.clone();
        let mut settled = written.mesh.clone();
        let services = written.services();
        let ranges = written.has_settings();
        let fits = pool.settle(&mut settled, &services, ranges, self.log_index);
        if fits.is_err() || settled.vips != self.mesh.vips {
            let text = "it gives or takes virtual addresses, and those are everybody's at once; apply new and removed services, and MeshSettings' vipRange, without stages";
            return Err(Refusal::new(RefusalCode::Invalid, text));
        }
        let row = RolloutRow {
            id: self.log_index,
            salt: command.salt,
            through: command.through,
            share: command.share,
            author: author.to_string(),
            write: command.write.clone(),
        };
        let rollout = Rollout::new(row, &self.mesh)
            .map_err(|error| Refusal::new(RefusalCode::Invalid, error.to_string()))?;
        self.mesh.rollout = Some(Arc::new(rollout));
        self.touch_mesh();
        Ok(outcomes)
    }

    pub(super) fn move_rollout(&mut self, command: &MoveRollout) -> Result<Applied, Refusal> {
        let rollout = match &self.mesh.rollout {
            Some(rollout) if rollout.id() == command.id => Arc::clone(rollout),
            Some(other) => {
                let text = format!(
                    "the rollout {} is over; {} is under way",
                    command.id,
                    other.id()
                );
                return Err(Refusal::new(RefusalCode::NotFound, text));
            }
            None => {
                let text = format!("there is no rollout {}: it is over", command.id);
                return Err(Refusal::new(RefusalCode::NotFound, text));
            }
        };
        match command.step() {
            RolloutStep::Widen if command.through < rollout.through() => {
                return Err(conflict(format!(
                    "the rollout {} is at {} % already; it can be widened, finished or aborted",
                    rollout.id(),
                    rollout.share()
                )));
            }
            RolloutStep::Widen => {
                let mut wider = Rollout::clone(&rollout);
                wider.row.through = command.through;
                wider.row.share = command.share;
                self.mesh.rollout = Some(Arc::new(wider));
            }
            RolloutStep::Abort => self.mesh.rollout = None,
            RolloutStep::Finish => {
                let author = rollout.author().into();
                self.mesh.rollout = None;
                let written = self.write_objects(&rollout.row.write, &author);
                match written {
                    Ok(_) => self.touch_mesh(),
                    Err(_) => self.mesh.rollout = Some(rollout),
                }
                return written;
            }
        }
        self.touch_mesh();
        Ok(Applied::default())
    }

    /// Makes the rollout's mesh anew where this entry has changed what it stands on.
    pub(super) fn follow_base(&mut self) {
        if self.mesh.index != self.log_index {
            return;
        }
        let base = self.mesh.clone();
        if let Some(rollout) = &mut self.mesh.rollout {
            Arc::make_mut(rollout).rebase(&base);
        }
    }
}

fn conflict(text: String) -> Refusal {
    Refusal::new(RefusalCode::Conflict, text)
}

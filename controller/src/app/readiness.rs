//! Ready is a controller that is a member, is known by name, knows a leader and can sign.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::health::Readiness;
use crate::identity::{Authority, Standing};
use crate::model::State;
use crate::raft::Raft;
use crate::supervise::Stage;

pub(super) fn watch(
    stage: &Stage,
    ready: &Readiness,
    raft: &Raft,
    authority: &Authority,
    name: &str,
) {
    let stopping = stage.stopping();
    let formation = |waiting: &String| match waiting.as_str() {
        "" => None,
        waiting => Some(format!("it is in no cluster yet and waits for {waiting}")),
    };
    stage.vital(
        "ready: member",
        follow(
            ready.clone(),
            raft.waiting_for(),
            formation,
            stopping.clone(),
        ),
    );
    let name = name.to_owned();
    let described = move |state: &Arc<State>| {
        let known = state.members().values().any(|member| member.name == name);
        (!known).then(|| "the cluster has not agreed on its description yet".to_owned())
    };
    stage.vital(
        "ready: described",
        follow(ready.clone(), raft.state(), described, stopping.clone()),
    );
    let leader = |leadership: &crate::raft::Leadership| {
        leadership
            .leader
            .is_none()
            .then(|| "there is no leader".to_owned())
    };
    stage.vital(
        "ready: leader",
        follow(ready.clone(), raft.leadership(), leader, stopping.clone()),
    );
    let standing = |standing: &Standing| match standing {
        Standing::Issuing => None,
        Standing::Waiting => Some("it has no issuing certificate yet".to_owned()),
        Standing::Sealed(why) => Some(format!("it is sealed: {why}")),
    };
    stage.vital(
        "ready: authority",
        follow(ready.clone(), authority.standing(), standing, stopping),
    );
}

/// Holds one reason for not being ready as long as `missing` gives one.
async fn follow<T: Clone>(
    ready: Readiness,
    mut values: watch::Receiver<T>,
    missing: impl Fn(&T) -> Option<String>,
    stopping: CancellationToken,
) {
    loop {
        let value = values.borrow_and_update().clone();
        let reason = missing(&value).map(|reason| ready.wait_for(reason));
        tokio::select! {
            () = stopping.cancelled() => return,
            changed = values.changed() => if changed.is_err() { return },
        }
        drop(reason);
    }
}

//! xDS clients of all controllers, for the admin API.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tonic::{Status, async_trait};
use xds_api::envoy::service::status::v3::ClientConfig;
use xds_api::maille::v1::{
    AwaitLiveResponse, LoadsRequest, LoadsResponse, Preview, ProxiesResponse, Proxy, ReadState,
};

use super::{live, loads, preview};
use crate::admin::{Choice, Clients, Sight};
use crate::agreement::{Agreement, Peers};
use crate::model::{Command, State};
use crate::raft::Raft;
use crate::xds::{Hashes, LoadReports, Xds};

/// How long the xDS side may take to follow the state that is asked about: it publishes every 10 ms.
const FOLLOW_LIMIT: Duration = Duration::from_secs(2);
/// Between two looks.
const FOLLOW_PAUSE: Duration = Duration::from_millis(20);
/// Between two looks at all clients of all controllers.
const LIVE_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct AllClients {
    xds: Xds,
    loads: LoadReports,
    raft: Raft,
    agreement: Arc<dyn Agreement>,
}

impl AllClients {
    pub(super) fn new(
        xds: Xds,
        loads: LoadReports,
        raft: Raft,
        agreement: Arc<dyn Agreement>,
    ) -> Self {
        Self {
            xds,
            loads,
            raft,
            agreement,
        }
    }
}

impl AllClients {
    /// Every stream at any controller, by node.
    async fn all(&self) -> Vec<Proxy> {
        let mut proxies = self.xds.proxies();
        proxies.extend(self.raft.proxies().await);
        proxies.sort_by(|one, other| {
            (&one.node, one.connected_at).cmp(&(&other.node, other.connected_at))
        });
        proxies
    }
}

/// When the last certificate of each of these workloads ends, in Unix seconds, as far as it is on the record.
fn certificate_ends(state: &State, proxies: &[Proxy]) -> BTreeMap<String, i64> {
    let wanted: BTreeSet<&str> = proxies.iter().map(|one| one.node.as_str()).collect();
    let mut ends = BTreeMap::new();
    if wanted.is_empty() {
        return ends;
    }
    for record in state.issuance().records_from(0) {
        if wanted.contains(record.workload.as_str()) {
            let end = ends.entry(record.workload.clone()).or_insert(0);
            *end = record.not_after.max(*end);
        }
    }
    ends
}

#[async_trait]
impl Clients for AllClients {
    async fn proxies(&self) -> Result<ProxiesResponse, Status> {
        let state = self.agreement.state().borrow().clone();
        let mut proxies = self.all().await;
        let mut absent = live::absent(state.mesh(), &proxies);
        let ends = certificate_ends(&state, &absent);
        for proxy in &mut absent {
            let end = ends.get(proxy.node.as_str()).copied();
            proxy.certificate_not_after = end.unwrap_or_default();
        }
        proxies.extend(absent);
        proxies.sort_by(|one, other| one.node.cmp(&other.node));
        let read = ReadState {
            index: state.mesh().index(),
            incarnation: state.mesh().incarnation(),
            ..ReadState::default()
        };
        Ok(ProxiesResponse {
            state: Some(read),
            proxies,
        })
    }

    async fn await_live(
        &self,
        index: u64,
        limit: Duration,
        sees: Choice,
    ) -> Result<AwaitLiveResponse, Status> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let streams = self.all().await;
            let state = self.agreement.state().borrow().clone();
            let answer = live::judge(state.mesh(), streams, index, &sees);
            let refused = live::is_refused(&answer, index);
            if answer.behind == 0 || refused || tokio::time::Instant::now() >= deadline {
                return Ok(answer);
            }
            tokio::time::sleep(LIVE_PAUSE).await;
        }
    }

    async fn preview(&self, command: Command, index: u64) -> Result<Preview, Status> {
        let (here, others) = futures_util::future::join(
            self.xds.preview(command.clone(), index),
            self.raft.preview(command, index),
        )
        .await;
        let mut all = preview::Merged::new(here?);
        for (controller, answer) in others {
            match answer {
                Ok(preview) => all.add(preview),
                Err(status) => all.silent(controller, &status),
            }
        }
        Ok(all.finish())
    }

    async fn client_status(
        &self,
        choice: Choice,
        contents: bool,
    ) -> Result<(Vec<ClientConfig>, u32), Status> {
        self.xds.client_status(choice, contents).await
    }

    async fn loads(&self, request: LoadsRequest, sees: Sight) -> Result<LoadsResponse, Status> {
        let mut all = loads::Merged::new(self.loads.look(&request)?);
        let (others, streams) =
            futures_util::future::join(Peers::loads(&self.raft, request.clone()), self.all()).await;
        for (controller, answer) in others {
            match answer {
                Ok(loads) => all.add(loads),
                Err(status) => all.silent(controller, &status),
            }
        }
        all.connected(&request, streams);
        all.seen_by(sees)
    }

    fn streams(&self) -> u32 {
        u32::try_from(self.xds.streams()).unwrap_or(u32::MAX)
    }

    /// Empty where the xDS side has moved past the state meanwhile: hashes of another index would only mislead.
    async fn resource_hashes(&self, state: &Arc<State>) -> BTreeMap<String, String> {
        let (wanted, deadline) = (
            state.mesh().index(),
            tokio::time::Instant::now() + FOLLOW_LIMIT,
        );
        loop {
            let xds = self.xds.clone();
            // Translates what nobody has asked for yet: too long for a thread that serves others.
            let found = tokio::task::spawn_blocking(move || xds.resource_hashes(wanted)).await;
            match found {
                Ok(Hashes::Made(hashes)) => return hashes,
                Ok(Hashes::NotYet) if tokio::time::Instant::now() < deadline => {}
                Ok(Hashes::NotYet | Hashes::Past) | Err(_) => return BTreeMap::new(),
            }
            tokio::time::sleep(FOLLOW_PAUSE).await;
        }
    }
}

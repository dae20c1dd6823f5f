//! The controller that leads observes; every other waits for its turn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use kube::Client;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio_stream::StreamMap;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::book::{Book, Listed, Seen, Watched};
use super::watch::{Localities, Sight, namespaces, nodes, pods, services};
use crate::agreement::Leading;
use crate::model::{Command, Name, Observe, Proposal, State};
use crate::supervise::Stage;
use crate::telemetry::Metrics;

/// What happens together is agreed on together: a rollout is dozens of changes within milliseconds.
const GATHER: Duration = Duration::from_millis(5);
/// After an observation that did not come through.
const RETRY: Duration = Duration::from_millis(200);

/// What is counted.
#[derive(Debug, Clone, Default)]
pub struct ObserverMetrics {
    observations: Counter,
    parts: Counter,
    skipped: Counter,
    doubted: Gauge,
    observing: Gauge,
}

impl ObserverMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register(|registry| {
            let counters = [
                ("kubernetes_observations", "Observations that were agreed on", &own.observations),
                ("kubernetes_observed", "Objects that they held", &own.parts),
                ("kubernetes_skipped", "Of these, those that were not taken: a person wrote there first, or a newer version is known", &own.skipped),
            ];
            for (name, text, counter) in counters {
                registry.register(name, text, counter.clone());
            }
            registry.register(
                "kubernetes_doubted",
                "Objects that were missing in a list and are kept until a second list agrees",
                own.doubted.clone(),
            );
            registry.register(
                "kubernetes_observing",
                "1 where this controller watches Kubernetes",
                own.observing.clone(),
            );
        });
        own
    }
}

/// Watches Kubernetes while this controller leads.
pub struct Observer {
    client: Client,
    log: Arc<dyn Leading>,
    author: String,
    metrics: ObserverMetrics,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Observer")
            .field("author", &self.author)
            .finish_non_exhaustive()
    }
}

impl Observer {
    /// One that has not begun.
    pub fn new(
        client: Client,
        log: Arc<dyn Leading>,
        controller: &str,
        metrics: ObserverMetrics,
    ) -> Self {
        Self {
            client,
            log,
            author: format!("controller {controller}"),
            metrics,
        }
    }

    /// Observes until the stage stops.
    pub fn start(self, stage: &Stage) {
        let stopping = stage.stopping();
        stage.vital("kubernetes", self.run(stopping));
    }

    async fn run(self, stopping: CancellationToken) {
        let mut terms = self.log.term();
        loop {
            self.metrics.observing.set(0);
            self.metrics.doubted.set(0);
            let term = tokio::select! {
                () = stopping.cancelled() => return,
                led = terms.wait_for(Option::is_some) => match led {
                    Ok(term) => *term,
                    Err(_) => return,
                },
            };
            let Some(term) = term else { continue };
            self.metrics.observing.set(1);
            info!(term, "watches Kubernetes");
            tokio::select! {
                () = stopping.cancelled() => return,
                lost = terms.wait_for(|now| *now != Some(term)) => if lost.is_err() { return },
                () = self.lead(term) => {}
            }
        }
    }

    /// Observes in one term, from a fresh list of everything on.
    async fn lead(&self, term: u64) {
        let mut states = self.log.state();
        // What the leaders before have written must be here: a list is compared with it.
        while let Err(failure) = self.log.read().await {
            debug!(term, %failure, "waits for what was agreed on before");
            tokio::time::sleep(RETRY).await;
        }
        // Names of accounts are known by it only; it is there from the cluster's first entry on.
        let known = states.wait_for(|state| !state.mesh().trust_domain().is_empty());
        let Ok(trust_domain) = known
            .await
            .map(|state| state.mesh().trust_domain().to_owned())
        else {
            return;
        };
        let mut turn = Turn {
            observer: self,
            term,
            trust_domain,
            localities: Localities::default(),
            book: Book::default(),
            places: BTreeMap::new(),
            doubted: BTreeSet::new(),
        };
        turn.observe(&mut states).await;
    }

    /// Answers the mesh index after it.
    async fn propose(&self, observe: Observe) -> Result<u64, String> {
        let (count, term) = (observe.len() as u64, observe.term);
        let proposal = Proposal {
            author: self.author.clone(),
            client: String::new(),
            sequence: 0,
            time_millis: 0,
            command: Command::Observe(observe),
        };
        let applied = self.log.propose_leading(proposal).await;
        let applied = applied.map_err(|failure| failure.to_string())?;
        if let Some(refusal) = applied.refusal {
            return Err(refusal.message);
        }
        self.metrics.observations.inc();
        self.metrics.parts.inc_by(count);
        self.metrics.skipped.inc_by(applied.skipped.into());
        debug!(term, count, skipped = applied.skipped, "observed");
        Ok(applied.index)
    }
}

/// One term of observing.
struct Turn<'a> {
    observer: &'a Observer,
    term: u64,
    trust_domain: String,
    localities: Localities,
    book: Book,
    /// The nodes that pods run on.
    places: BTreeMap<Name, String>,
    doubted: BTreeSet<Watched>,
}

impl Turn<'_> {
    async fn observe(&mut self, states: &mut watch::Receiver<Arc<State>>) {
        let mut watches = StreamMap::new();
        let kinds = [
            Watched::Nodes,
            Watched::Namespaces,
            Watched::Services,
            Watched::Pods,
        ];
        for kind in kinds {
            watches.insert(kind, self.watch(kind));
        }
        loop {
            let Some((_, sights)) = watches.next().await else {
                return;
            };
            self.take(sights, &states.borrow().clone());
            self.gather(&mut watches, states).await;
            for kind in std::mem::take(&mut self.doubted) {
                // Begun anew, it lists again.
                watches.insert(kind, self.watch(kind));
            }
            self.agree(states).await;
        }
    }

    fn watch(&self, kind: Watched) -> BoxStream<'static, Vec<Sight>> {
        let client = self.observer.client.clone();
        match kind {
            Watched::Namespaces => namespaces(client),
            Watched::Services => services(client),
            Watched::Pods => pods(client, self.trust_domain.clone(), self.localities.clone()),
            Watched::Nodes => nodes(client, self.localities.clone()),
        }
    }

    /// Takes what comes within the next moment, too.
    async fn gather(
        &mut self,
        watches: &mut StreamMap<Watched, BoxStream<'static, Vec<Sight>>>,
        states: &watch::Receiver<Arc<State>>,
    ) {
        let until = tokio::time::Instant::now() + GATHER;
        while let Ok(Some((_, sights))) = tokio::time::timeout_at(until, watches.next()).await {
            self.take(sights, &states.borrow().clone());
        }
    }

    fn take(&mut self, sights: Vec<Sight>, state: &State) {
        for sight in sights {
            match sight {
                Sight::Saw(seen) => self.book.saw(seen),
                Sight::Lost(key) => self.book.lost(key),
                Sight::List(kind, seen) => self.list(kind, seen, state),
                Sight::PodAt(name, Some(node)) => drop(self.places.insert(name, node)),
                Sight::PodAt(name, None) => drop(self.places.remove(&name)),
                Sight::NodeAt(node, locality) => self.move_node(&node, &locality, state),
            }
        }
    }

    fn list(&mut self, kind: Watched, seen: Vec<Seen>, state: &State) {
        let count = seen.len();
        match self.book.list(kind, seen, state) {
            Listed::Taken => {
                self.observer.metrics.doubted.set(0);
                info!(?kind, count, "listed");
            }
            Listed::Doubted { missing, of } => {
                let gauge = i64::try_from(missing).unwrap_or(i64::MAX);
                self.observer.metrics.doubted.set(gauge);
                self.doubted.insert(kind);
                error!(
                    ?kind,
                    missing,
                    of,
                    "a list of Kubernetes' lacks too many of those that there are; nothing is deleted until a second list says the same"
                );
            }
        }
    }

    /// The pods on a node stand where it stands.
    fn move_node(&mut self, node: &str, locality: &str, state: &State) {
        let here = self.places.iter().filter(|(_, at)| at.as_str() == node);
        for name in here.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            if let Some(mut pod) = self.book.pod(&name, state)
                && pod.locality != locality
            {
                pod.locality = locality.to_owned();
                self.book.saw(Seen::Pod(Box::new(pod)));
            }
        }
    }

    /// Proposes until nothing differs from what is agreed on.
    async fn agree(&mut self, states: &mut watch::Receiver<Arc<State>>) {
        loop {
            let state = states.borrow().clone();
            let observe = self.book.observation(self.term, &state);
            if observe.is_empty() {
                return;
            }
            match self.observer.propose(observe.clone()).await {
                Ok(index) => {
                    self.book.agreed(&observe);
                    // The next difference is one from what it has become.
                    let applied = states.wait_for(|state| state.mesh().index() >= index);
                    if applied.await.is_err() {
                        return;
                    }
                }
                Err(failure) => {
                    warn!(term = self.term, %failure, "an observation did not come through; it is made again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

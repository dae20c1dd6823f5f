//! The generator: streams in a process of its own, each acknowledging everything over its own TLS connection, and coming back when its
//! controller dies. It tells on standard output, a line a round, when each stream's acknowledgement went out.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use maille_tests::identity::Caller;
use maille_tests::stream::{self, Stream};
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinSet, LocalSet};
use xds_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use xds_api::type_url::TypeUrl;

/// The listener that leads to the service whose endpoints change.
const LISTENER: &str = "out/app.bench:80";
/// What one listener's closure is made of.
const CLOSURE: [TypeUrl; 4] = [
    TypeUrl::Listener,
    TypeUrl::Cluster,
    TypeUrl::Endpoints,
    TypeUrl::Route,
];
/// Opened side by side at first: only the return after a controller's death is a storm.
const OPENING: usize = 64;
/// Between two attempts, with jitter: what the sidecar's own backoff is after some failures.
const PAUSE_MS: std::ops::Range<u64> = 50..1000;

/// What a generator is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The file with certificate and key.
    pub(crate) identity: PathBuf,
    /// Whom to call, the first first.
    pub(crate) servers: Vec<SocketAddr>,
    /// The number of its first stream.
    pub(crate) first: usize,
    /// How many streams it has.
    pub(crate) count: usize,
}

/// A round is over: every stream has acknowledged once more. Round 0 is the closure, each further one a change of endpoints.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Round {
    pub(crate) number: usize,
    /// Microseconds of Unix time at which each acknowledgement was given to its connection.
    pub(crate) acknowledged: Vec<u64>,
}

/// Runs until it is killed.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<()> {
    let tls = Caller::load(&plan.identity)?.tls(b"h2")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let gate = Arc::new(Semaphore::new(OPENING));
        let board = Rc::new(RefCell::new(Board::new(plan.count)));
        let mut streams = JoinSet::new();
        for number in 0..plan.count {
            let sidecar = Sidecar {
                tls: tls.clone(),
                servers: plan.servers.clone(),
                node: format!("bench/client-{}", plan.first + number),
                held: Default::default(),
                round: None,
                board: board.clone(),
            };
            streams.spawn_local(sidecar.live(gate.clone()));
        }
        match streams.join_next().await {
            Some(ended) => ended?,
            None => bail!("it has no streams"),
        }
    })
}

/// Who has acknowledged what.
struct Board {
    count: usize,
    rounds: Vec<Vec<u64>>,
    /// Whether an end of a stream was told; ten thousand say the same.
    told: bool,
}

impl Board {
    fn new(count: usize) -> Self {
        Self {
            count,
            rounds: Vec::new(),
            told: false,
        }
    }

    fn ended(&mut self, failure: &anyhow::Error) {
        if !std::mem::replace(&mut self.told, true) {
            eprintln!("the first stream to end: {failure:#}");
        }
    }

    fn note(&mut self, number: usize) -> anyhow::Result<()> {
        if self.rounds.len() <= number {
            self.rounds.resize_with(number + 1, Vec::new);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
        self.rounds[number].push(u64::try_from(now)?);
        if self.rounds[number].len() == self.count {
            let acknowledged = std::mem::take(&mut self.rounds[number]);
            let round = Round {
                number,
                acknowledged,
            };
            print(&serde_json::to_string(&round)?);
        }
        Ok(())
    }
}

#[allow(
    clippy::print_stdout,
    reason = "standard output is the way to the bench"
)]
fn print(line: &str) {
    println!("{line}");
}

/// One client, through all of its streams.
struct Sidecar {
    tls: Arc<ClientConfig>,
    servers: Vec<SocketAddr>,
    node: String,
    /// Name and version of what it holds, by type, in the order of `CLOSURE`.
    held: [Option<(String, String)>; CLOSURE.len()],
    /// The last round that it has ended.
    round: Option<usize>,
    board: Rc<RefCell<Board>>,
}

impl Sidecar {
    async fn live(mut self, gate: Arc<Semaphore>) -> anyhow::Result<()> {
        let mut permit = Some(gate.acquire_owned().await?);
        let mut server = self.servers[0];
        loop {
            // An end is what this bench makes: the next server is asked.
            if let Err(failure) = self.converse(server, &mut permit).await {
                self.board.borrow_mut().ended(&failure);
            }
            let pause = rand::random_range(PAUSE_MS);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            // As a sidecar draws.
            server = self.servers[rand::random_range(0..self.servers.len())];
        }
    }

    /// One stream, until it ends.
    async fn converse(
        &mut self,
        server: SocketAddr,
        permit: &mut Option<OwnedSemaphorePermit>,
    ) -> anyhow::Result<()> {
        let mut stream = Stream::open(self.tls.clone(), server).await?;
        for request in self.opening() {
            stream.send(&request)?;
        }
        loop {
            let response = stream.response().await?;
            stream.send(&stream::ack(&response))?;
            if self.take(&response) {
                let next = self.round.map_or(0, |round| round + 1);
                self.round = Some(next);
                self.board.borrow_mut().note(next)?;
                permit.take();
            }
        }
    }

    /// Its first requests, with what it holds.
    fn opening(&self) -> Vec<DeltaDiscoveryRequest> {
        let request = |(place, kind): (usize, &TypeUrl)| {
            let named: &[&str] = match kind {
                TypeUrl::Listener => &[LISTENER],
                _ => &[],
            };
            DeltaDiscoveryRequest {
                node: (place == 0).then(|| stream::node(&self.node, "client")),
                initial_resource_versions: self.held[place].iter().cloned().collect(),
                ..stream::subscribe(*kind, named)
            }
        };
        CLOSURE.iter().enumerate().map(request).collect()
    }

    /// Takes a response. Whether it ends a round: it completes the closure, or brings other endpoints.
    fn take(&mut self, response: &DeltaDiscoveryResponse) -> bool {
        let place = CLOSURE
            .iter()
            .position(|kind| kind.as_str() == response.type_url);
        let (Some(place), Some(resource)) = (place, response.resources.first()) else {
            return false;
        };
        let new = Some((resource.name.clone(), resource.version.clone()));
        let changed = self.held[place] != new;
        self.held[place] = new;
        let whole = self.held.iter().all(Option::is_some);
        match self.round {
            None => whole,
            Some(_) => changed && CLOSURE[place] == TypeUrl::Endpoints,
        }
    }
}

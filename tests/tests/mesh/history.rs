//! No client goes back in time: ten thousand changes, clients that switch controllers at random, controllers that are killed, stopped and deposed
//! meanwhile. Every client's every version is looked up in the order in which they were written.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use maille_tests::admin::Client;
use maille_tests::binaries::Grpc;
use maille_tests::client;
use maille_tests::cluster::{self, Cluster};
use maille_tests::fleet::Fleet;
use maille_tests::mesh::{NAMESPACE, object, route, service};
use maille_tests::ports;
use maille_tests::sidecar::{Kind, Plan, Sidecar};
use maille_tests::wait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use serde_json::json;

use crate::grpc::programs::{Watcher, target};

/// Changes that are written, one after the other.
const CHANGES: u64 = 10_000;
/// Between two switches of one client or another.
const SWITCH_EVERY: u64 = 10;
/// Between two troubles of the controllers.
const TROUBLE_EVERY: u64 = 400;
/// For how many changes a trouble lasts.
const TROUBLE_FOR: u64 = 100;
const CLIENTS: usize = 12;
/// One try of a write: a controller that is stopped never answers.
const TRY_LIMIT: Duration = Duration::from_millis(700);
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// From the last change to its being everywhere.
const END_LIMIT: Duration = Duration::from_secs(60);
/// What marks a version: this, and nine digits.
const MARK: &str = "mark-";

fn marked(number: u64) -> String {
    let header = json!({"name": "x-mark", "value": format!("{MARK}{number:09}")});
    let backends = json!([{"name": "told", "port": 80}]);
    let marked = json!({"matches": [{"headers": [header]}], "backendRefs": backends});
    route("told", &json!([marked, {"backendRefs": backends}]))
}

/// The mark in a text or a message.
fn mark(bytes: &[u8]) -> Option<u64> {
    let at = bytes
        .windows(MARK.len())
        .position(|one| one == MARK.as_bytes())?;
    let digits = bytes.get(at + MARK.len()..)?.get(..9)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// What one client has applied, last seen.
struct Watched {
    name: String,
    last: u64,
    versions: u64,
}

impl Watched {
    fn new(name: String) -> Self {
        Self {
            name,
            last: 0,
            versions: 0,
        }
    }

    fn see(&mut self, number: u64) -> anyhow::Result<()> {
        let (name, last) = (&self.name, self.last);
        ensure!(
            number >= last,
            "{name} has gone back from {last} to {number}"
        );
        self.versions += u64::from(number > last);
        self.last = number;
        Ok(())
    }
}

/// Who writes: through one controller as long as that answers.
struct Writer {
    /// A controller that was stopped may pass on a try of long ago once it goes on: by name and number it is known not to be a new change.
    name: String,
    way: Option<Client>,
    turn: usize,
}

impl Writer {
    fn new() -> Self {
        Self {
            name: cluster::writer(),
            way: None,
            turn: 0,
        }
    }

    /// Writes until it is acknowledged.
    async fn write(&mut self, cluster: &Cluster, number: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + WRITE_LIMIT;
        loop {
            let tried = tokio::time::timeout(TRY_LIMIT, self.try_once(cluster, number)).await;
            match tried.context("no answer").flatten() {
                Ok(()) => return Ok(()),
                Err(why) if Instant::now() > deadline => {
                    return Err(why.context(format!("change {number}")));
                }
                Err(_) => (self.way, self.turn) = (None, self.turn + 1),
            }
        }
    }

    async fn try_once(&mut self, cluster: &Cluster, number: u64) -> anyhow::Result<()> {
        if self.way.is_none() {
            let running = cluster.running();
            self.way = Some(cluster.admin(running[self.turn % running.len()]).await?);
        }
        let way = self.way.as_mut().context("it was just found")?;
        let change = (self.name.as_str(), number);
        cluster::apply_as(way, change, &marked(number))
            .await
            .map(drop)
    }
}

/// One controller killed, stopped as a paused machine is, or asked to let another lead.
async fn trouble(
    cluster: &mut Cluster,
    random: &mut StdRng,
) -> anyhow::Result<Option<(usize, bool)>> {
    let at = random.random_range(0..3);
    match random.random_range(0..3) {
        0 => {
            cluster.kill(at).await?;
            Ok(Some((at, true)))
        }
        1 => {
            let process = cluster.controllers[at].process.as_ref();
            process.context("it runs")?.signal(Signal::STOP)?;
            Ok(Some((at, false)))
        }
        _ => {
            // It may have led no more.
            let asked = cluster.cli(&["members", "transfer"]).await?;
            eprintln!("handed over: {:?}", asked.code);
            Ok(None)
        }
    }
}

fn end_trouble(cluster: &mut Cluster, (at, killed): (usize, bool)) -> anyhow::Result<()> {
    if killed {
        return cluster.start(at);
    }
    let process = cluster.controllers[at].process.as_ref();
    process.context("it runs")?.signal(Signal::CONT)
}

/// What a sidecar of either kind says that it acts on.
async fn applied(sidecar: &Sidecar) -> anyhow::Result<Option<u64>> {
    let (at, page): (SocketAddr, &str) = match sidecar.plan.kind {
        Kind::Envoy => (
            sidecar.envoy_admin,
            "/config_dump?resource=dynamic_route_configs",
        ),
        _ => (sidecar.admin, "/config"),
    };
    Ok(mark(client::get(at, page).await?.body.as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_ever_goes_back_to_an_older_version() -> anyhow::Result<()> {
    let said = std::env::var("HISTORY_SEED").ok();
    let seed = said
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(rand::random);
    eprintln!("HISTORY_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::found(3).await?;
    let told = format!("{:#}", service("told", "told", "http"));
    cluster.apply(&[told, marked(0)].join("\n---\n")).await?;
    let fleet = Fleet::start(&cluster, NAMESPACE, CLIENTS, "out/told.shop:80", "").await?;
    let mut sidecars = Vec::new();
    for (name, kind) in [("native", Kind::Native), ("envoy", Kind::Envoy)] {
        let plan = Plan::caller(NAMESPACE, name).of(kind);
        sidecars.push(Sidecar::start(&cluster, plan).await?);
        let upstream = json!({"listen": ports::free(), "service": {"name": "told", "port": 80}});
        let spec = json!({"serviceAccount": name, "upstreams": [upstream]});
        cluster.apply(&object("Workload", name, &spec)).await?;
    }
    let mut programs = Vec::new();
    for (name, library) in [("grpc-c-core", Grpc::C), ("grpc-go", Grpc::Go)] {
        let target = target("told");
        programs.push(Watcher::start(&cluster, name, library, (&target, MARK)).await?);
    }
    let fleet_names = (0..CLIENTS).map(|number| fleet.node(number));
    let beside = programs.iter().map(|one| one.agent.node());
    let names = fleet_names
        .chain(sidecars.iter().map(Sidecar::node))
        .chain(beside);
    let mut watched: Vec<Watched> = names.map(Watched::new).collect();

    let (mut writer, mut under_way) = (Writer::new(), None);
    for number in 1..=CHANGES {
        writer.write(&cluster, number).await?;
        if number % SWITCH_EVERY == 0 {
            fleet.switch(random.random_range(0..CLIENTS));
            look(&fleet, &sidecars, &mut programs, &mut watched).await?;
        }
        if number % TROUBLE_EVERY == 0 {
            under_way = trouble(&mut cluster, &mut random).await?;
        }
        if number % TROUBLE_EVERY == TROUBLE_FOR
            && let Some(trouble) = under_way.take()
        {
            end_trouble(&mut cluster, trouble)?;
        }
    }
    wait::until("everybody has the last change", END_LIMIT, async || {
        look(&fleet, &sidecars, &mut programs, &mut watched).await?;
        let late = watched.iter().find(|one| one.last < CHANGES);
        ensure!(
            late.is_none(),
            "{:?}",
            late.map(|one| (&one.name, one.last))
        );
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    for one in &watched {
        eprintln!(
            "{}: {} versions, none older than the one before",
            one.name, one.versions
        );
    }
    Ok(())
}

/// Looks at what everybody has applied since the last look.
async fn look(
    fleet: &Fleet,
    sidecars: &[Sidecar],
    programs: &mut [Watcher],
    watched: &mut [Watched],
) -> anyhow::Result<()> {
    for (number, watched) in watched.iter_mut().take(CLIENTS).enumerate() {
        for came in fleet.taken(number) {
            if let Some(number) = mark(came.body.as_deref().unwrap_or_default()) {
                watched.see(number)?;
            }
        }
    }
    for (sidecar, watched) in sidecars.iter().zip(&mut watched[CLIENTS..]) {
        if let Some(number) = applied(sidecar).await? {
            watched.see(number)?;
        }
    }
    let rest = watched.iter_mut().skip(CLIENTS + sidecars.len());
    for (program, watched) in programs.iter_mut().zip(rest) {
        for number in program.marks()? {
            watched.see(number)?;
        }
    }
    Ok(())
}

//! `maille envoy run`: the agent first, Envoy once that answers, and both of them ended in order.

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until};

use super::arguments::arguments;
use super::bootstrap::bootstrap;
use super::child::{Child, code};
use crate::agent::account;
use crate::agent::settings::{Kind, Settings};
use crate::args::envoy::Run;
use crate::failure::{Exit, Failure, Outcome};
use crate::http_get::exchange;
use crate::printer::say;
use crate::sibling;

/// Between two looks whether something is there, or gone.
const LOOK: Duration = Duration::from_millis(50);
/// Until an agent that has ended is started again: the first time, and at most. Envoy serves from what it has meanwhile.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// An agent that lived for so long had started well.
const STEADY: Duration = Duration::from_secs(60);
/// For the agent to withdraw the workload: five seconds, then `drainDelay`, which is a minute at most.
const AGENT_LIMIT: Duration = Duration::from_secs(70);
/// Envoy ends in milliseconds once it is told to.
const ENVOY_LIMIT: Duration = Duration::from_secs(10);

/// Runs both until Envoy or a signal ends it.
///
/// # Errors
/// One of them cannot be started, the agent ends before Envoy has begun, or Envoy ends with another code than 0.
pub async fn run(args: &Run) -> Outcome {
    let settings = Settings::load(&args.bootstrap.config, Kind::Envoy).await?;
    let mut signals = Signals::new()?;
    let mut agent = Agent::start(&args.bootstrap.config)?;
    let account = tokio::select! {
        account = ready(&settings, args) => account,
        ended = agent.child.end() => {
            let message = format!("the agent ended with {} before it had a certificate", ended?);
            return Err(Failure::failed(message).next("what it said above tells why"));
        }
        () = signals.next() => {
            agent.child.stop(AGENT_LIMIT).await?;
            let message = "ended by a signal before the agent had a certificate";
            return Err(Failure::new(Exit::Interrupted, message));
        }
    };
    let bootstrap = bootstrap(&settings, &account, args.bootstrap.admin_port).to_string();
    let arguments = arguments(
        &bootstrap,
        args.drain_time,
        args.concurrency,
        &args.arguments,
    );
    let program = args.envoy.clone().unwrap_or_else(|| "envoy".into());
    let envoy = Child::start("Envoy", &program, &arguments)?;
    let pair = Pair {
        agent,
        envoy,
        admin: format!("127.0.0.1:{}", args.bootstrap.admin_port),
        drain_time: args.drain_time,
    };
    pair.run(signals).await
}

/// Until the socket answers and the service account is known.
async fn ready(settings: &Settings, args: &Run) -> String {
    while UnixStream::connect(&settings.agent.socket).await.is_err() {
        sleep(LOOK).await;
    }
    match &args.bootstrap.service_account {
        Some(account) => account.clone(),
        None => account::certified(settings).await,
    }
}

/// SIGTERM and SIGINT, which mean the same here.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Outcome<Signals> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::failed("listen for signals").caused_by(error))
        };
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The agent, which is started again when it ends.
struct Agent {
    program: PathBuf,
    arguments: [OsString; 3],
    child: Child,
    started: Instant,
    pause: Duration,
    again_at: Option<Instant>,
}

impl Agent {
    fn start(config: &Path) -> Outcome<Agent> {
        let program = sibling::binary("maille-proxy")?;
        let arguments = ["agent".into(), "--config".into(), config.into()];
        Ok(Agent {
            child: Child::start("the agent", &program, &arguments)?,
            program,
            arguments,
            started: Instant::now(),
            pause: PAUSE.0,
            again_at: None,
        })
    }

    /// Keeps it alive. Nothing is lost where this is dropped and called again.
    async fn keep(&mut self) -> Infallible {
        loop {
            match self.again_at {
                Some(at) => {
                    sleep_until(at).await;
                    self.again();
                }
                None => {
                    let ended = self.child.end().await;
                    let how = ended.map_or_else(|error| error.to_string(), |how| how.to_string());
                    self.later(&format!("the agent ended ({how})"));
                }
            }
        }
    }

    fn later(&mut self, what: &str) {
        if self.started.elapsed() > STEADY {
            self.pause = PAUSE.0;
        }
        say(&format!(
            "{what}; Envoy goes on with what it has, the agent starts again in {:?}",
            self.pause
        ));
        self.again_at = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSE.1);
    }

    fn again(&mut self) {
        self.started = Instant::now();
        match Child::start("the agent", &self.program, &self.arguments) {
            Ok(child) => {
                self.child = child;
                self.again_at = None;
            }
            Err(failure) => self.later(&failure.to_string()),
        }
    }
}

struct Pair {
    agent: Agent,
    envoy: Child,
    /// Envoy's administration.
    admin: String,
    drain_time: Duration,
}

impl Pair {
    async fn run(mut self, mut signals: Signals) -> Outcome {
        let ended = tokio::select! {
            ended = self.envoy.end() => {
                self.agent.child.stop(AGENT_LIMIT).await?;
                ended?
            }
            never = self.agent.keep() => match never {},
            () = signals.next() => {
                say("draining; a second signal ends at once");
                tokio::select! {
                    () = self.drain() => {}
                    () = signals.next() => say("ending at once"),
                }
                let ended = self.envoy.stop(ENVOY_LIMIT).await?;
                self.agent.child.stop(ENVOY_LIMIT).await?;
                ended
            }
        };
        match code(ended) {
            0 => Ok(()),
            code => Err(Failure::failed(format!("Envoy ended with {ended}")).with_code(code)),
        }
    }

    /// Others are told first, then Envoy finishes what is under way.
    async fn drain(&mut self) {
        if let Err(failure) = self.agent.child.stop(AGENT_LIMIT).await {
            say(&failure.to_string());
        }
        let until = Instant::now() + self.drain_time;
        let asked = exchange(
            &self.admin,
            Method::POST,
            "/drain_listeners?graceful",
            String::new(),
        );
        if let Err(error) = asked.await {
            say(&format!("Envoy does not drain: {error}"));
            return;
        }
        while Instant::now() < until && connections(&self.admin).await.is_some_and(|left| left > 0)
        {
            sleep(LOOK).await;
        }
    }
}

/// How many connections Envoy has. `None`: it does not say.
async fn connections(admin: &str) -> Option<u64> {
    const PATH: &str = "/stats?filter=^server.total_connections$";
    let (_, text) = exchange(admin, Method::GET, PATH, String::new())
        .await
        .ok()?;
    let (_, number) = text.trim().rsplit_once(": ")?;
    number.parse().ok()
}

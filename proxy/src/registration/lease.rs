//! The task that registers, renews and withdraws.

use super::instance;
use crate::config::Config;
use crate::controllers::{Backoff, ConnectError, Controllers, connect};
use crate::health::{Health, PortHealth};
use crate::identity::{Credentials, Identity};
use crate::snapshot::Snapshot;
use crate::supervise::Tasks;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::{debug, info, warn};
use xds_api::maille::v1::registration_client::RegistrationClient;
use xds_api::maille::v1::{Mesh, RegisterRequest, RenewRequest, WithdrawRequest};

/// Between attempts. The first are quick: a leader's election is over in a second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// For one call; a write waits for a log entry and, without a leader, for the next leader.
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// A lease that is told to be shorter or longer than this is a mistake.
const LEASE: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(3_600));

/// What is registered, and with whom.
#[derive(Debug)]
pub struct Settings {
    /// Whom to tell.
    pub controllers: Controllers,
    /// The workload stands there.
    pub config: Arc<Config>,
    /// What speaks at its mesh port.
    pub mesh: Mesh,
    /// Where this proxy takes the traffic: what it is told. Until its own policy is there it would refuse everything.
    pub told: Option<watch::Receiver<Arc<Snapshot>>>,
}

/// The registration as it stands.
#[derive(Debug)]
pub struct Registration {
    registered: watch::Receiver<bool>,
    withdraw: mpsc::Sender<oneshot::Sender<()>>,
}

impl Registration {
    /// Whether the control plane knows of the workload, as it changes.
    pub fn registered(&self) -> watch::Receiver<bool> {
        self.registered.clone()
    }

    /// Takes the workload out, within `limit`. Answers whether the control plane has agreed.
    pub async fn withdraw(&self, limit: Duration) -> bool {
        let (done, told) = oneshot::channel();
        let asked = async {
            self.withdraw.send(done).await.ok()?;
            told.await.ok()
        };
        matches!(timeout(limit, asked).await, Ok(Some(())))
    }
}

/// Starts the task. A workload without ports has nothing to register.
pub fn start(
    settings: Settings,
    identity: Identity,
    health: watch::Receiver<PortHealth>,
    tasks: &Tasks,
) -> Registration {
    let (registered, receiver) = watch::channel(false);
    let (withdraw, withdrawals) = mpsc::channel(1);
    let lease = Lease {
        settings,
        identity,
        health,
        registered,
        withdrawals,
        generation: generation(),
        calls: 0,
        agreed: false,
        connected: None,
    };
    let stopping = tasks.stopping();
    tasks.vital("registration", async move {
        let mut keeping = Box::pin(lease.keep());
        tokio::select! {
            () = stopping.cancelled() => {}
            () = &mut keeping => {}
        }
    });
    Registration {
        registered: receiver,
        withdraw,
    }
}

/// A later process has a larger one, as far as the host's clock goes forward.
fn generation() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(1, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}

/// A call was not answered as hoped.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the controller answered: {} ({:?})", .0.message(), .0.code())]
    Status(Status),
}

/// What is to be done next.
enum Next {
    Register,
    Renew,
    Withdraw(oneshot::Sender<()>),
}

struct Lease {
    settings: Settings,
    identity: Identity,
    health: watch::Receiver<PortHealth>,
    registered: watch::Sender<bool>,
    withdrawals: mpsc::Receiver<oneshot::Sender<()>>,
    generation: u64,
    /// Writes that were begun: their order is this process's, whichever controller passes them on when.
    calls: u64,
    /// Whether what holds now is agreed on: a change whose call failed is told again.
    agreed: bool,
    /// The connection in use and the certificate that it was made with.
    connected: Option<(Channel, Arc<Credentials>)>,
}

impl Lease {
    async fn keep(mut self) {
        let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
        let mut next = Next::Register;
        let mut at = Instant::now();
        loop {
            next = self.wait(next, at).await;
            let outcome = match next {
                Next::Withdraw(done) => return self.withdraw(done).await,
                Next::Register => self.register().await,
                Next::Renew => self.renew().await,
            };
            match outcome {
                Ok(lease) => {
                    backoff.reset();
                    self.registered.send_replace(true);
                    let (shortest, longest) = LEASE;
                    at = Instant::now() + lease.clamp(shortest, longest) / 3;
                    next = Next::Renew;
                }
                Err(error) => {
                    self.connected = None;
                    at = Instant::now() + backoff.pause();
                    next = self.after(&error);
                }
            }
        }
    }

    /// After a failure what is not agreed on, or was lost, is registered; anything else is tried again.
    fn after(&self, error: &CallError) -> Next {
        let lost = matches!(error, CallError::Status(status) if status.code() == Code::NotFound);
        let report = error as &dyn std::error::Error;
        if lost {
            info!("the lease has ended; registering again");
        } else {
            warn!(error = report, "the registration is not renewed yet");
        }
        match self.agreed && !lost {
            true => Next::Renew,
            false => Next::Register,
        }
    }

    /// Until the time has come, the health has changed, the policy has come or a withdrawal is asked for.
    async fn wait(&mut self, next: Next, at: Instant) -> Next {
        let policy = policy(&mut self.settings.told);
        let told = async {
            match self.health.changed().await {
                Ok(()) => {}
                // Nobody checks any more, what was told stays.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(done) = self.withdrawals.recv() => Next::Withdraw(done),
            () = tokio::time::sleep_until(at) => next,
            () = told => Next::Register,
            () = policy => {
                self.settings.told = None;
                Next::Register
            }
        }
    }

    /// What is registered of the ports' health: nothing yet, as long as no traffic can be taken.
    fn health(&mut self) -> PortHealth {
        let mut health = self.health.borrow_and_update().clone();
        let told = self.settings.told.as_ref();
        if told.is_some_and(|told| told.borrow().inbound.is_none()) {
            health.values_mut().for_each(|one| *one = Health::Unknown);
        }
        health
    }

    async fn register(&mut self) -> Result<Duration, CallError> {
        let health = self.health();
        self.agreed = false;
        let request = RegisterRequest {
            instance: Some(instance(&self.settings.config, self.settings.mesh, &health)),
            generation: self.generation,
            sequence: self.next_call(),
        };
        let mut client = self.client().await?;
        let answer = limited(client.register(request)).await?.into_inner();
        self.agreed = true;
        info!(
            index = answer.index,
            lease_seconds = answer.lease_seconds,
            ?health,
            "registered"
        );
        Ok(Duration::from_secs(answer.lease_seconds.into()))
    }

    async fn renew(&mut self) -> Result<Duration, CallError> {
        let workload = &self.settings.config.workload;
        let request = RenewRequest {
            namespace: workload.namespace.to_string(),
            name: workload.name.to_string(),
            generation: self.generation,
        };
        let mut client = self.client().await?;
        let answer = limited(client.renew(request)).await?.into_inner();
        debug!(lease_seconds = answer.lease_seconds, "the lease is renewed");
        Ok(Duration::from_secs(answer.lease_seconds.into()))
    }

    /// The last thing that the task does: tried until it is agreed or nobody waits for it any more.
    async fn withdraw(mut self, mut done: oneshot::Sender<()>) {
        let workload = &self.settings.config.workload;
        let mut request = WithdrawRequest {
            namespace: workload.namespace.to_string(),
            name: workload.name.to_string(),
            generation: self.generation,
            sequence: 0,
        };
        let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
        while !done.is_closed() {
            request.sequence = self.next_call();
            let attempt = async {
                let mut client = self.client().await?;
                limited(client.withdraw(request.clone())).await
            };
            let outcome = tokio::select! {
                () = done.closed() => break,
                outcome = attempt => outcome,
            };
            match outcome {
                Ok(_) => {
                    info!("withdrawn");
                    self.registered.send_replace(false);
                    // Whoever asked may have given up meanwhile.
                    done.send(()).ok();
                    break;
                }
                Err(error) => {
                    self.connected = None;
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "not withdrawn yet"
                    );
                    tokio::time::sleep(backoff.pause()).await;
                }
            }
        }
        // A vital task stays until it is told to end.
        std::future::pending().await
    }

    fn next_call(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }

    /// The connection in use, or one to the first controller that answers.
    async fn client(&mut self) -> Result<RegistrationClient<Channel>, CallError> {
        let credentials = self.identity.first().await;
        if let Some((channel, with)) = &self.connected
            && Arc::ptr_eq(with, &credentials)
        {
            return Ok(RegistrationClient::new(channel.clone()));
        }
        let mut failure = None;
        for controller in self.settings.controllers.shuffled() {
            match connect(&controller, credentials.controller()).await {
                Ok(channel) => {
                    self.connected = Some((channel.clone(), credentials));
                    return Ok(RegistrationClient::new(channel));
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(match failure {
            Some(error) => error.into(),
            None => CallError::Status(Status::unavailable("no controller is named")),
        })
    }
}

/// Returns once the workload's own policy is there; never where nobody waits for it.
async fn policy(told: &mut Option<watch::Receiver<Arc<Snapshot>>>) {
    let there = match told {
        Some(told) => told.wait_for(|told| told.inbound.is_some()).await.is_ok(),
        None => false,
    };
    if !there {
        std::future::pending::<()>().await;
    }
}

async fn limited<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, CallError> {
    let answer = timeout(CALL_LIMIT, call).await;
    let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
    answer.map_err(CallError::Status)
}

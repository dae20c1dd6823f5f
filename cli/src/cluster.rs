//! How to reach the control plane: any controller answers, so each is tried until one does or the time is up.

mod connect;
mod credentials;

use std::path::PathBuf;
use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use xds_api::envoy::service::status::v3::client_status_discovery_service_client::ClientStatusDiscoveryServiceClient;
use xds_api::envoy::service::status::v3::{ClientStatusRequest, ClientStatusResponse};
use xds_api::generated::maille::v1 as api;
use xds_api::generated::maille::v1::admin_client::AdminClient;

use crate::args::Reach;
use crate::failure::{Exit, Failure, Outcome};

pub use credentials::Credentials;

/// A client of the admin API at one controller.
pub type Client = AdminClient<Channel>;

/// Longer than an election; after that a follower's view is better than none.
const LEADER_PATIENCE: Duration = Duration::from_secs(2);
/// The first pause after every controller has been tried in vain; it doubles up to `PAUSE_MAX`.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// An election takes under a second: more patience between rounds would only be felt.
const PAUSE_MAX: Duration = Duration::from_millis(800);
/// The largest answer: a whole mesh as JSON. Bounds what a wrong endpoint can make us hold.
const ANSWER_LIMIT: usize = 256 << 20;

/// Where a controller's admin API is.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// A Unix socket on this machine.
    Socket(PathBuf),
    /// `host:port`, spoken to over mutual TLS.
    Address(String, Credentials),
}

/// The controllers that a command may ask.
#[derive(Clone, Debug)]
pub struct Cluster {
    endpoints: Vec<Endpoint>,
    patience: Duration,
    writer: String,
}

impl Cluster {
    /// Finds out how to reach the controllers, from the flags or the admin directory.
    ///
    /// # Errors
    /// The admin directory is missing or damaged.
    pub fn open(reach: &Reach) -> Outcome<Cluster> {
        let patience = Duration::from_secs(reach.timeout.max(1));
        if !reach.socket.is_empty() {
            return Ok(Cluster::at(
                reach.socket.iter().cloned().map(Endpoint::Socket).collect(),
                patience,
            ));
        }
        let directory = match &reach.admin {
            Some(directory) => directory.clone(),
            None => default_directory()?,
        };
        let (credentials, listed) = Credentials::load(&directory)?;
        let addresses = if reach.endpoint.is_empty() {
            listed
        } else {
            reach.endpoint.clone()
        };
        let endpoints = addresses
            .into_iter()
            .map(|address| Endpoint::Address(address, credentials.clone()))
            .collect::<Vec<_>>();
        if endpoints.is_empty() {
            let message = format!(
                "{} lists no controller",
                directory.join("endpoints").display()
            );
            return Err(Failure::new(Exit::NotFound, message)
                .next("write one host:port a line into it, or pass --endpoint host:port"));
        }
        Ok(Cluster::at(endpoints, patience))
    }

    /// A cluster at known endpoints. `patience` bounds every call.
    pub fn at(endpoints: Vec<Endpoint>, patience: Duration) -> Cluster {
        let mut id = [0u8; 16];
        rand::rng().fill_bytes(&mut id);
        Cluster {
            endpoints,
            patience,
            writer: format!("maille-{}", hex::encode(id)),
        }
    }

    /// The same cluster, seen through one of its controllers only.
    pub fn each(&self) -> Vec<Cluster> {
        self.endpoints
            .iter()
            .map(|endpoint| Cluster {
                endpoints: vec![endpoint.clone()],
                ..self.clone()
            })
            .collect()
    }

    /// The name under which this process numbers its writes: a write that is sent twice is applied once.
    pub fn writer(&self) -> &str {
        &self.writer
    }

    /// Makes a call that may be repeated: a read, or a write that carries `(client, sequence)`.
    /// Every controller is tried, again and again, until one answers or the time is up.
    ///
    /// # Errors
    /// What the last controller said, as a status.
    pub async fn call<T>(
        &self,
        ask: impl AsyncFn(Client) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let deadline = Instant::now() + self.patience;
        let mut pause = PAUSE_MIN;
        let mut last = Status::unavailable("no controller was asked");
        loop {
            for endpoint in &self.endpoints {
                match self.once(endpoint, deadline, &ask).await {
                    Err(status) if retriable(&status) => last = status,
                    answer => return answer,
                }
            }
            if Instant::now() + pause >= deadline {
                return Err(last);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// The members, as the leader sees them where it answers soon: only it knows who is reachable and how far behind.
    ///
    /// # Errors
    /// What the last controller said, as a status.
    pub async fn members(&self) -> Result<api::MembersResponse, Status> {
        let soon = Cluster {
            patience: LEADER_PATIENCE.min(self.patience),
            ..self.clone()
        };
        let by_leader = soon.call(async |mut client| {
            let answer = client.members(api::MembersRequest {}).await?.into_inner();
            let own = answer.state.as_ref().map(|state| &state.controller);
            match answer.members.iter().find(|member| member.leader) {
                Some(leader) if Some(&leader.name) == own => Ok(answer),
                _ => Err(Status::unavailable("this controller does not lead")),
            }
        });
        if let Ok(answer) = by_leader.await {
            return Ok(answer);
        }
        self.call(async |mut client| Ok(client.members(api::MembersRequest {}).await?.into_inner()))
            .await
    }

    /// Makes a call that must not be repeated: another controller is tried only while none has been connected.
    ///
    /// # Errors
    /// What the controller said, as a status.
    pub async fn call_once<T>(
        &self,
        ask: impl AsyncFn(Client) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let deadline = Instant::now() + self.patience;
        let mut last = Status::unavailable("no controller was asked");
        for endpoint in &self.endpoints {
            match endpoint.connect(deadline).await {
                Ok(client) => return within(deadline, endpoint, ask(client)).await,
                Err(status) => last = status,
            }
        }
        Err(last)
    }

    /// What every controller tells of its clients, asked at the same time.
    pub async fn client_status(
        &self,
        request: &ClientStatusRequest,
    ) -> Vec<Result<Response<ClientStatusResponse>, Status>> {
        let deadline = Instant::now() + self.patience;
        let one = async |endpoint: &Endpoint| {
            let channel = within(deadline, endpoint, connect::channel(endpoint)).await?;
            let client = ClientStatusDiscoveryServiceClient::new(channel);
            let mut client = client.max_decoding_message_size(ANSWER_LIMIT);
            let asking = client.fetch_client_status(request.clone());
            within(deadline, endpoint, asking).await
        };
        futures_util::future::join_all(self.endpoints.iter().map(one)).await
    }

    async fn once<T>(
        &self,
        endpoint: &Endpoint,
        deadline: Instant,
        ask: &impl AsyncFn(Client) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let client = endpoint.connect(deadline).await?;
        within(deadline, endpoint, ask(client)).await
    }
}

impl Endpoint {
    async fn connect(&self, deadline: Instant) -> Result<Client, Status> {
        let channel = within(deadline, self, connect::channel(self)).await?;
        Ok(AdminClient::new(channel).max_decoding_message_size(ANSWER_LIMIT))
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Endpoint::Socket(path) => write!(f, "{}", path.display()),
            Endpoint::Address(address, _) => write!(f, "{address}"),
        }
    }
}

async fn within<T>(
    deadline: Instant,
    endpoint: &Endpoint,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout_at(deadline, work).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::deadline_exceeded(format!(
            "{endpoint} did not answer in time"
        ))),
    }
}

fn retriable(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Aborted | Code::Cancelled
    )
}

fn default_directory() -> Outcome<PathBuf> {
    let Some(home) = std::env::home_dir() else {
        return Err(
            Failure::new(Exit::NotFound, "this user has no home directory")
                .next("pass --admin DIR or --socket PATH"),
        );
    };
    Ok(home.join(".config/maille"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_call_ends_when_the_time_is_up_and_names_the_controller() {
        let nobody = Endpoint::Socket(PathBuf::from("/nonexistent/admin.sock"));
        let cluster = Cluster::at(vec![nobody], Duration::from_millis(200));
        let answer = cluster.call(async |_client| Ok(())).await;
        let status = answer.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(
            status.message().contains("/nonexistent/admin.sock"),
            "{}",
            status.message()
        );
    }

    #[test]
    fn two_processes_number_their_writes_apart() {
        let cluster = || Cluster::at(Vec::new(), Duration::from_secs(1));
        assert_ne!(cluster().writer(), cluster().writer());
    }
}

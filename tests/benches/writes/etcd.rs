//! etcd: three members on loopback, and the one call of its API that the bench makes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use maille_tests::ports;
use maille_tests::process::Process;
use maille_tests::wait;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;

/// A new cluster elects within two seconds; a busy machine takes longer.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// `etcdserverpb.PutRequest`, as far as it is used.
#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// `etcdserverpb.PutResponse`; that it came is all that counts.
#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

/// `etcdserverpb.StatusRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

/// `etcdserverpb.ResponseHeader`, as far as it is used.
#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member: u64,
}

/// `etcdserverpb.StatusResponse`, as far as it is used.
#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

/// The cluster; its processes end with it.
pub(crate) struct Etcd {
    program: PathBuf,
    directory: PathBuf,
    members: Vec<Member>,
}

struct Member {
    name: String,
    client: SocketAddr,
    arguments: Vec<String>,
    process: Option<Process>,
}

impl Etcd {
    /// Starts three members with etcd's default timers, their data under `directory`.
    pub(crate) async fn start(program: &Path, directory: &Path) -> anyhow::Result<Self> {
        let ports: Vec<[SocketAddr; 2]> = (0..3).map(|_| [ports::free(), ports::free()]).collect();
        let members: Vec<String> = ports
            .iter()
            .zip(1..)
            .map(|([_, peer], id)| format!("m{id}=http://{peer}"))
            .collect();
        let members = members.join(",");
        let mut cluster = Self {
            program: program.to_owned(),
            directory: directory.to_owned(),
            members: Vec::new(),
        };
        for ([client, peer], id) in ports.iter().zip(1..) {
            let name = format!("m{id}");
            let data = directory.join(&name).to_string_lossy().into_owned();
            let flags = [
                ("name", name.clone()),
                ("data-dir", data),
                ("log-level", "error".to_owned()),
                ("listen-client-urls", format!("http://{client}")),
                ("advertise-client-urls", format!("http://{client}")),
                ("listen-peer-urls", format!("http://{peer}")),
                ("initial-advertise-peer-urls", format!("http://{peer}")),
                ("initial-cluster", members.clone()),
                ("initial-cluster-state", "new".to_owned()),
            ];
            let arguments = flags
                .map(|(flag, value)| format!("--{flag}={value}"))
                .into();
            cluster.members.push(Member {
                name,
                client: *client,
                arguments,
                process: None,
            });
        }
        for place in 0..cluster.members.len() {
            cluster.restart(place)?;
        }
        cluster.leader().await?;
        Ok(cluster)
    }

    /// Starts a member that does not run.
    pub(crate) fn restart(&mut self, place: usize) -> anyhow::Result<()> {
        let member = &mut self.members[place];
        let name = format!("etcd-{}", member.name);
        let process = Process::start(&name, &self.directory, &self.program, &member.arguments)?;
        member.process = Some(process);
        Ok(())
    }

    /// The place of the member that leads, once all agree on one.
    pub(crate) async fn leader(&self) -> anyhow::Result<usize> {
        wait::until("etcd has a leader", READY_LIMIT, async || {
            for (place, member) in self.members.iter().enumerate() {
                if member.process.is_none() {
                    continue;
                }
                let status = status(member.client).await?;
                let own = status.header.context("no header")?.member;
                if own == status.leader {
                    return Ok(place);
                }
            }
            anyhow::bail!("no member leads")
        })
        .await
    }

    /// A connection to one member, once it listens: it may have been restarted a moment ago.
    pub(crate) async fn client(&self, place: usize) -> anyhow::Result<Client> {
        wait::until("etcd listens", READY_LIMIT, async || {
            connect(self.members[place].client).await
        })
        .await
    }

    /// Every member that runs.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.members.len())
            .filter(|place| self.members[*place].process.is_some())
            .collect()
    }

    /// Kills one member.
    pub(crate) async fn kill(&mut self, place: usize) -> anyhow::Result<()> {
        match self.members[place].process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }
}

/// A writer.
#[derive(Clone)]
pub(crate) struct Client(tonic::client::Grpc<Channel>);

impl Client {
    /// One durable write.
    pub(crate) async fn put(&mut self, key: String, value: Bytes) -> anyhow::Result<()> {
        self.0.ready().await?;
        let request = tonic::Request::new(PutRequest {
            key: key.into(),
            value,
        });
        let codec = tonic_prost::ProstCodec::<PutRequest, PutResponse>::default();
        let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
        self.0.unary(request, path, codec).await?;
        Ok(())
    }
}

async fn connect(address: SocketAddr) -> anyhow::Result<Client> {
    let channel = Channel::from_shared(format!("http://{address}"))?
        .timeout(Duration::from_secs(10))
        .connect()
        .await?;
    Ok(Client(tonic::client::Grpc::new(channel)))
}

async fn status(address: SocketAddr) -> anyhow::Result<StatusResponse> {
    let mut client = connect(address).await?;
    client.0.ready().await?;
    let codec = tonic_prost::ProstCodec::<StatusRequest, StatusResponse>::default();
    let path = PathAndQuery::from_static("/etcdserverpb.Maintenance/Status");
    let request = tonic::Request::new(StatusRequest {});
    Ok(client.0.unary(request, path, codec).await?.into_inner())
}

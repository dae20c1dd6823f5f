//! The data directory, the peers' TLS and Raft over both.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tonic::Status;
use tracing::{error, info};
use xds_api::maille::v1::{LoadsRequest, LoadsResponse, Preview, Proxy};

use super::{Engine, Failure};
use crate::agreement::RosterSource;
use crate::config::Config;
use crate::model::Command;
use crate::peer_ca::{PeerTls, Secrets};
use crate::raft::{Addresses, Raft, RaftError, Settings};
use crate::registration::Leases;
use crate::store::StoreError;
use crate::store::directory::Directory;
use crate::store::log::OnFailure;
use crate::store::media::Disk;
use crate::supervise::Supervisor;
use crate::xds::{LoadReports, Xds};

/// As `app::EXIT_CODES` says.
const EXIT_REFUSED: i32 = 3;
const EXIT_VITAL_PART: i32 = 4;

/// Raft, running, and who this controller is to its peers.
pub(super) struct Consensus {
    pub(super) raft: Raft,
    pub(super) peer_tls: PeerTls,
}

/// Another cluster's data directory.
#[derive(Debug, thiserror::Error)]
#[error(
    "the data directory {path} belongs to cluster {found}, but the secrets are those of cluster {ours}; point dataDir to this cluster's directory, or to an empty one"
)]
struct ForeignDirectory {
    path: PathBuf,
    found: String,
    ours: String,
}

impl Consensus {
    /// Lets another controller lead, where this one does and there is another.
    pub(super) async fn hand_over(&self) {
        if !self.raft.leadership().borrow().is_leader {
            return;
        }
        match self.raft.transfer_leadership(None).await {
            Ok(leader) => info!(leader, "handed leadership over"),
            Err(failure) => {
                info!(%failure, "leadership was not handed over; the others elect a leader")
            }
        }
    }

    /// Peers may ask for what is not in the log.
    pub(super) fn answer_peers(&self, leases: Leases, xds: Xds, loads: LoadReports) {
        self.raft.take_leases(Arc::new(leases));
        self.raft.name_clients(Arc::new(Roster { xds, loads }));
    }
}

pub(super) async fn start(
    supervisor: &mut Supervisor,
    config: &Config,
    engine: Engine,
    secrets: &Secrets,
    listener: std::net::TcpListener,
) -> Result<Consensus, Failure> {
    let directory = Arc::new(open_directory(&config.data_dir, secrets)?);
    let id = directory.id().to_string();
    let peer_tls = PeerTls::new(secrets, &config.secrets, &config.name, &id)?;
    let stage = supervisor.stage("raft");
    peer_tls.keep_fresh(&stage);
    let settings = settings(config, engine, secrets)?;
    let raft = Raft::start(settings, directory, listener, &peer_tls, stage)
        .await
        .map_err(failure)?;
    Ok(Consensus { raft, peer_tls })
}

pub(super) fn open_directory(path: &Path, secrets: &Secrets) -> Result<Directory, Failure> {
    let directory = Directory::open(path, Arc::new(Disk)).map_err(refused)?;
    match directory.identity().membership {
        Some(membership) if membership.cluster != secrets.cluster_id() => Err(Failure::Refused {
            part: "the data directory",
            source: Box::new(ForeignDirectory {
                path: path.to_owned(),
                found: membership.cluster,
                ours: secrets.cluster_id().to_owned(),
            }),
        }),
        _ => Ok(directory),
    }
}

fn settings(config: &Config, engine: Engine, secrets: &Secrets) -> Result<Settings, Failure> {
    Ok(Settings {
        name: config.name.clone(),
        cluster: secrets.cluster_id().to_owned(),
        trust_domain: config.trust_domain.clone(),
        advertise: Addresses {
            peers: config.advertise.peers.clone(),
            xds: config.advertise.xds.clone(),
            admin: config.advertise.admin.clone(),
        },
        peers: config.peers.clone(),
        bootstrap_expect: config.bootstrap_expect,
        join_token: config
            .join_token_file
            .as_deref()
            .map(read_token)
            .transpose()?,
        snapshot_every: config.snapshot_every,
        keep_log: config.keep_log,
        reserve: None,
        segment_bytes: Settings::SEGMENT_BYTES,
        timing: engine.timing,
        open_log: engine.open_log,
        on_failure: OnFailure(Arc::new(end_process)),
    })
}

pub(super) fn read_token(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|source| Failure::Read {
        path: path.to_owned(),
        remedy: "write a token there, as `maille token create --controller` printed it",
        source,
    })?;
    Ok(text.trim().to_owned())
}

/// What the kernel could not write it may have dropped: nothing that follows could be believed. A cluster that refuses this
/// controller ends it here too.
fn end_process(failure: &StoreError) {
    let text = failure.full_text();
    error!(failure = text, "ending at once");
    eprintln!("error: {text}");
    std::process::exit(match failure {
        StoreError::Refused(_) | StoreError::Foreign { .. } | StoreError::Damaged { .. } => {
            EXIT_REFUSED
        }
        _ => EXIT_VITAL_PART,
    });
}

fn refused(source: StoreError) -> Failure {
    Failure::Refused {
        part: "the data directory",
        source: Box::new(source),
    }
}

pub(super) fn failure(failure: RaftError) -> Failure {
    match failure {
        RaftError::Store(source) => refused(source),
        RaftError::Refused(_) => Failure::Refused {
            part: "the cluster",
            source: Box::new(failure),
        },
        _ => Failure::Start {
            part: "raft",
            source: Box::new(failure),
        },
    }
}

/// This controller's xDS clients, for the others.
#[derive(Debug)]
struct Roster {
    xds: Xds,
    loads: LoadReports,
}

impl RosterSource for Roster {
    fn proxies(&self) -> Vec<Proxy> {
        self.xds.proxies()
    }

    fn streams(&self) -> usize {
        self.xds.streams()
    }

    fn preview(&self, command: Command, index: u64) -> BoxFuture<'static, Result<Preview, Status>> {
        let xds = self.xds.clone();
        Box::pin(async move { xds.preview(command, index).await })
    }

    fn loads(&self, request: &LoadsRequest) -> Result<LoadsResponse, Status> {
        self.loads.look(request)
    }
}

//! A cluster of controllers' Raft in this process.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::model::command::{PutObject, WriteObjects};
use crate::model::{Applied, Command, Kind, Name, ObjectKey, Proposal, State};
use crate::peer_ca::{AdminCertificate, Grant, PeerTls, Secrets, init};
use crate::raft::{Addresses, OpenLog, Raft, Settings, Timing};
use crate::store::directory::Directory;
use crate::store::log::OnFailure;
use crate::store::media::Disk;
use crate::supervise::Supervisor;

/// How long a test waits for anything: generous, since machines are shared.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Settings of a test's controller.
pub(super) fn settings(name: &str, cluster: &str, expect: u32, peers: Vec<String>) -> Settings {
    Settings {
        name: name.to_owned(),
        cluster: cluster.to_owned(),
        trust_domain: "mesh.local".to_owned(),
        advertise: Addresses {
            peers: "127.0.0.1:1".into(),
            xds: format!("{name}:4700"),
            admin: format!("{name}:4702"),
        },
        peers,
        bootstrap_expect: expect,
        join_token: None,
        snapshot_every: 10_000,
        keep_log: 5_000,
        reserve: Some(1),
        segment_bytes: 1 << 20,
        timing: Timing::default(),
        open_log: OpenLog::segments(),
        on_failure: OnFailure(Arc::new(|error| {
            eprintln!("raft failed: {}", error.full_text())
        })),
    }
}

/// Controllers by name, with their directories and addresses.
pub(super) struct Cluster {
    home: TempDir,
    secrets: PathBuf,
    pub(super) id: String,
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) change: Box<dyn Fn(&mut Settings) + Send + Sync>,
    pub(super) expect: u32,
}

pub(super) struct Node {
    pub(super) address: String,
    listener: Option<TcpListener>,
    pub(super) directory: PathBuf,
    pub(super) raft: Option<Raft>,
    pub(super) token: Option<String>,
}

impl Cluster {
    /// A cluster of controllers with these names, none of which runs yet.
    pub(super) fn new(names: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let admin = AdminCertificate {
            name: "ada".to_owned(),
            grant: Grant::everything(),
            directory: home.path().join("admin"),
            endpoints: vec!["127.0.0.1:4702".to_owned()],
        };
        let secrets = home.path().join("secrets");
        init(&secrets, "mesh.local", &admin, None).unwrap();
        let id = Secrets::load(&secrets).unwrap().cluster_id().to_owned();
        let mut cluster = Self {
            home,
            secrets,
            id,
            nodes: BTreeMap::new(),
            change: Box::new(|_| ()),
            expect: names.len() as u32,
        };
        for name in names {
            cluster.add(name);
        }
        cluster
    }

    /// A cluster of three that has a leader.
    pub(super) async fn of_three(change: impl Fn(&mut Settings) + Send + Sync + 'static) -> Self {
        let mut cluster = Self::new(&["c1", "c2", "c3"]);
        cluster.change = Box::new(change);
        for name in ["c1", "c2", "c3"] {
            cluster.start(name).await;
        }
        cluster.settled().await;
        cluster
    }

    pub(super) fn path(&self) -> &Path {
        self.home.path()
    }

    /// Another controller, not started.
    pub(super) fn add(&mut self, name: &str) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let node = Node {
            address: listener.local_addr().unwrap().to_string(),
            listener: Some(listener),
            directory: self.home.path().join(name),
            raft: None,
            token: None,
        };
        self.nodes.insert(name.to_owned(), node);
    }

    pub(super) async fn start(&mut self, name: &str) {
        let peers = self
            .nodes
            .values()
            .map(|node| node.address.clone())
            .collect();
        let mut settings = settings(name, &self.id, self.expect, peers);
        (self.change)(&mut settings);
        let node = self.nodes.get_mut(name).unwrap();
        settings.advertise.peers = node.address.clone();
        settings.join_token = node.token.clone();
        let listener = match node.listener.take() {
            Some(listener) => listener,
            None => bind_again(&node.address).await,
        };
        let directory = open_again(&node.directory).await;
        let secrets = Secrets::load(&self.secrets).unwrap();
        let tls = PeerTls::new(&secrets, &self.secrets, name, &directory.id().to_string()).unwrap();
        let stage = Supervisor::new().stage("raft");
        node.raft = Some(
            Raft::start(settings, directory, listener, &tls, stage)
                .await
                .unwrap(),
        );
    }

    /// Ends a controller; `abrupt`: without handing leadership over.
    pub(super) async fn stop(&mut self, name: &str, abrupt: bool) {
        let raft = self.nodes.get_mut(name).unwrap().raft.take().unwrap();
        raft.stop(abrupt).await;
    }

    /// Ends a controller in the middle of everything, as `kill -9` does: its connections break.
    pub(super) fn crash(&mut self, name: &str) {
        let raft = self.nodes.get_mut(name).unwrap().raft.take().unwrap();
        let runtime = raft.0.runtime.lock().unwrap().take();
        runtime.unwrap().shutdown_background();
    }

    pub(super) fn raft(&self, name: &str) -> Raft {
        self.nodes[name].raft.clone().unwrap()
    }

    pub(super) fn running(&self) -> impl Iterator<Item = (&String, &Raft)> {
        self.nodes
            .iter()
            .filter_map(|(name, node)| node.raft.as_ref().map(|raft| (name, raft)))
    }

    /// The leader that all running controllers agree on.
    pub(super) async fn leader(&self) -> String {
        let found = until("one leader", || {
            let names: Vec<String> = self
                .running()
                .map(|(_, raft)| raft.status().leader)
                .collect();
            let first = names.first()?.clone();
            let is_agreed = !first.is_empty()
                && self.nodes.contains_key(&first)
                && names.iter().all(|name| *name == first);
            is_agreed.then_some(first)
        });
        found.await
    }

    /// Waits until the cluster has a name, every running controller is described, and all have applied the same.
    pub(super) async fn settled(&self) {
        until("every controller to be described", || {
            let count = self.running().count();
            let mut states = self
                .running()
                .map(|(_, raft)| raft.state().borrow().clone());
            states
                .all(|state| !state.cluster_id().is_empty() && state.members().len() >= count)
                .then_some(())
        })
        .await;
        self.leader().await;
    }

    /// Waits until all running controllers have applied at least this entry, and compares their states.
    pub(super) async fn equal_states(&self, index: u64) -> Arc<State> {
        until("equal states", || {
            let states: Vec<_> = self
                .running()
                .map(|(_, raft)| raft.state().borrow().clone())
                .collect();
            let first = states.first()?.clone();
            let is_equal = states
                .iter()
                .all(|state| state.log_index() >= index && state.log_index() == first.log_index());
            if !is_equal {
                return None;
            }
            for state in &states {
                assert_eq!(
                    state.hash(),
                    first.hash(),
                    "one log, two meshes at entry {}",
                    state.log_index()
                );
            }
            Some(first)
        })
        .await
    }
}

/// Asks until there is an answer; panics with what it waited for.
pub(super) async fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "waited {PATIENCE:?} for {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn bind_again(address: &str) -> TcpListener {
    until("the port to be free", || TcpListener::bind(address).ok()).await
}

async fn open_again(path: &Path) -> Arc<Directory> {
    until("the directory to be free", || {
        Directory::open(path, Arc::new(Disk)).ok().map(Arc::new)
    })
    .await
}

/// A write of a service with this name, by a writer of its own.
pub(super) fn write(name: &str) -> Proposal {
    let json = format!(
        r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{name}","namespace":"default"}},"spec":{{"ports":[{{"port":80}}],"selector":{{"app":"{name}"}}}}}}"#
    );
    let put = PutObject {
        key: ObjectKey::new(Kind::Service, Name::new("default", name)),
        json,
        expected: None,
    };
    Proposal {
        author: "test".into(),
        client: format!("writer of {name}"),
        sequence: 1,
        time_millis: 0,
        command: Command::WriteObjects(WriteObjects {
            puts: vec![put],
            deletes: vec![],
        }),
    }
}

/// Writes and expects it to be done.
pub(super) async fn written(raft: &Raft, name: &str) -> Applied {
    let applied = raft
        .propose(write(name))
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(applied.refusal, None, "{name}");
    applied
}

pub(super) fn has(state: &State, name: &str) -> bool {
    let key = ObjectKey::new(Kind::Service, Name::new("default", name));
    state.mesh().stored(&key).is_some()
}

//! The client against a fake control plane: what it asks, what becomes usable when, what a restart keeps.
#![allow(clippy::unwrap_used)]

mod messages;

pub(crate) use messages::*;

use super::{Answer, Settings, Workload, Xds, start};
use crate::controllers::Controllers;
use crate::fakes::{Authority, Controller, TRUST_DOMAIN, eventually, front, front_on, spiffe};
use crate::identity::{self, Identity, Stored};
use crate::snapshot::{Directory, Resolution, Snapshot};
use crate::supervise::{Tasks, tasks};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use xds_api::delta::Verdict;
use xds_api::maille::v1::Upstream;
use xds_api::testing::FakeServer;
use xds_api::type_url::TypeUrl;

const OUT: &str = "out/240.0.0.1:80";
const PORT: &str = "shop/api:80";

/// A control plane, a certificate and a data directory that outlive proxies.
pub(crate) struct World {
    pub(crate) server: FakeServer,
    front: Controller,
    authority: Authority,
    directory: tempfile::TempDir,
}

/// One life of a proxy.
pub(crate) struct Life {
    pub(crate) xds: Xds,
    pub(crate) identity: Identity,
    tasks: Tasks,
}

impl World {
    pub(crate) async fn new() -> Self {
        let authority = Authority::new();
        let directory = tempfile::tempdir().unwrap();
        let credentials = authority.credentials(&spiffe("shop", "web"));
        Stored::new(directory.path()).save(&credentials).unwrap();
        let server = FakeServer::start().await.unwrap();
        let front = front(authority.controller(), server.address()).await;
        let world = Self {
            server,
            front,
            authority,
            directory,
        };
        let inbound = inbound(&spiffe("shop", "web"), Vec::new());
        world.server.set("in/shop/web-1", &inbound);
        world
    }

    /// A service whose closure is complete.
    pub(crate) fn service(&self) {
        self.server.set(PORT, &cluster(PORT));
        self.server.set(PORT, &endpoints(PORT, &["10.0.0.1:8080"]));
        self.server.set(OUT, &http_listener(OUT, PORT));
        self.server.set(PORT, &routes(PORT, PORT));
    }

    fn controllers(&self) -> Controllers {
        Controllers::new(vec![self.front.host_port()])
    }

    fn identity(&self, snapshots: watch::Receiver<Arc<Snapshot>>, tasks: &Tasks) -> Identity {
        let settings = identity::Settings {
            controllers: self.controllers(),
            joining: crate::identity::Joining::Once(None),
            trust_domain: Some(TRUST_DOMAIN.into()),
            namespace: "shop".into(),
            service_account: None,
            workload: "shop/web-1".into(),
            directory: self.directory.path().to_owned(),
        };
        identity::start(settings, snapshots, tasks).unwrap()
    }

    pub(crate) fn start(&self) -> Life {
        let (tasks, _) = tasks();
        let (publish, snapshots) = watch::channel(Arc::new(Snapshot::default()));
        let settings = Settings {
            controllers: self.controllers(),
            workload: Workload {
                namespace: "shop".into(),
                name: "web-1".into(),
                locality: "eu/a".into(),
            },
            directory: self.directory.path().to_owned(),
        };
        let identity = self.identity(snapshots, &tasks);
        let xds = start(settings, identity.clone(), publish, &tasks);
        Life {
            xds,
            identity,
            tasks,
        }
    }

    /// Waits until what is on disk has this many bytes or more than it had, and is quiet.
    async fn stored(&self, index: u64) {
        let disk = super::disk::Disk::new(self.directory.path());
        let loaded = || {
            let saved = disk.load(&spiffe("shop", "web"), 0).ok()??;
            (saved.version.index >= index).then_some(())
        };
        eventually("the configuration on disk", loaded).await;
    }

    fn refusal(&self) -> Option<String> {
        let verdicts = self.server.verdicts();
        let refusal = |(_, verdict): &(TypeUrl, Verdict)| match verdict {
            Verdict::Rejected(text) => Some(text.clone()),
            Verdict::Accepted => None,
        };
        verdicts.borrow().iter().find_map(refusal)
    }
}

impl Life {
    /// Calls the world's service, so that all of it is known.
    pub(crate) async fn call(&self) {
        assert!(matches!(
            self.resolve(OUT, SOON).await,
            Resolution::Found(_)
        ));
        self.until("the policy", |now| now.inbound.is_some()).await;
    }

    /// Waits for a snapshot that passes.
    async fn until(&self, what: &str, passes: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let mut snapshots = self.xds.snapshots().clone();
        let found = snapshots.wait_for(|snapshot| passes(snapshot));
        let found = tokio::time::timeout(Duration::from_secs(10), found).await;
        let found = found.unwrap_or_else(|_| panic!("{what}: not in ten seconds"));
        Arc::clone(&found.unwrap())
    }

    async fn resolve(&self, name: &str, limit: Duration) -> Resolution {
        self.xds.resolve(name, Instant::now() + limit).await
    }
}

const SOON: Duration = Duration::from_secs(10);
pub(crate) const MOMENT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn nothing_is_known_before_the_first_answer_and_then_the_inbound_policy_is() {
    let world = World::new().await;
    let life = world.start();
    assert!(life.xds.current().inbound.is_none());
    let snapshot = life.until("the policy", |now| now.inbound.is_some()).await;
    let version = world.server.version();
    assert_eq!(
        (snapshot.incarnation, snapshot.index),
        (version.incarnation, version.index)
    );
    let first = &world.server.requests()[0];
    assert_eq!(first.type_url, TypeUrl::Listener.as_str());
    let node = first.node.as_ref().unwrap();
    assert_eq!(
        (node.id.as_str(), node.cluster.as_str()),
        ("shop/web-1", "web")
    );
}

#[tokio::test]
async fn a_name_is_found_with_all_that_it_reaches() {
    let world = World::new().await;
    world.service();
    let life = world.start();
    let Resolution::Found(listener) = life.resolve(OUT, SOON).await else {
        panic!("not found");
    };
    assert_eq!(listener.routes.as_deref(), Some(PORT));
    let snapshot = life.xds.current();
    assert_eq!(snapshot.endpoints[PORT].endpoints.len(), 1);
    assert!(snapshot.clusters.contains_key(PORT) && snapshot.routes.contains_key(PORT));
}

#[tokio::test]
async fn a_missing_name_is_told_so_and_found_once_it_exists() {
    let world = World::new().await;
    let life = world.start();
    assert!(matches!(life.resolve(OUT, SOON).await, Resolution::Missing));
    assert!(matches!(
        life.resolve(OUT, MOMENT).await,
        Resolution::Missing
    ));
    world.service();
    life.until("the listener", |now| now.listeners.contains_key(OUT))
        .await;
    assert!(matches!(
        life.resolve(OUT, MOMENT).await,
        Resolution::Found(_)
    ));
}

#[tokio::test]
async fn a_listener_is_not_usable_before_its_closure_is_complete() {
    let world = World::new().await;
    world.server.set(PORT, &cluster(PORT));
    world.server.set(OUT, &http_listener(OUT, PORT));
    world.server.set(PORT, &routes(PORT, PORT));
    let life = world.start();
    life.until("the cluster", |now| now.clusters.contains_key(PORT))
        .await;
    assert!(matches!(
        life.resolve(OUT, MOMENT).await,
        Resolution::Unavailable
    ));
    world.server.set(PORT, &endpoints(PORT, &["10.0.0.1:8080"]));
    assert!(matches!(
        life.resolve(OUT, SOON).await,
        Resolution::Found(_)
    ));
}

#[tokio::test]
async fn a_listener_keeps_its_old_form_while_the_new_one_is_not_complete() {
    let world = World::new().await;
    world.service();
    let life = world.start();
    assert!(matches!(
        life.resolve(OUT, SOON).await,
        Resolution::Found(_)
    ));
    world.server.set(OUT, &http_listener(OUT, "shop/other:80"));
    let index = world.server.version().index;
    let snapshot = life.until("the change", |now| now.index >= index).await;
    assert_eq!(snapshot.listeners[OUT].routes.as_deref(), Some(PORT));
    world
        .server
        .set("shop/other:80", &routes("shop/other:80", PORT));
    let moved = |now: &Snapshot| now.listeners[OUT].routes.as_deref() == Some("shop/other:80");
    life.until("the new form", moved).await;
}

#[tokio::test]
async fn what_is_not_understood_is_refused_by_field_and_the_rest_is_taken() {
    let world = World::new().await;
    let mut bad = cluster("shop/bad:80");
    bad.connect_timeout = None;
    world.server.set("shop/bad:80", &bad);
    world.service();
    let life = world.start();
    life.until("the good one", |now| now.clusters.contains_key(PORT))
        .await;
    let refusal = eventually("a NACK", || world.refusal()).await;
    assert_eq!(refusal, "CDS \"shop/bad:80\": connect_timeout: is missing");
    assert!(!life.xds.current().clusters.contains_key("shop/bad:80"));
    let status = life.xds.status().borrow().clone();
    assert_eq!(status.last_refusal.as_deref(), Some(refusal.as_str()));
}

#[tokio::test]
async fn a_policy_for_somebody_else_is_refused() {
    let world = World::new().await;
    world.server.set(
        "in/shop/web-1",
        &inbound(&spiffe("shop", "api"), Vec::new()),
    );
    let life = world.start();
    let refusal = eventually("a NACK", || world.refusal()).await;
    assert!(
        refusal.contains("sa/api is meant, this proxy is"),
        "{refusal}"
    );
    assert!(life.xds.current().inbound.is_none());
}

#[tokio::test]
async fn a_removed_policy_stays_in_force() {
    let world = World::new().await;
    let life = world.start();
    life.until("the policy", |now| now.inbound.is_some()).await;
    world.server.remove(TypeUrl::Listener, "in/shop/web-1");
    let index = world.server.version().index;
    let snapshot = life.until("the removal", |now| now.index >= index).await;
    assert!(snapshot.inbound.is_some());
}

#[tokio::test]
async fn explicit_upstreams_are_asked_for_before_anybody_calls_them() {
    let world = World::new().await;
    let name = "out/api.shop:80";
    world.service();
    world.server.set(name, &tcp_listener(name, PORT));
    let upstream = Upstream {
        listen: "127.0.0.1:9001".into(),
        namespace: "shop".into(),
        service: "api".into(),
        port: 80,
    };
    let policy = inbound(&spiffe("shop", "web"), vec![upstream]);
    world.server.set("in/shop/web-1", &policy);
    let life = world.start();
    life.until("the upstream", |now| now.listeners.contains_key(name))
        .await;
}

#[tokio::test]
async fn a_host_is_found_for_dns() {
    let world = World::new().await;
    world.server.set("host/api.shop", &host(&["240.0.0.1"]));
    let life = world.start();
    let Answer::Found(host) = life.xds.host("api.shop", Instant::now() + SOON).await else {
        panic!("not found");
    };
    assert_eq!(host.ttl_seconds, 7);
    let missing = life.xds.host("db.shop", Instant::now() + SOON).await;
    assert_eq!(missing, Answer::Missing);
}

#[tokio::test]
async fn a_restart_without_controllers_serves_and_a_reconnect_sends_nothing_again() {
    let mut world = World::new().await;
    world.service();
    let life = world.start();
    assert!(matches!(
        life.resolve(OUT, SOON).await,
        Resolution::Found(_)
    ));
    world.stored(world.server.version().index).await;
    life.tasks.stop().await;
    let front_address = world.front.address;
    let dead = "127.0.0.1:1".parse().unwrap();
    world.front = front(world.authority.controller(), dead).await;

    let life = world.start();
    assert!(life.xds.current().inbound.is_some());
    assert!(matches!(
        life.resolve(OUT, MOMENT).await,
        Resolution::Found(_)
    ));
    assert!(matches!(
        life.resolve("out/240.9.9.9:80", MOMENT).await,
        Resolution::Unavailable
    ));
    life.tasks.stop().await;

    assert_ne!(front_address, world.front.address);
    world.front = front(world.authority.controller(), world.server.address()).await;
    let before = world.server.requests().len();
    let life = world.start();
    let connected = || life.xds.status().borrow().controller.clone();
    eventually("a stream", connected).await;
    let requests = eventually("all types", || {
        let requests = world.server.requests().split_off(before);
        (requests.len() >= 4).then_some(requests)
    });
    let requests = requests.await;
    let held = requests
        .iter()
        .map(|request| request.initial_resource_versions.len());
    assert_eq!(held.sum::<usize>(), 5, "{requests:?}");
    let metadata = requests[0]
        .node
        .as_ref()
        .unwrap()
        .metadata
        .as_ref()
        .unwrap();
    assert!(metadata.fields.contains_key("incarnation"));
}

#[tokio::test]
async fn a_damaged_configuration_is_not_used() {
    let world = World::new().await;
    let life = world.start();
    life.until("the policy", |now| now.inbound.is_some()).await;
    world.stored(1).await;
    life.tasks.stop().await;
    let path = world.directory.path().join("configuration");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    drop(world.server);
    let (publish, snapshots) = watch::channel(Arc::new(Snapshot::default()));
    let (tasks, _) = tasks();
    let settings = Settings {
        controllers: Controllers::new(vec!["127.0.0.1:1".parse().unwrap()]),
        workload: Workload {
            namespace: "shop".into(),
            name: "web-1".into(),
            locality: String::new(),
        },
        directory: world.directory.path().to_owned(),
    };
    let identity = identity::start(
        identity::Settings {
            controllers: settings.controllers.clone(),
            joining: crate::identity::Joining::Once(None),
            trust_domain: None,
            namespace: "shop".into(),
            service_account: None,
            workload: "shop/web-1".into(),
            directory: world.directory.path().to_owned(),
        },
        snapshots,
        &tasks,
    );
    let xds = start(settings, identity.unwrap(), publish, &tasks);
    assert!(xds.current().inbound.is_none());
}

#[tokio::test]
async fn a_controller_that_is_behind_is_not_listened_to() {
    let world = World::new().await;
    let life = world.start();
    life.until("the policy", |now| now.inbound.is_some()).await;
    let seen = life.xds.current().index;
    let address = world.front.stop().await;
    // The same incarnation at index 1, with nothing in it.
    let behind = FakeServer::start().await.unwrap();
    let tls = world.authority.controller();
    let _front = front_on(address, tls, behind.address()).await;
    let refused = || {
        let error = life.xds.status().borrow().last_error.clone()?;
        error.contains("behind").then_some(error)
    };
    let error = eventually("a refusal", refused).await;
    assert!(error.contains("1.1, behind 1.2"), "{error}");
    assert_eq!(life.xds.current().index, seen);
    assert!(life.xds.current().inbound.is_some());
}

#[tokio::test]
async fn another_incarnation_is_followed_from_its_beginning() {
    let world = World::new().await;
    let life = world.start();
    life.until("the policy", |now| now.inbound.is_some()).await;
    world.server.restore();
    world.service();
    let address = world.front.stop().await;
    let tls = world.authority.controller();
    let _front = front_on(address, tls, world.server.address()).await;
    let version = world.server.version();
    let snapshot = life.until("the new life", |now| now.incarnation == version.incarnation);
    assert!(snapshot.await.inbound.is_some());
    assert!(matches!(
        life.resolve(OUT, SOON).await,
        Resolution::Found(_)
    ));
}

/// A file that version 1 wrote. It must be readable for as long as version 1 is.
#[test]
fn the_stored_configuration_of_a_released_version_can_be_read() {
    use super::disk::{Disk, Owner};
    use super::state::State;
    let golden = include_bytes!("golden/configuration.v1");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("configuration");
    std::fs::write(&path, golden).unwrap();
    let disk = Disk::new(directory.path());
    let identity: Arc<str> = spiffe("shop", "web").into();
    let saved = disk.load(&identity, 1_000).unwrap().unwrap();
    assert_eq!(saved.version.to_string(), "1.6");
    let mut state = State::new(identity.clone(), "in/shop/web-1".into(), "roots/x".into());
    state.restore(saved.version, saved.resources);
    let snapshot = state.snapshot();
    assert!(snapshot.inbound.is_some() && snapshot.listeners.contains_key(OUT));
    let not_after = 2_000;
    let owner = Owner {
        identity,
        not_after,
    };
    disk.store(&Disk::encode(&owner, saved.version, state.held()))
        .unwrap();
    let written = std::fs::read(&path).unwrap();
    assert_eq!(written, golden, "the format changed; give it a new version");
    assert!(
        disk.load(&spiffe("shop", "web"), 2_000).is_err(),
        "it ends with its certificate"
    );
    assert!(
        disk.load(&spiffe("shop", "api"), 1_000).is_err(),
        "it is somebody else's"
    );
}

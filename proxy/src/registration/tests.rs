//! The lease against a fake controller: what it is told, and when.
#![allow(clippy::unwrap_used)]

use super::{Registration, Settings, start};
use crate::config::Config;
use crate::controllers::Controllers;
use crate::fakes::{Authority, Caller, Controller, eventually, serve, spiffe};
use crate::health::{Health, PortHealth};
use crate::identity::{self, Stored};
use crate::snapshot::{Inbound, InboundPort, Mtls, Protocol, Snapshot};
use crate::supervise::{Tasks, tasks};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use xds_api::maille::v1::registration_server::{Registration as Service, RegistrationServer};
use xds_api::maille::v1::{
    Mesh, RegisterRequest, RegisterResponse, RenewRequest, RenewResponse, WithdrawRequest,
    WithdrawResponse,
};

/// Writes down what it is told.
#[derive(Default)]
struct Fake {
    told: Mutex<Vec<String>>,
    /// The next renewal is answered with this.
    lost: Mutex<bool>,
    /// The next registration is not answered.
    deaf: Mutex<bool>,
    /// The number of the last write.
    sequence: Mutex<u64>,
}

impl Fake {
    fn note(&self, what: String) {
        self.told.lock().unwrap().push(what);
    }

    fn numbered(&self, sequence: u64) {
        let before = std::mem::replace(&mut *self.sequence.lock().unwrap(), sequence);
        assert!(sequence > before, "{sequence} comes after {before}");
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

#[tonic::async_trait]
impl Service for Fake {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        let caller = request.extensions().get::<Caller>().unwrap().0.clone();
        let message = request.into_inner();
        self.numbered(message.sequence);
        if std::mem::take(&mut *self.deaf.lock().unwrap()) {
            self.note("unheard".into());
            return Err(Status::unavailable("the controller is gone"));
        }
        let instance = message.instance.unwrap();
        let ports = instance.ports.iter();
        let ports: Vec<_> = ports
            .map(|one| format!("{} {:?}", one.port, one.health()))
            .collect();
        let (namespace, name) = (instance.namespace, instance.name);
        let caller = caller.unwrap_or_default();
        let mesh = Mesh::try_from(instance.mesh).unwrap();
        assert_eq!((mesh, instance.mesh_port), (Mesh::Envoy, 4743));
        self.note(format!(
            "register {namespace}/{name} by {caller}: {}",
            ports.join(", ")
        ));
        Ok(Response::new(RegisterResponse {
            lease_seconds: 3,
            index: 5,
        }))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        self.note("renew".into());
        if std::mem::take(&mut *self.lost.lock().unwrap()) {
            return Err(Status::not_found("the lease has ended"));
        }
        Ok(Response::new(RenewResponse { lease_seconds: 3 }))
    }

    async fn withdraw(
        &self,
        request: Request<WithdrawRequest>,
    ) -> Result<Response<WithdrawResponse>, Status> {
        let message = request.into_inner();
        self.numbered(message.sequence);
        self.note(format!("withdraw {}", message.name));
        Ok(Response::new(WithdrawResponse { index: 6 }))
    }
}

struct World {
    fake: Arc<Fake>,
    health: watch::Sender<PortHealth>,
    registration: Registration,
    tasks: Tasks,
    _controller: Controller,
    _directory: tempfile::TempDir,
}

async fn world() -> World {
    world_told(None).await
}

async fn world_told(told: Option<watch::Receiver<Arc<Snapshot>>>) -> World {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let credentials = authority.credentials(&spiffe("shop", "web"));
    Stored::new(directory.path()).save(&credentials).unwrap();
    let fake = Arc::new(Fake::default());
    let routes = Routes::new(RegistrationServer::from_arc(fake.clone()));
    let controller = serve(authority.controller(), routes).await;
    let controllers = Controllers::new(vec![controller.host_port()]);
    let text = "controllers: [c1:4700]\nworkload: {namespace: shop, name: web-1, addresses: [10.0.0.1], ports: [{port: 80}, {port: 81, health: {}}]}";
    let config: Arc<Config> = Arc::new(text.parse().unwrap());
    let (tasks, _) = tasks();
    let settings = identity::Settings {
        controllers: controllers.clone(),
        joining: crate::identity::Joining::Once(None),
        trust_domain: None,
        namespace: "shop".into(),
        service_account: None,
        workload: config.workload.node(),
        directory: directory.path().to_owned(),
    };
    let (_, snapshots) = watch::channel(Arc::new(Snapshot::default()));
    let identity = identity::start(settings, snapshots, &tasks).unwrap();
    let ports = [(80, Health::Healthy), (81, Health::Unknown)];
    let (health, receiver) = watch::channel(PortHealth::from(ports));
    let settings = Settings {
        controllers,
        config,
        mesh: Mesh::Envoy,
        told,
    };
    World {
        registration: start(settings, identity, receiver, &tasks),
        fake,
        health,
        tasks,
        _controller: controller,
        _directory: directory,
    }
}

const FIRST: &str =
    "register shop/web-1 by spiffe://mesh.test/ns/shop/sa/web: 80 Healthy, 81 Unknown";

#[tokio::test]
async fn a_workload_is_registered_kept_and_withdrawn() {
    let world = world().await;
    let renewed = || (world.fake.told().len() >= 2).then_some(());
    eventually("a renewal", renewed).await;
    assert!(*world.registration.registered().borrow());
    assert_eq!(world.fake.told()[..2], [FIRST, "renew"]);
    assert!(world.registration.withdraw(Duration::from_secs(5)).await);
    assert_eq!(world.fake.told().last().unwrap(), "withdraw web-1");
    assert!(!*world.registration.registered().borrow());
    world.tasks.stop().await;
}

#[tokio::test]
async fn changed_health_is_told_at_once() {
    let world = world().await;
    eventually("the registration", || {
        (!world.fake.told().is_empty()).then_some(())
    })
    .await;
    world.health.send_modify(|all| {
        all.insert(81, Health::Unhealthy);
    });
    let told = || {
        let told = world.fake.told();
        told.into_iter()
            .find(|one| one.ends_with("80 Healthy, 81 Unhealthy"))
    };
    eventually("the change", told).await;
    world.tasks.stop().await;
}

#[tokio::test]
async fn changed_health_that_was_not_agreed_on_is_told_again() {
    let world = world().await;
    eventually("the registration", || {
        (!world.fake.told().is_empty()).then_some(())
    })
    .await;
    *world.fake.deaf.lock().unwrap() = true;
    world.health.send_modify(|all| {
        all.insert(81, Health::Unhealthy);
    });
    let after = || {
        let told = world.fake.told();
        let unheard = told.iter().position(|one| one == "unheard")?;
        told.get(unheard + 1).cloned()
    };
    let next = eventually("the next call", after).await;
    assert!(next.ends_with("80 Healthy, 81 Unhealthy"), "{next}");
    world.tasks.stop().await;
}

#[tokio::test]
async fn nothing_is_healthy_before_the_own_policy_is_there() {
    let (snapshot, told) = watch::channel(Arc::new(Snapshot::default()));
    let world = world_told(Some(told)).await;
    let first = || world.fake.told().first().cloned();
    let first = eventually("the registration", first).await;
    assert!(first.ends_with("80 Unknown, 81 Unknown"), "{first}");
    snapshot.send_modify(|snapshot| {
        Arc::make_mut(snapshot).inbound = Some(Arc::new(Inbound {
            namespace: "shop".into(),
            workload: "web-1".into(),
            identity: spiffe("shop", "web").into(),
            ports: Default::default(),
            default: Arc::new(InboundPort {
                protocol: Protocol::Detect,
                mtls: Mtls::Permissive,
                rules: Vec::new(),
                default_deny: false,
            }),
            upstreams: Vec::new(),
        }));
    });
    let healthy = || {
        let told = world.fake.told();
        told.into_iter()
            .find(|one| one.ends_with("80 Healthy, 81 Unknown"))
    };
    eventually("the health", healthy).await;
    world.tasks.stop().await;
}

#[tokio::test]
async fn a_lost_lease_is_registered_again() {
    let world = world().await;
    *world.fake.lost.lock().unwrap() = true;
    let again = || {
        let told = world.fake.told();
        (told.len() >= 3).then_some(told)
    };
    let told = eventually("a registration", again).await;
    assert_eq!(told[..3], [FIRST, "renew", FIRST]);
    world.tasks.stop().await;
}

#[tokio::test]
async fn a_withdrawal_that_nobody_hears_gives_up_at_its_limit() {
    let world = world().await;
    eventually("the registration", || {
        (!world.fake.told().is_empty()).then_some(())
    })
    .await;
    drop(world._controller);
    assert!(!world.registration.withdraw(Duration::from_millis(50)).await);
    world.tasks.stop().await;
}

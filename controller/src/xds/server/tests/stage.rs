//! A controller's xDS side over a log that the test writes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::InterceptorLayer;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use xds_api::maille::v1::LeaseId;
use xds_api::mesh_version::MeshVersion;
use xds_api::node::{Claim, NATIVE_AGENT};
use xds_api::testing::FakeClient;
use xds_api::type_url::TypeUrl;

use super::*;
use crate::agreement::AgreementError;
use crate::model::command::{HealthChange, ReportHealth};
use crate::model::tests::Log;
use crate::model::{Applied, Command, Kind, Name, Proposal};
use crate::pki::{Facts, Term};
use crate::supervise::Supervisor;
use crate::tls::{Caller, Link};
use crate::xds::LoadReports;
use crate::xds::translate::native::tests::sample;

pub(super) const WEB: &str = "spiffe://test.mesh/ns/shop/sa/web";

/// A log that the test writes, with or without a quorum.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) state: watch::Sender<Arc<State>>,
    pub(super) quorum: AtomicBool,
}

impl Agreement for Cluster {
    fn state(&self) -> watch::Receiver<Arc<State>> {
        self.state.subscribe()
    }

    fn leads(&self) -> watch::Receiver<bool> {
        watch::Sender::new(true).subscribe()
    }

    fn propose(&self, _: Proposal) -> BoxFuture<'static, Result<Applied, AgreementError>> {
        Box::pin(async {
            Err(AgreementError::Unavailable(
                "nothing is written here".to_owned(),
            ))
        })
    }

    fn read(&self) -> BoxFuture<'static, Result<Arc<State>, AgreementError>> {
        let quorum = self.quorum.load(Ordering::SeqCst);
        let state = self.state.borrow().clone();
        Box::pin(async move {
            if quorum {
                Ok(state)
            } else {
                Err(AgreementError::Unavailable("no leader".to_owned()))
            }
        })
    }

    fn renew_leases(&self, _: Vec<LeaseId>) -> BoxFuture<'static, Result<(), AgreementError>> {
        Box::pin(async { Ok(()) })
    }
}

/// A controller's xDS side on a loopback port.
pub(super) struct Stage {
    pub(super) log: Log,
    pub(super) cluster: Arc<Cluster>,
    pub(super) xds: Xds,
    pub(super) loads: LoadReports,
    address: SocketAddr,
    pub(super) supervisor: Supervisor,
}

impl Stage {
    /// A controller whose callers all have proved `identity`.
    pub(super) async fn start(identity: Option<&str>) -> Self {
        let log = sample();
        let cluster = Arc::new(Cluster {
            state: watch::Sender::new(Arc::new(log.state.clone())),
            quorum: AtomicBool::new(true),
        });
        let mut supervisor = Supervisor::new();
        let stage = supervisor.stage("xds");
        let xds = Xds::start(&stage, cluster.clone(), "c1", &Metrics::new());
        let loads = LoadReports::new(
            &stage,
            cluster.state(),
            "c1",
            Duration::from_secs(10),
            &Metrics::new(),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let caller = caller(identity);
        let link = Link::new(&stage.stopping());
        let identify = move |mut request: Request<()>| {
            request.extensions_mut().insert(caller.clone());
            request.extensions_mut().insert(link.clone());
            Ok::<_, Status>(request)
        };
        let server = tonic::transport::Server::builder()
            .layer(InterceptorLayer::new(identify))
            .add_routes(xds.add_to(Routes::default()).add_service(loads.server()));
        let stopping = stage.stopping();
        stage.task("serve", async move {
            let incoming = TcpListenerStream::new(listener);
            server
                .serve_with_incoming_shutdown(incoming, stopping.cancelled_owned())
                .await
                .unwrap();
        });
        Self {
            log,
            cluster,
            xds,
            loads,
            address,
            supervisor,
        }
    }

    pub(super) fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address))
            .unwrap()
            .connect_lazy()
    }

    pub(super) async fn connect(&self, client: &mut FakeClient) -> Result<(), Status> {
        client.reconnect(self.channel()).await
    }

    /// A connected client that wants what a proxy wants.
    pub(super) async fn proxy(&self, listeners: &[&str]) -> FakeClient {
        let mut client = FakeClient::new(claim().message());
        client
            .subscribe(TypeUrl::Listener, listeners)
            .await
            .unwrap();
        for kind in [TypeUrl::Cluster, TypeUrl::Endpoints, TypeUrl::Route] {
            client.subscribe_all(kind).await.unwrap();
        }
        self.connect(&mut client).await.unwrap();
        client
    }

    pub(super) fn set_health(&mut self, health: i32) {
        let change = HealthChange {
            name: Name::new("shop", "web-1"),
            generation: 1,
            port: 8080,
            health,
        };
        self.log
            .run(Command::ReportHealth(ReportHealth {
                changes: vec![change],
            }))
            .accepted()
            .unwrap();
        self.publish();
    }

    /// Puts an object of the namespace `shop`.
    pub(super) fn put(&mut self, yaml: &str) {
        let yaml = yaml.replace("metadata: {", "metadata: {namespace: shop, ");
        self.log.put(&yaml).accepted().unwrap();
        self.publish();
    }

    /// Deletes an object of the namespace `shop`.
    pub(super) fn delete(&mut self, kind: Kind, name: &str) {
        self.log.delete(kind, "shop", name).accepted().unwrap();
        self.publish();
    }

    fn publish(&self) {
        self.cluster
            .state
            .send_replace(Arc::new(self.log.state.clone()));
    }

    pub(super) fn version(&self) -> MeshVersion {
        let mesh = self.log.state.mesh();
        MeshVersion {
            incarnation: mesh.incarnation(),
            index: mesh.index(),
        }
    }

    /// Waits until the roster's one client stands as wanted.
    pub(super) async fn roster(&self, wanted: impl Fn(&Proxy) -> bool) -> Proxy {
        let limit = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let proxies = self.xds.proxies();
            if let [proxy] = &proxies[..]
                && wanted(proxy)
            {
                return proxy.clone();
            }
            assert!(
                tokio::time::Instant::now() < limit,
                "last seen: {proxies:?}"
            );
            tokio::task::yield_now().await;
        }
    }
}

fn caller(identity: Option<&str>) -> Caller {
    let facts = |identity: &str| {
        Arc::new(Facts {
            subject: String::new(),
            organization: String::new(),
            unit: String::new(),
            uris: vec![identity.to_owned()],
            serial: "01".to_owned(),
            term: Term {
                not_before: 0,
                not_after: 4_000_000_000,
            },
            is_ca: false,
            key_sha256: [0; 32],
            sha256: [0; 32],
        })
    };
    Caller {
        leaf: identity.map(facts),
        ..Caller::local(0)
    }
}

pub(super) fn claim() -> Claim {
    Claim {
        namespace: "shop".into(),
        workload: "web-1".into(),
        service_account: "web".into(),
        agent: NATIVE_AGENT.into(),
        agent_version: "1.2.3".into(),
        ..Claim::default()
    }
}

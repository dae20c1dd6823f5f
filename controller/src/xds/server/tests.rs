//! Streams over loopback, with the fake client of `xds-api`.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use xds_api::maille::v1::LeaseId;
use xds_api::mesh_version::MeshVersion;
use xds_api::node::{Claim, NATIVE_AGENT};
use xds_api::testing::FakeClient;
use xds_api::type_url::TypeUrl;

use super::*;
use crate::agreement::AgreementError;
use crate::model::command::{HealthChange, ReportHealth};
use crate::model::tests::Log;
use crate::model::{Applied, Command, Name, Proposal};
use crate::pki::{Facts, Term};
use crate::supervise::Supervisor;
use crate::tls::Caller;
use crate::xds::translate::native::tests::sample;

const WEB: &str = "spiffe://test.mesh/ns/shop/sa/web";

/// A log that the test writes, with or without a quorum.
#[derive(Debug)]
struct Cluster {
    state: watch::Sender<Arc<State>>,
    quorum: AtomicBool,
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

struct Stage {
    log: Log,
    cluster: Arc<Cluster>,
    xds: Xds,
    address: SocketAddr,
    supervisor: Supervisor,
}

impl Stage {
    /// A controller whose callers all have proved `identity`.
    async fn start(identity: Option<&str>) -> Self {
        let log = sample();
        let cluster = Arc::new(Cluster {
            state: watch::Sender::new(Arc::new(log.state.clone())),
            quorum: AtomicBool::new(true),
        });
        let mut supervisor = Supervisor::new();
        let stage = supervisor.stage("xds");
        let xds = Xds::start(&stage, cluster.clone(), "c1", &Metrics::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let caller = caller(identity);
        let identify = move |mut request: Request<()>| {
            request.extensions_mut().insert(caller.clone());
            Ok::<_, Status>(request)
        };
        let service = InterceptedService::new(xds.service(), identify);
        let server = tonic::transport::Server::builder().add_service(service);
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
            address,
            supervisor,
        }
    }

    fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address))
            .unwrap()
            .connect_lazy()
    }

    async fn connect(&self, client: &mut FakeClient) -> Result<(), Status> {
        client.reconnect(self.channel()).await
    }

    /// A connected client that wants what a proxy wants.
    async fn proxy(&self, listeners: &[&str]) -> FakeClient {
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

    fn set_health(&mut self, health: i32) {
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
        self.cluster
            .state
            .send_replace(Arc::new(self.log.state.clone()));
    }

    fn version(&self) -> MeshVersion {
        let mesh = self.log.state.mesh();
        MeshVersion {
            incarnation: mesh.incarnation(),
            index: mesh.index(),
        }
    }

    /// Waits until the roster's one client stands as wanted.
    async fn roster(&self, wanted: impl Fn(&Proxy) -> bool) -> Proxy {
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

fn claim() -> Claim {
    Claim {
        namespace: "shop".into(),
        workload: "web-1".into(),
        service_account: "web".into(),
        agent: NATIVE_AGENT.into(),
        agent_version: "1.2.3".into(),
        ..Claim::default()
    }
}

#[tokio::test]
async fn a_proxy_gets_its_closure_and_then_only_changes() {
    let mut stage = Stage::start(Some(WEB)).await;
    let mut client = stage.proxy(&["out/web.shop:80", "in/shop/web-1"]).await;
    let all = client.take_until(|state| {
        state.held(TypeUrl::Listener).len() == 2
            && state.held(TypeUrl::Route).len() == 1
            && state.held(TypeUrl::Endpoints).len() == 3
    });
    let all = all.await.unwrap();
    assert_eq!(all[0].version, stage.version().to_string());
    stage.set_health(2);
    let change = client.take().await.unwrap();
    assert_eq!(
        (change.kind, change.resources.len()),
        (TypeUrl::Endpoints, 1)
    );
    assert_eq!(change.version, stage.version().to_string());
    let index = stage.version().index;
    let proxy = stage.roster(|proxy| proxy.clean_through == index).await;
    assert_eq!(
        (
            proxy.node.as_str(),
            proxy.spiffe_id.as_str(),
            proxy.version.as_str()
        ),
        ("shop/web-1", WEB, "1.2.3")
    );
    assert_eq!((proxy.behind_seconds, proxy.resources), (0, 9));
    assert_eq!(
        usize::try_from(proxy.resource_bytes).unwrap(),
        client.resource_bytes()
    );
}

#[tokio::test]
async fn a_client_that_returns_is_sent_no_resource_again() {
    let stage = Stage::start(Some(WEB)).await;
    let mut client = stage.proxy(&["out/web.shop:80"]).await;
    client
        .take_until(|state| state.held(TypeUrl::Route).len() == 1)
        .await
        .unwrap();
    let before = client.resource_bytes();
    let other = Stage::start(Some(WEB)).await;
    let seen = Claim {
        view: Some(stage.version()),
        ..claim()
    };
    client.set_node(seen.message());
    other.connect(&mut client).await.unwrap();
    for _ in 0..3 {
        assert!(client.take().await.unwrap().resources.is_empty());
    }
    assert_eq!(client.resource_bytes(), before);
}

#[tokio::test]
async fn a_rejection_is_in_the_roster() {
    let stage = Stage::start(Some(WEB)).await;
    let mut client = stage.proxy(&["host/web.shop"]).await;
    let received = loop {
        let received = client.receive().await.unwrap();
        if received.kind == TypeUrl::Listener {
            break received;
        }
        client.accept(received).await.unwrap();
    };
    client.reject(received, "no such thing").await.unwrap();
    let proxy = stage.roster(|proxy| !proxy.last_nack.is_empty()).await;
    assert!(
        proxy.last_nack.contains("no such thing"),
        "{}",
        proxy.last_nack
    );
    assert_eq!(proxy.clean_through, 0);
    drop(client);
    let limit = tokio::time::Instant::now() + Duration::from_secs(10);
    while stage.xds.streams() > 0 {
        assert!(tokio::time::Instant::now() < limit, "the stream stays");
        tokio::task::yield_now().await;
    }
}

async fn check_refused(identity: Option<&str>, claim: Claim, code: Code, text: &str) {
    let stage = Stage::start(identity).await;
    let mut client = FakeClient::new(claim.message());
    client
        .subscribe(TypeUrl::Listener, &["in/shop/web-1"])
        .await
        .unwrap();
    let status = stage.connect(&mut client).await.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(text), "{status}");
    stage.supervisor.stop().await;
}

#[tokio::test]
async fn a_node_is_bound_to_its_certificate() {
    check_refused(None, claim(), Code::Unauthenticated, "certificate").await;
    let denied = Code::PermissionDenied;
    check_refused(
        Some("spiffe://test.mesh/admin/ann"),
        claim(),
        denied,
        "not a workload",
    )
    .await;
    check_refused(
        Some("spiffe://other/ns/shop/sa/web"),
        claim(),
        denied,
        "another trust domain",
    )
    .await;
    check_refused(
        Some("spiffe://test.mesh/ns/shop/sa/api"),
        claim(),
        denied,
        "cannot be",
    )
    .await;
    let api = Claim {
        service_account: "api".into(),
        ..claim()
    };
    check_refused(
        Some("spiffe://test.mesh/ns/shop/sa/api"),
        api,
        denied,
        "belongs to",
    )
    .await;
    let elsewhere = Claim {
        namespace: "other".into(),
        ..claim()
    };
    check_refused(Some(WEB), elsewhere, denied, "cannot be").await;
    let envoy = Claim {
        agent: "envoy".into(),
        ..claim()
    };
    check_refused(Some(WEB), envoy, Code::Unimplemented, "envoy").await;
    let nobody = Claim {
        workload: String::new(),
        ..claim()
    };
    check_refused(Some(WEB), nobody, Code::InvalidArgument, "node id").await;
}

#[tokio::test]
async fn a_client_that_has_seen_more_is_sent_elsewhere() {
    let future = Claim {
        view: Some(MeshVersion {
            incarnation: 7,
            index: 900,
        }),
        ..claim()
    };
    check_refused(Some(WEB), future, Code::Unavailable, "has seen 7.900").await;
}

#[tokio::test]
async fn without_quorum_only_a_client_with_nothing_is_served() {
    let stage = Stage::start(Some(WEB)).await;
    stage.cluster.quorum.store(false, Ordering::SeqCst);
    let mut fresh = stage.proxy(&["host/web.shop"]).await;
    fresh
        .take_until(|state| !state.held(TypeUrl::Listener).is_empty())
        .await
        .unwrap();
    let seen = Claim {
        view: Some(stage.version()),
        ..claim()
    };
    fresh.set_node(seen.message());
    let status = stage.connect(&mut fresh).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("keep what you have"), "{status}");
}

#[tokio::test]
async fn a_stopping_controller_ends_its_streams_with_a_status() {
    let stage = Stage::start(Some(WEB)).await;
    let mut client = stage.proxy(&["host/nope.shop"]).await;
    client.take().await.unwrap();
    stage.supervisor.stop().await;
    let status = loop {
        match client.take().await {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}

#[tokio::test]
async fn equal_meshes_have_equal_hashes() {
    let mut one = Stage::start(Some(WEB)).await;
    let two = Stage::start(Some(WEB)).await;
    let (index, before) = one.xds.resource_hashes();
    assert_eq!((index, before.clone()), two.xds.resource_hashes());
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        ["CDS", "ECDS", "EDS", "LDS", "RDS", "SDS"]
    );
    one.set_health(2);
    let mut published = one.xds.shared.published.subscribe();
    let wanted = one.version();
    published
        .wait_for(|published| published.version == wanted)
        .await
        .unwrap();
    let (_, after) = one.xds.resource_hashes();
    let changed: Vec<_> = before
        .keys()
        .filter(|kind| before[*kind] != after[*kind])
        .collect();
    assert_eq!(changed, ["EDS"]);
}

//! The mesh port of a host with two workloads: each answers for its own ports alone.
#![allow(clippy::unwrap_used)]

use crate::drain;
use crate::inbound::{Arrivals, Inbound, Settings};
use crate::metrics::Metrics;
use crate::net;
use crate::shared::{Process, Shared};
use crate::snapshot::Protocol;
use crate::supervise;
use crate::testing::Authority;
use crate::testing::apps::{LIMIT, mirror};
use crate::testing::pair::{Proxy, listener, served};
use crate::tls::{self, Form, Mesh, Socket, TlsError};
use crate::wire;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_rustls::client::TlsStream;

const WEB: &str = "spiffe://mesh.test/ns/demo/sa/web";
const API: &str = "spiffe://mesh.test/ns/demo/sa/api";

/// A host with `web` and `api`, each with one application; a stranger calls it.
struct Host {
    proxies: Vec<Proxy>,
    process: Metrics,
    ports: [u16; 2],
    mesh: SocketAddr,
    arrivals: Arc<Arrivals>,
    stranger: Mesh,
    _drain: drain::Drain,
}

impl Host {
    fn new() -> Self {
        let authority = Authority::new();
        let listener = listener();
        let mesh = listener.local_addr().unwrap();
        let (tasks, _) = supervise::tasks();
        let (drain, work) = drain::channel();
        let process = Process {
            metrics: Metrics::new(),
            tasks: tasks.clone(),
            work,
        };
        let applications = [mirror(), mirror()];
        let mut proxies = Vec::new();
        let mut inbounds = Vec::new();
        for (account, application) in ["web", "api"].into_iter().zip(applications) {
            let proxy = Proxy::new(&authority, account, served(Protocol::Http1));
            let settings = Settings {
                applications: HashMap::from([(application.port(), None)]),
                own: vec![mesh],
                several: true,
            };
            let shared: Shared = proxy.shared.clone();
            inbounds.push(Inbound::new(shared, settings));
            proxies.push(proxy);
        }
        let metrics = process.metrics.clone();
        let arrivals = Arrivals::new(process, vec![mesh], &inbounds);
        tasks.spawn(arrivals.clone().run(listener));
        Self {
            proxies,
            process: metrics,
            ports: applications.map(|application| application.port()),
            mesh,
            arrivals,
            stranger: authority.mesh("demo", "stranger"),
            _drain: drain,
        }
    }

    /// A connection for `port`, at which `expected` must answer.
    async fn call(
        &self,
        port: u16,
        expected: &str,
        form: Form,
    ) -> Result<TlsStream<Socket>, TlsError> {
        let client = self.stranger.client(&expected.into(), form).unwrap();
        let stream = net::connect(self.mesh, LIMIT).await.unwrap();
        tls::connect(client, port, stream, LIMIT).await
    }
}

/// The status of a request by `maille/1` for `port`.
async fn ask(tls: TlsStream<Socket>, method: Method, port: u16) -> StatusCode {
    let (mut send, connection) = h2::client::handshake(tls).await.unwrap();
    let driving = tokio::spawn(connection);
    let mut request = Request::new(());
    if method == Method::CONNECT {
        *request.uri_mut() = "maille".parse().unwrap();
        let tcp = HeaderValue::from_static("tcp");
        request.headers_mut().insert(wire::FORM, tcp);
    } else {
        *request.uri_mut() = "http://any/".parse().unwrap();
    }
    *request.method_mut() = method;
    request.headers_mut().insert(wire::PORT, port.into());
    std::future::poll_fn(|context| send.poll_ready(context))
        .await
        .unwrap();
    let (response, mut body) = send.send_request(request, false).unwrap();
    body.send_data(Bytes::new(), true).ok();
    let status = tokio::time::timeout(LIMIT, response).await.unwrap();
    driving.abort();
    status.unwrap().status()
}

#[tokio::test]
async fn each_port_is_answered_for_by_its_workload() {
    let host = Host::new();
    let [web, api] = host.ports;
    for (port, own, other) in [(web, WEB, API), (api, API, WEB)] {
        let tls = host.call(port, own, Form::Native).await.unwrap();
        assert_eq!(ask(tls, Method::GET, port).await, 200);
        let refused = host.call(port, other, Form::Native).await.unwrap_err();
        assert!(refused.to_string().contains(own), "{refused}");
    }
    let counted = host.proxies[1].count("maille_requests_total", &["stranger", "2xx"]);
    assert_eq!(counted, 1.0, "each counts its own");
}

#[tokio::test]
async fn a_connection_to_one_workload_never_reaches_anothers_port() {
    let host = Host::new();
    let [web, api] = host.ports;
    for method in [Method::GET, Method::CONNECT] {
        let tls = host.call(web, WEB, Form::Native).await.unwrap();
        assert_eq!(ask(tls, method, api).await, 403);
    }
    // A port that is nobody's is reached through neither.
    let tls = host.call(web, WEB, Form::Native).await.unwrap();
    assert_eq!(ask(tls, Method::GET, mirror().port()).await, 403);
    let refused = |proxy: &Proxy| proxy.count("maille_errors_total", &["another_workload"]);
    assert_eq!(refused(&host.proxies[0]), 3.0);
    let reached = host.proxies[1].count("maille_requests_total", &["inbound"]);
    assert_eq!(reached, 0.0, "the other workload was not asked");
}

#[tokio::test]
async fn what_is_for_nobodys_port_is_refused_and_counted() {
    let host = Host::new();
    let nobodys = mirror();
    let called = host.call(nobodys.port(), WEB, Form::Native).await;
    assert!(called.is_err(), "{called:?}");
    let accepting = listener();
    let (client, accepted) = tokio::join!(
        net::connect(accepting.local_addr().unwrap(), LIMIT),
        net::accept(&accepting)
    );
    // It was not redirected, and is not for the mesh port: what it was going to is its own address.
    host.arrivals.clone().serve(accepted.0).await;
    drop(client);
    let refused = [r#"direction="inbound""#, r#"reason="no_workload""#];
    let text = host.process.encode().unwrap();
    let line = text
        .lines()
        .find(|line| refused.iter().all(|part| line.contains(part)))
        .unwrap_or_else(|| panic!("{text}"));
    assert!(line.ends_with(" 1"), "{line}");
}

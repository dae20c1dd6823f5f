//! A small mesh for tests of what traffic meets: one controller, a caller whose sidecar has explicit listeners, and servers that answer with what
//! they saw.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::application::Application;
use crate::client::{self, Answer};
use crate::cluster::Cluster;
use crate::ports;
use crate::sidecar::{Kind, Plan, Sidecar};
use crate::wait;

/// The namespace of everything in it.
pub const NAMESPACE: &str = "shop";
/// Between registration and the first answer lie a health check and two pushes.
const REACHABLE_LIMIT: Duration = Duration::from_secs(20);

/// An application and its sidecar.
#[derive(Debug)]
pub struct Server {
    /// What answers.
    pub application: Application,
    /// What stands before it.
    pub sidecar: Sidecar,
}

/// The mesh. Everything ends when it is dropped.
#[derive(Debug)]
pub struct Mesh {
    /// The control plane.
    pub cluster: Cluster,
    /// Who calls.
    pub caller: Sidecar,
    /// Who answers, by name.
    pub servers: BTreeMap<String, Server>,
    answers: Kind,
    upstreams: Vec<(SocketAddr, String)>,
}

impl Mesh {
    /// Starts one with these servers; each has the label `app: <name>` and speaks what `protocol` says on port 80.
    ///
    /// # Errors
    /// A part of it does not become ready.
    pub async fn start(protocol: &str, servers: &[&str]) -> anyhow::Result<Mesh> {
        Mesh::of([Kind::Native; 2], protocol, servers).await
    }

    /// The same, where the caller's sidecar and the servers' are of given kinds.
    ///
    /// # Errors
    /// A part of it does not become ready.
    pub async fn of(
        [calls, answers]: [Kind; 2],
        protocol: &str,
        servers: &[&str],
    ) -> anyhow::Result<Mesh> {
        let cluster = Cluster::found(1).await?;
        let plan = Plan::caller(NAMESPACE, "caller").of(calls);
        let caller = Sidecar::start(&cluster, plan).await?;
        let mut mesh = Mesh {
            cluster,
            caller,
            servers: BTreeMap::new(),
            answers,
            upstreams: Vec::new(),
        };
        for name in servers {
            let plan = Plan::server(NAMESPACE, name, protocol, ports::free());
            mesh.server(plan).await?;
        }
        Ok(mesh)
    }

    /// Adds a server with a sidecar of the mesh's kind; its application listens where the plan says.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn server(&mut self, plan: Plan) -> anyhow::Result<()> {
        let plan = plan.of(self.answers);
        let name = plan.name.clone();
        let address = plan.ports.first().context("a server has a port")?.3;
        let application = Application::start_at(&name, address).await?;
        let sidecar = Sidecar::start(&self.cluster, plan).await?;
        self.servers.insert(
            name,
            Server {
                application,
                sidecar,
            },
        );
        Ok(())
    }

    /// A server by its name.
    ///
    /// # Panics
    /// Where there is none.
    pub fn application(&self, name: &str) -> &Application {
        &self
            .servers
            .get(name)
            .expect("the test named the server itself")
            .application
    }

    /// Writes objects and waits until every sidecar has acknowledged them.
    ///
    /// # Errors
    /// They are refused, or a sidecar lags.
    pub async fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        let index = self.cluster.apply(yaml).await?;
        self.settled(index).await
    }

    /// Waits until every sidecar has acknowledged all up to `index`.
    ///
    /// # Errors
    /// A sidecar lags.
    pub async fn settled(&self, index: u64) -> anyhow::Result<()> {
        self.caller.clean(&self.cluster, index).await?;
        for server in self.servers.values() {
            server.sidecar.clean(&self.cluster, index).await?;
        }
        Ok(())
    }

    /// Makes services that select workloads by `app`, each with one port 80 of `protocol`, and a listener at the caller for each; answers the listeners
    /// in the same order. Does not wait for endpoints.
    ///
    /// # Errors
    /// They are refused.
    pub async fn services(
        &mut self,
        protocol: &str,
        services: &[(&str, &str)],
    ) -> anyhow::Result<Vec<SocketAddr>> {
        let mut documents = Vec::new();
        let mut listeners = Vec::new();
        for (name, app) in services {
            documents.push(service(name, app, protocol));
            let listen = ports::free();
            self.upstreams.push((listen, (*name).to_owned()));
            listeners.push(listen);
        }
        documents.push(self.workload());
        let yaml: Vec<String> = documents
            .iter()
            .map(|document| format!("{document:#}"))
            .collect();
        self.apply(&yaml.join("\n---\n")).await?;
        Ok(listeners)
    }

    /// The caller's `Workload`: its explicit listeners.
    fn workload(&self) -> Value {
        let upstreams: Vec<_> = self
            .upstreams
            .iter()
            .map(|(listen, service)| json!({"listen": listen, "service": {"name": service, "port": 80}}))
            .collect();
        json!({
            "apiVersion": "maille.dev/v1alpha1", "kind": "Workload",
            "metadata": {"name": "caller", "namespace": NAMESPACE},
            "spec": {"serviceAccount": "caller", "upstreams": upstreams},
        })
    }

    /// One service with its listener, once it answers with 200.
    ///
    /// # Errors
    /// It is refused, or does not answer.
    pub async fn service(&mut self, name: &str, app: &str) -> anyhow::Result<SocketAddr> {
        let listen = self.services("http", &[(name, app)]).await?[0];
        answers(listen).await?;
        Ok(listen)
    }

    /// Deletes an object and waits until every sidecar has acknowledged it.
    ///
    /// # Errors
    /// It is refused, or a sidecar lags.
    pub async fn delete(&self, kind: &str, name: &str) -> anyhow::Result<()> {
        let request = xds_api::generated::maille::v1::DeleteRequest {
            kind: kind.into(),
            namespace: NAMESPACE.into(),
            name: name.into(),
            client: crate::cluster::writer(),
            sequence: 1,
            ..Default::default()
        };
        let index = self
            .cluster
            .any()
            .await?
            .delete(request)
            .await?
            .into_inner()
            .index;
        self.settled(index).await
    }
}

/// A `Service` with one port 80 that selects workloads by `app`.
pub fn service(name: &str, app: &str, protocol: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"app": app}, "ports": [{"name": "main", "port": 80, "appProtocol": protocol}]},
    })
}

/// An object of the test's namespace: its kind's `apiVersion` is found by the kind.
pub fn object(kind: &str, name: &str, spec: &Value) -> String {
    object_in(NAMESPACE, kind, name, spec)
}

/// The same of any namespace.
pub fn object_in(namespace: &str, kind: &str, name: &str, spec: &Value) -> String {
    let version = match kind {
        "Service" => "v1",
        "HTTPRoute" | "GRPCRoute" => "gateway.networking.k8s.io/v1",
        _ => "maille.dev/v1alpha1",
    };
    let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec});
    format!("{object:#}")
}

/// An `HTTPRoute` of a service.
pub fn route(service: &str, rules: &Value) -> String {
    object(
        "HTTPRoute",
        service,
        &json!({"parentRefs": [{"kind": "Service", "name": service}], "rules": rules}),
    )
}

/// A `TrafficPolicy` of a service; `spec` has no `targetRef`.
pub fn policy(service: &str, spec: &Value) -> String {
    let mut spec = spec.clone();
    spec["targetRef"] = json!({"name": service});
    object("TrafficPolicy", service, &spec)
}

/// A request as a line: `GET /path?query name=value name=value`. A value may not hold blanks.
///
/// # Errors
/// The line is no request.
pub fn request(line: &str) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut words = line.split_whitespace();
    let (method, path) = (
        words.next().context("a method")?,
        words.next().context("a path")?,
    );
    let mut request = Request::builder().method(method).uri(path);
    let mut host = "service.test";
    for word in words {
        let (name, value) = word.split_once('=').context("a header")?;
        if name == "host" {
            host = value;
        } else {
            request = request.header(name, value);
        }
    }
    Ok(request.header("host", host).body(Full::default())?)
}

/// Sends a line as `request` reads it.
///
/// # Errors
/// There is no answer.
pub async fn ask(listen: SocketAddr, line: &str) -> anyhow::Result<Answer> {
    client::send(listen, request(line)?)
        .await
        .with_context(|| line.to_owned())
}

/// Waits until a listener answers with 200.
///
/// # Errors
/// It does not.
pub async fn answers(listen: SocketAddr) -> anyhow::Result<()> {
    wait::until(&format!("{listen} answers"), REACHABLE_LIMIT, async || {
        let answer = ask(listen, "GET /").await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
        Ok::<_, anyhow::Error>(())
    })
    .await
}

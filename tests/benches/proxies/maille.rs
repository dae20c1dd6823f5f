//! Maille's pair, as `maille dev` runs it: three controllers, identity, authorization and metrics on, explicit listeners.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Context;
use maille_tests::cluster::Cluster;
use maille_tests::ports;
use maille_tests::process::Process;
use maille_tests::sidecar::{Plan, Sidecar};

use crate::pair::Pair;

/// How often a sidecar is started for the time until it is ready.
pub(crate) const STARTS: usize = 5;

/// The running mesh.
pub(crate) struct Maille {
    pub(crate) pair: Pair,
    /// Median, with a certificate on disk and a control plane at hand.
    pub(crate) ready_millis: f64,
    _cluster: Cluster,
    _sidecars: [Sidecar; 2],
}

/// Starts the mesh in front of `backend`, which serves both protocols.
pub(crate) async fn start(backend: SocketAddr) -> anyhow::Result<Maille> {
    let cluster = Cluster::found(3).await?;
    let mut plan = Plan::caller("bench", "server");
    for (name, port, protocol) in [("http1", 80, "http1"), ("grpc", 90, "grpc")] {
        plan.ports
            .push((name.into(), port, protocol.into(), backend));
    }
    let (http1, grpc) = (ports::free(), ports::free());
    cluster.apply(&objects(http1, grpc)).await?;
    let server = Sidecar::start(&cluster, plan).await?;
    let mut client = Sidecar::start(&cluster, Plan::caller("bench", "client")).await?;

    let mut times = Vec::new();
    for _ in 0..STARTS {
        client
            .process
            .take()
            .context("the client's sidecar runs")?
            .kill()
            .await?;
        let begin = Instant::now();
        client.restart().await?;
        client.ready().await?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);

    let mut pair = Pair::new("maille", http1, grpc);
    for sidecar in [&client, &server] {
        let pid = sidecar.process.as_ref().and_then(Process::pid);
        pair.watch(pid.context("a sidecar has ended")?);
    }
    Ok(Maille {
        pair,
        ready_millis: times[STARTS / 2],
        _cluster: cluster,
        _sidecars: [client, server],
    })
}

fn objects(http1: SocketAddr, grpc: SocketAddr) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{namespace: bench, name: server}}
spec:
  selector: {{app: server}}
  ports:
    - {{name: http1, port: 80, appProtocol: http}}
    - {{name: grpc, port: 90, appProtocol: grpc}}
---
apiVersion: maille.dev/v1alpha1
kind: Workload
metadata: {{namespace: bench, name: client}}
spec:
  upstreams:
    - {{listen: \"{http1}\", service: {{namespace: bench, name: server, port: 80}}}}
    - {{listen: \"{grpc}\", service: {{namespace: bench, name: server, port: 90}}}}
---
apiVersion: maille.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {{namespace: bench, name: server}}
spec:
  selector: {{matchLabels: {{app: server}}}}
  action: Allow
  rules:
    - from: [{{identities: [\"spiffe://mesh.test/ns/bench/sa/client\"]}}]
"
    )
}

//! Well-behaved clients: they acknowledge everything at once, and what they wait for is measured.

use std::time::{Duration, Instant};

use anyhow::Context;
use maille_tests::cluster::Cluster;
use maille_tests::identity;
use maille_tests::stream::{self, Stream};
use tokio::task::JoinSet;
use xds_api::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use xds_api::type_url::TypeUrl;

/// How many there are.
const COUNT: usize = 20;
/// What is given up after: a controller that does not serve them has failed the test.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) struct Neighbours {
    streams: Vec<Stream>,
    changes: usize,
}

impl Neighbours {
    pub(super) async fn open(cluster: &Cluster) -> anyhow::Result<Neighbours> {
        cluster.apply(&backend(0)).await?;
        cluster.apply(SERVICE).await?;
        let tls = identity::obtain(cluster, "bench", "client")
            .await?
            .tls(b"h2")?;
        let mut streams = Vec::new();
        for number in 0..COUNT {
            let server = cluster.controllers[0].address("xds");
            let mut stream = Stream::open(tls.clone(), server).await?;
            for request in opening(&format!("bench/client-{number}"), "client") {
                stream.send(&request)?;
            }
            endpoints(&mut stream).await?;
            streams.push(stream);
        }
        Ok(Neighbours {
            streams,
            changes: 0,
        })
    }

    /// Changes an endpoint; answers when the last of them has acknowledged it, from the write's call.
    pub(super) async fn round(&mut self, cluster: &Cluster) -> anyhow::Result<Duration> {
        self.changes += 1;
        let begin = Instant::now();
        cluster.apply(&backend(self.changes)).await?;
        let mut waiting = JoinSet::new();
        for mut stream in self.streams.drain(..) {
            waiting.spawn(async move {
                endpoints(&mut stream).await?;
                anyhow::Ok(stream)
            });
        }
        while let Some(stream) = waiting.join_next().await {
            self.streams.push(stream??);
        }
        Ok(begin.elapsed())
    }
}

/// Acknowledges what comes, until endpoints have come.
async fn endpoints(stream: &mut Stream) -> anyhow::Result<()> {
    let come = async {
        loop {
            let response = stream.response().await?;
            stream.send(&stream::ack(&response))?;
            let kind = TypeUrl::parse(&response.type_url);
            if kind == Some(TypeUrl::Endpoints) && !response.resources.is_empty() {
                return anyhow::Ok(());
            }
        }
    };
    let come = tokio::time::timeout(LIMIT, come).await;
    come.with_context(|| format!("no endpoints within {LIMIT:?}"))?
}

/// The first requests of a client that wants the service.
pub(super) fn opening(node: &str, account: &str) -> Vec<DeltaDiscoveryRequest> {
    let first = DeltaDiscoveryRequest {
        node: Some(stream::node(node, account)),
        ..stream::subscribe(TypeUrl::Listener, &["out/app.bench:80"])
    };
    let rest = [TypeUrl::Cluster, TypeUrl::Endpoints, TypeUrl::Route];
    let rest = rest.into_iter().map(|kind| stream::subscribe(kind, &[]));
    std::iter::once(first).chain(rest).collect()
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {namespace: bench, name: app}
spec:
  selector: {app: app}
  ports: [{name: http, port: 80, targetPort: 8080, appProtocol: http}]
";

/// A workload without a sidecar, at another address each time.
pub(super) fn backend(change: usize) -> String {
    let (high, low) = (change / 250, change % 250 + 1);
    format!(
        "
apiVersion: maille.dev/v1alpha1
kind: Workload
metadata: {{namespace: bench, name: app, labels: {{app: app}}}}
spec: {{addresses: [\"127.9.{high}.{low}\"]}}
"
    )
}

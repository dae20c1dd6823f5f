//! xDS clients of the test's own, of the native dialect: they note all that they are sent, and refuse what the test tells them to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rustls::ClientConfig;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use xds_api::envoy::config::core::v3::Node;
use xds_api::node::NATIVE_AGENT;
use xds_api::testing::FakeClient;
use xds_api::type_url::TypeUrl;

use crate::cluster::Cluster;
use crate::identity;

/// Between two tries to reach a controller, as any client backs off.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a stream may take to open before another controller is tried.
const OPEN_LIMIT: Duration = Duration::from_secs(2);
/// The service account of all of them.
const ACCOUNT: &str = "fleet";

/// One resource that came, or a name that went.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Came {
    /// Its type.
    pub kind: TypeUrl,
    /// Its name.
    pub name: String,
    /// Its bytes; `None`: it is not there any more.
    pub body: Option<Vec<u8>>,
}

type Notes = Arc<Mutex<Vec<Came>>>;

/// Clients `<namespace>/fleet-<number>`. Their streams end when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    namespace: String,
    notes: Vec<Notes>,
    switches: Vec<Arc<Notify>>,
    tasks: JoinSet<()>,
}

impl Fleet {
    /// So many clients, each at the next controller, each of one listener and all that it leads to. They refuse every resource in whose bytes this
    /// text stands.
    ///
    /// # Errors
    /// A stream cannot be opened, or does not bring the listener.
    pub async fn start(
        cluster: &Cluster,
        namespace: &str,
        count: usize,
        listener: &'static str,
        refused: &'static str,
    ) -> anyhow::Result<Fleet> {
        let places = (0..count).map(|number| number % cluster.controllers.len());
        Fleet::start_at(cluster, namespace, places, listener, refused).await
    }

    /// The same with a client at each of these controllers, by their places.
    ///
    /// # Errors
    /// As [`Fleet::start`].
    pub async fn start_at(
        cluster: &Cluster,
        namespace: &str,
        places: impl IntoIterator<Item = usize>,
        listener: &'static str,
        refused: &'static str,
    ) -> anyhow::Result<Fleet> {
        let own = identity::obtain(cluster, namespace, ACCOUNT).await?;
        let mut fleet = Fleet {
            namespace: namespace.to_owned(),
            notes: Vec::new(),
            switches: Vec::new(),
            tasks: JoinSet::new(),
        };
        for (number, place) in places.into_iter().enumerate() {
            let controllers = cluster.controllers.iter();
            let mut way = Way {
                tls: own.tls(b"h2")?,
                controllers: controllers.map(|one| one.address("xds")).collect(),
                switch: Arc::default(),
            };
            way.controllers.rotate_left(place);
            let channel = identity::channel(Arc::clone(&way.tls), way.controllers[0]).await?;
            let mut client = FakeClient::new(Node {
                id: fleet.node(number),
                cluster: ACCOUNT.to_owned(),
                user_agent_name: NATIVE_AGENT.to_owned(),
                ..Node::default()
            });
            client.subscribe(TypeUrl::Listener, &[listener]).await?;
            for kind in [TypeUrl::Cluster, TypeUrl::Endpoints, TypeUrl::Route] {
                client.subscribe_all(kind).await?;
            }
            client.reconnect(channel).await?;
            let first = client.take_until(|state| !state.held(TypeUrl::Route).is_empty());
            first.await.context("the first responses")?;
            let notes = Notes::default();
            fleet.notes.push(Arc::clone(&notes));
            fleet.switches.push(Arc::clone(&way.switch));
            fleet.tasks.spawn(serve(client, way, notes, refused));
        }
        Ok(fleet)
    }

    /// A client's node id.
    pub fn node(&self, number: usize) -> String {
        format!("{}/{ACCOUNT}-{number}", self.namespace)
    }

    /// All that a client was sent since the last look, refused or not.
    pub fn taken(&self, number: usize) -> Vec<Came> {
        let mut notes = self.notes[number]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut notes)
    }

    /// Lets a client go to the next controller, whatever it is in the middle of.
    pub fn switch(&self, number: usize) {
        self.switches[number].notify_one();
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.notes.len()
    }
}

/// How a client comes to a controller.
#[derive(Debug)]
struct Way {
    tls: Arc<ClientConfig>,
    controllers: Vec<SocketAddr>,
    switch: Arc<Notify>,
}

impl Way {
    /// Opens a stream at the next controller that answers, with all that the client holds.
    async fn again(&mut self, client: &mut FakeClient) {
        loop {
            self.controllers.rotate_left(1);
            let opened = async {
                let channel = identity::channel(Arc::clone(&self.tls), self.controllers[0]).await?;
                Ok::<_, anyhow::Error>(client.reconnect(channel).await?)
            };
            // A controller that is stopped takes connections and answers nothing.
            if let Ok(Ok(())) = tokio::time::timeout(OPEN_LIMIT, opened).await {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Answers until it is stopped; when a stream ends, at the next controller.
async fn serve(mut client: FakeClient, mut way: Way, notes: Notes, refused: &'static str) {
    loop {
        let received = tokio::select! {
            received = client.receive() => received,
            () = way.switch.notified() => {
                way.again(&mut client).await;
                continue;
            }
        };
        let received = match received {
            Ok(received) => received,
            Err(status) if status.code() == tonic::Code::DeadlineExceeded => continue,
            Err(_) => {
                way.again(&mut client).await;
                continue;
            }
        };
        let came = received.resources.iter().map(|one| Came {
            kind: received.kind,
            name: one.name.to_string(),
            body: Some(one.body.to_vec()),
        });
        let gone = received.removed.iter().map(|name| Came {
            kind: received.kind,
            name: name.to_string(),
            body: None,
        });
        let all: Vec<Came> = came.chain(gone).collect();
        let bad = all.iter().any(|one| one.holds(refused));
        notes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(all);
        let answered = match bad {
            true => client.reject(received, "this client refuses it").await,
            false => client.accept(received).await.map(drop),
        };
        if answered.is_err() {
            way.again(&mut client).await;
        }
    }
}

impl Came {
    /// Whether a text stands in it.
    pub fn holds(&self, text: &str) -> bool {
        let body = self.body.as_deref().unwrap_or_default();
        !text.is_empty() && body.windows(text.len()).any(|one| one == text.as_bytes())
    }
}

//! A server whose mesh is a table that the test fills.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::QUEUE;
use crate::delta::{Server, Verdict, View};
use crate::envoy::service::discovery::v3 as discovery;
use crate::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use crate::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use crate::google::protobuf::Any;
use crate::mesh_version::MeshVersion;
use crate::resource::Resource;
use crate::type_url::{Served, TypeUrl};

#[derive(Debug, Default, Clone)]
struct Table {
    version: MeshVersion,
    resources: BTreeMap<(TypeUrl, Arc<str>), Arc<Resource>>,
}

impl View for Table {
    fn get(&self, kind: TypeUrl, name: &str) -> Option<Arc<Resource>> {
        self.resources.get(&(kind, name.into())).cloned()
    }

    fn covers(&self, _: TypeUrl, _: &str, wildcard: bool) -> bool {
        wildcard
    }

    fn wildcard(&self, kind: TypeUrl) -> Vec<Arc<str>> {
        let of_kind = self.resources.keys().filter(|(one, _)| *one == kind);
        of_kind.map(|(_, name)| name.clone()).collect()
    }

    fn ready(&self, _: TypeUrl) -> bool {
        true
    }
}

/// A delta ADS server on a loopback port. `*` stands for all resources of a type. Ends when it is dropped.
#[derive(Debug)]
pub struct FakeServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    table: watch::Sender<Table>,
    requests: Mutex<Vec<DeltaDiscoveryRequest>>,
    verdicts: watch::Sender<Vec<(TypeUrl, Verdict)>>,
}

impl FakeServer {
    /// Starts a server with an empty mesh of version 1.1, on a port of the system's choice.
    pub async fn start() -> std::io::Result<Self> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    /// Starts one at a given address, for example where another has stopped.
    pub async fn start_at(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let version = MeshVersion {
            incarnation: 1,
            index: 1,
        };
        let shared = Arc::new(Shared {
            table: watch::Sender::new(Table {
                version,
                ..Table::default()
            }),
            requests: Mutex::default(),
            verdicts: watch::Sender::new(Vec::new()),
        });
        let service = AggregatedDiscoveryServiceServer::new(Ads(shared.clone()));
        let task = tokio::spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            if let Err(failure) = server
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
            {
                panic!("the fake ADS server failed: {failure}");
            }
        });
        Ok(Self {
            shared,
            address,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets a resource and raises the mesh's index by one.
    pub fn set<M: Served>(&self, name: &str, message: &M) {
        let resource = Resource::new(name.into(), message);
        self.change(|table| {
            table
                .resources
                .insert((M::TYPE, name.into()), Arc::new(resource));
        });
    }

    /// Deletes a resource and raises the mesh's index by one.
    pub fn remove(&self, kind: TypeUrl, name: &str) {
        self.change(|table| {
            table.resources.remove(&(kind, name.into()));
        });
    }

    /// Begins another incarnation, at index 1.
    pub fn restore(&self) {
        self.change(|table| {
            table.version = MeshVersion {
                incarnation: table.version.incarnation + 1,
                index: 0,
            };
        });
    }

    /// The mesh version that it serves.
    pub fn version(&self) -> MeshVersion {
        self.shared.table.borrow().version
    }

    /// Every request so far, in order of arrival.
    pub fn requests(&self) -> Vec<DeltaDiscoveryRequest> {
        self.shared.requests().clone()
    }

    /// Every ACK and NACK so far, as they come.
    pub fn verdicts(&self) -> watch::Receiver<Vec<(TypeUrl, Verdict)>> {
        self.shared.verdicts.subscribe()
    }

    fn change(&self, with: impl FnOnce(&mut Table)) {
        self.shared.table.send_modify(|table| {
            with(table);
            table.version.index += 1;
        });
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn requests(&self) -> MutexGuard<'_, Vec<DeltaDiscoveryRequest>> {
        self.requests
            .lock()
            .expect("nobody panics while holding the list of requests")
    }
}

struct Ads(Arc<Shared>);

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let stream = Stream {
            table: self.0.table.subscribe(),
            shared: self.0.clone(),
            server: Server::new(),
            sender,
        };
        tokio::spawn(stream.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// One client's stream.
struct Stream {
    shared: Arc<Shared>,
    table: watch::Receiver<Table>,
    server: Server,
    sender: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
}

impl Stream {
    async fn run(mut self, mut requests: Streaming<DeltaDiscoveryRequest>) {
        loop {
            tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => {
                        if let Err(status) = self.request(request) {
                            return drop(self.sender.send(Err(status)).await);
                        }
                    }
                    Ok(None) | Err(_) => return,
                },
                changed = self.table.changed() => match changed {
                    Ok(()) => self.server.changed_all(),
                    Err(_) => return,
                },
            }
            let table = self.table.borrow_and_update().clone();
            while let Some(response) = self.server.next(&table) {
                if self
                    .sender
                    .send(Ok(message(response, &table)))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        }
    }

    fn request(&mut self, request: DeltaDiscoveryRequest) -> Result<(), Status> {
        self.shared.requests().push(request.clone());
        let refused =
            |refusal: crate::delta::Refusal| Status::invalid_argument(refusal.to_string());
        let taken = self.server.request(request).map_err(refused)?;
        if let (Some(kind), Some(verdict)) = (taken.kind, taken.verdict) {
            self.shared
                .verdicts
                .send_modify(|all| all.push((kind, verdict)));
        }
        Ok(())
    }
}

fn message(response: crate::delta::Response, table: &Table) -> DeltaDiscoveryResponse {
    let type_url = response.kind.to_string();
    let resource = |one: &Arc<Resource>| discovery::Resource {
        name: one.name().to_string(),
        version: one.version().to_string(),
        resource: Some(Any {
            type_url: type_url.clone(),
            value: one.body().clone(),
        }),
        ..Default::default()
    };
    DeltaDiscoveryResponse {
        system_version_info: table.version.to_string(),
        nonce: response.nonce.to_string(),
        resources: response.resources.iter().map(resource).collect(),
        removed_resources: response
            .removed
            .iter()
            .map(|name| name.to_string())
            .collect(),
        type_url,
        ..Default::default()
    }
}

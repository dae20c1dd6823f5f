//! Random conversations: whatever was said in whatever order, the client ends with the server's view.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use xds_api::delta::{Client, Response, Server, View};
use xds_api::envoy::config::core::v3::Node;
use xds_api::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
};
use xds_api::google::protobuf::Any;
use xds_api::type_url::TypeUrl;

use crate::mesh::Mesh;

#[derive(Debug, Clone)]
enum Step {
    Set(TypeUrl, u8, u8),
    Remove(TypeUrl, u8),
    Subscribe(TypeUrl, u8),
    SubscribeAll(TypeUrl),
    Unsubscribe(TypeUrl, u8),
    /// The server reads one request.
    Serve,
    /// The client reads one response; `true`: it rejects all of it.
    Read(bool),
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = || prop::sample::select(TypeUrl::ALL.to_vec());
    prop_oneof![
        4 => (kind(), 0..6u8, 0..3u8).prop_map(|(kind, name, text)| Step::Set(kind, name, text)),
        2 => (kind(), 0..6u8).prop_map(|(kind, name)| Step::Remove(kind, name)),
        3 => (kind(), 0..8u8).prop_map(|(kind, name)| Step::Subscribe(kind, name)),
        1 => kind().prop_map(Step::SubscribeAll),
        2 => (kind(), 0..8u8).prop_map(|(kind, name)| Step::Unsubscribe(kind, name)),
        6 => Just(Step::Serve),
        6 => prop::bool::weighted(0.1).prop_map(Step::Read),
        1 => Just(Step::Reconnect),
    ]
}

#[derive(Default)]
struct World {
    mesh: Mesh,
    server: Server,
    client: Client,
    requests: VecDeque<DeltaDiscoveryRequest>,
    responses: VecDeque<DeltaDiscoveryResponse>,
    wildcards: Vec<TypeUrl>,
}

fn name(number: u8) -> Arc<str> {
    format!("n{number}").into()
}

impl World {
    fn play(&mut self, step: Step) {
        match step {
            Step::Set(kind, number, text) => {
                let mark = if kind == TypeUrl::Cluster { "@" } else { "" };
                self.mesh.set(kind, &name(number), &format!("{text}{mark}"));
                self.server.changed(kind, &name(number));
            }
            Step::Remove(kind, number) => {
                self.mesh.remove(kind, &name(number));
                self.server.changed(kind, &name(number));
            }
            Step::Subscribe(kind, number) => {
                let request = self.client.subscribe(kind, &[name(number)]);
                self.requests.extend(request);
            }
            Step::SubscribeAll(kind) => {
                self.wildcards.push(kind);
                self.requests.extend(self.client.subscribe_all(kind));
            }
            Step::Unsubscribe(kind, number) => {
                self.requests
                    .extend(self.client.unsubscribe(kind, &[name(number)]));
            }
            Step::Serve => self.serve(),
            Step::Read(reject) => self.read(reject),
            Step::Reconnect => self.reconnect(),
        }
        while let Some(response) = self.server.next(&self.mesh) {
            self.responses.push_back(message(response));
        }
    }

    fn serve(&mut self) {
        if let Some(request) = self.requests.pop_front() {
            self.server.request(request).unwrap();
        }
    }

    fn read(&mut self, reject: bool) {
        let Some(response) = self.responses.pop_front() else {
            return;
        };
        let received = self.client.receive(response).unwrap();
        let answer = match reject {
            false => self.client.accept(received),
            // A client that rejects still applies removals and everything of its choice; here: all.
            true => {
                let taken: Vec<_> = received
                    .resources
                    .iter()
                    .map(|one| one.name.clone())
                    .collect();
                self.client.reject(received, &taken, "no".into())
            }
        };
        self.requests.push_back(answer);
    }

    fn reconnect(&mut self) {
        self.requests.clear();
        self.responses.clear();
        self.server = Server::new();
        self.client.disconnect();
        self.requests.extend(self.client.connect(Node::default()));
    }

    fn settle(&mut self) {
        while !self.requests.is_empty() || !self.responses.is_empty() {
            self.play(Step::Serve);
            self.play(Step::Read(false));
        }
    }

    fn expected(&self, kind: TypeUrl) -> BTreeMap<Arc<str>, String> {
        let mut names = self.client.names(kind).clone();
        if self.wildcards.contains(&kind) {
            names.extend(self.mesh.wildcard(kind));
        }
        let version = |name: Arc<str>| {
            self.mesh
                .get(kind, &name)
                .map(|one| (name, one.version().to_string()))
        };
        names.into_iter().filter_map(version).collect()
    }
}

fn message(response: Response) -> DeltaDiscoveryResponse {
    let resource = |one: &Arc<xds_api::resource::Resource>| Resource {
        name: one.name().to_string(),
        version: one.version().to_string(),
        resource: Some(Any {
            type_url: response.kind.to_string(),
            value: one.body().clone(),
        }),
        ..Default::default()
    };
    DeltaDiscoveryResponse {
        type_url: response.kind.to_string(),
        nonce: response.nonce.to_string(),
        resources: response.resources.iter().map(resource).collect(),
        removed_resources: response
            .removed
            .iter()
            .map(|name| name.to_string())
            .collect(),
        ..Default::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_client_ends_with_the_servers_view(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::default();
        world.reconnect();
        for step in steps {
            world.play(step);
        }
        world.settle();
        prop_assert!(world.server.is_idle());
        for kind in TypeUrl::ALL {
            prop_assert_eq!(world.client.held(kind), &world.expected(kind), "{}", kind.short());
        }
        // What is held is not sent again to a server that knows nothing.
        world.reconnect();
        while let Some(request) = world.requests.pop_front() {
            world.server.request(request).unwrap();
        }
        while let Some(response) = world.server.next(&world.mesh) {
            prop_assert!(response.resources.is_empty(), "{:?}", response);
        }
    }
}

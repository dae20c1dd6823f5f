//! Random conversations: whatever was said in whatever order, the client ends with the server's view.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use xds_api::conversation::View;
use xds_api::envoy::service::discovery::v3::DiscoveryRequest;
use xds_api::google::rpc::Status;
use xds_api::resource::Version;
use xds_api::sotw::{Response, Server};
use xds_api::type_url::TypeUrl;

use crate::mesh::Mesh;
use crate::script::request;

/// What a client lists, beside everything.
const EVERYTHING: &str = "*";

#[derive(Debug, Clone)]
enum Step {
    Set(TypeUrl, u8, u8),
    Remove(TypeUrl, u8),
    /// The client wants a name, or no more.
    Toggle(TypeUrl, u8),
    /// The client wants everything, or no more; only of the types where an omission is a deletion.
    ToggleAll(TypeUrl),
    /// The server reads one request.
    Serve,
    /// The client reads one response; `true`: it rejects it, though it takes what it holds.
    Read(bool),
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = || prop::sample::select(TypeUrl::ALL.to_vec());
    let whole = prop::sample::select(vec![TypeUrl::Cluster, TypeUrl::Listener]);
    prop_oneof![
        4 => (kind(), 0..6u8, 0..3u8).prop_map(|(kind, name, text)| Step::Set(kind, name, text)),
        2 => (kind(), 0..6u8).prop_map(|(kind, name)| Step::Remove(kind, name)),
        5 => (kind(), 0..8u8).prop_map(|(kind, name)| Step::Toggle(kind, name)),
        1 => whole.prop_map(Step::ToggleAll),
        6 => Just(Step::Serve),
        6 => prop::bool::weighted(0.1).prop_map(Step::Read),
        1 => Just(Step::Reconnect),
    ]
}

/// One type of a client.
#[derive(Default)]
struct Kept {
    /// All that it lists; `None`: it has never asked.
    wanted: Option<BTreeSet<String>>,
    held: BTreeMap<String, Version>,
    nonce: String,
    unanswered: usize,
}

impl Kept {
    fn wants(&self, name: &str) -> bool {
        let wanted = self.wanted.iter().flatten();
        wanted
            .into_iter()
            .any(|one| one == name || one == EVERYTHING)
    }
}

struct World {
    mesh: Mesh,
    server: Server,
    client: BTreeMap<TypeUrl, Kept>,
    requests: VecDeque<DiscoveryRequest>,
    responses: VecDeque<Response>,
}

fn name(number: u8) -> String {
    format!("n{number}")
}

fn is_whole(kind: TypeUrl) -> bool {
    matches!(kind, TypeUrl::Cluster | TypeUrl::Listener)
}

impl World {
    fn new() -> Self {
        Self {
            mesh: Mesh::default(),
            server: Server::of_the_world(),
            client: BTreeMap::new(),
            requests: VecDeque::new(),
            responses: VecDeque::new(),
        }
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Set(kind, number, text) => {
                let mark = if kind == TypeUrl::Cluster { "@" } else { "" };
                self.mesh.set(kind, &name(number), &format!("{text}{mark}"));
                self.server.changed(kind, &name(number).into());
            }
            Step::Remove(kind, number) => {
                self.mesh.remove(kind, &name(number));
                self.server.changed(kind, &name(number).into());
            }
            Step::Toggle(kind, number) => self.toggle(kind, name(number)),
            Step::ToggleAll(kind) => self.toggle(kind, EVERYTHING.into()),
            Step::Serve => self.serve(),
            Step::Read(reject) => self.read(reject),
            Step::Reconnect => self.reconnect(),
        }
        while let Some(response) = self.server.next(&self.mesh) {
            let kept = self.client.get_mut(&response.kind).unwrap();
            kept.unanswered += 1;
            assert_eq!(kept.unanswered, 1, "one response in flight");
            self.responses.push_back(response);
        }
    }

    fn toggle(&mut self, kind: TypeUrl, name: String) {
        let kept = self.client.entry(kind).or_default();
        let wanted = kept.wanted.get_or_insert_default();
        if !wanted.remove(&name) {
            wanted.insert(name);
        }
        let mut held = std::mem::take(&mut kept.held);
        held.retain(|name, _| kept.wants(name));
        kept.held = held;
        self.ask(kind, None);
    }

    /// Sends all that is wanted, with the last nonce.
    fn ask(&mut self, kind: TypeUrl, error: Option<Status>) {
        let kept = &self.client[&kind];
        let names: Vec<&str> = kept.wanted.iter().flatten().map(String::as_str).collect();
        self.requests.push_back(DiscoveryRequest {
            response_nonce: kept.nonce.clone(),
            error_detail: error,
            ..request(kind, &names)
        });
    }

    fn serve(&mut self) {
        if let Some(request) = self.requests.pop_front() {
            let kind = TypeUrl::parse(&request.type_url).unwrap();
            let request = self.server.differences(request);
            let answered = self.server.request(request).unwrap().verdict.is_some();
            self.client.get_mut(&kind).unwrap().unanswered -= usize::from(answered);
        }
    }

    fn read(&mut self, reject: bool) {
        let Some(response) = self.responses.pop_front() else {
            return;
        };
        let kind = response.kind;
        let kept = self.client.get_mut(&kind).unwrap();
        if is_whole(kind) {
            kept.held.clear();
        }
        for resource in &response.resources {
            if kept.wants(resource.name()) {
                kept.held
                    .insert(resource.name().to_string(), resource.version());
            }
        }
        for name in &response.missing {
            kept.held.remove(&**name);
        }
        kept.nonce = response.nonce.to_string();
        self.ask(kind, reject.then(Status::default));
    }

    fn reconnect(&mut self) {
        self.requests.clear();
        self.responses.clear();
        self.server = Server::of_the_world();
        let kinds: Vec<TypeUrl> = self.client.keys().copied().collect();
        for kind in kinds {
            let kept = self.client.get_mut(&kind).unwrap();
            (kept.nonce, kept.unanswered) = (String::new(), 0);
            // A type of which nothing is wanted any more is not opened again: without names that would mean everything.
            match kept.wanted.as_ref().is_some_and(|one| !one.is_empty()) {
                true => self.ask(kind, None),
                false => kept.wanted = None,
            }
        }
    }

    fn settle(&mut self) {
        while !self.requests.is_empty() || !self.responses.is_empty() {
            self.play(Step::Serve);
            self.play(Step::Read(false));
        }
    }

    fn expected(&self, kind: TypeUrl) -> BTreeMap<String, Version> {
        let every = self.mesh.wildcard(kind);
        let wanted = every.into_iter().filter(|name| {
            let kept = self.client.get(&kind);
            kept.is_some_and(|kept| kept.wants(name))
        });
        let version = |name: &str| self.mesh.get(kind, name).unwrap().version();
        wanted
            .map(|name| (name.to_string(), version(&name)))
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_client_ends_with_the_servers_view(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.play(step);
        }
        world.settle();
        prop_assert!(world.server.is_idle());
        for kind in TypeUrl::ALL {
            let held = world.client.get(&kind).map(|kept| kept.held.clone());
            prop_assert_eq!(held.unwrap_or_default(), world.expected(kind), "{}", kind.short());
        }
    }
}

//! What must hold for every log: the same bytes everywhere, from a replay as from a snapshot.
#![allow(clippy::unwrap_used)]

mod apply;
mod golden;
mod observe;
mod properties;
mod rollout;

use super::{
    Applied, Command, Instance, InstancePort, Kind, Name, ObjectKey, Proposal, State,
    command::{DeleteObject, Initialize, PutObject, WriteObjects},
};

/// A state with a list of commands applied, one entry each.
pub(crate) struct Log {
    pub(crate) state: State,
    pub(crate) index: u64,
    pub(crate) time_millis: u64,
}

impl Log {
    pub(crate) fn new() -> Self {
        let mut log = Self {
            state: State::default(),
            index: 0,
            time_millis: 1_800_000_000_000,
        };
        log.run(Command::Initialize(Initialize {
            cluster_id: "c1".to_owned(),
            trust_domain: "test.mesh".to_owned(),
            incarnation: 7,
        }))
        .accepted()
        .unwrap();
        log
    }

    pub(crate) fn run(&mut self, command: Command) -> Applied {
        self.run_as("", 0, command)
    }

    pub(crate) fn run_as(&mut self, client: &str, sequence: u64, command: Command) -> Applied {
        self.index += 1;
        let proposal = Proposal {
            author: "spiffe://test.mesh/admin/ann".to_owned(),
            client: client.to_owned(),
            sequence,
            time_millis: self.time_millis,
            command,
        };
        let proposal = Proposal::decode(proposal.encode()).unwrap();
        self.state.apply(self.index, &proposal)
    }

    /// Puts objects, given as YAML.
    pub(crate) fn put(&mut self, yaml: &str) -> Applied {
        self.run(puts(yaml))
    }

    pub(crate) fn delete(&mut self, kind: Kind, namespace: &str, name: &str) -> Applied {
        let delete = DeleteObject {
            key: ObjectKey::new(kind, Name::new(namespace, name)),
            expected: None,
        };
        self.run(Command::WriteObjects(WriteObjects {
            puts: vec![],
            deletes: vec![delete],
        }))
    }
}

pub(crate) fn puts(yaml: &str) -> Command {
    let reading = crate::language::read([("test.yaml", yaml)]);
    assert!(reading.problems.is_empty(), "{:?}", reading.problems);
    let put = |written: &crate::language::Written| PutObject {
        key: written.key.clone(),
        json: written.object.to_json(),
        expected: None,
    };
    Command::WriteObjects(WriteObjects {
        puts: reading.objects.iter().map(put).collect(),
        deletes: vec![],
    })
}

pub(crate) fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: {name}}}, ports: [{{port: 80, targetPort: 8080, appProtocol: http}}]}}\n---\n"
    )
}

pub(crate) fn route(name: &str, parent: &str, backend: &str, port: u16) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec: {{parentRefs: [{{kind: Service, name: {parent}}}], rules: [{{backendRefs: [{{name: {backend}, port: {port}}}]}}]}}\n---\n"
    )
}

pub(crate) fn instance(name: &str, generation: u64) -> Instance {
    Instance {
        name: Name::new("default", name),
        addresses: vec!["10.0.0.7".to_owned()],
        labels: [("app".to_owned(), "web".to_owned())].into(),
        ports: vec![InstancePort {
            name: "http".to_owned(),
            port: 8080,
            protocol: 1,
            health: 1,
            ..Default::default()
        }],
        mesh: 1,
        mesh_port: 4743,
        locality: "eu/a".to_owned(),
        identity: "spiffe://test.mesh/ns/default/sa/web".to_owned(),
        generation,
        ..Default::default()
    }
}

//! Properties of arbitrary logs.

use bytes::Bytes;
use proptest::prelude::*;

use super::{Log, instance, puts, route, service};
use crate::model::{
    Applied, Command, DecodeError, Kind, Name, ObjectKey, Proposal, State, Token,
    command::{
        DeleteObject, EndInstances, HealthChange, InstanceEnd, ReportHealth, UseToken, WriteObjects,
    },
};

/// A command out of a small world, so that commands meet each other.
fn command() -> impl Strategy<Value = Command> {
    let name = || prop::sample::select(vec!["a", "b", "c", "d"]);
    prop_oneof![
        4 => (name(), 8080u16..8084).prop_map(|(name, port)| puts(&service(name).replace("8080", &port.to_string()))),
        2 => (name(), name(), name()).prop_map(|(own, parent, backend)| puts(&route(own, parent, backend, 80))),
        3 => (name(), any::<bool>()).prop_map(|(name, service)| {
            let kind = if service { Kind::Service } else { Kind::HttpRoute };
            let delete = DeleteObject { key: ObjectKey::new(kind, Name::new("default", name)), expected: None };
            Command::WriteObjects(WriteObjects { puts: vec![], deletes: vec![delete] })
        }),
        3 => (name(), 1u64..4).prop_map(|(name, generation)| Command::Register(instance(name, generation))),
        2 => (name(), 1u64..4, 0i32..3).prop_map(|(name, generation, health)| {
            let change = HealthChange { name: Name::new("default", name), generation, port: 8080, health };
            Command::ReportHealth(ReportHealth { changes: vec![change] })
        }),
        1 => (name(), 1u64..4).prop_map(|(name, generation)| {
            Command::EndInstances(EndInstances { ends: vec![InstanceEnd { name: Name::new("default", name), generation }] })
        }),
        1 => (name(), 0i64..100).prop_map(|(id, life)| Command::CreateToken(Token {
            id: id.to_owned(),
            secret_sha256: Bytes::from(vec![2; 32]),
            purpose: 2,
            expires_at: 1_800_000_000 + life,
            ..Token::default()
        })),
        1 => name().prop_map(|id| Command::UseToken(UseToken { id: id.to_owned(), used_by: "x".to_owned() })),
        1 => Just(Command::Tick),
    ]
}

#[derive(Clone, Debug)]
struct Step {
    client: String,
    sequence: u64,
    time: u64,
    command: Command,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = ("[xyz]?", 0u64..6, 0u64..90_000, command());
    let step = step.prop_map(|(client, sequence, time, command)| Step {
        client,
        sequence,
        time,
        command,
    });
    prop::collection::vec(step, 1..40)
}

fn run(log: &mut Log, steps: &[Step]) -> Vec<Applied> {
    let run = |step: &Step| {
        log.time_millis = 1_800_000_000_000 + step.time;
        log.run_as(&step.client, step.sequence, step.command.clone())
    };
    steps.iter().map(run).collect()
}

fn bytes(state: &State) -> Vec<u8> {
    state.encode().flatten().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_same_log_gives_the_same_bytes_from_the_start_and_from_a_snapshot(steps in steps(), cut in 0usize..40) {
        let cut = cut.min(steps.len());
        let mut whole = Log::new();
        let answers = run(&mut whole, &steps);

        let mut parts = Log::new();
        let mut other_answers = run(&mut parts, &steps[..cut]);
        let snapshot = bytes(&parts.state);
        parts.state = State::decode(&snapshot[..]).unwrap();
        prop_assert_eq!(&bytes(&parts.state), &snapshot);
        other_answers.extend(run(&mut parts, &steps[cut..]));

        prop_assert_eq!(answers, other_answers);
        prop_assert_eq!(whole.state.hash(), parts.state.hash());
        prop_assert_eq!(bytes(&whole.state), bytes(&parts.state));
        prop_assert_eq!(whole.state, parts.state);
    }

    #[test]
    fn commands_and_answers_read_back(steps in steps()) {
        let mut log = Log::new();
        for (step, answer) in steps.iter().zip(run(&mut log, &steps)) {
            let proposal = Proposal {
                author: "ann".to_owned(),
                client: step.client.clone(),
                sequence: step.sequence,
                time_millis: step.time,
                command: step.command.clone(),
            };
            prop_assert_eq!(&Proposal::decode(proposal.encode()).unwrap(), &proposal);
            prop_assert_eq!(&Applied::decode(answer.encode()).unwrap(), &answer);
        }
    }

    #[test]
    fn the_mesh_hash_changes_exactly_with_the_mesh_index(steps in steps()) {
        let mut log = Log::new();
        for step in &steps {
            let (index, hash) = (log.state.mesh().index(), log.state.hash());
            run(&mut log, std::slice::from_ref(step));
            prop_assert_eq!(index == log.state.mesh().index(), hash == log.state.hash());
        }
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Proposal::decode(Bytes::from(bytes.clone()));
        let _ = Applied::decode(Bytes::from(bytes.clone()));
        let _ = State::decode(&bytes[..]);
    }

    #[test]
    fn a_cut_snapshot_is_refused(steps in steps(), part in 0.0f64..1.0) {
        let mut log = Log::new();
        run(&mut log, &steps);
        let whole = bytes(&log.state);
        let cut = (whole.len() as f64 * part) as usize;
        prop_assert!(State::decode(&whole[..cut]).is_err());
    }
}

#[test]
fn unknown_commands_and_versions_are_errors() {
    let check = |bytes: &[u8]| {
        let result = Command::decode(Bytes::copy_from_slice(bytes));
        assert!(
            matches!(result, Err(DecodeError::Unknown { .. })),
            "{bytes:?}: {result:?}"
        );
    };
    check(&[0, 0, 0, 1]);
    check(&[0, 99, 0, 1]);
    check(&[0, 15, 0, 2]);
    // SetLevel 2, and a deletion of an object of kind 77.
    check(&[0, 14, 0, 1, 8, 2]);
    check(&[0, 2, 0, 1, 0x12, 4, 0x0a, 2, 8, 77]);
}

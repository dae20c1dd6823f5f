//! The bytes of level 1: what a released version has written must be read, and written the same, for ever.
//!
//! `MAILLE_GOLDEN=write cargo test golden` writes files that are not there yet; it never replaces one.

use std::path::PathBuf;

use bytes::Bytes;

use super::{Log, instance, observe, puts, route, service};
use crate::model::{
    Applied, Command, Issuer, Kind, Member, Name, ObjectKey, Observe, Proposal, Refusal,
    RefusalCode, Root, Sealed, State, Token,
    command::{
        DeleteObject, EndInstances, HealthChange, Initialize, InstanceEnd, Issue, IssueCertificate,
        MoveRollout, RemoveMember, ReportHealth, RevokeToken, SetLevel, SetTrust, StageObjects,
        UseToken, WriteObjects,
    },
};

fn check(name: &str, actual: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("src/model/golden/level1")
        .join(name);
    if !path.exists() && std::env::var("MAILLE_GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, hex::encode(actual)).unwrap();
    }
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let expected = hex::decode(text.trim()).unwrap();
    assert_eq!(
        hex::encode(actual),
        hex::encode(&expected),
        "{name} is written otherwise than at level 1"
    );
    expected
}

fn commands() -> Vec<(&'static str, Command)> {
    let text = |text: &str| text.to_owned();
    let key = ObjectKey::new(Kind::HttpRoute, Name::new("default", "r"));
    let name = Name::new("default", "web-1");
    let token = Token {
        id: text("t1"),
        secret_sha256: Bytes::from(vec![9; 32]),
        purpose: 1,
        spiffe_id: text("spiffe://test.mesh/ns/default/sa/web"),
        expires_at: 1_800_003_600,
        ..Token::default()
    };
    let member = Member {
        id: 3,
        name: text("c3"),
        directory: text("d3"),
        peer_address: text("127.0.0.1:4701"),
        xds_address: text("127.0.0.1:4700"),
        admin_address: text("127.0.0.1:4702"),
        version: text("0.1.0"),
        min_level: 1,
        max_level: 1,
    };
    let issuer = Issuer {
        serial: text("0a"),
        controller: text("c3"),
        certificate: Bytes::from_static(b"issuer"),
        not_before: 1_800_000_000,
        not_after: 1_900_000_000,
    };
    let trust = SetTrust {
        expected_revision: 0,
        roots: vec![Root {
            certificate: Bytes::from_static(b"root"),
            phase: 0,
        }],
        sealed: vec![Sealed {
            name: text("data-key"),
            sealed_by: text("kek"),
            blob: Bytes::from_static(b"sealed"),
        }],
    };
    let record = IssueCertificate {
        record: Bytes::from_static(&[0x1a, 2, b'0', b'b', 0x28, 0x80, 0x94, 0xeb, 0xdc, 0x06]),
        token: text(""),
    };
    let health = HealthChange {
        name: name.clone(),
        generation: 4,
        port: 8080,
        health: 2,
    };
    let delete = DeleteObject {
        key,
        expected: Some(4),
    };
    vec![
        (
            "initialize",
            Command::Initialize(Initialize {
                cluster_id: text("c1"),
                trust_domain: text("test.mesh"),
                incarnation: 7,
            }),
        ),
        ("set_trust", Command::SetTrust(trust)),
        (
            "write_objects",
            puts(&(service("web") + &service("api") + &route("r", "web", "api", 80))),
        ),
        (
            "delete_objects",
            Command::WriteObjects(WriteObjects {
                puts: vec![],
                deletes: vec![delete],
            }),
        ),
        ("register", Command::Register(instance("web-1", 4))),
        (
            "report_health",
            Command::ReportHealth(ReportHealth {
                changes: vec![health],
            }),
        ),
        (
            "end_instances",
            Command::EndInstances(EndInstances {
                ends: vec![InstanceEnd {
                    name,
                    generation: 3,
                }],
            }),
        ),
        ("create_token", Command::CreateToken(token)),
        (
            "use_token",
            Command::UseToken(UseToken {
                id: text("t1"),
                used_by: text("c4"),
            }),
        ),
        (
            "revoke_token",
            Command::RevokeToken(RevokeToken { id: text("t0") }),
        ),
        (
            "issue",
            Command::Issue(Issue {
                certificates: vec![record],
            }),
        ),
        ("put_issuer", Command::PutIssuer(issuer)),
        ("put_member", Command::PutMember(member)),
        (
            "remove_member",
            Command::RemoveMember(RemoveMember { id: 9 }),
        ),
        ("set_level", Command::SetLevel(SetLevel { level: 1 })),
        ("tick", Command::Tick),
    ]
}

/// Those that came after the first snapshot's golden file.
fn later_commands() -> Vec<(&'static str, Command)> {
    let Command::WriteObjects(write) = puts(&route("s", "web", "api", 80)) else {
        return Vec::new();
    };
    let stage = StageObjects {
        write,
        salt: 5,
        through: 1 << 31,
        share: 50,
    };
    let step = MoveRollout {
        id: 9,
        step: 2,
        through: 7,
        share: 60,
    };
    vec![
        ("stage_objects", Command::StageObjects(stage)),
        ("move_rollout", Command::MoveRollout(step)),
    ]
}

/// An observation with something in every field.
fn observation() -> Observe {
    let mut all = observe::shop(4);
    all.gone_namespaces.push("old".to_owned());
    all.gone_objects
        .push(ObjectKey::new(Kind::Service, Name::new("shop", "old")));
    all.gone_pods.push(Name::new("shop", "old-1"));
    all
}

#[test]
fn what_was_observed_has_the_bytes_of_level_1() {
    let proposal = Proposal {
        author: "controller c1".to_owned(),
        client: String::new(),
        sequence: 0,
        time_millis: 1_800_000_000_000,
        command: Command::Observe(observation()),
    };
    let golden = check("command_observe.hex", &proposal.encode());
    assert_eq!(Proposal::decode(golden.into()).unwrap(), proposal);
    let mut log = Log::new();
    log.run(Command::Observe(observation()));
    let bytes: Vec<u8> = log.state.encode().flatten().collect();
    let golden = check("snapshot_observed.hex", &bytes);
    assert_eq!(State::decode(&golden[..]).unwrap(), log.state);
}

#[test]
fn commands_have_the_bytes_of_level_1() {
    for (name, command) in commands().into_iter().chain(later_commands()) {
        let proposal = Proposal {
            author: "spiffe://test.mesh/admin/ann".to_owned(),
            client: "cli-1".to_owned(),
            sequence: 3,
            time_millis: 1_800_000_000_000,
            command,
        };
        let golden = check(&format!("command_{name}.hex"), &proposal.encode());
        assert_eq!(Proposal::decode(golden.into()).unwrap(), proposal, "{name}");
    }
}

#[test]
fn the_state_after_these_commands_has_the_bytes_of_level_1() {
    let mut log = Log {
        state: State::default(),
        index: 0,
        time_millis: 1_800_000_000_000,
    };
    for (position, (_, command)) in commands().into_iter().enumerate() {
        log.run_as(
            if position % 2 == 0 { "cli-1" } else { "" },
            position as u64,
            command,
        );
    }
    let bytes: Vec<u8> = log.state.encode().flatten().collect();
    let golden = check("snapshot.hex", &bytes);
    let read = State::decode(&golden[..]).unwrap();
    assert_eq!(read, log.state);
    check("mesh_hash.hex", &read.hash());
}

#[test]
fn a_rollout_in_a_snapshot_has_the_bytes_of_level_1() {
    let mut log = Log::new();
    log.put(&(service("web") + &service("api")));
    for (_, command) in later_commands() {
        log.run(command);
    }
    let bytes: Vec<u8> = log.state.encode().flatten().collect();
    let golden = check("snapshot_rollout.hex", &bytes);
    assert_eq!(State::decode(&golden[..]).unwrap(), log.state);
    assert!(log.state.mesh().rollout().is_some());
}

#[test]
fn answers_have_the_bytes_of_level_1() {
    let mut log = Log::new();
    check("answer_objects.hex", &log.put(&service("web")).encode());
    let refusal = Refusal::new(RefusalCode::Conflict, "it has changed");
    check("answer_refused.hex", &Applied::refused(3, refusal).encode());
    check(
        "answer_relations.hex",
        &log.put(&route("r", "web", "nothing", 80)).encode(),
    );
}

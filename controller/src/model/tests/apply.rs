//! What each command does, and when it is refused.

use bytes::Bytes;
use prost::Message;

use super::{Log, instance, puts, route, service};
use crate::model::{
    Applied, Change, Command, Health, IssuanceRecord, Kind, MeshMode, Name, ObjectKey, Outcome,
    RefusalCode, Root, Sealed, State, Token, TokenPurpose,
    command::{
        EndInstances, HealthChange, InstanceEnd, Issue, IssueCertificate, ReportHealth,
        RevokeToken, SetTrust, UseToken,
    },
    limits::VIP_QUARANTINE_ENTRIES,
};

fn outcomes(applied: &Applied) -> Vec<Outcome> {
    applied
        .objects
        .iter()
        .map(|object| object.outcome())
        .collect()
}

fn refused(applied: Applied) -> (RefusalCode, String) {
    let refusal = applied
        .accepted()
        .expect_err("the command should have been refused");
    let problems = refusal
        .problems
        .iter()
        .map(|problem| format!("{}: {}: {}", problem.key, problem.path, problem.message));
    let text = std::iter::once(refusal.message.clone())
        .chain(problems)
        .collect::<Vec<_>>()
        .join("\n");
    (refusal.code(), text)
}

#[test]
fn an_object_is_created_then_unchanged_then_configured_then_deleted() {
    let mut log = Log::new();
    let created = log.put(&service("web"));
    assert_eq!(
        (outcomes(&created), created.index),
        (vec![Outcome::Created], 2)
    );
    let again = log.put(&service("web"));
    assert_eq!(
        (outcomes(&again), again.index),
        (vec![Outcome::Unchanged], 2),
        "the index stays where nothing changes"
    );
    let changed = log.put(&service("web").replace("8080", "8081"));
    assert_eq!(
        (outcomes(&changed), changed.index),
        (vec![Outcome::Configured], 4)
    );
    let deleted = log.delete(Kind::Service, "default", "web");
    assert_eq!(
        (outcomes(&deleted), deleted.index),
        (vec![Outcome::Deleted], 5)
    );
    assert_eq!(
        refused(log.delete(Kind::Service, "default", "web")).0,
        RefusalCode::NotFound
    );
}

#[test]
fn a_write_with_an_expected_index_is_refused_when_the_object_has_moved() {
    let mut log = Log::new();
    log.put(&service("web")).accepted().unwrap();
    let check = |log: &mut Log, expected: u64, port: &str, fits: bool| {
        let Command::WriteObjects(mut write) = puts(&service("web").replace("8080", port)) else {
            unreachable!()
        };
        write.puts[0].expected = Some(expected);
        let applied = log.run(Command::WriteObjects(write));
        assert_eq!(
            applied.refusal.is_none(),
            fits,
            "expected {expected}: {applied:?}"
        );
    };
    check(&mut log, 0, "8081", false);
    check(&mut log, 2, "8081", true);
    check(&mut log, 2, "8082", false);
    check(&mut log, 4, "8082", true);
}

#[test]
fn a_repeated_write_is_applied_once_and_answered_the_same() {
    let mut log = Log::new();
    let first = log.run_as("cli-1", 1, puts(&service("web")));
    log.delete(Kind::Service, "default", "web")
        .accepted()
        .unwrap();
    let repeated = log.run_as("cli-1", 1, puts(&service("web")));
    assert_eq!(first, repeated);
    assert!(
        log.state.mesh().services().is_empty(),
        "a repeated write must not be applied again"
    );
    assert_eq!(log.state.answered("cli-1", 1), Some(&first));
    log.run_as("cli-1", 2, puts(&service("web")))
        .accepted()
        .unwrap();
    assert_eq!(
        refused(log.run_as("cli-1", 1, Command::Tick)).0,
        RefusalCode::OutOfSequence
    );
}

#[test]
fn references_must_lead_somewhere_and_what_is_referred_to_must_stay() {
    let mut log = Log::new();
    log.put(&(service("web") + &service("api")))
        .accepted()
        .unwrap();
    let mut messages = Vec::new();
    messages.push(refused(log.put(&route("r", "web", "apj", 80))).1);
    messages.push(refused(log.put(&route("r", "web", "api", 81))).1);
    messages.push(refused(log.put(&route("r", "nothing", "api", 80))).1);
    log.put(&route("r", "web", "api", 80)).accepted().unwrap();
    messages.push(refused(log.delete(Kind::Service, "default", "api")).1);
    messages.push(refused(log.put(&service("api").replace("port: 80,", "port: 90,"))).1);
    messages.push(
        refused(log.put(&(service("tcp").replace("http", "tcp") + &route("t", "tcp", "api", 80))))
            .1,
    );
    let told = messages.join("\n\n");
    insta::assert_snapshot!(told);
    // Together they may go.
    let Command::WriteObjects(mut write) = puts(&service("new")) else {
        unreachable!()
    };
    write.deletes = [(Kind::HttpRoute, "r"), (Kind::Service, "api")]
        .map(|(kind, name)| crate::model::command::DeleteObject {
            key: ObjectKey::new(kind, Name::new("default", name)),
            expected: None,
        })
        .into();
    log.run(Command::WriteObjects(write)).accepted().unwrap();
}

#[test]
fn a_route_may_come_with_the_service_that_it_needs() {
    let mut log = Log::new();
    log.put(&(route("r", "web", "web", 80) + &service("web")))
        .accepted()
        .unwrap();
    assert_eq!(log.state.mesh().http_routes().len(), 1);
}

#[test]
fn a_refused_write_changes_nothing() {
    let mut log = Log::new();
    log.put(&service("web")).accepted().unwrap();
    let before = log.state.mesh().clone();
    refused(log.put(&(service("api") + &route("r", "missing", "api", 80))));
    assert_eq!(before, *log.state.mesh());
}

#[test]
fn virtual_addresses_rest_before_they_are_given_again() {
    let mut log = Log::new();
    log.put("apiVersion: maille.dev/v1alpha1\nkind: MeshSettings\nmetadata: {name: default}\nspec: {vipRange: {v4: 10.9.0.0/24}}\n")
        .accepted()
        .unwrap();
    let mut given = std::collections::BTreeSet::new();
    for number in 0..127 {
        let name = format!("s{number}");
        log.put(&service(&name)).accepted().unwrap();
        let vip = log.state.mesh().vips()[&Name::new("default", name.as_str())];
        assert!(given.insert(vip.v4), "{} was given twice", vip.v4);
        assert_eq!(
            log.state.mesh().vip_owner(&vip.v6.into()),
            Some(&Name::new("default", name.as_str()))
        );
        log.put(&service(&format!("{name}b"))).accepted().unwrap();
        given.insert(log.state.mesh().vips()[&Name::new("default", format!("{name}b"))].v4);
        log.delete(Kind::Service, "default", &name)
            .accepted()
            .unwrap();
    }
    assert_eq!(given.len(), 254);
    let (code, text) = refused(log.put(&service("one-more")));
    assert_eq!(code, RefusalCode::Exhausted, "{text}");
    log.index += VIP_QUARANTINE_ENTRIES;
    log.put(&service("one-more")).accepted().unwrap();
    let mesh = log.state.mesh();
    assert_eq!(mesh.vips().len(), 128);
    let v4: std::collections::BTreeSet<_> = mesh.vips().values().map(|vip| vip.v4).collect();
    assert_eq!(v4.len(), 128, "no address has two owners");
}

#[test]
fn a_changed_range_moves_every_virtual_address() {
    let mut log = Log::new();
    log.put(&(service("a") + &service("b"))).accepted().unwrap();
    log.put("apiVersion: maille.dev/v1alpha1\nkind: MeshSettings\nmetadata: {name: default}\nspec: {vipRange: {v4: 10.9.0.0/24, v6: 'fd00:9::/64'}}\n")
        .accepted()
        .unwrap();
    let shown: Vec<String> = log
        .state
        .mesh()
        .vips()
        .iter()
        .map(|(name, vip)| format!("{name} {} {}", vip.v4, vip.v6))
        .collect();
    assert_eq!(
        shown,
        [
            "default/a 10.9.0.3 fd00:9::3",
            "default/b 10.9.0.4 fd00:9::4"
        ]
    );
}

#[test]
fn endpoints_are_instances_and_workloads_that_the_selector_finds() {
    let mut log = Log::new();
    log.put(&service("web")).accepted().unwrap();
    log.run(Command::Register(instance("web-1", 1)))
        .accepted()
        .unwrap();
    log.put("apiVersion: maille.dev/v1alpha1\nkind: Workload\nmetadata: {name: legacy, labels: {app: web}}\nspec: {addresses: [192.0.2.9], ports: [{port: 8080}]}\n")
        .accepted()
        .unwrap();
    let show = |log: &Log| -> Vec<(String, Health, MeshMode)> {
        let endpoints = log.state.mesh().endpoints(&Name::new("default", "web"), 80);
        endpoints
            .iter()
            .map(|end| {
                (
                    format!("{} {}:{}", end.name, end.addresses[0], end.port),
                    end.health,
                    end.mesh,
                )
            })
            .collect()
    };
    let legacy = (
        "default/legacy 192.0.2.9:8080".to_owned(),
        Health::Healthy,
        MeshMode::None,
    );
    let web = |health| {
        (
            "default/web-1 10.0.0.7:8080".to_owned(),
            health,
            MeshMode::Native,
        )
    };
    assert_eq!(show(&log), [legacy.clone(), web(Health::Healthy)]);

    let change = HealthChange {
        name: Name::new("default", "web-1"),
        generation: 1,
        port: 8080,
        health: 2,
    };
    let report = |change: &HealthChange| {
        Command::ReportHealth(ReportHealth {
            changes: vec![change.clone()],
        })
    };
    assert_eq!(log.run(report(&change)).skipped, 0);
    assert_eq!(show(&log), [legacy.clone(), web(Health::Unhealthy)]);
    let stale = HealthChange {
        generation: 0,
        health: 1,
        ..change
    };
    assert_eq!(log.run(report(&stale)).skipped, 1);
    assert_eq!(show(&log), [legacy.clone(), web(Health::Unhealthy)]);

    // An operator's label takes the instance out of the selection.
    log.put("apiVersion: maille.dev/v1alpha1\nkind: Workload\nmetadata: {name: web-1, labels: {app: parked}}\nspec: {}\n").accepted().unwrap();
    assert_eq!(show(&log), std::slice::from_ref(&legacy));
    log.delete(Kind::Workload, "default", "web-1")
        .accepted()
        .unwrap();
    assert_eq!(show(&log).len(), 2);

    let end = InstanceEnd {
        name: Name::new("default", "web-1"),
        generation: 1,
    };
    assert_eq!(
        log.run(Command::EndInstances(EndInstances {
            ends: vec![end.clone()]
        }))
        .skipped,
        0
    );
    assert_eq!(
        log.run(Command::EndInstances(EndInstances { ends: vec![end] }))
            .skipped,
        1
    );
    assert_eq!(show(&log), [legacy]);
    let labels = [("app".to_owned(), "web".to_owned())].into();
    assert_eq!(
        log.state.mesh().services_selecting("default", &labels),
        [&Name::new("default", "web")]
    );
}

#[test]
fn a_name_belongs_to_one_identity_and_to_its_newest_process() {
    let mut log = Log::new();
    let registered = log.run(Command::Register(instance("web-1", 5)));
    assert_eq!(
        log.run(Command::Register(instance("web-1", 5))).index,
        registered.index,
        "the same again changes nothing"
    );
    assert_eq!(
        refused(log.run(Command::Register(instance("web-1", 4)))).0,
        RefusalCode::Superseded
    );
    let mut other = instance("web-1", 9);
    other.identity = "spiffe://test.mesh/ns/default/sa/thief".to_owned();
    assert_eq!(
        refused(log.run(Command::Register(other))).0,
        RefusalCode::Conflict
    );
    log.run(Command::Register(instance("web-1", 6)))
        .accepted()
        .unwrap();
    let mut wrong = instance("web-2", 1);
    wrong.addresses = vec!["somewhere".to_owned()];
    assert_eq!(
        refused(log.run(Command::Register(wrong))).0,
        RefusalCode::Invalid
    );
    log.put("apiVersion: maille.dev/v1alpha1\nkind: Workload\nmetadata: {name: web-3}\nspec: {serviceAccount: api}\n").accepted().unwrap();
    assert_eq!(
        refused(log.run(Command::Register(instance("web-3", 1)))).0,
        RefusalCode::Conflict
    );
}

fn token(id: &str, purpose: TokenPurpose, expires_at: i64) -> Command {
    let spiffe_id = if purpose == TokenPurpose::Workload {
        "spiffe://test.mesh/ns/default/sa/web"
    } else {
        ""
    };
    Command::CreateToken(Token {
        id: id.to_owned(),
        secret_sha256: Bytes::from(vec![1; 32]),
        purpose: purpose as i32,
        spiffe_id: spiffe_id.to_owned(),
        expires_at,
        ..Token::default()
    })
}

fn issue(serial: &str, token: &str, not_after: i64) -> Command {
    let record = IssuanceRecord {
        spiffe_id: "spiffe://test.mesh/ns/default/sa/web".to_owned(),
        serial: serial.to_owned(),
        not_after,
        ..IssuanceRecord::default()
    };
    let record = record.encode_to_vec().into();
    Command::Issue(Issue {
        certificates: vec![IssueCertificate {
            record,
            token: token.to_owned(),
        }],
    })
}

#[test]
fn a_token_is_good_once_for_its_purpose_and_until_it_expires() {
    let mut log = Log::new();
    let now = 1_800_000_000;
    log.run(token("w", TokenPurpose::Workload, now + 60))
        .accepted()
        .unwrap();
    log.run(token("c", TokenPurpose::Controller, now + 60))
        .accepted()
        .unwrap();
    log.run(token("late", TokenPurpose::Controller, now + 60))
        .accepted()
        .unwrap();
    assert_eq!(
        refused(log.run(token("w", TokenPurpose::Workload, now + 60))).0,
        RefusalCode::Conflict
    );
    assert_eq!(
        refused(log.run(token("past", TokenPurpose::Workload, now - 1))).0,
        RefusalCode::Invalid
    );
    let join = |id: &str| {
        Command::UseToken(UseToken {
            id: id.to_owned(),
            used_by: "c4".to_owned(),
        })
    };
    assert_eq!(
        refused(log.run(join("w"))).0,
        RefusalCode::NotFound,
        "a workload's token joins no controller"
    );
    log.run(join("c")).accepted().unwrap();
    assert_eq!(refused(log.run(join("c"))).0, RefusalCode::TokenUsed);
    log.run(issue("01", "w", now + 100)).accepted().unwrap();
    assert_eq!(
        refused(log.run(issue("02", "w", now + 100))).0,
        RefusalCode::TokenUsed
    );
    assert_eq!(
        log.state.issuance().count(),
        1,
        "a refused certificate is not on the record"
    );
    log.time_millis += 61_000;
    assert_eq!(refused(log.run(join("late"))).0, RefusalCode::TokenExpired);
    log.run(Command::RevokeToken(RevokeToken {
        id: "late".to_owned(),
    }))
    .accepted()
    .unwrap();
    assert_eq!(refused(log.run(join("late"))).0, RefusalCode::NotFound);
    log.time_millis += 25 * 3_600_000;
    log.run(Command::Tick);
    assert!(
        log.state.tokens().is_empty(),
        "expired tokens are forgotten in the end"
    );
}

#[test]
fn the_issuance_log_is_one_chain_and_its_expired_front_goes() {
    let mut log = Log::new();
    let now = 1_800_000_000;
    for (number, life) in [100, 50, 300].into_iter().enumerate() {
        let applied = log.run(issue(&format!("{number:02}"), "", now + life));
        assert_eq!(applied.first_record, number as u64 + 1);
    }
    let check = |state: &State, numbers: &[u64]| {
        let records: Vec<_> = state.issuance().records_from(0).cloned().collect();
        assert_eq!(
            records
                .iter()
                .map(|record| record.number)
                .collect::<Vec<_>>(),
            numbers
        );
        for pair in records.windows(2) {
            assert_eq!(pair[1].previous, pair[0].hash);
        }
        assert!(
            records
                .iter()
                .all(|record| record.hash == record.expected_hash())
        );
        assert_eq!(
            records.last().map(|record| &record.hash),
            Some(state.issuance().head())
        );
    };
    check(&log.state, &[1, 2, 3]);
    log.time_millis += 60_000;
    log.run(Command::Tick);
    check(&log.state, &[1, 2, 3]);
    log.time_millis += 60_000;
    log.run(Command::Tick);
    check(&log.state, &[3]);
    assert_eq!(log.state.mesh().index(), 1, "issuance moves no mesh index");
}

#[test]
fn trust_is_set_at_the_revision_that_was_read() {
    let mut log = Log::new();
    let set = |expected_revision| {
        Command::SetTrust(SetTrust {
            expected_revision,
            roots: vec![Root {
                certificate: Bytes::from_static(b"der"),
                phase: 0,
            }],
            sealed: vec![Sealed {
                name: "data-key".to_owned(),
                sealed_by: "kek".to_owned(),
                blob: Bytes::from_static(b"x"),
            }],
        })
    };
    log.run(set(0)).accepted().unwrap();
    assert_eq!(refused(log.run(set(0))).0, RefusalCode::Conflict);
    assert_eq!(log.state.trust_revision(), 1);
    assert_eq!(log.state.mesh().roots_changed_at(), 2);
    assert_eq!(log.state.sealed().len(), 1);
}

#[test]
fn a_difference_names_what_changed() {
    let mut log = Log::new();
    log.put(&(service("a") + &service("b"))).accepted().unwrap();
    log.run(Command::Register(instance("gone", 1)))
        .accepted()
        .unwrap();
    let before = log.state.mesh().clone();
    log.put(&(service("b").replace("8080", "8081") + &service("c")))
        .accepted()
        .unwrap();
    log.run(Command::EndInstances(EndInstances {
        ends: vec![InstanceEnd {
            name: Name::new("default", "gone"),
            generation: 1,
        }],
    }));
    let service =
        |name: &str| Change::Object(ObjectKey::new(Kind::Service, Name::new("default", name)));
    let after = log.state.mesh();
    let expected = [
        service("b"),
        service("c"),
        Change::Vip(Name::new("default", "c")),
        Change::Instance(Name::new("default", "gone")),
    ];
    assert_eq!(before.diff(after), expected);
    assert!(after.diff(after).is_empty());
}

/// `route` as another kind, namespace and port of a parent.
fn routed(kind: &str, namespace: &str, name: &str, parent: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{parentRefs: [{{kind: Service, {parent}}}], rules: [{{backendRefs: [{{name: web, namespace: default, port: 80}}]}}]}}\n---\n"
    )
}

#[test]
fn a_port_takes_routes_of_one_kind_from_each_namespace() {
    let mut log = Log::new();
    let ports = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{name: a, port: 80}, {name: b, port: 81}]}\n---\n";
    log.put(ports).accepted().unwrap();
    let whole = routed("HTTPRoute", "default", "whole", "name: web, port: 80");
    log.put(&whole).accepted().unwrap();
    for parent in ["name: web", "name: web, port: 80"] {
        let refused = log.put(&routed("GRPCRoute", "default", "calls", parent));
        let refusal = refused.refusal.unwrap();
        assert_eq!(refusal.problems[0].path, "spec.parentRefs[0]");
        let message = &refusal.problems[0].message;
        assert!(
            message.contains("HTTPRoute default/whole is attached"),
            "{message}"
        );
    }
    // Another port, or another namespace's clients, are another matter.
    for (namespace, parent) in [
        ("default", "name: web, port: 81"),
        ("desk", "name: web, namespace: default"),
    ] {
        log.put(&routed("GRPCRoute", namespace, "calls", parent))
            .accepted()
            .unwrap();
    }
    let mesh = log.state.mesh();
    let web = Name::new("default", "web");
    assert_eq!(mesh.attached(&web).count(), 3);
    assert_eq!(mesh.routes_at(&web, 80, "default").len(), 1);
    assert_eq!(mesh.routes_at(&web, 81, "default").len(), 1);
    assert!(mesh.consumes("desk", &web) && !mesh.consumes("default", &web));
    log.delete(Kind::GrpcRoute, "desk", "calls")
        .accepted()
        .unwrap();
    assert!(!log.state.mesh().consumes("desk", &web));
}

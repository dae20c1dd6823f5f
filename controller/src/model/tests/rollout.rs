//! A change that reaches a part of the clients first.

use super::{Log, instance, puts, route, service};
use crate::model::command::{DeleteObject, MoveRollout, RolloutStep, StageObjects, WriteObjects};
use crate::model::rollout::place;
use crate::model::{Applied, Command, Kind, Name, ObjectKey, RefusalCode, State};

fn stage(write: Command, through: u32) -> Command {
    let Command::WriteObjects(write) = write else {
        panic!("only objects are staged");
    };
    Command::StageObjects(StageObjects {
        write,
        salt: 5,
        through,
        share: 10,
    })
}

fn step(log: &mut Log, step: RolloutStep, through: u32) -> Applied {
    let id = log.state.mesh().rollout().map_or(0, |one| one.id());
    log.run(Command::MoveRollout(MoveRollout {
        id,
        step: step as i32,
        through,
        share: 50,
    }))
}

/// Two services, and a route between them that is being rolled out to the first half of all places.
fn under_way() -> Log {
    let mut log = Log::new();
    log.put(&(service("web") + &service("api")));
    let staged = log.run(stage(puts(&route("r", "web", "api", 80)), u32::MAX / 2));
    staged.accepted().unwrap();
    log
}

fn refused(applied: Applied) -> (RefusalCode, String) {
    let refusal = applied.accepted().unwrap_err();
    (refusal.code(), refusal.message)
}

#[test]
fn only_those_whom_it_has_reached_see_it() {
    let mut log = under_way();
    let mesh = log.state.mesh();
    let rollout = mesh.rollout().unwrap();
    assert!(mesh.http_routes().is_empty());
    assert_eq!(rollout.mesh().http_routes().len(), 1);
    let clients: Vec<Name> = (0..100)
        .map(|number| Name::new("default", format!("web-{number}")))
        .collect();
    let reached = |log: &Log| {
        let rollout = log.state.mesh().rollout().unwrap();
        clients.iter().filter(|one| rollout.reaches(one)).count()
    };
    let first = clients.iter().filter(|one| place(5, one) <= u32::MAX / 2);
    assert_eq!(reached(&log), first.count());
    step(&mut log, RolloutStep::Widen, u32::MAX)
        .accepted()
        .unwrap();
    assert_eq!(reached(&log), 100);
    let (code, _) = refused(step(&mut log, RolloutStep::Widen, 3));
    assert_eq!(code, RefusalCode::Conflict);
}

#[test]
fn it_ends_as_the_change_or_as_if_it_had_never_been() {
    let mut log = under_way();
    let finished = step(&mut log, RolloutStep::Finish, 0).accepted().unwrap();
    assert_eq!(finished.objects.len(), 1);
    assert!(log.state.mesh().rollout().is_none());
    assert_eq!(log.state.mesh().http_routes().len(), 1);
    assert_eq!(log.state.mesh().index(), log.index);

    let mut log = under_way();
    step(&mut log, RolloutStep::Abort, 0).accepted().unwrap();
    assert!(log.state.mesh().rollout().is_none());
    assert!(log.state.mesh().http_routes().is_empty());
    let (code, text) = refused(step(&mut log, RolloutStep::Abort, 0));
    assert_eq!(code, RefusalCode::NotFound, "{text}");
}

#[test]
fn the_rest_of_the_mesh_moves_on_beneath_it() {
    let mut log = under_way();
    log.run(Command::Register(instance("web-1", 1)));
    log.put(&service("more"));
    let ahead = log.state.mesh().rollout().unwrap().mesh();
    assert_eq!(ahead.instances().len(), 1);
    assert_eq!(ahead.services().len(), 3);
    assert_eq!(ahead.vips(), log.state.mesh().vips());
    assert_eq!(ahead.http_routes().len(), 1);
    assert_eq!(ahead.index(), log.state.mesh().index());
}

#[test]
fn what_does_not_go_together_with_it_is_refused() {
    let mut log = under_way();
    let before = log.state.mesh().clone();
    let conflict = RefusalCode::Conflict;
    let second = log.run(stage(puts(&route("s", "web", "api", 80)), 9));
    assert_eq!(refused(second).0, conflict);
    assert_eq!(refused(log.put(&route("r", "web", "api", 80))).0, conflict);
    let gone = refused(log.delete(Kind::Service, "default", "api"));
    assert_eq!(gone.0, RefusalCode::Relations);
    assert!(gone.1.contains("rollout"), "{}", gone.1);
    assert_eq!(*log.state.mesh(), before);
}

#[test]
fn what_concerns_everybody_at_once_is_not_staged() {
    let mut log = Log::new();
    log.put(&service("web"));
    let new = refused(log.run(stage(puts(&service("api")), 9)));
    assert_eq!(new.0, RefusalCode::Invalid);
    assert!(new.1.contains("virtual addresses"), "{}", new.1);
    let delete = DeleteObject {
        key: ObjectKey::new(Kind::Service, Name::new("default", "web")),
        expected: None,
    };
    let removed = log.run(stage(
        Command::WriteObjects(WriteObjects {
            puts: vec![],
            deletes: vec![delete],
        }),
        9,
    ));
    assert_eq!(refused(removed).0, RefusalCode::Invalid);
    let dangling = log.run(stage(puts(&route("r", "web", "nothing", 80)), 9));
    assert_eq!(refused(dangling).0, RefusalCode::Relations);
    let unchanged = log.run(stage(puts(&service("web")), 9));
    unchanged.accepted().unwrap();
    assert!(log.state.mesh().rollout().is_none());
}

#[test]
fn it_is_in_snapshots_and_in_the_hash() {
    let log = under_way();
    let bytes: Vec<u8> = log.state.encode().flatten().collect();
    let read = State::decode(&bytes[..]).unwrap();
    assert_eq!(read, log.state);
    let mut aborted = under_way();
    aborted.state.mesh.rollout = None;
    assert_ne!(aborted.state.hash(), log.state.hash());
    assert!(log.state.restored("c2", 9).mesh().rollout().is_none());
}

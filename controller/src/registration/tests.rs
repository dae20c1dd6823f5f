//! Registrations over a cluster of one, and the lease table over a clock that the test moves.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use tonic::{Code, Request};
use xds_api::maille::v1::registration_server::Registration;
use xds_api::maille::v1::{self as wire, RegisterRequest, RenewRequest, WithdrawRequest};

use super::table::{Lease, Table};
use super::*;
use crate::agreement::Agreement;
use crate::agreement::alone::{Alone, now_millis};
use crate::model::{Command, Instance, Name, Proposal};
use crate::pki::{Facts, Term};
use crate::supervise::Supervisor;
use crate::tls::Caller;

fn request<T>(message: T, spiffe_id: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    let mut caller = Caller::local(0);
    caller.leaf = spiffe_id.map(|id| {
        Arc::new(Facts {
            subject: String::new(),
            organization: String::new(),
            unit: String::new(),
            uris: vec![id.to_owned()],
            serial: "1".to_owned(),
            term: Term {
                not_before: 0,
                not_after: i64::MAX,
            },
            is_ca: false,
            key_sha256: [0; 32],
            sha256: [0; 32],
        })
    });
    request.extensions_mut().insert(caller);
    request
}

const WEB: &str = "spiffe://mesh.local/ns/shop/sa/web";

fn registering(name: &str, generation: u64) -> RegisterRequest {
    let ports = vec![wire::InstancePort {
        port: 8080,
        health: 1,
        ..wire::InstancePort::default()
    }];
    let instance = wire::Instance {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        addresses: vec!["10.0.0.1".to_owned()],
        ports,
        mesh: 1,
        mesh_port: 4743,
        ..wire::Instance::default()
    };
    RegisterRequest {
        instance: Some(instance),
        generation,
        sequence: 0,
    }
}

fn withdrawing(generation: u64) -> WithdrawRequest {
    WithdrawRequest {
        namespace: "shop".to_owned(),
        name: "web-1".to_owned(),
        generation,
        sequence: 0,
    }
}

fn renewing(generation: u64) -> RenewRequest {
    RenewRequest {
        namespace: "shop".to_owned(),
        name: "web-1".to_owned(),
        generation,
    }
}

fn service(alone: &Arc<Alone>, supervisor: &mut Supervisor) -> RegistrationService {
    RegistrationService::new(
        &supervisor.stage("registration"),
        Arc::clone(alone) as Arc<dyn Agreement>,
    )
}

#[tokio::test]
async fn an_instance_comes_once_is_renewed_without_a_write_and_goes() {
    let (alone, mut supervisor) = (Alone::new(), Supervisor::new());
    let service = service(&alone, &mut supervisor);
    let first = service
        .register(request(registering("web-1", 5), Some(WEB)))
        .await
        .unwrap()
        .into_inner();
    let again = service
        .register(request(registering("web-1", 5), Some(WEB)))
        .await
        .unwrap()
        .into_inner();
    let writes = alone.writes().len();
    service
        .renew(request(renewing(5), Some(WEB)))
        .await
        .unwrap();
    assert_eq!((first.index, writes), (again.index, alone.writes().len()));
    assert_eq!(15, first.lease_seconds);
    let name = Name {
        namespace: "shop".to_owned(),
        name: "web-1".to_owned(),
    };
    assert_eq!(WEB, alone.now().mesh().instances()[&name].instance.identity);

    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while alone.renewed().is_empty() {
        assert!(tokio::time::Instant::now() < until, "no renewal came");
        tokio::task::yield_now().await;
    }
    assert_eq!(
        ("web-1", 5),
        (
            alone.renewed()[0].name.as_str(),
            alone.renewed()[0].generation
        )
    );

    service
        .withdraw(request(withdrawing(5), Some(WEB)))
        .await
        .unwrap();
    assert!(alone.now().mesh().instances().is_empty());
    service
        .withdraw(request(withdrawing(5), Some(WEB)))
        .await
        .unwrap();
    let ended = service
        .renew(request(renewing(5), Some(WEB)))
        .await
        .unwrap_err();
    assert_eq!(Code::NotFound, ended.code());
    supervisor.stop().await;
}

#[tokio::test]
async fn a_certificate_bounds_what_its_holder_may_register() {
    let (alone, mut supervisor) = (Alone::new(), Supervisor::new());
    let service = service(&alone, &mut supervisor);
    let check = |caller: Option<&'static str>, code: Code, words: &'static str| {
        let service = service.clone();
        async move {
            let refused = service
                .register(request(registering("web-1", 5), caller))
                .await
                .unwrap_err();
            assert_eq!(code, refused.code(), "{refused}");
            assert!(refused.message().contains(words), "{refused}");
        }
    };
    check(None, Code::Unauthenticated, "get one with a join token").await;
    check(
        Some("spiffe://mesh.local/ns/bank/sa/web"),
        Code::PermissionDenied,
        "is for the namespace bank",
    )
    .await;
    check(
        Some("spiffe://other/ns/shop/sa/web"),
        Code::PermissionDenied,
        "no workload of this mesh",
    )
    .await;
    check(
        Some("spiffe://mesh.local/admin/ada"),
        Code::PermissionDenied,
        "no workload of this mesh",
    )
    .await;
    assert!(alone.now().mesh().instances().is_empty());
    supervisor.stop().await;
}

#[tokio::test]
async fn a_newer_process_takes_a_name_over_and_an_older_one_cannot_take_it_back() {
    let (alone, mut supervisor) = (Alone::new(), Supervisor::new());
    let service = service(&alone, &mut supervisor);
    service
        .register(request(registering("web-1", 5), Some(WEB)))
        .await
        .unwrap();
    service
        .register(request(registering("web-1", 6), Some(WEB)))
        .await
        .unwrap();
    let refused = service
        .register(request(registering("web-1", 5), Some(WEB)))
        .await
        .unwrap_err();
    assert!(refused.message().contains("a newer process"), "{refused}");
    assert_eq!(
        Code::NotFound,
        service
            .renew(request(renewing(5), Some(WEB)))
            .await
            .unwrap_err()
            .code()
    );
    supervisor.stop().await;
}

#[tokio::test]
async fn what_is_passed_on_late_does_not_undo_what_was_said_later() {
    let (alone, mut supervisor) = (Alone::new(), Supervisor::new());
    let service = service(&alone, &mut supervisor);
    let said = |health: i32, sequence| {
        let mut message = registering("web-1", 5);
        message.instance.as_mut().unwrap().ports[0].health = health;
        message.sequence = sequence;
        service.register(request(message, Some(WEB)))
    };
    let health = || {
        let state = alone.now();
        let mut instances = state.mesh().instances().values();
        let instance = instances.next().map(|entry| entry.instance.clone())?;
        Some(instance.ports[0].health)
    };
    said(1, 1).await.unwrap();
    // The third says what is there already: the second must not come after it all the same.
    said(1, 3).await.unwrap();
    let late = said(2, 2).await.unwrap_err();
    assert_eq!((Code::Aborted, Some(1)), (late.code(), health()), "{late}");

    said(2, 4).await.unwrap();
    let gone = WithdrawRequest {
        sequence: 6,
        ..withdrawing(5)
    };
    service
        .withdraw(request(gone.clone(), Some(WEB)))
        .await
        .unwrap();
    said(2, 5).await.unwrap_err();
    assert_eq!(None, health(), "it was withdrawn before");
    // A withdrawal may come before the registration that it is to undo.
    let early = WithdrawRequest {
        sequence: 8,
        ..gone
    };
    service.withdraw(request(early, Some(WEB))).await.unwrap();
    said(2, 7).await.unwrap_err();
    assert_eq!(None, health());
    // Another process is another writer, and so is another identity.
    let newer = RegisterRequest {
        sequence: 1,
        ..registering("web-1", 6)
    };
    service.register(request(newer, Some(WEB))).await.unwrap();
    supervisor.stop().await;
}

#[tokio::test]
async fn another_identity_cannot_be_ahead_of_a_process() {
    let (alone, mut supervisor) = (Alone::new(), Supervisor::new());
    let service = service(&alone, &mut supervisor);
    let numbered = |sequence| RegisterRequest {
        sequence,
        ..registering("web-1", 5)
    };
    let other = Some("spiffe://mesh.local/ns/shop/sa/other");
    service
        .register(request(numbered(1), Some(WEB)))
        .await
        .unwrap();
    let refused = service.register(request(numbered(u64::MAX), other)).await;
    assert_eq!(Code::FailedPrecondition, refused.unwrap_err().code());
    service
        .register(request(numbered(2), Some(WEB)))
        .await
        .unwrap();
    supervisor.stop().await;
}

/// A mesh with so many instances.
fn mesh(count: u64) -> Arc<Alone> {
    let alone = Alone::new();
    for number in 0..count {
        let instance = Instance {
            name: Name {
                namespace: "shop".to_owned(),
                name: format!("web-{number:03}"),
            },
            addresses: vec!["10.0.0.1".to_owned()],
            identity: WEB.to_owned(),
            generation: 1,
            ..Instance::default()
        };
        let proposal = Proposal {
            author: "test".to_owned(),
            client: String::new(),
            sequence: 0,
            time_millis: now_millis(),
            command: Command::Register(instance),
        };
        alone.apply(&proposal).accepted().unwrap();
    }
    alone
}

/// Looks every second; `renews` says which instances renew. Answers the most that ended at once, and how many are held.
fn run(
    table: &mut Table,
    alone: &Alone,
    from: Instant,
    seconds: u64,
    renews: impl Fn(usize) -> bool,
) -> (usize, usize) {
    let state = alone.now();
    let all: Vec<Lease> = state
        .mesh()
        .instances()
        .keys()
        .map(|name| Lease {
            name: name.clone(),
            generation: 1,
        })
        .collect();
    let (mut ended, mut held) = (0, 0);
    for second in 0..=seconds {
        let now = from + Duration::from_secs(second);
        for (number, lease) in all.iter().enumerate() {
            if renews(number) && (second + number as u64).is_multiple_of(5) {
                table.renew(lease.clone(), now);
            }
        }
        let found = table.look(state.mesh(), now);
        ended = ended.max(found.ended.len());
        held = found.held;
    }
    (ended, held)
}

#[test]
fn one_that_stops_renewing_ends_after_a_lease_and_the_others_stay() {
    let alone = mesh(20);
    let start = Instant::now();
    let mut table = Table::default();
    assert_eq!(
        (0, 0),
        run(&mut table, &alone, start, 14, |number| number != 7)
    );
    let found = run(
        &mut table,
        &alone,
        start + Duration::from_secs(15),
        0,
        |number| number != 7,
    );
    assert_eq!((1, 0), found);
}

#[test]
fn when_too_many_stop_at_once_all_are_kept() {
    assert_eq!(
        (0, 20),
        run(&mut Table::default(), &mesh(20), Instant::now(), 60, |_| {
            false
        })
    );
}

#[test]
fn a_new_leader_and_a_process_that_stood_still_give_everybody_a_whole_lease() {
    let alone = mesh(2);
    let start = Instant::now();
    let mut table = Table::default();
    run(&mut table, &alone, start, 10, |_| true);
    table.clear();
    assert_eq!(
        (0, 0),
        run(
            &mut table,
            &alone,
            start + Duration::from_secs(10),
            14,
            |_| false
        )
    );
    // 24 s after the start the leases are a second from their end; then nothing runs for a minute.
    let later = start + Duration::from_secs(84);
    assert_eq!((0, 0), run(&mut table, &alone, later, 14, |_| false));
    assert_eq!(
        (2, 0),
        run(
            &mut table,
            &alone,
            later + Duration::from_secs(15),
            0,
            |_| false
        )
    );
}

//! Balancing as values: endpoints and outcomes in, picks out.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::snapshot::{HashKey, Limits, Outlier, RetryBudget};
use std::collections::HashSet;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn endpoint(number: u16) -> Endpoint {
    Endpoint {
        address: ([10, 0, 0, 1], number).into(),
        namespace: "demo".into(),
        workload: format!("w{number}").into(),
        locality: Locality::default(),
        health: Health::Healthy,
        weight: 1,
        mesh: None,
    }
}

fn endpoints(endpoints: Vec<Endpoint>) -> Arc<Endpoints> {
    Arc::new(Endpoints {
        name: "demo/api:80".into(),
        endpoints,
    })
}

fn many(count: u16) -> Arc<Endpoints> {
    endpoints((1..=count).map(endpoint).collect())
}

fn cluster(balancing: Balancing) -> Cluster {
    Cluster {
        name: "demo/api:80".into(),
        namespace: "demo".into(),
        service: "api".into(),
        port: 80,
        connect_timeout: SECOND,
        balancing,
        outlier: Some(Outlier {
            consecutive_5xx: 3,
            consecutive_gateway_failure: 2,
            interval: SECOND,
            base_ejection_time: 10 * SECOND,
            max_ejection_time: 25 * SECOND,
            max_ejection_percent: 50,
        }),
        limits: Limits::default(),
    }
}

fn balancer(balancing: Balancing, source: Arc<Endpoints>) -> Balancer<()> {
    let here = Locality::default();
    Balancer::new(
        Arc::new(cluster(balancing)),
        source,
        here,
        Counter::default(),
        |_| (),
    )
}

/// How often each port is picked in `count` picks that end at once.
fn spread<T>(balancer: &Balancer<T>, count: u64, now: Instant) -> HashMap<u16, u64> {
    let mut picked = HashMap::new();
    for key in 0..count {
        let lease = balancer.pick(now, hash(&key.to_le_bytes()), &[]).unwrap();
        *picked
            .entry(lease.state.endpoint.address.port())
            .or_default() += 1;
    }
    picked
}

fn fail(balancer: &Balancer<()>, port: u16, outcome: Outcome, times: usize, now: Instant) {
    let state = balancer.state.load();
    let endpoint = state
        .endpoints
        .iter()
        .find(|state| state.endpoint.address.port() == port)
        .unwrap();
    for _ in 0..times {
        balancer.report(endpoint, outcome, now);
    }
}

#[test]
fn every_balancer_uses_every_endpoint_about_equally() {
    let hashed = || HashKey::Client;
    for balancing in [
        Balancing::PeakEwma,
        Balancing::LeastRequest,
        Balancing::RoundRobin,
        Balancing::RingHash(hashed()),
        Balancing::Maglev(hashed()),
    ] {
        let picked = spread(&balancer(balancing.clone(), many(4)), 8_000, Instant::now());
        let even = picked.len() == 4 && picked.values().all(|count| (1_300..2_700).contains(count));
        assert!(even, "{balancing:?}: {picked:?}");
    }
}

#[test]
fn a_slow_endpoint_gets_less() {
    let balancer = balancer(Balancing::PeakEwma, many(2));
    let now = Instant::now();
    for _ in 0..50 {
        let lease = balancer.pick(now, 0, &[]).unwrap();
        let slow = lease.state.endpoint.address.port() == 1;
        lease.answered(now + if slow { SECOND } else { SECOND / 1_000 });
    }
    let picked = spread(&balancer, 1_000, now + SECOND / 2);
    assert!(picked.get(&1).copied().unwrap_or(0) < 10, "{picked:?}");
}

/// How often each port is picked in `count` requests one after the other, each answered after what `takes` says.
fn in_turn(
    balancer: &Balancer<()>,
    count: u32,
    mut now: Instant,
    takes: impl Fn(u16) -> Duration,
) -> HashMap<u16, u32> {
    let mut picked = HashMap::new();
    for _ in 0..count {
        let lease = balancer.pick(now, 0, &[]).unwrap();
        let port = lease.state.endpoint.address.port();
        now += takes(port);
        lease.answered(now);
        *picked.entry(port).or_default() += 1;
    }
    picked
}

#[test]
fn endpoints_that_are_about_as_fast_get_as_much_one_request_at_a_time() {
    let balancer = balancer(Balancing::PeakEwma, many(3));
    let takes = |port: u16| Duration::from_millis(u64::from(9 + port));
    let picked = in_turn(&balancer, 900, Instant::now(), takes);
    assert!(
        picked.len() == 3 && picked.values().all(|count| *count > 200),
        "{picked:?}"
    );
}

#[test]
fn a_slow_beginning_is_soon_forgotten() {
    let balancer = balancer(Balancing::PeakEwma, many(3));
    let now = Instant::now();
    let slow = |port: u16| Duration::from_millis(if port == 1 { 300 } else { 10 });
    // Drawn by chance, one of three may be left out for long: those that were tried are not drawn again.
    let mut tried = Vec::new();
    for _ in 0..3 {
        let lease = balancer.pick(now, 0, &tried).unwrap();
        tried.push(lease.state.clone());
        lease.answered(now + slow(lease.state.endpoint.address.port()));
    }
    let ports: HashSet<u16> = tried
        .iter()
        .map(|one| one.endpoint.address.port())
        .collect();
    assert_eq!(ports.len(), 3, "each is tried once");
    let takes = |_| Duration::from_millis(10);
    let picked = in_turn(&balancer, 1_000, now + SECOND / 2, takes);
    assert!(
        picked.get(&1).is_some_and(|count| *count > 100),
        "{picked:?}"
    );
}

#[test]
fn the_time_that_a_connection_took_is_not_the_endpoints() {
    let balancer = balancer(Balancing::PeakEwma, many(1));
    let now = Instant::now();
    let lease = balancer.pick(now, 0, &[]).unwrap();
    lease.connected(now + SECOND);
    lease.answered(now + SECOND + SECOND / 100);
    let state = lease.state.clone();
    drop(lease);
    assert!((0.009..0.011).contains(&state.latency(now + SECOND)));
}

#[test]
fn a_busy_endpoint_gets_less() {
    let balancer = balancer(Balancing::LeastRequest, many(2));
    let now = Instant::now();
    let held: Vec<_> = (0..10)
        .map(|_| balancer.pick(now, 0, &[]).unwrap())
        .collect();
    let first = held
        .iter()
        .filter(|lease| lease.state.endpoint.address.port() == 1)
        .count();
    assert_eq!(first, 5);
}

#[test]
fn what_was_learnt_survives_a_change_of_the_snapshot() {
    let balancer = balancer(Balancing::PeakEwma, many(2));
    let now = Instant::now();
    fail(&balancer, 1, Outcome::ServerError, 3, now);
    let mut changed = vec![endpoint(1), endpoint(2), endpoint(3)];
    changed[0].weight = 7;
    balancer.refresh(
        &Arc::new(cluster(Balancing::PeakEwma)),
        &endpoints(changed),
        |_| (),
    );
    let picked = spread(&balancer, 300, now);
    assert!(
        !picked.contains_key(&1) && picked.contains_key(&3),
        "{picked:?}"
    );
}

#[test]
fn failures_in_a_row_eject_for_longer_each_time_and_it_returns() {
    let balancer = balancer(Balancing::RoundRobin, many(2));
    let mut now = Instant::now();
    fail(&balancer, 1, Outcome::ServerError, 2, now);
    fail(&balancer, 1, Outcome::Success, 1, now);
    fail(&balancer, 1, Outcome::ServerError, 2, now);
    assert_eq!(
        spread(&balancer, 10, now).len(),
        2,
        "a success in between starts anew"
    );
    for time in [10, 20, 25] {
        fail(&balancer, 1, Outcome::GatewayFailure, 2, now);
        assert_eq!(spread(&balancer, 10, now).len(), 1);
        now += time * SECOND - SECOND / 10;
        assert_eq!(
            spread(&balancer, 10, now).len(),
            1,
            "still out before {time} s"
        );
        now += SECOND / 5;
        assert_eq!(spread(&balancer, 10, now).len(), 2, "back after {time} s");
    }
    assert_eq!(balancer.ejections.get(), 3);
}

#[test]
fn no_more_than_a_part_is_ejected() {
    let balancer = balancer(Balancing::RoundRobin, many(4));
    let now = Instant::now();
    for port in 1..=4 {
        fail(&balancer, port, Outcome::ServerError, 3, now);
    }
    assert_eq!(spread(&balancer, 100, now).len(), 2);
}

#[test]
fn unhealthy_endpoints_get_nothing_unless_all_are() {
    let mut sick = endpoint(1);
    sick.health = Health::Unhealthy;
    let one = balancer(
        Balancing::PeakEwma,
        endpoints(vec![sick.clone(), endpoint(2)]),
    );
    assert_eq!(spread(&one, 50, Instant::now()).len(), 1);
    let all = balancer(Balancing::PeakEwma, endpoints(vec![sick]));
    assert_eq!(spread(&all, 5, Instant::now()).len(), 1);
    let none = balancer(Balancing::PeakEwma, endpoints(vec![]));
    assert!(none.pick(Instant::now(), 0, &[]).is_none());
}

#[test]
fn a_key_stays_with_its_endpoint_and_few_move_when_another_goes() {
    for balancing in [
        Balancing::RingHash(HashKey::Client),
        Balancing::Maglev(HashKey::Client),
    ] {
        let (five, four) = (
            balancer(balancing.clone(), many(5)),
            balancer(balancing.clone(), many(4)),
        );
        let port = |balancer: &Balancer<()>, key: u64| {
            let lease = balancer
                .pick(Instant::now(), hash(&key.to_le_bytes()), &[])
                .unwrap();
            lease.state.endpoint.address.port()
        };
        let before: Vec<_> = (0..1_000).map(|key| port(&five, key)).collect();
        assert!((0..1_000).all(|key| port(&five, key) == before[key as usize]));
        let moved = (0..1_000)
            .filter(|key| before[*key as usize] != 5 && port(&four, *key) != before[*key as usize]);
        let moved = moved.count();
        assert!(
            moved < 60,
            "{balancing:?}: {moved} of 1,000 moved although their endpoint stayed"
        );
    }
}

#[test]
fn workloads_at_one_address_have_keys_of_their_own() {
    let at_one_address = |number: u16| Endpoint {
        address: ([10, 0, 0, 1], 80).into(),
        mesh: Some(crate::snapshot::MeshAddress {
            port: number,
            form: crate::snapshot::MeshForm::Native,
            identity: "spiffe://mesh.test/ns/demo/sa/api".into(),
        }),
        ..endpoint(number)
    };
    for balancing in [
        Balancing::RingHash(HashKey::Client),
        Balancing::Maglev(HashKey::Client),
    ] {
        let source = endpoints((1..=3).map(at_one_address).collect());
        let balancer = balancer(balancing, source);
        let workload = |key: u64| {
            let lease = balancer.pick(Instant::now(), hash(&key.to_le_bytes()), &[]);
            lease.unwrap().state.endpoint.workload.clone()
        };
        let met: std::collections::HashSet<_> = (0..100).map(workload).collect();
        assert_eq!(met.len(), 3);
    }
}

#[test]
fn the_own_zone_comes_first_and_spills_over_as_it_shrinks() {
    let place = |zone: &str| Locality {
        region: "r".into(),
        zone: zone.into(),
    };
    let at = |number: u16, zone: &str| Endpoint {
        locality: place(zone),
        ..endpoint(number)
    };
    let source = endpoints(vec![at(1, "a"), at(2, "a"), at(3, "b"), at(4, "b")]);
    let cluster = Arc::new(cluster(Balancing::RoundRobin));
    let balancer = Balancer::new(cluster, source, place("a"), Counter::default(), |_| ());
    let now = Instant::now();
    let picked = spread(&balancer, 1_000, now);
    assert!(picked.keys().all(|port| *port <= 2), "{picked:?}");
    fail(&balancer, 1, Outcome::ServerError, 3, now);
    let picked = spread(&balancer, 1_000, now);
    let near = picked[&2];
    assert!(
        (600..800).contains(&near),
        "one of two left takes 70 %: {picked:?}"
    );
    fail(&balancer, 2, Outcome::ServerError, 3, now);
    let picked = spread(&balancer, 1_000, now);
    assert!(picked.keys().all(|port| *port >= 3), "{picked:?}");
}

#[test]
fn a_second_try_goes_elsewhere() {
    let balancer = balancer(Balancing::PeakEwma, many(2));
    let now = Instant::now();
    for _ in 0..20 {
        let first = balancer.pick(now, 0, &[]).unwrap();
        let second = balancer
            .pick(now, 0, std::slice::from_ref(&first.state))
            .unwrap();
        assert!(!Arc::ptr_eq(&first.state, &second.state));
    }
}

#[test]
fn limits_and_the_budget_hold_and_are_given_back() {
    let mut limited = cluster(Balancing::PeakEwma);
    limited.limits = Limits {
        max_connections: Some(1),
        max_pending_requests: None,
        max_requests: Some(20),
        retry_budget: RetryBudget {
            percent: 20.0,
            min_concurrency: 2,
        },
    };
    let here = Locality::default();
    let balancer = Balancer::new(Arc::new(limited), many(1), here, Counter::default(), |_| ());
    let connection = balancer.connection().unwrap();
    assert_eq!(
        balancer.connection().unwrap_err().to_string(),
        "maxConnections is at its limit of 1"
    );
    drop(connection);
    assert!(balancer.connection().is_ok());
    let idle: Vec<_> = (0..5).map_while(|_| balancer.retry()).collect();
    assert_eq!(idle.len(), 2, "the minimum");
    drop(idle);
    let requests: Vec<_> = (0..30).map_while(|_| balancer.request().ok()).collect();
    assert_eq!(requests.len(), 20);
    let busy: Vec<_> = (0..30).map_while(|_| balancer.retry()).collect();
    assert_eq!(busy.len(), 4, "a fifth of twenty");
}

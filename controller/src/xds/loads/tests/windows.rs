//! What is kept, for how long, and how much of it.

use std::time::Duration;

use tokio::time::Instant;
use xds_api::maille::v1 as api;

use super::super::KEEP;
use super::super::report::{Counts, Line, Report, UnderWay};
use super::super::table::{NoRoom, Query, SLOT, STREAMS, Table};
use crate::model::Name;
use crate::xds::names::ServicePort;

const INTERVAL: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);

struct Stage {
    table: Table,
    now: Instant,
}

impl Stage {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            table: Table::new(INTERVAL, now),
            now,
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn enter(&mut self, client: &str) -> Result<(), NoRoom> {
        self.table
            .enter(&Name::new("shop", client), "envoy", self.now)
    }

    fn leave(&mut self, client: &str) {
        self.table.leave(&Name::new("shop", client));
    }

    /// A report of requests to ports of one service, as many to each.
    fn report(&mut self, client: &str, ports: &[u16], issued: u64) -> usize {
        let line = |port: &u16| Line {
            port: ServicePort::new("shop", "api", *port),
            counts: Counts {
                issued,
                ..Counts::default()
            },
            under_way: UnderWay {
                requests: issued,
                connections: 0,
            },
        };
        let report = Report {
            lines: ports.iter().map(line).collect(),
            covers: INTERVAL,
        };
        self.table
            .take(&Name::new("shop", client), report, self.now)
    }

    fn look(&mut self, request: &api::LoadsRequest) -> (Vec<api::Load>, Vec<api::Reporter>, bool) {
        let query = Query {
            window: MINUTE,
            request,
        };
        self.table.look(&query, self.now)
    }

    /// Requests, those under way, and measured seconds, of the only line there is.
    fn only(&mut self) -> Option<(u64, u64, u64)> {
        let (loads, _, _) = self.look(&api::LoadsRequest::default());
        assert!(loads.len() < 2, "{loads:?}");
        let load = loads.first()?;
        Some((load.issued, load.in_progress, load.measured_millis / 1_000))
    }
}

#[test]
fn a_window_is_what_was_reported_within_it() {
    let mut stage = Stage::new();
    stage.enter("web-1").unwrap();
    assert_eq!(stage.only(), None);
    for _ in 0..3 {
        stage.pass(10);
        stage.report("web-1", &[80], 5);
    }
    assert_eq!(stage.only(), Some((15, 5, 30)));
    for _ in 0..10 {
        stage.pass(10);
        stage.report("web-1", &[80], 5);
    }
    // Six reports of ten seconds each.
    assert_eq!(stage.only(), Some((30, 5, 60)));
    stage.pass(9);
    assert_eq!(stage.only(), Some((30, 5, 60)));
}

#[test]
fn a_client_that_is_there_and_says_nothing_calls_nothing() {
    let mut stage = Stage::new();
    stage.enter("web-1").unwrap();
    stage.pass(10);
    stage.report("web-1", &[80], 5);
    stage.pass(30);
    assert_eq!(stage.only(), Some((5, 5, 30)));
    stage.report("web-1", &[], 0);
    assert_eq!(stage.only(), Some((5, 0, 40)));
    stage.pass(40);
    assert_eq!(stage.only(), None);
    let (_, reporters, _) = stage.look(&api::LoadsRequest::default());
    assert!(reporters[0].reports);
}

#[test]
fn what_a_client_has_reported_before_it_went_stays_until_it_is_too_old() {
    let mut stage = Stage::new();
    stage.enter("web-1").unwrap();
    stage.pass(10);
    stage.report("web-1", &[80], 5);
    stage.leave("web-1");
    stage.pass(50);
    assert_eq!(stage.only(), Some((5, 0, 10)));
    stage.pass(20);
    assert_eq!(stage.only(), None);
    let (_, reporters, _) = stage.look(&api::LoadsRequest::default());
    assert_eq!(reporters.len(), 1);
    assert!(!reporters[0].reports);
    stage.pass(KEEP.as_secs());
    let (_, reporters, _) = stage.look(&api::LoadsRequest::default());
    assert!(reporters.is_empty());
}

#[test]
fn a_client_that_went_without_a_report_is_forgotten_at_once() {
    let mut stage = Stage::new();
    stage.enter("web-1").unwrap();
    stage.leave("web-1");
    let (_, reporters, _) = stage.look(&api::LoadsRequest::default());
    assert!(reporters.is_empty());
}

#[test]
fn filters_leave_out_the_rest() {
    let mut stage = Stage::new();
    stage.enter("web-1").unwrap();
    stage.enter("web-2").unwrap();
    stage.pass(10);
    stage.report("web-1", &[80, 81], 5);
    stage.report("web-2", &[80], 5);
    let mut count = |change: fn(&mut api::LoadsRequest)| {
        let mut request = api::LoadsRequest::default();
        change(&mut request);
        let (loads, reporters, _) = stage.look(&request);
        (loads.len(), reporters.len())
    };
    assert_eq!(count(|_| ()), (3, 2));
    assert_eq!(count(|one| one.client = "web-1".into()), (2, 1));
    assert_eq!(count(|one| one.client_namespace = "pay".into()), (0, 0));
    assert_eq!(count(|one| one.service = "api".into()), (3, 2));
    assert_eq!(count(|one| one.service = "db".into()), (0, 2));
    assert_eq!(count(|one| one.service_namespace = "pay".into()), (0, 2));
}

#[test]
fn a_workload_has_so_many_streams() {
    let mut stage = Stage::new();
    for _ in 0..STREAMS {
        stage.enter("web-1").unwrap();
    }
    assert_eq!(stage.enter("web-1"), Err(NoRoom::Streams));
    stage.enter("web-2").unwrap();
    stage.leave("web-1");
    stage.enter("web-1").unwrap();
}

#[test]
fn there_are_so_many_clients() {
    let mut stage = Stage::new();
    let entered = (0..).map(|number| stage.enter(&format!("w{number}")));
    assert_eq!(entered.take_while(Result::is_ok).count(), 16_384);
    assert_eq!(stage.enter("another"), Err(NoRoom::Clients));
    stage.leave("w0");
    stage.enter("another").unwrap();
}

#[test]
fn what_one_client_and_all_of_them_call_is_bounded_and_what_is_left_out_is_said() {
    let mut stage = Stage::new();
    let ports: Vec<u16> = (1..=2_049).collect();
    for client in 0..16 {
        let client = format!("w{client}");
        stage.enter(&client).unwrap();
        assert_eq!(stage.report(&client, &ports, 1), 1);
    }
    stage.enter("another").unwrap();
    assert_eq!(stage.report("another", &[1, 2, 3], 1), 3);
    // What is there goes on.
    assert_eq!(stage.report("w0", &[1, 2, 3], 1), 0);
    let (loads, _, full) = stage.look(&api::LoadsRequest::default());
    assert_eq!((loads.len(), full), (32_768, true));
    // Once it is too old there is room again.
    stage.pass(KEEP.as_secs() + SLOT.as_secs());
    assert_eq!(stage.report("another", &[1, 2, 3], 1), 0);
    let (_, _, full) = stage.look(&api::LoadsRequest::default());
    assert!(!full);
}

//! What the controllers know of clients' calls becomes one answer. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tonic::Status;
use tracing::warn;
use xds_api::maille::v1::{Load, LoadsRequest, LoadsResponse, Proxy, Reporter};

/// Lines in one answer: the CLI takes no more than a few megabytes.
const LINES: usize = 20_000;

/// By service, port and client.
type Key = (String, u32, String);

/// Several controllers' answers.
#[derive(Debug)]
pub(super) struct Merged {
    loads: BTreeMap<Key, Load>,
    reporters: BTreeMap<String, Reporter>,
    rest: LoadsResponse,
}

impl Merged {
    pub(super) fn new(first: LoadsResponse) -> Self {
        let mut merged = Self {
            loads: BTreeMap::new(),
            reporters: BTreeMap::new(),
            rest: LoadsResponse {
                window_seconds: first.window_seconds,
                ..LoadsResponse::default()
            },
        };
        merged.add(first);
        merged
    }

    /// A client that has moved was measured by one controller after the other.
    pub(super) fn add(&mut self, other: LoadsResponse) {
        let window = u64::from(self.rest.window_seconds) * 1_000;
        for load in other.loads {
            let together = |one: u64, other: u64| (one + other).min(window);
            put(&mut self.loads, load, together);
        }
        for reporter in other.reporters {
            self.report(reporter);
        }
        self.rest.full_controllers.extend(other.full_controllers);
    }

    pub(super) fn silent(&mut self, controller: String, why: &Status) {
        warn!(controller, %why, "does not say what was reported to it");
        self.rest.silent_controllers.push(controller);
    }

    /// Clients that are connected and report nothing are named, too.
    pub(super) fn connected(&mut self, request: &LoadsRequest, streams: Vec<Proxy>) {
        for stream in streams {
            let (namespace, name) = stream.node.split_once('/').unwrap_or_default();
            let wanted = (request.client_namespace.is_empty()
                || request.client_namespace == namespace)
                && (request.client.is_empty() || request.client == name);
            if wanted {
                self.report(Reporter {
                    client: stream.node,
                    kind: stream.kind,
                    ..Reporter::default()
                });
            }
        }
    }

    /// What somebody may know who sees these namespaces: of calls to a service there by clients elsewhere, only all of them together.
    ///
    /// # Errors
    /// It is too much.
    pub(super) fn seen_by(mut self, sees: impl Fn(&str) -> bool) -> Result<LoadsResponse, Status> {
        let mut loads = BTreeMap::new();
        for mut load in std::mem::take(&mut self.loads).into_values() {
            if !sees(namespace(&load.client)) {
                if !sees(namespace(&load.service)) {
                    continue;
                }
                (load.client, load.kind) = Default::default();
            }
            put(&mut loads, load, u64::max);
        }
        if loads.len() > LINES {
            return Err(Status::resource_exhausted(format!(
                "the answer has {} lines; {LINES} is the limit: ask for one namespace, service or client",
                loads.len()
            )));
        }
        self.rest.loads = loads.into_values().collect();
        let reporters = self.reporters.into_values();
        self.rest.reporters = reporters
            .filter(|one| sees(namespace(&one.client)))
            .collect();
        self.rest.silent_controllers.sort();
        self.rest.full_controllers.sort();
        Ok(self.rest)
    }

    fn report(&mut self, reporter: Reporter) {
        match self.reporters.entry(reporter.client.clone()) {
            Entry::Vacant(free) => {
                free.insert(reporter);
            }
            Entry::Occupied(mut taken) => {
                let known = taken.get_mut();
                match (known.reports, reporter.reports) {
                    (false, true) => *known = reporter,
                    (true, true) => known.age_millis = known.age_millis.min(reporter.age_millis),
                    (_, false) => {}
                }
            }
        }
    }
}

/// Adds a line to the one of the same key, if any. `measured` says how long both together were measured.
fn put(loads: &mut BTreeMap<Key, Load>, load: Load, measured: impl Fn(u64, u64) -> u64) {
    let key = (load.service.clone(), load.port, load.client.clone());
    match loads.entry(key) {
        Entry::Vacant(free) => {
            free.insert(load);
        }
        Entry::Occupied(mut taken) => {
            let sum = taken.get_mut();
            let add = |one: &mut u64, other: u64| *one = one.saturating_add(other);
            add(&mut sum.issued, load.issued);
            add(&mut sum.succeeded, load.succeeded);
            add(&mut sum.failed, load.failed);
            add(&mut sum.dropped, load.dropped);
            add(&mut sum.in_progress, load.in_progress);
            add(&mut sum.timed, load.timed);
            sum.total_seconds += load.total_seconds;
            add(&mut sum.connections_opened, load.connections_opened);
            add(&mut sum.connections_failed, load.connections_failed);
            add(&mut sum.connections_open, load.connections_open);
            sum.measured_millis = measured(sum.measured_millis, load.measured_millis);
        }
    }
}

fn namespace(name: &str) -> &str {
    name.split_once('/').map_or("", |(namespace, _)| namespace)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn load(client: &str, service: &str, issued: u64, measured_millis: u64) -> Load {
        Load {
            client: client.to_owned(),
            kind: "envoy".to_owned(),
            service: service.to_owned(),
            port: 80,
            issued,
            measured_millis,
            ..Load::default()
        }
    }

    fn answer(loads: &[Load]) -> LoadsResponse {
        let reporters = loads.iter().map(|load| Reporter {
            client: load.client.clone(),
            reports: true,
            age_millis: load.issued,
            ..Reporter::default()
        });
        LoadsResponse {
            window_seconds: 60,
            reporters: reporters.collect(),
            loads: loads.to_vec(),
            ..LoadsResponse::default()
        }
    }

    /// Client, requests and milliseconds of each line.
    fn lines(answer: &LoadsResponse) -> Vec<(&str, u64, u64)> {
        let line = |load: &'_ Load| (load.issued, load.measured_millis);
        let lines = answer.loads.iter();
        lines
            .map(|load| (load.client.as_str(), line(load).0, line(load).1))
            .collect()
    }

    #[test]
    fn a_client_that_has_moved_is_counted_at_both_controllers_and_measured_in_turn() {
        let mut merged = Merged::new(answer(&[load("shop/a", "shop/web", 7, 20_000)]));
        let second = [
            load("shop/a", "shop/web", 4, 50_000),
            load("shop/b", "shop/web", 1, 5_000),
        ];
        merged.add(answer(&second));
        merged.silent("c3".to_owned(), &Status::unavailable("gone"));
        let all = merged.seen_by(|_| true).unwrap();
        assert_eq!(lines(&all), [("shop/a", 11, 60_000), ("shop/b", 1, 5_000)]);
        assert_eq!(all.silent_controllers, ["c3"]);
        let ages: Vec<u64> = all.reporters.iter().map(|one| one.age_millis).collect();
        assert_eq!(ages, [4, 1]);
    }

    #[test]
    fn whoever_sees_a_service_sees_the_calls_of_others_without_their_names() {
        let merged = || {
            Merged::new(answer(&[
                load("ops/x", "shop/web", 3, 20_000),
                load("pay/y", "shop/web", 4, 50_000),
                load("shop/a", "shop/web", 5, 10_000),
                load("shop/a", "pay/db", 6, 10_000),
                load("ops/x", "pay/db", 7, 10_000),
            ]))
        };
        let seen = merged().seen_by(|namespace| namespace == "shop").unwrap();
        let expected = [
            ("shop/a", 6, 10_000),
            ("", 7, 50_000),
            ("shop/a", 5, 10_000),
        ];
        assert_eq!(lines(&seen), expected);
        assert!(seen.loads[1].kind.is_empty());
        let names: Vec<&str> = seen.reporters.iter().map(|one| &*one.client).collect();
        assert_eq!(names, ["shop/a"]);
        let none = merged().seen_by(|_| false).unwrap();
        assert!(none.loads.is_empty() && none.reporters.is_empty());
    }

    #[test]
    fn who_is_connected_and_reports_nothing_is_named() {
        let stream = |node: &str| Proxy {
            node: node.to_owned(),
            kind: "gRPC".to_owned(),
            ..Proxy::default()
        };
        let request = LoadsRequest {
            client_namespace: "shop".to_owned(),
            ..LoadsRequest::default()
        };
        let mut merged = Merged::new(answer(&[load("shop/a", "shop/web", 7, 20_000)]));
        let streams = ["shop/a", "shop/b", "pay/c"].map(stream);
        merged.connected(&request, streams.to_vec());
        let all = merged.seen_by(|_| true).unwrap();
        let told: Vec<_> = all
            .reporters
            .iter()
            .map(|one| (&*one.client, one.reports))
            .collect();
        assert_eq!(told, [("shop/a", true), ("shop/b", false)]);
    }

    #[test]
    fn too_many_lines_are_refused() {
        let many: Vec<Load> = (0..=LINES)
            .map(|number| load(&format!("shop/{number}"), "shop/web", 1, 1))
            .collect();
        let status = Merged::new(answer(&many)).seen_by(|_| true).unwrap_err();
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    }
}

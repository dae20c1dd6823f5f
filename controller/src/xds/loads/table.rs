//! What was reported lately, by client and port of a service: in slots of some seconds, forgotten by age, and bounded. Pure: time comes in as an argument.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use xds_api::maille::v1 as api;

use super::KEEP;
use super::report::{Counts, Report, UnderWay};
use crate::model::Name;
use crate::xds::names::ServicePort;

/// Reports within so long stand as one.
pub(super) const SLOT: Duration = Duration::from_secs(10);
/// Streams of one client at once: one, and the one before that is not known to be gone; several programs beside one agent have one each.
pub(super) const STREAMS: u32 = 8;
/// Clients at once.
const CLIENTS: usize = 16_384;
/// What all clients call together. At a hundred bytes a slot this is a hundred megabytes where every client calls for five minutes without a pause.
const PAIRS: usize = 32_768;
/// What one client calls: as many names as a native proxy may ask for.
const CALLS: usize = 2_048;

/// Everything that was reported to this controller.
#[derive(Debug)]
pub(super) struct Table {
    clients: BTreeMap<Name, Client>,
    pairs: usize,
    /// When there was no room the last time.
    full: Option<Instant>,
    swept: Instant,
    /// What clients were asked for.
    interval: Duration,
}

#[derive(Debug)]
struct Client {
    agent: String,
    streams: u32,
    /// Since when it is measured.
    since: Instant,
    heard: Option<Instant>,
    calls: BTreeMap<ServicePort, Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    slots: VecDeque<Slot>,
    under_way: UnderWay,
}

#[derive(Debug)]
struct Slot {
    from: Instant,
    until: Instant,
    counts: Counts,
}

/// There is no room for another stream.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoRoom {
    #[error("the workload has {STREAMS} streams of load reports already; that is the limit")]
    Streams,
    #[error("{CLIENTS} clients report to this controller; that is the limit: connect to another")]
    Clients,
}

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Query<'a> {
    pub(super) window: Duration,
    pub(super) request: &'a api::LoadsRequest,
}

impl Table {
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            clients: BTreeMap::new(),
            pairs: 0,
            full: None,
            swept: now,
            interval,
        }
    }

    /// A stream of this client begins.
    pub(super) fn enter(&mut self, name: &Name, agent: &str, now: Instant) -> Result<(), NoRoom> {
        self.sweep(now);
        if let Some(client) = self.clients.get_mut(name) {
            if client.streams >= STREAMS {
                return Err(NoRoom::Streams);
            }
            client.streams += 1;
            agent.clone_into(&mut client.agent);
            return Ok(());
        }
        if self.clients.len() >= CLIENTS {
            return Err(NoRoom::Clients);
        }
        let client = Client {
            agent: agent.to_owned(),
            streams: 1,
            since: now,
            heard: None,
            calls: BTreeMap::new(),
        };
        self.clients.insert(name.clone(), client);
        Ok(())
    }

    /// A stream of this client has ended; what it has reported stays for a while.
    pub(super) fn leave(&mut self, name: &Name) {
        let Some(client) = self.clients.get_mut(name) else {
            return;
        };
        client.streams = client.streams.saturating_sub(1);
        if client.streams == 0 && client.calls.is_empty() {
            self.clients.remove(name);
        }
    }

    /// Takes a report of a client that has entered. Answers how many ports of services there was no room for.
    pub(super) fn take(&mut self, name: &Name, report: Report, now: Instant) -> usize {
        self.sweep(now);
        let Some(client) = self.clients.get_mut(name) else {
            return 0;
        };
        client.heard = Some(now);
        if let Some(began) = now.checked_sub(report.covers) {
            client.since = client.since.min(began);
        }
        for calls in client.calls.values_mut() {
            calls.under_way = UnderWay::default();
        }
        let mut left_out = 0;
        for line in report.lines {
            if !client.calls.contains_key(&line.port) {
                if self.pairs >= PAIRS || client.calls.len() >= CALLS {
                    left_out += 1;
                    continue;
                }
                self.pairs += 1;
            }
            let calls = client.calls.entry(line.port).or_default();
            calls.under_way = line.under_way;
            calls.add(&line.counts, now);
        }
        if left_out > 0 {
            self.full = Some(now);
        }
        left_out
    }

    /// What was reported within a window, by client, service and port; who reports; and whether there was no room for something.
    pub(super) fn look(
        &mut self,
        query: &Query<'_>,
        now: Instant,
    ) -> (Vec<api::Load>, Vec<api::Reporter>, bool) {
        self.sweep(now);
        let (mut loads, mut reporters) = (Vec::new(), Vec::new());
        let request = query.request;
        for (name, client) in &self.clients {
            let wanted =
                is(&request.client_namespace, &name.namespace) && is(&request.client, &name.name);
            if !wanted {
                continue;
            }
            let seen = client.seen(query.window, self.interval, now);
            let heard = client
                .heard
                .map(|heard| now.saturating_duration_since(heard));
            let reports = heard.is_some_and(|age| age < query.window) || seen.is_current();
            reporters.push(api::Reporter {
                client: name.to_string(),
                kind: client.agent.clone(),
                reports,
                age_millis: millis(heard.unwrap_or_default()),
            });
            for (port, calls) in &client.calls {
                let service = &port.service;
                let wanted = is(&request.service_namespace, &service.namespace)
                    && is(&request.service, &service.name);
                if let Some(load) = wanted.then(|| calls.load(&seen)).flatten() {
                    loads.push(api::Load {
                        client: name.to_string(),
                        kind: client.agent.clone(),
                        service: service.to_string(),
                        port: u32::from(port.port),
                        ..load
                    });
                }
            }
        }
        let within = |at: Instant| now.saturating_duration_since(at) < query.window;
        (loads, reporters, self.full.is_some_and(within))
    }

    /// Forgets what is too old, and whoever has gone and left nothing. No more often than slots begin.
    fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) < SLOT {
            return;
        }
        self.swept = now;
        self.clients.retain(|_, client| {
            client.calls.retain(|_, calls| {
                let old = |slot: &Slot| now.saturating_duration_since(slot.until) >= KEEP;
                while calls.slots.front().is_some_and(old) {
                    calls.slots.pop_front();
                }
                !calls.slots.is_empty()
            });
            client.streams > 0 || !client.calls.is_empty()
        });
        self.pairs = self.clients.values().map(|one| one.calls.len()).sum();
    }
}

/// The part of a client's time that an answer is about.
#[derive(Debug)]
struct Seen {
    /// What ended before this is not in it. `None`: everything is.
    edge: Option<Instant>,
    measured: Duration,
    connected: bool,
}

impl Seen {
    fn is_current(&self) -> bool {
        self.connected && !self.measured.is_zero()
    }
}

impl Client {
    /// A client that is there is seen up to its last report, or to where one is due: those that have nothing to say may keep silent. One that has gone is
    /// seen up to its last report, too, but leaves the window with time.
    fn seen(&self, window: Duration, interval: Duration, now: Instant) -> Seen {
        let connected = self.streams > 0;
        let Some(heard) = self.heard else {
            return Seen {
                edge: None,
                measured: Duration::ZERO,
                connected,
            };
        };
        let due = now.checked_sub(interval).unwrap_or(heard);
        let until = if connected { heard.max(due) } else { heard };
        let edge = if connected { until } else { now }.checked_sub(window);
        let from = edge.map_or(self.since, |edge| edge.max(self.since));
        Seen {
            edge,
            measured: until.saturating_duration_since(from),
            connected,
        }
    }
}

impl Calls {
    fn add(&mut self, counts: &Counts, now: Instant) {
        if let Some(last) = self.slots.back_mut()
            && now.saturating_duration_since(last.from) < SLOT
        {
            last.until = now;
            last.counts.add(counts);
            return;
        }
        self.slots.push_back(Slot {
            from: now,
            until: now,
            counts: *counts,
        });
    }

    /// `None`: nothing within the time.
    fn load(&self, seen: &Seen) -> Option<api::Load> {
        let within = |slot: &&Slot| seen.edge.is_none_or(|edge| slot.until > edge);
        let mut slots = self.slots.iter().filter(within).peekable();
        slots.peek()?;
        let counts = slots.fold(Counts::default(), |mut sum, slot| {
            sum.add(&slot.counts);
            sum
        });
        let under_way = match seen.connected {
            true => self.under_way,
            false => UnderWay::default(),
        };
        Some(api::Load {
            issued: counts.issued,
            succeeded: counts.succeeded,
            failed: counts.failed,
            dropped: counts.dropped,
            in_progress: under_way.requests,
            timed: counts.timed,
            total_seconds: counts.seconds,
            connections_opened: counts.connections,
            connections_failed: counts.connections_failed,
            connections_open: under_way.connections,
            measured_millis: millis(seen.measured),
            ..api::Load::default()
        })
    }
}

/// Whether a filter takes a name; an empty one takes all.
fn is(wanted: &str, name: &str) -> bool {
    wanted.is_empty() || wanted == name
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

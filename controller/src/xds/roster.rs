//! What is known of every stream at this controller: who it is, what it has acknowledged, what it rejected.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use xds_api::maille::v1::Proxy;

use super::session::Session;
use crate::tls::Link;

/// What does not change while a stream lives.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// `<namespace>/<workload>`.
    pub(crate) node: String,
    pub(crate) agent: String,
    pub(crate) version: String,
    pub(crate) spiffe_id: String,
    /// Unix seconds.
    pub(crate) certificate_not_after: i64,
}

/// What does.
#[derive(Debug)]
struct Live {
    clean_through: u64,
    answered_through: u64,
    /// Since when something is unacknowledged or rejected; `None` where nothing is.
    behind_since: Option<Instant>,
    nack: String,
    resources: u64,
    resource_bytes: u64,
}

#[derive(Debug)]
struct Record {
    client: Client,
    link: Link,
    connected_at: i64,
    live: Mutex<Live>,
}

impl Record {
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live
            .lock()
            .expect("nobody panics while holding a stream's record")
    }
}

/// All streams of this controller.
#[derive(Debug)]
pub(crate) struct Roster {
    controller: String,
    next: AtomicU64,
    records: Mutex<BTreeMap<u64, Arc<Record>>>,
}

impl Roster {
    pub(crate) fn new(controller: &str) -> Self {
        Self {
            controller: controller.to_owned(),
            next: AtomicU64::new(0),
            records: Mutex::default(),
        }
    }

    /// Notes a stream until the returned value is dropped.
    pub(crate) fn enter(self: &Arc<Self>, client: Client, link: Link) -> Entry {
        let live = Live {
            clean_through: 0,
            answered_through: 0,
            behind_since: Some(Instant::now()),
            nack: String::new(),
            resources: 0,
            resource_bytes: 0,
        };
        let record = Arc::new(Record {
            client,
            link,
            connected_at: unix_seconds(),
            live: Mutex::new(live),
        });
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.records().insert(id, record.clone());
        Entry {
            roster: self.clone(),
            id,
            record,
        }
    }

    /// How many streams there are.
    pub(crate) fn len(&self) -> usize {
        self.records().len()
    }

    /// Tells the connections of so many streams to leave, of those first that have been here longest: who has come from another controller just
    /// now is not sent on. Answers how many there were.
    pub(crate) fn send_away(&self, count: usize) -> usize {
        let leaving: Vec<Arc<Record>> = self.records().values().take(count).cloned().collect();
        for record in &leaving {
            record.link.leave();
        }
        leaving.len()
    }

    /// Every stream's client, by node.
    pub(crate) fn proxies(&self) -> Vec<Proxy> {
        let records: Vec<Arc<Record>> = self.records().values().cloned().collect();
        let mut proxies: Vec<Proxy> = records.iter().map(|record| self.proxy(record)).collect();
        proxies.sort_by(|one, other| one.node.cmp(&other.node));
        proxies
    }

    fn proxy(&self, record: &Record) -> Proxy {
        let live = record.live();
        let client = &record.client;
        Proxy {
            node: client.node.clone(),
            kind: client.agent.clone(),
            version: client.version.clone(),
            spiffe_id: client.spiffe_id.clone(),
            controller: self.controller.clone(),
            clean_through: live.clean_through,
            behind_seconds: live
                .behind_since
                .map_or(0, |since| since.elapsed().as_secs()),
            last_nack: live.nack.clone(),
            certificate_not_after: client.certificate_not_after,
            resources: live.resources,
            resource_bytes: live.resource_bytes,
            connected_at: record.connected_at,
            answered_through: live.answered_through,
        }
    }

    fn records(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Record>>> {
        self.records
            .lock()
            .expect("nobody panics while holding the roster")
    }
}

/// One stream's place in the roster. Leaves it when dropped.
#[derive(Debug)]
pub(crate) struct Entry {
    roster: Arc<Roster>,
    id: u64,
    record: Arc<Record>,
}

impl Entry {
    /// `<namespace>/<workload>`.
    pub(crate) fn node(&self) -> &str {
        &self.record.client.node
    }

    /// What the client calls itself.
    pub(crate) fn agent(&self) -> &str {
        &self.record.client.agent
    }

    /// Takes over where the stream stands.
    pub(crate) fn update(&self, session: &Session) {
        let clean = session.is_idle() && session.nack().is_none();
        let mut live = self.record.live();
        live.clean_through = session.clean_through();
        live.answered_through = session.answered_through();
        live.behind_since = match (clean, live.behind_since) {
            (true, _) => None,
            (false, None) => Some(Instant::now()),
            (false, since) => since,
        };
        let nack = session.nack().unwrap_or_default();
        if live.nack != nack {
            live.nack = nack.to_owned();
        }
        live.resources = session.held() as u64;
    }

    /// Counts bytes of resources that were sent.
    pub(crate) fn sent(&self, bytes: u64) {
        self.record.live().resource_bytes += bytes;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.roster.records().remove(&self.id);
    }
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

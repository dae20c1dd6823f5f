//! Who has renewed when, and whose lease has ended. Pure: the time comes in as an argument.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::LEASE;
use crate::model::{Mesh, Name};

/// So many may always end together: a host that dies takes a few workloads with it.
const ALWAYS_FREE: usize = 3;
/// Of all instances this part may end within one lease's time. More at once is likelier an outage of the control plane,
/// of its network or of its clock, and must never empty the mesh's endpoints.
const FREE_PERCENT: usize = 30;
/// Looks further apart than this mean that the process stood still: then nobody could have renewed.
const STOOD_STILL: Duration = Duration::from_secs(4);

/// A lease's name: an instance of one process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Lease {
    pub(super) name: Name,
    pub(super) generation: u64,
}

/// What a look at the table found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// To be taken out.
    pub(super) ended: Vec<Lease>,
    /// Ended too, but held back: too many at once.
    pub(super) held: usize,
}

/// The leases of all instances in the agreed mesh. An instance without an entry gets a whole lease from when it is first
/// seen: a new leader starts with an empty table, so nobody is taken out for what an election cost.
#[derive(Debug, Default)]
pub(super) struct Table {
    ends_at: HashMap<Lease, Instant>,
    recently_ended: VecDeque<(Instant, usize)>,
    looked_at: Option<Instant>,
}

impl Table {
    /// Renews a lease, known or not: the mesh decides whether it exists.
    pub(super) fn renew(&mut self, lease: Lease, now: Instant) {
        self.ends_at.insert(lease, now + LEASE);
    }

    /// Whether there is such a lease.
    pub(super) fn knows(&self, lease: &Lease) -> bool {
        self.ends_at.contains_key(lease)
    }

    /// Forgets everything: leadership has changed.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Compares the table with the mesh and says whose lease has ended at `now`.
    pub(super) fn look(&mut self, mesh: &Mesh, now: Instant) -> Ended {
        if self
            .looked_at
            .is_some_and(|before| now.duration_since(before) > STOOD_STILL)
        {
            self.ends_at.values_mut().for_each(|end| *end = now + LEASE);
        }
        self.looked_at = Some(now);
        let mut kept = HashMap::with_capacity(mesh.instances().len());
        let mut ended = Vec::new();
        for (name, entry) in mesh.instances() {
            let lease = Lease {
                name: name.clone(),
                generation: entry.instance.generation,
            };
            let end = self.ends_at.get(&lease).copied().unwrap_or(now + LEASE);
            if end <= now {
                ended.push(lease.clone());
            }
            kept.insert(lease, end);
        }
        self.ends_at = kept;
        self.guard(ended, now)
    }

    /// Counts over a whole lease's time: renewals are spread over it, so an outage's victims trickle in.
    fn guard(&mut self, mut ended: Vec<Lease>, now: Instant) -> Ended {
        while self
            .recently_ended
            .front()
            .is_some_and(|(at, _)| now.duration_since(*at) > LEASE)
        {
            self.recently_ended.pop_front();
        }
        let recent: usize = self.recently_ended.iter().map(|(_, count)| count).sum();
        let before = self.ends_at.len() + recent;
        let free = ALWAYS_FREE.max(before * FREE_PERCENT / 100);
        if recent + ended.len() > free {
            return Ended {
                ended: Vec::new(),
                held: ended.len(),
            };
        }
        if !ended.is_empty() {
            ended.sort();
            self.recently_ended.push_back((now, ended.len()));
        }
        Ended { ended, held: 0 }
    }
}

//! Who calls, on a host with several workloads: the kernel says which user has opened a connection, and a user's connections
//! belong to one workload. One for the whole process.

use super::claims::Claims;
use crate::metrics::{Direction, Metrics};
use crate::net::{Owner, Owners};
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A refused user is named in the log this often; what is refused in between is counted.
const PACE: Duration = Duration::from_secs(60);
/// Users that are remembered for that. A host on which more are refused within a minute is told of some of them twice.
const NAMED: usize = 256;

/// Why a connection is nobody's: `reason` in the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// No workload has this user.
    Unclaimed(u32),
    /// Another workload has this user.
    Another(u32),
    /// Whoever opened it has closed it before it was looked at.
    Gone,
    /// The kernel does not know whose it is, or cannot say which of several users'.
    Unknown,
}

impl Refusal {
    fn reason(self) -> &'static str {
        match self {
            Self::Unclaimed(_) => "unclaimed_user",
            Self::Another(_) => "another_workload",
            Self::Gone => "owner_gone",
            Self::Unknown => "owner_unknown",
        }
    }
}

/// Tells workloads' connections apart.
#[derive(Debug)]
pub struct Gate {
    owners: Owners,
    claims: Claims,
    /// By their places.
    names: Vec<String>,
    metrics: Metrics,
    pace: Pace,
    /// Sockets of applications whose connections are being served, and where they were going.
    taken: Mutex<HashSet<(SocketAddr, SocketAddr)>>,
    /// Explicit listeners' addresses, and the workload that each belongs to, as often as it listens.
    listening: Mutex<HashMap<SocketAddr, (usize, usize)>>,
}

/// A connection under way; dropped with it.
#[derive(Debug)]
pub(super) struct Taken {
    gate: Arc<Gate>,
    socket: (SocketAddr, SocketAddr),
}

/// An explicit listener's address; dropped with the listener.
#[derive(Debug)]
pub(super) struct Held {
    gate: Arc<Gate>,
    address: SocketAddr,
}

impl Gate {
    /// `names` and `claims` are by the workloads' places. An error: this kernel cannot say whose a connection is.
    pub fn new(names: Vec<String>, claims: Claims, metrics: Metrics) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            owners: Owners::new()?,
            claims,
            names,
            metrics,
            pace: Pace::default(),
            taken: Mutex::default(),
            listening: Mutex::default(),
        }))
    }

    /// The workload whose redirected connection this is. None: nobody's, it is counted and told of.
    pub(super) fn caller(
        self: &Arc<Self>,
        stream: &TcpStream,
        destination: SocketAddr,
    ) -> Option<(usize, Taken)> {
        let found = stream.peer_addr().and_then(|peer| {
            let taken = |local| self.locked().contains(&(local, destination));
            self.owners.redirected(peer, destination, taken)
        });
        let refusal = match found {
            Ok(Owner::User(uid, local)) => match self.claims.of(uid) {
                Some(place) => {
                    let socket = (local, destination);
                    self.locked().insert(socket);
                    let gate = self.clone();
                    return Some((place, Taken { gate, socket }));
                }
                None => Refusal::Unclaimed(uid),
            },
            Ok(Owner::Gone) => Refusal::Gone,
            Ok(Owner::Unknown) => Refusal::Unknown,
            Err(error) => {
                tracing::debug!(%error, "the kernel does not say whose a connection is");
                Refusal::Unknown
            }
        };
        self.refuse(refusal, destination);
        None
    }

    /// Whether a connection to an explicit listener of the workload `own` may be its. Whoever no workload has may use it, as
    /// there is no user of this host behind a connection from elsewhere; another workload's users may not.
    pub(super) fn admits(&self, own: usize, stream: &TcpStream) -> bool {
        if !self.claims.any() {
            return true;
        }
        let ends = stream
            .peer_addr()
            .and_then(|peer| Ok((peer, stream.local_addr()?)));
        let Ok((peer, listener)) = ends else {
            // It is gone.
            return false;
        };
        let refusal = match self.owners.exact(peer, listener) {
            Ok(Owner::User(uid, _)) => match self.claims.of(uid) {
                Some(place) if place != own => Refusal::Another(uid),
                _ => return true,
            },
            Ok(Owner::Gone) => Refusal::Gone,
            Ok(Owner::Unknown) => return true,
            Err(error) => {
                tracing::debug!(%error, "the kernel does not say whose a connection is");
                Refusal::Unknown
            }
        };
        self.refuse(refusal, listener);
        false
    }

    /// The right to listen at an address, which other workloads lose meanwhile.
    pub(super) fn hold(self: &Arc<Self>, own: usize, address: SocketAddr) -> io::Result<Held> {
        let mut listening = self
            .listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (place, times) = listening.entry(address).or_insert((own, 0));
        if *place != own {
            let other = self
                .names
                .get(*place)
                .map_or("another workload", |name| name);
            let text = format!("{other} of this host listens there");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        *times += 1;
        let gate = self.clone();
        Ok(Held { gate, address })
    }

    fn refuse(&self, refusal: Refusal, destination: SocketAddr) {
        let reason = refusal.reason();
        self.metrics.error(Direction::Outbound, "", reason);
        match refusal {
            Refusal::Unclaimed(uid) if self.pace.due(uid, Instant::now()) => {
                tracing::warn!(uid, %destination, "refused connections of a user that no workload names; add it to a workload's users if they are its");
            }
            Refusal::Another(uid) if self.pace.due(uid, Instant::now()) => {
                tracing::warn!(uid, listener = %destination, "refused connections of another workload's user to an explicit listener");
            }
            _ => tracing::debug!(%destination, reason, "refused"),
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashSet<(SocketAddr, SocketAddr)>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.gate.locked().remove(&self.socket);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let listening = &self.gate.listening;
        let mut listening = listening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, times)) = listening.get_mut(&self.address) {
            *times -= 1;
            if *times == 0 {
                listening.remove(&self.address);
            }
        }
    }
}

/// When each refused user was named last.
#[derive(Debug, Default)]
struct Pace {
    named: Mutex<HashMap<u32, Instant>>,
}

impl Pace {
    /// Whether it is time to name this user.
    fn due(&self, uid: u32, now: Instant) -> bool {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if named.get(&uid).is_some_and(|last| now < *last + PACE) {
            return false;
        }
        if named.len() >= NAMED {
            named.clear();
        }
        named.insert(uid, now);
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_refused_user_is_named_once_a_minute() {
        let pace = Pace::default();
        let start = Instant::now();
        assert!(pace.due(7, start));
        assert!(!pace.due(7, start + PACE / 2));
        assert!(pace.due(8, start + PACE / 2), "another user");
        assert!(pace.due(7, start + PACE));
        for uid in 1_000..3_000 {
            pace.due(uid, start);
        }
        assert!(pace.named.lock().unwrap().len() <= NAMED);
    }

    #[test]
    fn two_workloads_do_not_listen_at_one_address() {
        let names = vec!["shop/web".to_owned(), "shop/api".to_owned()];
        let gate = Gate::new(names, Claims::default(), Metrics::new()).unwrap();
        let address = "127.0.0.1:7000".parse().unwrap();
        // Two workers of one workload.
        let held = [
            gate.hold(0, address).unwrap(),
            gate.hold(0, address).unwrap(),
        ];
        let refused = gate.hold(1, address).unwrap_err().to_string();
        assert!(refused.contains("shop/web"), "{refused}");
        drop(held);
        assert!(gate.hold(1, address).is_ok());
    }
}

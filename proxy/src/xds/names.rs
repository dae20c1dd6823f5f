//! Which names are asked for on demand: those that are in use, up to a limit, least recently used first to go.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

/// On-demand names that one proxy holds (the dialect's limit). A workload that calls more destinations than this in turn
/// asks again for those that it has not called for longest.
pub(super) const LIMIT: usize = 2_048;

/// What is known of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// It was not asked for before; whoever talks to the control plane must be woken.
    Now,
    /// It was asked for and there is no answer yet.
    Before,
    /// The control plane said that it does not exist.
    Missing,
    /// There is no room, and nothing is let go while nobody could bring it back.
    Full,
}

#[derive(Debug)]
struct Entry {
    used: u64,
    missing: bool,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Arc<str>, Entry>,
    /// Never let go: the explicit upstreams.
    pinned: HashSet<Arc<str>>,
    /// Counts uses; larger is later.
    clock: u64,
    connected: bool,
    wanted: Vec<Arc<str>>,
    dropped: Vec<Arc<str>>,
}

/// What is to be asked and what is not any more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) wanted: Vec<Arc<str>>,
    pub(super) dropped: Vec<Arc<str>>,
}

/// The names, shared by whoever asks and the task that talks to the control plane.
#[derive(Debug, Default)]
pub(super) struct Names {
    inner: Mutex<Inner>,
}

impl Names {
    fn locked(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("no code panics while it holds the names")
    }

    /// Notes a use of a name that is known.
    pub(super) fn touch(&self, name: &str) {
        let mut inner = self.locked();
        inner.clock += 1;
        let used = inner.clock;
        if let Some(entry) = inner.entries.get_mut(name) {
            entry.used = used;
        }
    }

    /// Asks for a name, if it was not asked for yet.
    pub(super) fn ask(&self, name: &str) -> Asked {
        let mut inner = self.locked();
        inner.clock += 1;
        let used = inner.clock;
        if let Some(entry) = inner.entries.get_mut(name) {
            entry.used = used;
            return match entry.missing {
                true => Asked::Missing,
                false => Asked::Before,
            };
        }
        if inner.entries.len() >= LIMIT && !inner.drop_one() {
            return Asked::Full;
        }
        inner.insert(name.into(), used);
        Asked::Now
    }

    /// Names that an earlier life of the process held. They are asked for with the first request, not by `changes`.
    pub(super) fn restore(&self, names: impl IntoIterator<Item = Arc<str>>) {
        let mut inner = self.locked();
        for name in names.into_iter().take(LIMIT) {
            let (used, missing) = (0, false);
            inner.entries.insert(name, Entry { used, missing });
        }
    }

    /// These are held from now on whether they are used or not; those pinned before may go again.
    pub(super) fn pin(&self, names: impl IntoIterator<Item = Arc<str>>) {
        let mut inner = self.locked();
        inner.pinned = names.into_iter().take(LIMIT).collect();
        let missing = |name: &&Arc<str>| !inner.entries.contains_key(*name);
        let fresh: Vec<_> = inner.pinned.iter().filter(missing).cloned().collect();
        for name in fresh {
            inner.clock += 1;
            let used = inner.clock;
            inner.insert(name, used);
        }
    }

    /// Notes what the control plane said of names.
    pub(super) fn told(&self, names: &[Arc<str>], missing: bool) {
        let mut inner = self.locked();
        for name in names {
            if let Some(entry) = inner.entries.get_mut(name) {
                entry.missing = missing;
            }
        }
    }

    pub(super) fn set_connected(&self, connected: bool) {
        self.locked().connected = connected;
    }

    /// What has changed since the last call.
    pub(super) fn changes(&self) -> Changes {
        let mut inner = self.locked();
        let wanted = std::mem::take(&mut inner.wanted);
        let dropped = std::mem::take(&mut inner.dropped);
        // A name may have gone and come back meanwhile, or come and gone.
        let held = |name: &Arc<str>| inner.entries.contains_key(name);
        Changes {
            wanted: wanted.into_iter().filter(held).collect(),
            dropped: dropped.into_iter().filter(|name| !held(name)).collect(),
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.locked().entries.len()
    }
}

impl Inner {
    fn insert(&mut self, name: Arc<str>, used: u64) {
        let missing = false;
        self.entries.insert(name.clone(), Entry { used, missing });
        self.wanted.push(name);
    }

    /// Lets go of the least recently used name. A walk over all of them, and only beyond the limit.
    fn drop_one(&mut self) -> bool {
        if !self.connected {
            return false;
        }
        let loose = self
            .entries
            .iter()
            .filter(|(name, _)| !self.pinned.contains(*name));
        let Some(oldest) = loose.min_by_key(|(_, entry)| entry.used) else {
            return false;
        };
        let name = Arc::clone(oldest.0);
        self.entries.remove(&name);
        self.dropped.push(name);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Names {
        let names = Names::default();
        names.set_connected(true);
        for number in 0..LIMIT {
            assert_eq!(names.ask(&format!("out/{number}")), Asked::Now);
        }
        assert_eq!(names.changes().wanted.len(), LIMIT);
        names
    }

    #[test]
    fn the_least_recently_used_name_goes_first() {
        let names = full();
        names.touch("out/0");
        assert_eq!(names.ask("out/new"), Asked::Now);
        let changes = Changes {
            wanted: vec!["out/new".into()],
            dropped: vec!["out/1".into()],
        };
        assert_eq!(names.changes(), changes);
        assert_eq!(names.ask("out/0"), Asked::Before);
        assert_eq!(names.count(), LIMIT);
    }

    #[test]
    fn nothing_is_let_go_while_disconnected() {
        let names = full();
        names.set_connected(false);
        assert_eq!(names.ask("out/new"), Asked::Full);
        assert_eq!(names.ask("out/0"), Asked::Before);
        assert_eq!(names.changes(), Changes::default());
    }

    #[test]
    fn pinned_names_are_never_let_go() {
        let names = full();
        names.pin(["out/0".into()]);
        assert_eq!(names.ask("out/new"), Asked::Now);
        assert_eq!(names.changes().dropped, ["out/1".into()]);
    }

    #[test]
    fn a_name_that_came_back_before_it_was_reported_is_not_dropped() {
        let names = full();
        names.ask("out/new");
        names.ask("out/0");
        let changes = names.changes();
        assert_eq!(changes.dropped, ["out/1".into()]);
        assert!(changes.wanted.contains(&"out/0".into()));
    }

    #[test]
    fn what_the_control_plane_says_of_a_name_is_remembered() {
        let names = Names::default();
        assert_eq!(names.ask("out/a"), Asked::Now);
        names.told(&["out/a".into()], true);
        assert_eq!(names.ask("out/a"), Asked::Missing);
        names.told(&["out/a".into()], false);
        assert_eq!(names.ask("out/a"), Asked::Before);
    }
}

//! Readiness as values that one holds and drops: ready is when nobody waits for anything.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// What the process still waits for before it can serve. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    waits: Arc<Mutex<BTreeSet<&'static str>>>,
}

/// Something that must come before the process is ready. Dropping it says that it has come.
#[derive(Debug)]
pub struct Pending {
    what: &'static str,
    readiness: Readiness,
}

impl Readiness {
    /// The process is not ready until the returned value is dropped.
    pub fn wait_for(&self, what: &'static str) -> Pending {
        self.locked().insert(what);
        Pending {
            what,
            readiness: self.clone(),
        }
    }

    /// What is still missing. Empty: the process is ready.
    pub fn missing(&self) -> Vec<&'static str> {
        self.locked().iter().copied().collect()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeSet<&'static str>> {
        self.waits
            .lock()
            .expect("no code panics while it holds the set")
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.readiness.locked().remove(self.what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_everything_has_come() {
        let readiness = Readiness::default();
        let certificate = readiness.wait_for("certificate");
        let listeners = readiness.wait_for("listeners");
        assert_eq!(readiness.missing(), ["certificate", "listeners"]);
        drop(certificate);
        assert_eq!(readiness.missing(), ["listeners"]);
        drop(listeners);
        assert!(readiness.missing().is_empty());
    }
}

//! Readiness as values that one holds and drops: ready is when nobody waits for anything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// What the process still waits for before it can serve. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    /// Each with why it has not come, where somebody knows.
    waits: Arc<Mutex<BTreeMap<Arc<str>, Option<String>>>>,
}

/// Something that must come before the process is ready. Dropping it says that it has come.
#[derive(Debug)]
pub struct Pending {
    what: Arc<str>,
    readiness: Readiness,
}

impl Readiness {
    /// The process is not ready until the returned value is dropped.
    pub fn wait_for(&self, what: impl Into<Arc<str>>) -> Pending {
        let what = what.into();
        self.locked().insert(what.clone(), None);
        Pending {
            what,
            readiness: self.clone(),
        }
    }

    /// What is still missing, and why. Empty: the process is ready.
    pub fn missing(&self) -> Vec<String> {
        let shown = |(what, why): (&Arc<str>, &Option<String>)| match why {
            Some(why) => format!("{what} ({why})"),
            None => what.to_string(),
        };
        self.locked().iter().map(shown).collect()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<Arc<str>, Option<String>>> {
        self.waits
            .lock()
            .expect("no code panics while it holds the map")
    }
}

impl Pending {
    /// Says why it has not come yet; `None` takes that back.
    pub fn explain(&self, why: Option<String>) {
        self.readiness.locked().insert(self.what.clone(), why);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.readiness.locked().remove(&self.what);
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
        certificate.explain(Some("no token".into()));
        assert_eq!(readiness.missing(), ["certificate (no token)", "listeners"]);
        drop(certificate);
        assert_eq!(readiness.missing(), ["listeners"]);
        drop(listeners);
        assert!(readiness.missing().is_empty());
    }
}

//! What a server keeps of one type on one stream: what the client asked for, what it holds, and what it is due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::resource::Version;

/// A name in a subscription that stands for everything.
pub(super) const WILDCARD: &str = "*";

/// Why a name must be looked at. Ordered: a stronger reason replaces a weaker one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// It may have changed: send it if the client holds another version.
    Check,
    /// It was asked for: as `Check`, and an answer even if it does not exist.
    Answer,
    /// Send it even if the client holds this version.
    Send,
}

/// A response that was sent and not yet answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InFlight {
    pub(super) nonce: u64,
}

/// One type's state.
#[derive(Debug, Default)]
pub(super) struct Interest {
    /// Whether the client has sent a request of this type.
    pub(super) opened: bool,
    pub(super) wildcard: bool,
    pub(super) named: BTreeSet<Arc<str>>,
    /// What the client holds, sent and not yet acknowledged included; `None`: in a version that is not ours.
    pub(super) held: BTreeMap<Arc<str>, Option<Version>>,
    pub(super) due: BTreeMap<Arc<str>, Due>,
    /// Everything that `*` stands for must be looked at.
    pub(super) due_wildcard: Option<Due>,
    /// A response must go out even if it is empty.
    pub(super) greet: bool,
    pub(super) in_flight: Option<InFlight>,
}

impl Interest {
    /// Takes the type's first request on this stream. `initial`: what the client already has.
    pub(super) fn open(
        &mut self,
        subscribe: &BTreeSet<Arc<str>>,
        initial: &BTreeMap<String, String>,
    ) {
        self.opened = true;
        for (name, version) in initial {
            let name: Arc<str> = name.as_str().into();
            self.mark(name.clone(), Due::Check);
            self.held.insert(name, version.parse().ok());
        }
        if subscribe.is_empty() {
            self.open_wildcard();
        }
        for name in subscribe {
            if &**name == WILDCARD {
                self.open_wildcard();
            } else if self.named.insert(name.clone()) {
                self.mark(name.clone(), Due::Answer);
            }
        }
    }

    fn open_wildcard(&mut self) {
        self.wildcard = true;
        self.greet = true;
        self.mark_wildcard(Due::Check);
    }

    /// Takes a subscription after the first request: what is named is sent, even again.
    pub(super) fn subscribe(&mut self, name: &Arc<str>) {
        if &**name != WILDCARD {
            self.named.insert(name.clone());
            self.mark(name.clone(), Due::Send);
        } else if self.wildcard {
            self.mark_wildcard(Due::Send);
        } else {
            self.open_wildcard();
        }
    }

    /// Takes the end of a subscription. What `*` still covers is answered, the rest is silently forgotten.
    pub(super) fn unsubscribe(&mut self, name: &str) {
        if name == WILDCARD {
            self.wildcard = false;
            self.greet = false;
            self.due_wildcard = None;
            let named = &self.named;
            self.held.retain(|name, _| named.contains(name));
            self.due.retain(|name, _| named.contains(name));
        } else if let Some(name) = self.named.take(name) {
            if self.wildcard {
                // The client drops what it named; what `*` covers must come again, and what it does not must go.
                self.held.entry(name.clone()).or_insert(None);
                self.mark(name, Due::Send);
            } else {
                self.held.remove(&name);
                // Something else that was asked for may imply it still: then it comes again.
                self.due.insert(name, Due::Check);
            }
        }
    }

    /// Notes that a name must be looked at.
    pub(super) fn mark(&mut self, name: Arc<str>, due: Due) {
        let entry = self.due.entry(name).or_insert(due);
        *entry = due.max(*entry);
    }

    pub(super) fn mark_wildcard(&mut self, due: Due) {
        self.due_wildcard = self.due_wildcard.max(Some(due));
    }

    /// Nothing is due and nothing unanswered.
    pub(super) fn is_idle(&self) -> bool {
        !self.opened
            || (self.due.is_empty()
                && self.due_wildcard.is_none()
                && !self.greet
                && self.in_flight.is_none())
    }
}

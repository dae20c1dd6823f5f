//! What a server keeps of one type on one stream: what the client asked for, what it holds, and what it is due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::form::Form;
use crate::resource::{Resource, Version};

/// A name in a subscription that stands for everything.
pub(crate) const WILDCARD: &str = "*";

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InFlight {
    pub(super) nonce: u64,
    /// The resources in it.
    pub(super) names: Vec<Arc<str>>,
    /// The endpoints of the clusters in it, on a stream of the state of the world: until it is acknowledged they may be
    /// asked for again.
    pub(super) endpoints: Vec<Arc<str>>,
}

/// One type's state.
#[derive(Debug, Default, Clone)]
pub(super) struct Interest {
    /// Whether the client has sent a request of this type.
    pub(super) opened: bool,
    pub(super) wildcard: bool,
    /// No request has named anything yet, and that means everything.
    pub(super) legacy: bool,
    pub(super) named: BTreeSet<Arc<str>>,
    /// What the client holds, sent and not yet acknowledged included; `None`: in a version that is not ours.
    pub(super) held: BTreeMap<Arc<str>, Option<Version>>,
    /// The same with bodies, where each response must hold all of it.
    pub(super) whole: BTreeMap<Arc<str>, Arc<Resource>>,
    /// Of what the client holds, that which stood last in a response that it refused, with its words.
    pub(super) refused: BTreeMap<Arc<str>, Arc<str>>,
    pub(super) due: BTreeMap<Arc<str>, Due>,
    /// Everything that `*` stands for must be looked at.
    pub(super) due_wildcard: Option<Due>,
    /// A response must go out even if it is empty.
    pub(super) greet: bool,
    pub(super) in_flight: Option<InFlight>,
    /// Names that were left while a response was in flight that may hold them. Should everything be asked for before it is
    /// answered, the client takes them from it after all.
    pub(super) left: BTreeSet<Arc<str>>,
    /// The nonce of the last response; 0: there was none.
    pub(super) last_nonce: u64,
}

impl Interest {
    /// Takes the type's first request on this stream. `initial`: what the client already has. `legacy`: without names it
    /// asks for everything.
    pub(super) fn open(
        &mut self,
        subscribe: &BTreeSet<Arc<str>>,
        initial: &BTreeMap<String, String>,
        legacy: bool,
    ) {
        self.opened = true;
        for (name, version) in initial {
            let name: Arc<str> = name.as_str().into();
            self.mark(name.clone(), Due::Check);
            self.held.insert(name, version.parse().ok());
        }
        if subscribe.is_empty() && legacy {
            self.legacy = true;
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
        for name in std::mem::take(&mut self.left) {
            self.held.entry(name.clone()).or_insert(None);
            self.mark(name, Due::Check);
        }
        self.mark_wildcard(Due::Check);
    }

    /// Takes a subscription after the first request: what is named is sent, even again.
    pub(super) fn subscribe(&mut self, name: &Arc<str>, form: Form) {
        let legacy = std::mem::take(&mut self.legacy);
        if &**name != WILDCARD {
            self.named.insert(name.clone());
            self.mark(name.clone(), Due::Send);
        } else if !self.wildcard {
            self.open_wildcard();
        } else if form == Form::Delta || !legacy {
            self.mark_wildcard(Due::Send);
        }
    }

    /// Takes the end of a subscription. What `*` still covers is answered where deltas are spoken, the rest is silently
    /// forgotten.
    pub(super) fn unsubscribe(&mut self, name: &str, form: Form) {
        if name == WILDCARD {
            return self.leave_wildcard();
        }
        let Some(name) = self.named.take(name) else {
            return;
        };
        match form {
            _ if !self.wildcard => {
                self.forget(&name);
                self.left
                    .extend(self.in_flight.is_some().then(|| name.clone()));
                // Something else that was asked for may imply it still: then it comes again.
                self.due.insert(name, Due::Check);
            }
            // The client drops what it named; what `*` covers must come again, and what it does not must go.
            Form::Delta => {
                self.held.entry(name.clone()).or_insert(None);
                self.mark(name, Due::Send);
            }
            Form::StateOfTheWorld => self.mark(name, Due::Check),
        }
    }

    fn leave_wildcard(&mut self) {
        self.wildcard = false;
        self.legacy = false;
        self.greet = false;
        self.due_wildcard = None;
        let named = &self.named;
        if self.in_flight.is_some() {
            let gone = self.held.keys().filter(|name| !named.contains(*name));
            self.left.extend(gone.cloned());
        }
        self.held.retain(|name, _| named.contains(name));
        self.whole.retain(|name, _| named.contains(name));
        self.refused.retain(|name, _| named.contains(name));
        self.due.retain(|name, _| named.contains(name));
    }

    /// Notes that the client gets a resource. `whole`: its body will be needed again.
    pub(super) fn hold(&mut self, name: Arc<str>, resource: &Arc<Resource>, whole: bool) {
        if whole {
            self.whole.insert(name.clone(), resource.clone());
        }
        self.held.insert(name, Some(resource.version()));
    }

    /// Notes that the client has a resource no more.
    pub(super) fn forget(&mut self, name: &str) {
        self.held.remove(name);
        self.whole.remove(name);
        self.refused.remove(name);
    }

    /// One version for all that the client holds.
    pub(super) fn version(&self) -> Version {
        let held = self.held.iter();
        Version::of_all(held.filter_map(|(name, version)| Some((&**name, (*version)?))))
    }

    /// Notes that a name must be looked at.
    pub(super) fn mark(&mut self, name: Arc<str>, due: Due) {
        let entry = self.due.entry(name).or_insert(due);
        *entry = due.max(*entry);
    }

    pub(super) fn mark_wildcard(&mut self, due: Due) {
        self.due_wildcard = self.due_wildcard.max(Some(due));
    }

    /// How many names are kept until a response may go out.
    pub(super) fn waiting(&self) -> usize {
        self.due.len() + self.left.len()
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

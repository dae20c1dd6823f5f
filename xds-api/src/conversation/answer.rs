//! The walk over what is due of one type: what goes out, and what must wait.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::form::Form;
use super::interest::{Due, Interest};
use super::view::View;
use crate::resource::Resource;
use crate::type_url::TypeUrl;

/// Resources are added to a response until it has this many bytes; the rest follows under the next nonce. A bigger
/// response would keep the other types waiting on a slow connection. One that must be whole cannot be split.
const RESPONSE_BYTES: usize = 1 << 20;

/// What a walk has found.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// What is new to the client.
    pub(super) resources: Vec<Arc<Resource>>,
    /// What it has no more, or asked for in vain.
    pub(super) removed: Vec<Arc<str>>,
    /// Those of them that it asked for by name.
    pub(super) missing: Vec<Arc<str>>,
    bytes: usize,
}

impl Answer {
    pub(super) fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.removed.is_empty()
    }
}

/// One type of one stream, and the mesh to answer it from.
pub(super) struct Walk<'a, V> {
    pub(super) interest: &'a mut Interest,
    pub(super) kind: TypeUrl,
    pub(super) form: Form,
    pub(super) view: &'a V,
    /// Nothing that could refer to what goes is on its way any more.
    pub(super) may_remove: bool,
}

impl<V: View> Walk<'_, V> {
    /// Takes what is due until the response is full.
    pub(super) fn take(&mut self) -> Answer {
        self.expand();
        let whole = self.form.is_whole(self.kind);
        let (mut answer, mut later) = (Answer::default(), BTreeMap::new());
        while whole || answer.bytes < RESPONSE_BYTES {
            let Some((name, due)) = self.interest.due.pop_first() else {
                break;
            };
            if let Some(name) = self.settle(name, due, &mut answer) {
                later.insert(name, due);
            }
        }
        self.interest.due.append(&mut later);
        answer
    }

    /// Turns "all that `*` stands for" into names.
    fn expand(&mut self) {
        if let Some(due) = self.interest.due_wildcard.take() {
            for name in self.view.wildcard(self.kind) {
                self.interest.mark(name, due);
            }
        }
    }

    /// Decides about one name; gives it back where it must wait.
    fn settle(&mut self, name: Arc<str>, due: Due, answer: &mut Answer) -> Option<Arc<str>> {
        let named = self.interest.named.contains(&name);
        let wanted = named || self.view.covers(self.kind, &name, self.interest.wildcard);
        if wanted && let Some(resource) = self.view.get(self.kind, &name) {
            self.add(name, resource, due, answer);
            return None;
        }
        let held = self.interest.held.contains_key(&name);
        if held && !self.may_remove {
            return Some(name);
        }
        if named && let Some(placeholder) = self.view.placeholder(self.kind, &name) {
            self.add(name, placeholder, due, answer);
        } else if held || (named && due > Due::Check) {
            self.remove(name, named, answer);
        }
        None
    }

    fn add(&mut self, name: Arc<str>, resource: Arc<Resource>, due: Due, answer: &mut Answer) {
        let current = self.interest.held.get(&name) == Some(&Some(resource.version()));
        if due == Due::Send || !current {
            answer.bytes += resource.segment().len();
            self.interest
                .hold(name, &resource, self.form.is_whole(self.kind));
            answer.resources.push(resource);
        }
    }

    fn remove(&mut self, name: Arc<str>, named: bool, answer: &mut Answer) {
        self.interest.forget(&name);
        if self.form == Form::StateOfTheWorld {
            // The list of one empty name is how a client says "nothing" without saying "everything".
            let nothing = name.is_empty();
            // To omit it says nothing where a response need not be whole.
            let unsaid = !named && !self.form.is_whole(self.kind);
            if nothing || unsaid {
                return;
            }
        }
        answer.bytes += name.len();
        answer.missing.extend(named.then(|| name.clone()));
        answer.removed.push(name);
    }
}

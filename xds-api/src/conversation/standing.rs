//! Where each resource stands at the client: what it was sent, and what it said to it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::interest::Interest;
use super::server::Server;
use crate::resource::Version;
use crate::type_url::TypeUrl;

/// A client's words to a refusal are kept to this many bytes: they stand beside every resource that was refused with it.
const WORDS: usize = 4096;

/// What became of a resource at the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It was asked for, and the answer is still to come.
    Requested,
    /// It was asked for, and is not there.
    Absent,
    /// It was sent, and the client has not answered yet.
    Sent,
    /// The client has it: it accepted the last response that this stood in, or brought it along.
    Accepted,
    /// The client refused the last response that this stood in, in these words.
    Refused(Arc<str>),
}

/// One resource of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stand {
    /// Its type.
    pub kind: TypeUrl,
    /// Its name.
    pub name: Arc<str>,
    /// The version that was sent last; `None` where nothing was, or where the client came with a version that is not ours.
    pub version: Option<Version>,
    /// What became of it.
    pub standing: Standing,
}

impl Server {
    /// Where everything stands that the client holds or has asked for by name, in the order of types and names.
    pub fn stands(&self) -> Vec<Stand> {
        let mut stands = Vec::new();
        for (kind, interest) in TypeUrl::ALL.into_iter().zip(self.interests()) {
            let before = stands.len();
            held(kind, interest, &mut stands);
            lacking(kind, interest, &mut stands);
            stands[before..].sort_by(|one, other| one.name.cmp(&other.name));
        }
        stands
    }
}

fn held(kind: TypeUrl, interest: &Interest, stands: &mut Vec<Stand>) {
    let sent: BTreeSet<&str> = interest
        .in_flight
        .iter()
        .flat_map(|one| one.names.iter().map(|name| &**name))
        .collect();
    for (name, version) in &interest.held {
        let standing = match interest.refused.get(name) {
            _ if sent.contains(&**name) => Standing::Sent,
            Some(words) => Standing::Refused(words.clone()),
            None => Standing::Accepted,
        };
        stands.push(Stand {
            kind,
            name: name.clone(),
            version: *version,
            standing,
        });
    }
}

fn lacking(kind: TypeUrl, interest: &Interest, stands: &mut Vec<Stand>) {
    let named = interest.named.iter();
    for name in named.filter(|name| !interest.held.contains_key(*name)) {
        let standing = match interest.due.contains_key(name) {
            true => Standing::Requested,
            false => Standing::Absent,
        };
        stands.push(Stand {
            kind,
            name: name.clone(),
            version: None,
            standing,
        });
    }
}

impl Interest {
    /// Notes what the client said to the resources of a response; `None`: it accepted them.
    pub(super) fn judged(&mut self, names: Vec<Arc<str>>, refusal: Option<&str>) {
        let words: Option<Arc<str>> = refusal.map(|text| cut(text).into());
        for name in names {
            match &words {
                // It may have been left meanwhile.
                Some(words) if self.held.contains_key(&name) => {
                    self.refused.insert(name, words.clone());
                }
                _ => {
                    self.refused.remove(&name);
                }
            }
        }
    }
}

/// The beginning of a text.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(WORDS)]
}

//! What a request may say, and what is made of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use thiserror::Error;

use crate::envoy::service::discovery::v3::ResourceLocator;
use crate::type_url::TypeUrl;

/// The most names that one stream may have subscribed to, over all types. The native proxy has at most 2,048
/// listeners; the rest is room for clients that name everything.
pub(super) const MAX_NAMES: usize = 100_000;

/// The most names of a type that wait for an answer to go out. More than a client can have subscribed to and left again
/// once, so only one that does so over and over while it answers nothing gets there.
pub(super) const MAX_WAITING: usize = 2 * MAX_NAMES;

/// The longest name that is remembered; ours have two DNS names and a port.
const MAX_NAME: usize = 1024;

/// What a client said about a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// ACK.
    Accepted,
    /// NACK: parts of the response may have been taken nevertheless. Nothing is sent again until it changes.
    Rejected(String),
}

/// What a request changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The type that it was about; `None`: one that is not served here, which is not an error and has no answer.
    pub kind: Option<TypeUrl>,
    /// Names newly subscribed to.
    pub subscribed: Vec<Arc<str>>,
    /// Names no longer subscribed to.
    pub unsubscribed: Vec<Arc<str>>,
    /// What was said about the response in flight.
    pub verdict: Option<Verdict>,
}

impl Request {
    /// One about a type that is not served.
    pub(super) fn unknown() -> Self {
        Self {
            kind: None,
            subscribed: vec![],
            unsubscribed: vec![],
            verdict: None,
        }
    }
}

/// A request that ends the stream with INVALID_ARGUMENT.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// On an aggregated stream nothing implies the type.
    #[error("the request has no type_url: an aggregated stream needs it in every request")]
    NoType,
    /// The first request must say who is asking.
    #[error("the stream's first request has no node")]
    NoNode,
    /// More names than a server can keep.
    #[error("a stream may subscribe to at most {MAX_NAMES} names: unsubscribe from some first")]
    TooManyNames,
    /// Names come and go faster than the client lets them be answered.
    #[error("more than {MAX_WAITING} names wait for an answer: acknowledge what was sent")]
    TooManyWaiting,
    /// A name that is nobody's.
    #[error("a resource name has at most {MAX_NAME} bytes, one of the request has {0}")]
    LongName(usize),
}

/// Whether a locator is no more than its name. Others are of no type of ours.
pub(crate) fn is_plain(locator: &ResourceLocator) -> bool {
    locator.dynamic_parameters.is_empty()
}

/// Names and locators of a request, each once.
pub(super) fn names(
    names: Vec<String>,
    locators: Vec<ResourceLocator>,
) -> Result<BTreeSet<Arc<str>>, Refusal> {
    let plain = locators.into_iter().filter(is_plain).map(|one| one.name);
    let all = names.into_iter().chain(plain);
    all.map(|name| {
        if name.len() > MAX_NAME {
            Err(Refusal::LongName(name.len()))
        } else {
            Ok(name.into())
        }
    })
    .collect()
}

//! What the control plane told us: immutable values in the proxy's own terms, published whole, read without locks.

mod cluster;
mod directory;
mod inbound;
mod listener;
mod route;

pub use cluster::{
    Balancing, Cluster, Endpoint, Endpoints, HashKey, Health, Limits, Locality, MeshAddress,
    MeshForm, Outlier, RetryBudget,
};
pub use directory::{Directory, Resolution, ResolveFuture};
pub use inbound::{Action, Inbound, InboundPort, Mtls, Pattern, Rule, Upstream};
pub use listener::{Host, Listener, Protocol, Roots};
pub use route::{
    Backend, Backends, DirectResponse, Forward, HeaderChange, HeaderChanges, HeaderMatch,
    HeaderTest, PathMatch, PathRewrite, QueryMatch, Redirect, RedirectPath, RetryOn, RetryPolicy,
    Route, RouteAction, RouteMatch, Routes, TextTest,
};

use std::sync::Arc;

/// One resource kind's values by resource name. A copy shares its parts, so that a change costs what it changes.
pub type Named<T> = imbl::HashMap<Arc<str>, Arc<T>>;

/// Everything known at one mesh index. A change makes a new value that shares what did not change, so that a
/// reader sees by pointer what it has to look at again.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Counts restores of the control plane; indexes of different incarnations cannot be compared.
    pub incarnation: u64,
    /// The mesh index that all of this was made from, or a later one at which nothing here had changed.
    pub index: u64,
    /// `in/<namespace>/<workload>`. None: nothing has been told, so nothing is accepted.
    pub inbound: Option<Arc<Inbound>>,
    /// `out/…`: only those of which everything that they reach is here.
    pub listeners: Named<Listener>,
    /// Routes of `<namespace>/<service>:<port>`.
    pub routes: Named<Routes>,
    /// How `<namespace>/<service>:<port>` is reached.
    pub clusters: Named<Cluster>,
    /// Who serves `<namespace>/<service>:<port>`.
    pub endpoints: Named<Endpoints>,
    /// `host/<service>.<namespace>`: what DNS answers.
    pub hosts: Named<Host>,
    /// Trust roots by trust domain.
    pub roots: Named<Roots>,
}

//! One stream's state: its half of the conversation, what its subscriptions reach, and where it stands in the mesh's
//! history. Pure: no clock, no IO.

use std::collections::BTreeSet;
use std::sync::Arc;

use xds_api::delta::{Refusal, Response, Server, Verdict, View};
use xds_api::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use xds_api::mesh_version::MeshVersion;
use xds_api::resource::Resource;
use xds_api::type_url::TypeUrl;

use super::cache::{Cache, Published};
use super::changes::Touched;
use super::names;
use super::reach::{Links, Reach};
use super::scope::{Client, Dialect, Own, Scope};
use super::translate::{Link, Translated, envoy, identity, locality};
use crate::model::{Mesh, Name};

/// The mesh as one client may see it.
struct Sight<'a> {
    cache: &'a Cache,
    published: &'a Published,
    own: &'a Own,
    scope: Scope,
    /// Where the client is.
    locality: &'a str,
}

impl<'a> Sight<'a> {
    fn new(cache: &'a Cache, published: &'a Published, own: &'a Own) -> Self {
        let scope = own.scope(&published.mesh);
        Self {
            cache,
            published,
            own,
            scope,
            locality: locality(scope.mesh(&published.mesh), &own.workload),
        }
    }

    /// The mesh with what is rolled out to the client.
    fn mesh(&self) -> &Mesh {
        self.scope.mesh(&self.published.mesh)
    }

    fn get(&self, kind: TypeUrl, name: &Arc<str>) -> Option<Translated> {
        if names::owner(kind, name).is_some_and(|owner| !self.is_own(&owner)) {
            return None;
        }
        let client = Client {
            namespace: &self.own.workload.namespace,
            locality: self.locality,
        };
        self.cache
            .get_for(client, self.scope, self.published, kind, name)
    }

    /// What is a workload's own is for the workload alone: for the certificate that it must have, under its own name.
    fn is_own(&self, owner: &Name) -> bool {
        let workload = &self.own.workload;
        owner == workload && identity(self.mesh(), workload).as_ref() == Some(&self.own.identity)
    }
}

impl Links for Sight<'_> {
    fn links(&self, kind: TypeUrl, name: &Arc<str>) -> Arc<[Link]> {
        match kind {
            TypeUrl::Endpoints | TypeUrl::Secret => Arc::default(),
            _ => self
                .get(kind, name)
                .map(|found| found.links)
                .unwrap_or_default(),
        }
    }
}

/// What the conversation asks: names that exist and are reached.
struct Reached<'a> {
    sight: Sight<'a>,
    reach: &'a Reach,
    listeners_open: bool,
}

impl Reached<'_> {
    fn is_native(&self) -> bool {
        self.sight.own.dialect == Dialect::Native
    }
}

impl View for Reached<'_> {
    fn get(&self, kind: TypeUrl, name: &str) -> Option<Arc<Resource>> {
        self.sight
            .get(kind, &name.into())
            .map(|found| found.resource)
    }

    fn covers(&self, kind: TypeUrl, name: &str, wildcard: bool) -> bool {
        let implied = wildcard || (kind == TypeUrl::Listener && self.is_native());
        implied && self.reach.contains(kind, name)
    }

    fn wildcard(&self, kind: TypeUrl) -> Vec<Arc<str>> {
        self.reach.names(kind).cloned().collect()
    }

    fn placeholder(&self, kind: TypeUrl, name: &str) -> Option<Arc<Resource>> {
        match self.sight.own.dialect {
            Dialect::Native | Dialect::Grpc => None,
            Dialect::Envoy => envoy::placeholder(kind, &name.into()),
        }
    }

    /// Where listeners are asked for by name, nothing is reached until they are known, and all that a returning client holds would look superfluous.
    fn ready(&self, kind: TypeUrl) -> bool {
        !self.is_native()
            || self.listeners_open
            || matches!(kind, TypeUrl::Listener | TypeUrl::Secret)
    }
}

/// One stream.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    own: Own,
    server: Server,
    reach: Reach,
    /// Where the reach begins without having been asked for: what `*` leads to.
    roots: BTreeSet<Link>,
    published: Arc<Published>,
    /// The empty listener response that shows the stream's life, while it is unanswered.
    beating: bool,
    nacks: [Option<String>; TypeUrl::ALL.len()],
    clean_through: u64,
    answered_through: u64,
}

impl Session {
    pub(crate) fn new(own: Own, cache: &Cache, published: Arc<Published>) -> Self {
        let mut session = Self {
            own,
            server: Server::new(),
            reach: Reach::default(),
            roots: BTreeSet::new(),
            published,
            beating: false,
            nacks: Default::default(),
            clean_through: 0,
            answered_through: 0,
        };
        session.root(cache);
        session
    }

    /// How the mesh is told to the client.
    pub(crate) fn dialect(&self) -> Dialect {
        self.own.dialect
    }

    /// The state of the mesh that responses are made from now.
    pub(crate) fn version(&self) -> MeshVersion {
        self.published.version
    }

    /// The mesh index up to which the client has acknowledged everything that concerns it.
    pub(crate) fn clean_through(&self) -> u64 {
        self.clean_through
    }

    /// The mesh index up to which the client has answered everything that concerns it, be it with a rejection.
    pub(crate) fn answered_through(&self) -> u64 {
        self.answered_through
    }

    /// What the client last rejected and has not accepted since.
    pub(crate) fn nack(&self) -> Option<&str> {
        self.nacks.iter().flatten().next().map(String::as_str)
    }

    /// How many resources the client holds.
    pub(crate) fn held(&self) -> usize {
        self.server.held()
    }

    /// Whether every response was answered and nothing is due.
    pub(crate) fn is_idle(&self) -> bool {
        self.server.is_idle()
    }

    /// Takes a request.
    pub(crate) fn request(
        &mut self,
        cache: &Cache,
        request: DeltaDiscoveryRequest,
    ) -> Result<Option<Verdict>, Refusal> {
        let taken = self.server.request(request)?;
        let Some(kind) = taken.kind else {
            return Ok(None);
        };
        let sight = Sight::new(cache, &self.published, &self.own);
        let mut moved = Vec::new();
        for name in taken.subscribed {
            self.reach.add(&(kind, name), &sight, &mut moved);
        }
        for name in taken.unsubscribed {
            self.reach.drop(&(kind, name), &mut moved);
        }
        moved
            .iter()
            .for_each(|(kind, name)| self.server.changed(*kind, name));
        if let Some(verdict) = &taken.verdict {
            self.judge(kind, verdict);
        }
        Ok(taken.verdict)
    }

    fn judge(&mut self, kind: TypeUrl, verdict: &Verdict) {
        let beat = kind == TypeUrl::Listener && std::mem::take(&mut self.beating);
        match verdict {
            Verdict::Rejected(reason) => {
                let text = format!("{} of {}: {reason}", kind.short(), self.published.version);
                self.nacks[kind.index()] = Some(text);
            }
            // An empty response that was taken says nothing of what was rejected before.
            Verdict::Accepted if !beat => self.nacks[kind.index()] = None,
            Verdict::Accepted => {}
        }
    }

    /// Moves on to a newer state of the mesh.
    pub(crate) fn advance(&mut self, cache: &Cache, published: Arc<Published>) {
        let older = std::mem::replace(&mut self.published, published);
        let touched: Option<Vec<&Touched>> =
            self.published.since(older.sequence).map(Iterator::collect);
        let links = match touched {
            Some(touched) if !touched.contains(&&Touched::All) => {
                let units = touched.into_iter().flat_map(|one| match one {
                    Touched::Units(units) => units.iter(),
                    Touched::All => unreachable!("no entry is `All` here"),
                });
                units
                    .flat_map(|unit| self.reach.of_unit(self.own.dialect, unit))
                    .collect()
            }
            _ => self.reach.all(),
        };
        let sight = Sight::new(cache, &self.published, &self.own);
        let mut moved = Vec::new();
        links
            .iter()
            .for_each(|link| self.reach.refresh(link, &sight, &mut moved));
        for (kind, name) in links.iter().chain(&moved) {
            self.server.changed(*kind, name);
        }
        if sight.locality != Sight::new(cache, &older, &self.own).locality {
            for name in self.reach.names(TypeUrl::Endpoints) {
                self.server.changed(TypeUrl::Endpoints, name);
            }
        }
        self.root(cache);
    }

    /// Begins the reach where the mesh says that it begins for this client.
    fn root(&mut self, cache: &Cache) {
        let sight = Sight::new(cache, &self.published, &self.own);
        let new: BTreeSet<Link> = match self.own.dialect {
            Dialect::Native | Dialect::Grpc => return,
            Dialect::Envoy => envoy::roots(sight.mesh(), &self.own.workload)
                .into_iter()
                .collect(),
        };
        let mut moved = Vec::new();
        for link in new.difference(&self.roots) {
            self.reach.add(link, &sight, &mut moved);
        }
        for link in self.roots.difference(&new) {
            self.reach.drop(link, &mut moved);
        }
        self.roots = new;
        for (kind, name) in &moved {
            self.server.changed(*kind, name);
        }
    }

    /// The next response that may go out now.
    pub(crate) fn next(&mut self, cache: &Cache) -> Option<Response> {
        let sight = Sight::new(cache, &self.published, &self.own);
        let listeners_open = self.server.is_open(TypeUrl::Listener);
        let view = Reached {
            sight,
            reach: &self.reach,
            listeners_open,
        };
        let response = self.server.next(&view);
        if response.is_none() && self.server.is_idle() {
            self.answered_through = self.published.version.index;
            if self.nack().is_none() {
                self.clean_through = self.answered_through;
            }
        }
        response
    }

    /// An empty listener response, where none is under way and the client knows what it means.
    pub(crate) fn beat(&mut self) -> Option<Response> {
        if self.own.dialect != Dialect::Native {
            return None;
        }
        let response = self.server.beat(TypeUrl::Listener);
        self.beating |= response.is_some();
        response
    }
}

mod preview;
mod sotw;
mod told;

pub(crate) use preview::{Moment, Sent};

#[cfg(test)]
mod tests;

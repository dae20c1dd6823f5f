//! What the client was sent, and what it said to it.

use std::sync::Arc;

use xds_api::conversation::Stand;
use xds_api::delta::View;
use xds_api::envoy::config::core::v3::Node;
use xds_api::resource::Resource;

use super::{Cache, Reached, Session, Sight};

impl Session {
    /// Who the client says it is; `None` before its first request.
    pub(crate) fn node(&self) -> Option<&Node> {
        self.server.node()
    }

    /// Where everything stands that the client holds or has asked for by name.
    pub(crate) fn stands(&self) -> Vec<Stand> {
        self.server.stands()
    }

    /// The resource in the version that the client was sent. `None` where the mesh has moved on since: old versions are not kept.
    pub(crate) fn sent(&self, cache: &Cache, stand: &Stand) -> Option<Arc<Resource>> {
        let view = Reached {
            sight: Sight::new(cache, &self.published, &self.own),
            reach: &self.reach,
            listeners_open: true,
        };
        let (kind, name) = (stand.kind, &*stand.name);
        let found = view
            .get(kind, name)
            .or_else(|| view.placeholder(kind, name));
        found.filter(|one| Some(one.version()) == stand.version)
    }
}

//! The closed list of resource types, in the order in which they are sent.

use std::fmt;

use prost::Name;

use crate::envoy::config::cluster::v3::Cluster;
use crate::envoy::config::core::v3::TypedExtensionConfig;
use crate::envoy::config::endpoint::v3::ClusterLoadAssignment;
use crate::envoy::config::listener::v3::Listener;
use crate::envoy::config::route::v3::RouteConfiguration;
use crate::envoy::extensions::transport_sockets::tls::v3::Secret;

/// A type of resource. The order is that of additions: what is referred to comes before what refers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TypeUrl {
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
    /// SDS.
    Secret,
    /// LDS.
    Listener,
    /// ECDS.
    Extension,
    /// RDS.
    Route,
}

impl TypeUrl {
    /// Every type, in order.
    pub const ALL: [Self; 6] = [
        Self::Cluster,
        Self::Endpoints,
        Self::Secret,
        Self::Listener,
        Self::Extension,
        Self::Route,
    ];

    /// The URL as it stands in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Extension => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The service's usual abbreviation.
    pub fn short(self) -> &'static str {
        match self {
            Self::Cluster => "CDS",
            Self::Endpoints => "EDS",
            Self::Secret => "SDS",
            Self::Listener => "LDS",
            Self::Extension => "ECDS",
            Self::Route => "RDS",
        }
    }

    /// The type that a URL stands for; `None` where it is not one of ours.
    pub fn parse(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == url)
    }

    /// A number below `ALL.len()`, for tables.
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for TypeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A message that is served as a resource.
pub trait Served: prost::Message + Name + Default {
    /// The type under which it is served.
    const TYPE: TypeUrl;
}

impl Served for Cluster {
    const TYPE: TypeUrl = TypeUrl::Cluster;
}
impl Served for ClusterLoadAssignment {
    const TYPE: TypeUrl = TypeUrl::Endpoints;
}
impl Served for Secret {
    const TYPE: TypeUrl = TypeUrl::Secret;
}
impl Served for Listener {
    const TYPE: TypeUrl = TypeUrl::Listener;
}
impl Served for TypedExtensionConfig {
    const TYPE: TypeUrl = TypeUrl::Extension;
}
impl Served for RouteConfiguration {
    const TYPE: TypeUrl = TypeUrl::Route;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn check<M: Served>() {
        assert_eq!(M::TYPE.as_str(), M::type_url());
        assert_eq!(TypeUrl::parse(&M::type_url()), Some(M::TYPE));
        assert_eq!(TypeUrl::ALL[M::TYPE.index()], M::TYPE);
    }

    #[test]
    fn each_type_has_the_url_of_its_message() {
        check::<Cluster>();
        check::<ClusterLoadAssignment>();
        check::<Secret>();
        check::<Listener>();
        check::<TypedExtensionConfig>();
        check::<RouteConfiguration>();
        assert_eq!(TypeUrl::parse("type.googleapis.com/nope"), None);
    }
}

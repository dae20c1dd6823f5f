//! Who a client of the native dialect says it is. A claim: the server checks it against the stream's certificate.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::envoy::config::core::v3::node::UserAgentVersionType;
use crate::envoy::config::core::v3::{Locality, Node};
use crate::google::protobuf::{Struct, Value, value};
use crate::mesh_version::MeshVersion;

/// `user_agent_name` of Maille's own proxy.
pub const NATIVE_AGENT: &str = "maille-proxy";
/// `user_agent_name` of Envoy.
pub const ENVOY_AGENT: &str = "envoy";
/// How the `user_agent_name` of every gRPC library begins.
pub const GRPC_AGENTS: &str = "gRPC";

/// The longest part of a claim that is kept, in bytes: names are at most 253, versions far less.
const MAX_PART: usize = 256;

const INCARNATION: &str = "incarnation";
const INDEX: &str = "index";

/// Why a node message makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NodeError {
    /// The id has not the form `<namespace>/<workload>`.
    #[error("node id {0:?}: `<namespace>/<workload>` was expected")]
    Id(String),
    /// A part is longer than anything that could be meant.
    #[error("the node's {0} is longer than {MAX_PART} bytes")]
    TooLong(&'static str),
    /// Only one of `incarnation` and `index` is there, or one is no number.
    #[error(
        "the node's metadata: `{INCARNATION}` and `{INDEX}` must both be decimal numbers, as strings, or both be absent"
    )]
    View,
}

/// What a node message says, read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claim {
    /// The workload's namespace.
    pub namespace: String,
    /// The workload's name, unique in its namespace.
    pub workload: String,
    /// The service account it runs as.
    pub service_account: String,
    /// The client program, for example [`NATIVE_AGENT`].
    pub agent: String,
    /// The client program's version.
    pub agent_version: String,
    /// `<region>/<zone>`; may be empty.
    pub locality: String,
    /// The state of the mesh that the client already has.
    pub view: Option<MeshVersion>,
}

impl Claim {
    /// `<namespace>/<workload>`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.workload)
    }

    /// Reads a node message.
    pub fn read(node: &Node) -> Result<Self, NodeError> {
        let version = match &node.user_agent_version_type {
            Some(UserAgentVersionType::UserAgentVersion(version)) => version.as_str(),
            None => "",
        };
        check_length("id", &node.id)?;
        check_length("cluster", &node.cluster)?;
        check_length("user_agent_name", &node.user_agent_name)?;
        check_length("user_agent_version", version)?;
        let (namespace, workload) = match node.id.split_once('/') {
            Some((namespace, workload))
                if !namespace.is_empty() && !workload.is_empty() && !workload.contains('/') =>
            {
                (namespace, workload)
            }
            _ => return Err(NodeError::Id(node.id.clone())),
        };
        Ok(Self {
            namespace: namespace.to_owned(),
            workload: workload.to_owned(),
            service_account: node.cluster.clone(),
            agent: node.user_agent_name.clone(),
            agent_version: version.to_owned(),
            locality: read_locality(node.locality.as_ref())?,
            view: read_view(node.metadata.as_ref())?,
        })
    }

    /// The node message that says this.
    pub fn message(&self) -> Node {
        let text = |value: u64| Value {
            kind: Some(value::Kind::StringValue(value.to_string())),
        };
        let metadata = self.view.map(|view| Struct {
            fields: BTreeMap::from([
                (INCARNATION.to_owned(), text(view.incarnation)),
                (INDEX.to_owned(), text(view.index)),
            ]),
        });
        Node {
            id: self.id(),
            cluster: self.service_account.clone(),
            metadata,
            locality: write_locality(&self.locality),
            user_agent_name: self.agent.clone(),
            user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(
                self.agent_version.clone(),
            )),
            client_features: Vec::new(),
        }
    }
}

fn check_length(part: &'static str, text: &str) -> Result<(), NodeError> {
    if text.len() > MAX_PART {
        Err(NodeError::TooLong(part))
    } else {
        Ok(())
    }
}

fn read_locality(locality: Option<&Locality>) -> Result<String, NodeError> {
    let Some(locality) = locality else {
        return Ok(String::new());
    };
    check_length("locality", &locality.region)?;
    check_length("locality", &locality.zone)?;
    Ok(match (locality.region.as_str(), locality.zone.as_str()) {
        (region, "") => region.to_owned(),
        (region, zone) => format!("{region}/{zone}"),
    })
}

fn write_locality(text: &str) -> Option<Locality> {
    let (region, zone) = text.split_once('/').unwrap_or((text, ""));
    (!text.is_empty()).then(|| Locality {
        region: region.to_owned(),
        zone: zone.to_owned(),
        sub_zone: String::new(),
    })
}

fn read_view(metadata: Option<&Struct>) -> Result<Option<MeshVersion>, NodeError> {
    let field = |name: &str| metadata.and_then(|metadata| metadata.fields.get(name));
    let number = |value: &Value| match &value.kind {
        Some(value::Kind::StringValue(text)) => text.parse().map_err(|_| NodeError::View),
        _ => Err(NodeError::View),
    };
    match (field(INCARNATION), field(INDEX)) {
        (None, None) => Ok(None),
        (Some(incarnation), Some(index)) => Ok(Some(MeshVersion {
            incarnation: number(incarnation)?,
            index: number(index)?,
        })),
        _ => Err(NodeError::View),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn claim() -> Claim {
        Claim {
            namespace: "shop".into(),
            workload: "web-1".into(),
            service_account: "web".into(),
            agent: NATIVE_AGENT.into(),
            agent_version: "0.1.0".into(),
            locality: "eu/a".into(),
            view: Some(MeshVersion {
                incarnation: 1,
                index: 7,
            }),
        }
    }

    #[test]
    fn a_claim_is_read_as_it_is_written() {
        let fresh = Claim {
            view: None,
            locality: String::new(),
            ..claim()
        };
        for claim in [claim(), fresh] {
            assert_eq!(Claim::read(&claim.message()), Ok(claim));
        }
    }

    #[test]
    fn a_claim_that_makes_no_sense_is_refused() {
        for id in ["", "shop", "/web", "shop/", "a/b/c"] {
            let node = Node {
                id: id.into(),
                ..claim().message()
            };
            assert_eq!(Claim::read(&node), Err(NodeError::Id(id.into())));
        }
        let node = Node {
            cluster: "a".repeat(257),
            ..claim().message()
        };
        assert_eq!(Claim::read(&node), Err(NodeError::TooLong("cluster")));
        for (name, kind) in [
            (INDEX, value::Kind::StringValue("x".into())),
            (INDEX, value::Kind::NumberValue(7.0)),
        ] {
            let mut node = claim().message();
            let fields = &mut node.metadata.as_mut().unwrap().fields;
            fields.insert(name.into(), Value { kind: Some(kind) });
            assert_eq!(Claim::read(&node), Err(NodeError::View));
        }
        let mut node = claim().message();
        node.metadata.as_mut().unwrap().fields.remove(INCARNATION);
        assert_eq!(Claim::read(&node), Err(NodeError::View));
    }
}

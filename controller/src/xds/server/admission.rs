//! Who may open a stream: the node id is a claim, the certificate decides.

use tonic::Status;
use xds_api::envoy::config::core::v3::Node;
use xds_api::node::{Claim, ENVOY_AGENT, GRPC_AGENTS, NATIVE_AGENT};
use xds_api::spiffe::SpiffeId;

use crate::model::{Mesh, Name};
use crate::xds::scope::{Dialect, Own};
use crate::xds::translate::identity;

/// Checks a stream's first node against the certificate's SPIFFE id and the mesh.
pub(in crate::xds) fn admit(
    mesh: &Mesh,
    spiffe_id: Option<&str>,
    node: Option<&Node>,
) -> Result<(Claim, Own), Status> {
    let spiffe_id = spiffe_id.ok_or_else(|| {
        Status::unauthenticated(
            "xDS needs a workload's certificate: get one from the Identity service with a join token, then connect with it",
        )
    })?;
    let denied = |text: String| Err(Status::permission_denied(text));
    let id: SpiffeId = match spiffe_id.parse() {
        Ok(id) => id,
        Err(failure) => return denied(format!("the certificate's name: {failure}")),
    };
    let (Some(namespace), Some(account)) = (id.namespace(), id.service_account()) else {
        return denied(format!("{id} is not a workload's identity"));
    };
    if id.trust_domain() != mesh.trust_domain() {
        return denied(format!(
            "{id} is of another trust domain than {:?}",
            mesh.trust_domain()
        ));
    }
    let node =
        node.ok_or_else(|| Status::invalid_argument("the stream's first request has no node"))?;
    let claim = Claim::read(node).map_err(|wrong| Status::invalid_argument(wrong.to_string()))?;
    let dialect = Dialect::of(&claim.agent).ok_or_else(|| {
        Status::unimplemented(format!(
            "clients of the kind {:?} are not served, only {NATIVE_AGENT:?}, {ENVOY_AGENT:?} and what begins with {GRPC_AGENTS:?}",
            claim.agent
        ))
    })?;
    if claim.namespace != namespace || claim.service_account != account {
        return denied(format!(
            "node {} of service account {:?} cannot be {id}: a workload is in its identity's namespace and has its account",
            claim.id(),
            claim.service_account
        ));
    }
    let workload = Name::new(claim.namespace.as_str(), claim.workload.as_str());
    match identity(mesh, &workload) {
        Some(expected) if expected != spiffe_id => denied(format!(
            "the workload {workload} belongs to {expected}, not to {id}"
        )),
        _ => Ok((
            claim,
            Own {
                dialect,
                workload,
                identity: spiffe_id.to_owned(),
            },
        )),
    }
}

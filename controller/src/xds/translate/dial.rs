//! Where an endpoint is called by those who are no sidecars of ours, and who is expected there.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use xds_api::envoy::config::core::v3::address::Address as AddressKind;
use xds_api::envoy::config::core::v3::socket_address::PortSpecifier;
use xds_api::envoy::config::core::v3::{Address, SocketAddress};

use crate::model::{Endpoint, Mesh, MeshMode};

/// A sidecar and an Envoy are called at their mesh port, a gRPC server and what has no sidecar at the application's own.
pub(in crate::xds) fn at(endpoint: &Endpoint) -> Option<SocketAddr> {
    let port = match endpoint.mesh {
        MeshMode::Native | MeshMode::Envoy => endpoint.mesh_port,
        MeshMode::None | MeshMode::Grpc => endpoint.port,
    };
    Some(SocketAddr::new(*endpoint.addresses.first()?, port))
}

/// What is written in the SNI of a connection that means a port.
pub(in crate::xds) fn sni(port: u16) -> String {
    format!("{port}.maille")
}

pub(in crate::xds) fn address(address: SocketAddr) -> Option<Address> {
    let socket = SocketAddress {
        address: address.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(u32::from(address.port()))),
    };
    Some(Address {
        address: Some(AddressKind::SocketAddress(socket)),
    })
}

/// The identities of some endpoints; where they have none, one that nobody has, since an empty list would mean anybody.
pub(in crate::xds) fn identities(
    mesh: &Mesh,
    endpoints: impl IntoIterator<Item = Endpoint>,
) -> BTreeSet<String> {
    let identities = endpoints.into_iter().map(|endpoint| endpoint.identity);
    let mut identities: BTreeSet<String> =
        identities.filter(|identity| !identity.is_empty()).collect();
    if identities.is_empty() {
        identities.insert(nobody(mesh));
    }
    identities
}

/// A name that no certificate has.
pub(in crate::xds) fn nobody(mesh: &Mesh) -> String {
    format!("spiffe://{}/nobody", mesh.trust_domain())
}

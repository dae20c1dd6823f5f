//! What is spoken at a port of a service.

use xds_api::maille::v1::Protocol;

use crate::model::Mesh;
use crate::model::kinds::AppProtocol;
use crate::xds::names::ServicePort;

/// What is spoken at a port; `None` where there is no such port.
pub(in crate::xds) fn protocol_of(mesh: &Mesh, port: &ServicePort) -> Option<Protocol> {
    let service = mesh.services().get(&port.service)?;
    service
        .object
        .spec
        .port(port.port)
        .map(|port| protocol(port.app_protocol))
}

/// A declared protocol in the dialect's terms.
pub(in crate::xds) fn protocol(declared: Option<AppProtocol>) -> Protocol {
    match declared {
        None => Protocol::Detect,
        Some(AppProtocol::Http | AppProtocol::WebSocket) => Protocol::Http1,
        Some(AppProtocol::Http2 | AppProtocol::H2c) => Protocol::Http2,
        Some(AppProtocol::Grpc) => Protocol::Grpc,
        Some(AppProtocol::Tcp) => Protocol::Tcp,
        Some(AppProtocol::Tls | AppProtocol::Https | AppProtocol::SecureWebSocket) => Protocol::Tls,
    }
}

/// Whether requests may be seen at a port of this protocol.
pub(in crate::xds) fn may_be_http(protocol: Protocol) -> bool {
    !matches!(protocol, Protocol::Tcp | Protocol::Tls)
}

pub(in crate::xds) fn may_be_opaque(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Detect | Protocol::Tcp | Protocol::Tls)
}

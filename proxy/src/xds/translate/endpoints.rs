//! Who serves one port of a service.

use super::foreign;
use super::strict::{
    Invalid, Within, check_name, decode, invalid, metadata, not_empty, port, present,
};
use crate::snapshot::{Endpoint, Endpoints, Health, Locality, MeshAddress, MeshForm};
use bytes::Bytes;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use xds_api::envoy::config::core::v3::address::Address;
use xds_api::envoy::config::core::v3::socket_address::PortSpecifier;
use xds_api::envoy::config::core::v3::{self as core, HealthStatus};
use xds_api::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use xds_api::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint};
use xds_api::maille::v1;

pub(super) fn translate(name: &Arc<str>, body: Bytes) -> Result<Endpoints, Invalid> {
    let assignment: ClusterLoadAssignment = decode(body)?;
    check_name("cluster_name", &assignment.cluster_name, name)?;
    let mut endpoints = Vec::new();
    for (index, group) in assignment.endpoints.into_iter().enumerate() {
        foreign::check(&group).within_item("endpoints", index)?;
        let locality = locality(group.locality.unwrap_or_default());
        for (inner, one) in group.lb_endpoints.into_iter().enumerate() {
            let endpoint = endpoint(one, &locality)
                .within_item("lb_endpoints", inner)
                .within_item("endpoints", index)?;
            endpoints.push(endpoint);
        }
    }
    Ok(Endpoints {
        name: Arc::clone(name),
        endpoints,
    })
}

fn locality(told: core::Locality) -> Locality {
    Locality {
        region: told.region.into(),
        zone: told.zone.into(),
    }
}

fn endpoint(one: LbEndpoint, locality: &Locality) -> Result<Endpoint, Invalid> {
    let HostIdentifier::Endpoint(host) = present("endpoint", one.host_identifier)?;
    foreign::check(&host).within("endpoint")?;
    let address = socket_address(host.address).within("endpoint.address")?;
    let health = match HealthStatus::try_from(one.health_status) {
        Ok(HealthStatus::Healthy) => Health::Healthy,
        Ok(HealthStatus::Unhealthy) => Health::Unhealthy,
        _ => {
            let text = format!("{} is neither HEALTHY nor UNHEALTHY", one.health_status);
            return invalid("health_status", text);
        }
    };
    let weight = one.load_balancing_weight.map_or(1, |weight| weight.value);
    if weight == 0 {
        return invalid("load_balancing_weight", "must be above zero");
    }
    let extra: v1::EndpointExtra = metadata(one.metadata)?;
    let mesh = mesh(&extra, address.port())?;
    Ok(Endpoint {
        address,
        namespace: extra.namespace.into(),
        workload: extra.workload.into(),
        locality: locality.clone(),
        health,
        weight,
        mesh,
    })
}

fn socket_address(address: Option<core::Address>) -> Result<SocketAddr, Invalid> {
    let address = address.and_then(|address| address.address);
    let Address::SocketAddress(told) = present("socket_address", address)?;
    let ip: Result<IpAddr, _> = told.address.parse();
    let text = || format!("{:?} is no address", told.address);
    let ip = ip.or_else(|_| invalid("socket_address.address", text()))?;
    let PortSpecifier::PortValue(number) =
        present("socket_address.port_value", told.port_specifier)?;
    Ok(SocketAddr::new(
        ip,
        port("socket_address.port_value", number)?,
    ))
}

/// `own`: the endpoint's own port, which a gRPC program keeps.
fn mesh(extra: &v1::EndpointExtra, own: u16) -> Result<Option<MeshAddress>, Invalid> {
    let mesh_port = || port("mesh_port", extra.mesh_port);
    let (form, port) = match v1::Mesh::try_from(extra.mesh) {
        Ok(v1::Mesh::None) => return Ok(None),
        Ok(v1::Mesh::Native) => (MeshForm::Native, mesh_port()?),
        Ok(v1::Mesh::Envoy) => (MeshForm::Plain, mesh_port()?),
        Ok(v1::Mesh::Grpc) => (MeshForm::Plain, own),
        Err(_) => return invalid("mesh", format!("{} is not known", extra.mesh)),
    };
    not_empty("identity", &extra.identity)?;
    Ok(Some(MeshAddress {
        port,
        form,
        identity: extra.identity.as_str().into(),
    }))
}

//! The workload as the control plane takes it.

use crate::config::{Bind, Config, Port, Protocol};
use crate::health::{Health, PortHealth};
use std::net::{IpAddr, UdpSocket};
use xds_api::maille::v1::{self, EnvoyListeners, Instance, InstancePort, Mesh};

/// What is registered while the ports' health is this.
pub fn instance(config: &Config, mesh: Mesh, health: &PortHealth) -> Instance {
    let workload = &config.workload;
    let labels = workload.labels.iter();
    Instance {
        namespace: workload.namespace.to_string(),
        name: workload.name.to_string(),
        addresses: workload.addresses.iter().map(ToString::to_string).collect(),
        labels: labels
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        ports: workload.ports.iter().map(|one| port(one, health)).collect(),
        mesh: mesh.into(),
        mesh_port: config.advertise.mesh_port.into(),
        locality: workload.locality.clone(),
        envoy: (mesh == Mesh::Envoy).then(|| envoy(config)),
    }
}

/// What the Envoy is to bind.
fn envoy(config: &Config) -> EnvoyListeners {
    let listed = |binds: &[Bind]| {
        let possible = binds
            .iter()
            .filter(|bind| bind.required || exists(bind.address.ip()));
        possible.map(|bind| bind.address.to_string()).collect()
    };
    EnvoyListeners {
        mesh: listed(&config.listen.mesh),
        outbound: listed(&config.listen.outbound),
    }
}

/// Whether this host has the address at all: Envoy refuses a whole listener for one that it cannot bind.
fn exists(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

fn port(port: &Port, health: &PortHealth) -> InstancePort {
    let health = match health.get(&port.port) {
        Some(Health::Healthy) => v1::Health::Healthy,
        Some(Health::Unhealthy) => v1::Health::Unhealthy,
        Some(Health::Unknown) | None => v1::Health::Unknown,
    };
    let protocol = match port.protocol {
        Protocol::Detect => v1::Protocol::Detect,
        Protocol::Http1 => v1::Protocol::Http1,
        Protocol::Http2 => v1::Protocol::Http2,
        Protocol::Grpc => v1::Protocol::Grpc,
        Protocol::Tcp => v1::Protocol::Tcp,
        Protocol::Tls => v1::Protocol::Tls,
    };
    InstancePort {
        name: port.name.clone(),
        port: port.port.into(),
        protocol: protocol.into(),
        health: health.into(),
        application: port
            .application
            .map_or_else(String::new, |at| at.to_string()),
    }
}

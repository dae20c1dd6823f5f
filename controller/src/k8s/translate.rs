//! Kubernetes' objects as ours. What the mesh cannot carry is left out: ports that are not TCP, services that are only a name.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};

use crate::model::kinds::{
    AppProtocol, Metadata, Object, PortRef, ServicePort, ServiceSpec, ServiceType, Transport,
};
use crate::model::limits::{INSTANCE_LABELS, INSTANCE_PORTS};
use crate::model::{
    Health, Instance, InstancePort, Kind, MeshMode, Name, ObjectKey, ObservedObject, Protocol,
    Source,
};

/// What the injector writes on a pod that has a sidecar, with its kind.
const INJECTED: &str = "maille.dev/injected";
/// Where sidecars take mesh connections (`DESIGN.md`, ports).
const MESH_PORT: u32 = 4743;
const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
/// `spec.clusterIP` of a headless service.
const HEADLESS: &str = "None";

/// What an object is and as which of its versions; none where the API server did not say.
pub(super) fn source(metadata: &ObjectMeta) -> Option<Source> {
    Some(Source {
        uid: metadata.uid.clone()?,
        version: metadata.resource_version.as_ref()?.parse().ok()?,
    })
}

/// An object's name.
pub(super) fn name(metadata: &ObjectMeta) -> Option<Name> {
    let namespace = metadata.namespace.clone()?;
    Some(Name::new(namespace, metadata.name.clone()?))
}

/// A service; none where there is nothing that the mesh could carry.
pub(super) fn service(service: &core::Service) -> Option<ObservedObject> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let name = name(&service.metadata)?;
    let ports: Vec<ServicePort> = spec.ports.iter().flatten().filter_map(port).collect();
    if ports.is_empty() {
        return None;
    }
    let addresses = spec.cluster_ips.iter().flatten();
    let addresses = addresses.filter(|address| *address != HEADLESS);
    let object = Object {
        metadata: Metadata {
            name: name.name.clone(),
            namespace: name.namespace.clone(),
            labels: service.metadata.labels.clone().unwrap_or_default(),
            ..Metadata::default()
        },
        spec: ServiceSpec {
            service_type: ServiceType::ClusterIP,
            selector: spec.selector.clone().unwrap_or_default(),
            ports,
            cluster_ips: addresses.filter_map(|one| one.parse().ok()).collect(),
            publish_not_ready_addresses: spec.publish_not_ready_addresses.unwrap_or(false),
        },
    };
    Some(ObservedObject {
        key: ObjectKey::new(Kind::Service, name),
        json: object.to_json(),
        source: source(&service.metadata)?,
    })
}

fn port(port: &core::ServicePort) -> Option<ServicePort> {
    if port.protocol.as_deref().is_some_and(|one| one != "TCP") {
        return None;
    }
    let target = match &port.target_port {
        None => None,
        Some(IntOrString::Int(number)) => Some(PortRef::Number(u16::try_from(*number).ok()?)),
        Some(IntOrString::String(name)) => Some(PortRef::Name(name.clone())),
    };
    Some(ServicePort {
        name: port.name.clone().unwrap_or_default(),
        port: u16::try_from(port.port).ok()?,
        target_port: target,
        app_protocol: port.app_protocol.as_deref().and_then(app_protocol),
        protocol: Transport::Tcp,
    })
}

/// One that the mesh does not know is found out from the bytes.
fn app_protocol(name: &str) -> Option<AppProtocol> {
    let text: StrDeserializer<'_, ValueError> = name.into_deserializer();
    AppProtocol::deserialize(text).ok()
}

/// Where a node stands, `<region>/<zone>`; empty where it does not say.
pub(super) fn locality(node: &core::Node) -> String {
    let labels = node.metadata.labels.as_ref();
    let label = |key| {
        labels
            .and_then(|labels| labels.get(key))
            .map_or("", String::as_str)
    };
    match (label(REGION), label(ZONE)) {
        ("", "") => String::new(),
        (region, zone) => format!("{region}/{zone}"),
    }
}

/// The name of the node that a pod runs on.
pub(super) fn node(pod: &core::Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// A pod that may get traffic, now or later; none where it has no address yet, has ended, or is in the node's own network.
pub(super) fn pod(pod: &core::Pod, trust_domain: &str, locality: &str) -> Option<Instance> {
    let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
    let has_ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if has_ended || spec.host_network.unwrap_or(false) {
        return None;
    }
    let addresses: Vec<IpAddr> = status
        .pod_ips
        .iter()
        .flatten()
        .filter_map(|one| one.ip.parse().ok())
        .collect();
    if addresses.is_empty() {
        return None;
    }
    let name = name(&pod.metadata)?;
    let health = health(pod, status);
    let annotations = pod.metadata.annotations.as_ref();
    let injected = annotations.and_then(|all| all.get(INJECTED));
    let is_meshed = injected.is_some_and(|kind| kind == "native");
    let account = spec.service_account_name.as_deref().unwrap_or("default");
    let identity = format!("spiffe://{trust_domain}/ns/{}/sa/{account}", name.namespace);
    Some(Instance {
        addresses: addresses.iter().map(ToString::to_string).collect(),
        labels: labels(&pod.metadata),
        ports: ports(spec, health),
        mesh: if is_meshed {
            MeshMode::Native
        } else {
            MeshMode::None
        } as i32,
        mesh_port: if is_meshed { MESH_PORT } else { 0 },
        locality: locality.to_owned(),
        identity: if is_meshed { identity } else { String::new() },
        generation: 0,
        envoy: None,
        other_ports: Some(health as i32),
        source: Some(source(&pod.metadata)?),
        name,
    })
}

/// A pod on its way out gets nothing new, whatever its probes still say.
fn health(pod: &core::Pod, status: &core::PodStatus) -> Health {
    let mut conditions = status.conditions.iter().flatten();
    let ready = conditions.any(|one| one.type_ == "Ready" && one.status == "True");
    match ready && pod.metadata.deletion_timestamp.is_none() {
        true => Health::Healthy,
        false => Health::Unhealthy,
    }
}

/// The first so many, in order: no selector asks for more.
fn labels(metadata: &ObjectMeta) -> BTreeMap<String, String> {
    let all = metadata.labels.iter().flatten();
    let kept = all.take(INSTANCE_LABELS);
    kept.map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// The ports that containers name, native sidecars' among them: a service may ask for them by name.
fn ports(spec: &core::PodSpec, health: Health) -> Vec<InstancePort> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|one| one.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars);
    let ports = ports.flat_map(|container| container.ports.iter().flatten());
    let named = ports.filter_map(|port| {
        let tcp = port.protocol.as_deref().is_none_or(|one| one == "TCP");
        let number = u16::try_from(port.container_port).ok().filter(|_| tcp)?;
        Some(InstancePort {
            name: port.name.clone()?,
            port: number.into(),
            protocol: Protocol::Detect as i32,
            health: health as i32,
            application: String::new(),
        })
    });
    named.take(INSTANCE_PORTS).collect()
}

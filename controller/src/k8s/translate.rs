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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    fn read_service(spec: Value) -> Option<ObservedObject> {
        let metadata =
            json!({"name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": "7"});
        service(&serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap())
    }

    fn read_pod(change: impl FnOnce(&mut Value)) -> Option<Instance> {
        let ports = json!([{"name": "web", "containerPort": 8080}, {"containerPort": 9}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]);
        let mut whole = json!({
            "metadata": {"name": "web-1", "namespace": "shop", "uid": "u2", "resourceVersion": "8", "labels": {"app": "web"}},
            "spec": {"nodeName": "n1", "serviceAccountName": "web", "containers": [{"name": "app", "ports": ports}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.7"}, {"ip": "fd00::7"}], "conditions": [{"type": "Ready", "status": "True"}]},
        });
        change(&mut whole);
        pod(&serde_json::from_value(whole).unwrap(), "test.mesh", "eu/a")
    }

    #[test]
    fn a_service_keeps_what_the_mesh_can_carry() {
        let ports = json!([
            {"name": "http", "port": 80, "targetPort": "web", "appProtocol": "http"},
            {"name": "odd", "port": 81, "targetPort": 8081, "appProtocol": "mongo"},
            {"name": "dns", "port": 53, "protocol": "UDP"},
        ]);
        let seen = read_service(json!({
            "selector": {"app": "web"}, "ports": ports, "clusterIP": "10.96.0.7",
            "clusterIPs": ["10.96.0.7", "fd00:96::7"], "sessionAffinity": "None",
        }));
        let seen = seen.unwrap();
        assert_eq!(
            seen.source,
            Source {
                uid: "u1".to_owned(),
                version: 7
            }
        );
        let read: Value = serde_json::from_str(&seen.json).unwrap();
        assert_eq!(
            read["spec"],
            json!({
                "selector": {"app": "web"},
                "ports": [
                    {"name": "http", "port": 80, "targetPort": "web", "appProtocol": "http"},
                    {"name": "odd", "port": 81, "targetPort": 8081},
                ],
                "clusterIPs": ["10.96.0.7", "fd00:96::7"],
            })
        );
    }

    #[test]
    fn a_headless_service_has_no_address_and_one_that_is_only_a_name_is_none() {
        let ports = json!([{"port": 80}]);
        let headless =
            read_service(json!({"ports": ports, "clusterIP": "None", "clusterIPs": ["None"]}));
        assert!(!headless.unwrap().json.contains("clusterIPs"));
        let name = json!({"type": "ExternalName", "externalName": "example.com", "ports": ports});
        assert_eq!(read_service(name), None);
        let udp = json!([{"port": 53, "protocol": "UDP"}]);
        assert_eq!(read_service(json!({"ports": udp})), None);
    }

    #[test]
    fn a_pod_that_is_ready_is_healthy_until_it_is_deleted() {
        let seen = read_pod(|_| ()).unwrap();
        assert_eq!(seen.addresses, ["10.0.0.7", "fd00::7"]);
        assert_eq!(seen.locality, "eu/a");
        assert_eq!(
            (seen.mesh(), seen.mesh_port, seen.identity.as_str()),
            (MeshMode::None, 0, "")
        );
        assert_eq!(seen.health_of(8080), Some(Health::Healthy));
        assert_eq!(seen.health_of(4711), Some(Health::Healthy));
        let names: Vec<_> = seen
            .ports
            .iter()
            .map(|port| (port.name.as_str(), port.port))
            .collect();
        assert_eq!(names, [("web", 8080)]);
        let going =
            read_pod(|pod| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
        assert_eq!(going.unwrap().health_of(8080), Some(Health::Unhealthy));
        let unready = read_pod(|pod| pod["status"]["conditions"][0]["status"] = json!("False"));
        assert_eq!(unready.unwrap().health_of(8080), Some(Health::Unhealthy));
    }

    #[test]
    fn a_pod_with_a_sidecar_is_reached_by_it_as_its_service_account() {
        let seen = read_pod(|pod| pod["metadata"]["annotations"] = json!({INJECTED: "native"}));
        let seen = seen.unwrap();
        assert_eq!((seen.mesh(), seen.mesh_port), (MeshMode::Native, MESH_PORT));
        assert_eq!(seen.identity, "spiffe://test.mesh/ns/shop/sa/web");
    }

    #[test]
    fn pods_without_an_address_of_their_own_are_none() {
        assert_eq!(
            read_pod(|pod| pod["spec"]["hostNetwork"] = json!(true)),
            None
        );
        assert_eq!(read_pod(|pod| pod["status"]["podIPs"] = json!([])), None);
        for phase in ["Succeeded", "Failed"] {
            assert_eq!(read_pod(|pod| pod["status"]["phase"] = json!(phase)), None);
        }
    }
}

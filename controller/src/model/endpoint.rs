//! What a service's selector finds: registered instances, and workloads that have an address and no sidecar.

use std::{collections::BTreeMap, net::IpAddr};

use imbl::{OrdMap, OrdSet};

use super::{
    Health, Instance, Mesh, MeshMode, Name,
    kinds::{PortRef, ServicePort, WorkloadSpec, metadata::selects},
};

/// One place that serves a port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The workload.
    pub name: Name,
    /// At least one.
    pub addresses: Vec<IpAddr>,
    /// What the application listens on.
    pub port: u16,
    /// Without a sidecar: healthy.
    pub health: Health,
    /// How it is reached.
    pub mesh: MeshMode,
    /// 0 without a sidecar.
    pub mesh_port: u16,
    /// Empty without a sidecar.
    pub identity: String,
    /// `<region>/<zone>`, may be empty.
    pub locality: String,
    /// The mesh index of the last change to what it was made from.
    pub changed_at: u64,
}

/// Which workloads carry a label: (namespace, key, value) → names. Derived, never stored.
pub(super) type LabelIndex = OrdMap<(String, String, String), OrdSet<String>>;

impl Mesh {
    /// The endpoints of one port of a service, by name. Empty where there is no such service or port.
    pub fn endpoints(&self, service: &Name, port: u16) -> Vec<Endpoint> {
        let Some(entry) = self.services.get(service) else {
            return Vec::new();
        };
        let spec = &entry.object.spec;
        let Some(service_port) = spec.port(port) else {
            return Vec::new();
        };
        let selected = self.select(&service.namespace, &spec.selector);
        let endpoints = selected
            .iter()
            .filter_map(|name| self.endpoint(name, service_port));
        let published = |endpoint: Endpoint| match spec.publish_not_ready_addresses {
            true => Endpoint {
                health: Health::Healthy,
                ..endpoint
            },
            false => endpoint,
        };
        endpoints.map(published).collect()
    }

    /// The names of workloads and instances of a namespace that a selector finds, in order.
    pub fn select(&self, namespace: &str, selector: &BTreeMap<String, String>) -> Vec<Name> {
        // The rarest label first: the others are compared only where it is there.
        let sets: Option<Vec<&OrdSet<String>>> = selector
            .iter()
            .map(|(key, value)| {
                self.labels
                    .get(&(namespace.to_owned(), key.clone(), value.clone()))
            })
            .collect();
        let Some(rarest) = sets.and_then(|sets| sets.into_iter().min_by_key(|set| set.len()))
        else {
            return Vec::new();
        };
        let names = rarest
            .iter()
            .map(|name| Name::new(namespace, name.as_str()));
        names
            .filter(|name| selects(selector, &self.merged_labels(name)))
            .collect()
    }

    /// The services of a namespace whose selector finds these labels.
    pub fn services_selecting(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> Vec<&Name> {
        let services = self.services.range(Name::new(namespace, "")..);
        services
            .take_while(|(name, _)| name.namespace == namespace)
            .filter(|(_, entry)| selects(&entry.object.spec.selector, labels))
            .map(|(name, _)| name)
            .collect()
    }

    /// The labels of an instance and of the workload of the same name. The workload's win: an operator wrote them, the
    /// instance only claims its own.
    pub fn merged_labels(&self, name: &Name) -> BTreeMap<String, String> {
        let mut labels = self
            .instances
            .get(name)
            .map(|entry| entry.instance.labels.clone())
            .unwrap_or_default();
        if let Some(workload) = self.workloads.get(name) {
            labels.extend(workload.object.metadata.labels.clone());
        }
        labels
    }

    /// Brings the index in step after a change to the labels of `name`.
    pub(super) fn reindex_labels(&mut self, name: &Name, before: BTreeMap<String, String>) {
        let after = self.merged_labels(name);
        for (key, value) in before
            .iter()
            .filter(|(key, value)| after.get(*key) != Some(*value))
        {
            let label = (name.namespace.clone(), key.clone(), value.clone());
            let mut names = self.labels.remove(&label).unwrap_or_default();
            names.remove(&name.name);
            if !names.is_empty() {
                self.labels.insert(label, names);
            }
        }
        for (key, value) in after
            .iter()
            .filter(|(key, value)| before.get(*key) != Some(*value))
        {
            let label = (name.namespace.clone(), key.clone(), value.clone());
            self.labels
                .entry(label)
                .or_default()
                .insert(name.name.clone());
        }
    }

    fn endpoint(&self, name: &Name, service_port: &ServicePort) -> Option<Endpoint> {
        let workload = self.workloads.get(name);
        let workload_changed = workload.map_or(0, |entry| entry.changed_at);
        let spec = workload.map(|entry| &entry.object.spec);
        if let Some(entry) = self.instances.get(name) {
            let changed_at = entry.changed_at.max(workload_changed);
            return instance_endpoint(&entry.instance, spec, service_port, changed_at);
        }
        workload_endpoint(name, spec?, service_port, workload_changed)
    }
}

/// A port that the instance does not have is not served by it.
fn instance_endpoint(
    instance: &Instance,
    workload: Option<&WorkloadSpec>,
    service_port: &ServicePort,
    changed_at: u64,
) -> Option<Endpoint> {
    let number = match service_port.target() {
        PortRef::Number(number) => number,
        PortRef::Name(wanted) => {
            let named = instance.ports.iter().find(|port| port.name == wanted);
            let number = named.and_then(|port| u16::try_from(port.port).ok());
            number.or_else(|| workload_port(workload?, &wanted))?
        }
    };
    let health = instance.health_of(number)?;
    let locality = match workload {
        Some(spec) if !spec.locality.is_empty() => spec.locality.clone(),
        _ => instance.locality.clone(),
    };
    Some(Endpoint {
        name: instance.name.clone(),
        addresses: instance.ip_addresses().collect(),
        port: number,
        health,
        mesh: instance.mesh(),
        mesh_port: u16::try_from(instance.mesh_port).unwrap_or(0),
        identity: instance.identity.clone(),
        locality,
        changed_at,
    })
}

/// A workload that lists no ports serves whatever number is asked for.
fn workload_endpoint(
    name: &Name,
    spec: &WorkloadSpec,
    service_port: &ServicePort,
    changed_at: u64,
) -> Option<Endpoint> {
    let port = match service_port.target() {
        PortRef::Number(number) => {
            let listed = spec.ports.is_empty() || spec.ports.iter().any(|port| port.port == number);
            listed.then_some(number)?
        }
        PortRef::Name(wanted) => workload_port(spec, &wanted)?,
    };
    (!spec.addresses.is_empty()).then(|| Endpoint {
        name: name.clone(),
        addresses: spec.addresses.clone(),
        port,
        health: Health::Healthy,
        mesh: MeshMode::None,
        mesh_port: 0,
        identity: String::new(),
        locality: spec.locality.clone(),
        changed_at,
    })
}

fn workload_port(spec: &WorkloadSpec, name: &str) -> Option<u16> {
    spec.ports
        .iter()
        .find(|port| port.name == name)
        .map(|port| port.port)
}

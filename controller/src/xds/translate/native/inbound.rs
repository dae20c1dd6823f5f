//! `in/<namespace>/<workload>`: who may call a workload, and where it calls out by explicit listeners.

use std::collections::BTreeSet;
use std::sync::Arc;

use xds_api::envoy::config::listener::v3::Listener;
use xds_api::maille::v1::{self, Inbound, InboundPort, Protocol};
use xds_api::resource::Resource;

use super::super::Translated;
use super::super::any::metadata;
use super::super::rules::Rules;
use super::super::workload::{identity, instance, mtls, overrides, protocols, spec};
use crate::model::kinds::WorkloadSpec;
use crate::model::{self, Mesh, Name};

pub(super) fn translate(mesh: &Mesh, name: Arc<str>, workload: &Name) -> Option<Translated> {
    let identity = identity(mesh, workload)?;
    let spec = spec(mesh, workload);
    let labels = mesh.merged_labels(workload);
    let rules = Rules::of(mesh, workload, &labels);
    let overrides = overrides(mesh, workload, &labels);
    let mtls = |port| mtls(mesh, &overrides, port) as i32;

    let mut protocols = protocols(instance(mesh, workload), spec);
    let named = rules
        .named_ports()
        .chain(overrides.iter().flat_map(|one| one.ports.iter().copied()));
    for port in named.collect::<BTreeSet<u16>>() {
        protocols.entry(port).or_insert(Protocol::Detect);
    }
    let ports = protocols.into_iter().map(|(port, protocol)| InboundPort {
        port: u32::from(port),
        protocol: protocol as i32,
        mtls: mtls(Some(port)),
        rules: rules.for_port(port),
        default_deny: rules.denies_by_default(port),
    });
    let inbound = Inbound {
        namespace: workload.namespace.clone(),
        workload: workload.name.clone(),
        identity,
        ports: ports.collect(),
        default_mtls: mtls(None),
        default_rules: rules.elsewhere(),
        default_deny: rules.denies_elsewhere(),
        upstreams: spec
            .map(|spec| upstreams(workload, spec))
            .unwrap_or_default(),
    };
    let listener = Listener {
        name: name.to_string(),
        metadata: metadata(&inbound),
        ..Default::default()
    };
    Some(Translated::new(Resource::new(name, &listener), Vec::new()))
}

fn upstreams(workload: &Name, spec: &WorkloadSpec) -> Vec<v1::Upstream> {
    let upstream = |one: &model::kinds::workload::Upstream| v1::Upstream {
        listen: one.listen.to_string(),
        namespace: one
            .service
            .namespace
            .clone()
            .unwrap_or_else(|| workload.namespace.clone()),
        service: one.service.name.clone(),
        port: u32::from(one.service.port),
    };
    spec.upstreams.iter().map(upstream).collect()
}

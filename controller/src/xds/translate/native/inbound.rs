//! `in/<namespace>/<workload>`: who may call a workload, and where it calls out by explicit listeners.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use xds_api::envoy::config::listener::v3::Listener;
use xds_api::maille::v1::{self, Inbound, InboundPort, Protocol};
use xds_api::resource::Resource;

use super::super::Translated;
use super::any::metadata;
use super::outbound::protocol;
use super::rules::Rules;
use crate::model::kinds::mesh_settings::MtlsOverride;
use crate::model::kinds::metadata::selects;
use crate::model::kinds::{MtlsMode, WorkloadSpec};
use crate::model::{self, Instance, Mesh, Name};

/// The service account of a workload that names none.
const DEFAULT_SERVICE_ACCOUNT: &str = "default";

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

/// The SPIFFE id that a workload must have: what its registered sidecar proved, else what its description says.
pub(crate) fn identity(mesh: &Mesh, workload: &Name) -> Option<String> {
    if let Some(instance) = instance(mesh, workload) {
        return Some(instance.identity.clone());
    }
    let account = spec(mesh, workload)?.service_account.as_deref();
    Some(format!(
        "spiffe://{}/ns/{}/sa/{}",
        mesh.trust_domain(),
        workload.namespace,
        account.unwrap_or(DEFAULT_SERVICE_ACCOUNT)
    ))
}

fn instance<'a>(mesh: &'a Mesh, workload: &Name) -> Option<&'a Instance> {
    mesh.instances().get(workload).map(|entry| &entry.instance)
}

fn spec<'a>(mesh: &'a Mesh, workload: &Name) -> Option<&'a WorkloadSpec> {
    mesh.workloads()
        .get(workload)
        .map(|entry| &entry.object.spec)
}

/// Every port that is known, with its protocol: as the operator says, else as the sidecar does.
fn protocols(instance: Option<&Instance>, spec: Option<&WorkloadSpec>) -> BTreeMap<u16, Protocol> {
    let registered = instance.iter().flat_map(|instance| &instance.ports);
    let registered = registered.filter_map(|port| {
        let number = u16::try_from(port.port).ok()?;
        Some((number, registered_protocol(port.protocol())))
    });
    let mut protocols: BTreeMap<u16, Protocol> = registered.collect();
    for port in spec.iter().flat_map(|spec| &spec.ports) {
        let described = protocol(port.app_protocol);
        let entry = protocols.entry(port.port).or_insert(described);
        if described != Protocol::Detect {
            *entry = described;
        }
    }
    protocols
}

fn registered_protocol(protocol: model::Protocol) -> Protocol {
    match protocol {
        model::Protocol::Detect => Protocol::Detect,
        model::Protocol::Http1 => Protocol::Http1,
        model::Protocol::Http2 => Protocol::Http2,
        model::Protocol::Grpc => Protocol::Grpc,
        model::Protocol::Tcp => Protocol::Tcp,
        model::Protocol::Tls => Protocol::Tls,
    }
}

/// The overrides that concern a workload.
fn overrides<'a>(
    mesh: &'a Mesh,
    workload: &Name,
    labels: &BTreeMap<String, String>,
) -> Vec<&'a MtlsOverride> {
    let all = mesh
        .settings()
        .into_iter()
        .flat_map(|entry| &entry.object.spec.mtls.overrides);
    let here = all.filter(|one| one.namespace == workload.namespace);
    here.filter(|one| one.match_labels.is_empty() || selects(&one.match_labels, labels))
        .collect()
}

/// Port over workload over namespace; among equals the first.
fn mtls(mesh: &Mesh, overrides: &[&MtlsOverride], port: Option<u16>) -> v1::Mtls {
    let fits = |one: &&MtlsOverride| {
        one.ports.is_empty() || port.is_some_and(|port| one.ports.contains(&port))
    };
    let exactness = |one: &MtlsOverride| (!one.ports.is_empty(), !one.match_labels.is_empty());
    let fitting = overrides.iter().copied().filter(fits);
    let best = fitting.reduce(|best, one| {
        if exactness(one) > exactness(best) {
            one
        } else {
            best
        }
    });
    let general = || {
        mesh.settings()
            .map(|entry| entry.object.spec.mtls.mode)
            .unwrap_or_default()
    };
    match best.map_or_else(general, |one| one.mode) {
        MtlsMode::Permissive => v1::Mtls::Permissive,
        MtlsMode::Strict => v1::Mtls::Strict,
    }
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

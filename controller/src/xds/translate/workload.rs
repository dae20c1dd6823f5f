//! What a workload is to those that call it: its identity, its ports and which of them take plain text.

use std::collections::BTreeMap;

use xds_api::maille::v1::{self, Protocol};

use super::protocol::protocol;
use crate::model::kinds::mesh_settings::MtlsOverride;
use crate::model::kinds::metadata::selects;
use crate::model::kinds::{MtlsMode, WorkloadSpec};
use crate::model::{self, Instance, Mesh, Name};

/// The service account of a workload that names none.
const DEFAULT_SERVICE_ACCOUNT: &str = "default";

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

pub(in crate::xds) fn instance<'a>(mesh: &'a Mesh, workload: &Name) -> Option<&'a Instance> {
    mesh.instances().get(workload).map(|entry| &entry.instance)
}

pub(in crate::xds) fn spec<'a>(mesh: &'a Mesh, workload: &Name) -> Option<&'a WorkloadSpec> {
    mesh.workloads()
        .get(workload)
        .map(|entry| &entry.object.spec)
}

/// Where a workload is, `<region>/<zone>`: as the operator says, else as its sidecar does. May be empty.
pub(crate) fn locality<'a>(mesh: &'a Mesh, workload: &Name) -> &'a str {
    let described = spec(mesh, workload).map_or("", |spec| spec.locality.as_str());
    match described.is_empty() {
        true => instance(mesh, workload).map_or("", |instance| instance.locality.as_str()),
        false => described,
    }
}

/// Every port that is known, with its protocol: as the operator says, else as the sidecar does.
pub(in crate::xds) fn protocols(
    instance: Option<&Instance>,
    spec: Option<&WorkloadSpec>,
) -> BTreeMap<u16, Protocol> {
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
pub(in crate::xds) fn overrides<'a>(
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
pub(in crate::xds) fn mtls(
    mesh: &Mesh,
    overrides: &[&MtlsOverride],
    port: Option<u16>,
) -> v1::Mtls {
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

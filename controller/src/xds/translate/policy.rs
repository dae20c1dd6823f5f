//! How a port of a service is called: its `TrafficPolicy`, and the mesh's defaults for what that leaves out.

use crate::model::kinds::traffic_policy::{Balancer, Ejection, Limits, Retries};
use crate::model::kinds::{Duration, TrafficPolicySpec};
use crate::model::{Mesh, Name};
use crate::xds::names::ServicePort;

/// For a connect and the handshake, where nothing else is said: far above any sane round trip, well below a client's own patience.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// What holds for one port.
#[derive(Debug, Default)]
pub(in crate::xds) struct Policy {
    pub(in crate::xds) balancer: Balancer,
    pub(in crate::xds) retries: Option<Retries>,
    pub(in crate::xds) timeout: Option<Duration>,
    pub(in crate::xds) connect_timeout: Duration,
    pub(in crate::xds) ejection: Option<Ejection>,
    pub(in crate::xds) limits: Limits,
}

/// The policy in force. A policy for the port wins over one for all ports; among equals the first by name.
pub(in crate::xds) fn policy(mesh: &Mesh, port: &ServicePort) -> Policy {
    let own = written(mesh, port).cloned().unwrap_or_default();
    let defaults = mesh
        .settings()
        .map(|entry| entry.object.spec.defaults.clone())
        .unwrap_or_default();
    let retries = own.retries.or(defaults.retries);
    let ejection = own.ejection.or(defaults.ejection);
    Policy {
        balancer: own.balancer.or(defaults.balancer).unwrap_or_default(),
        retries: retries.filter(|retries| retries.attempts > 0),
        timeout: own.timeout.or(defaults.timeout),
        connect_timeout: own
            .connect_timeout
            .or(defaults.connect_timeout)
            .unwrap_or(CONNECT_TIMEOUT),
        ejection: ejection.filter(|ejection| ejection.consecutive_errors > 0),
        limits: own.limits.or(defaults.limits).unwrap_or_default(),
    }
}

fn written<'a>(mesh: &'a Mesh, port: &ServicePort) -> Option<&'a TrafficPolicySpec> {
    let namespace = &port.service.namespace;
    let all = mesh
        .traffic_policies()
        .range(Name::new(namespace.as_str(), "")..);
    let here = all.take_while(|(name, _)| name.namespace == *namespace);
    let specs = here.map(|(_, entry)| &entry.object.spec);
    let targeting = specs.filter(|spec| spec.target_ref.name == port.service.name);
    let mut whole = None;
    for spec in targeting {
        match spec.target_ref.port {
            Some(number) if number == port.port => return Some(spec),
            None if whole.is_none() => whole = Some(spec),
            _ => {}
        }
    }
    whole
}

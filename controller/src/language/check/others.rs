//! `Service`, `Workload`, `AuthorizationPolicy` and `MeshSettings` as wholes.

use super::{Subject, traffic};
use crate::model::kinds::{
    Action, AuthorizationPolicySpec, Duration, MeshSettingsSpec, ServiceSpec, WorkloadSpec,
    mesh_settings::VipRange,
};

/// The range within which a leaf's lifetime is of use: shorter floods the log, longer outlives what it is worth.
const LEAF_LIFETIME: (Duration, Duration) =
    (Duration::from_secs(600), Duration::from_secs(720 * 3600));
/// Longer, and a changed address would not be noticed for too long.
const DNS_TTL_MOST: Duration = Duration::from_secs(3600);

pub(super) fn service(spec: &ServiceSpec, subject: &mut Subject<'_>) {
    let ports = || spec.ports.iter().enumerate();
    subject.no_twice(
        ports().map(|(index, port)| (format!("spec.ports[{index}].port"), port.port)),
        "port",
    );
    let names = ports().filter(|(_, port)| !port.name.is_empty());
    subject.no_twice(
        names.map(|(index, port)| (format!("spec.ports[{index}].name"), &port.name)),
        "port name",
    );
    if spec.ports.len() > 1 {
        for (index, _) in ports().filter(|(_, port)| port.name.is_empty()) {
            subject.error(
                format!("spec.ports[{index}]"),
                "with several ports each needs a name; add `name`",
            );
        }
    }
    if spec.selector.is_empty() {
        subject.warning(
            "spec",
            "there is no selector, so this Service has no endpoints",
        );
    }
}

pub(super) fn workload(spec: &WorkloadSpec, subject: &mut Subject<'_>) {
    let ports = || spec.ports.iter().enumerate();
    subject.no_twice(
        ports().map(|(index, port)| (format!("spec.ports[{index}].port"), port.port)),
        "port",
    );
    let names = ports().filter(|(_, port)| !port.name.is_empty());
    subject.no_twice(
        names.map(|(index, port)| (format!("spec.ports[{index}].name"), &port.name)),
        "port name",
    );
    let addresses = spec.addresses.iter().enumerate();
    subject.no_twice(
        addresses.map(|(index, address)| (format!("spec.addresses[{index}]"), address)),
        "address",
    );
    let upstreams = || spec.upstreams.iter().enumerate();
    subject.no_twice(
        upstreams().map(|(index, up)| (format!("spec.upstreams[{index}].listen"), up.listen)),
        "address",
    );
    for (index, upstream) in upstreams() {
        if !upstream.listen.ip().is_loopback() {
            let message = format!(
                "{} can be reached from other hosts, which would call with this workload's identity; listen on 127.0.0.1 or [::1] unless that is meant",
                upstream.listen
            );
            subject.warning(format!("spec.upstreams[{index}].listen"), message);
        }
    }
    for (index, address) in spec.addresses.iter().enumerate() {
        if address.is_unspecified() || address.is_multicast() {
            let message =
                format!("{address} is no address of a host; write the one that others reach it by");
            subject.error(format!("spec.addresses[{index}]"), message);
        }
    }
}

pub(super) fn authorization_policy(spec: &AuthorizationPolicySpec, subject: &mut Subject<'_>) {
    if spec.selector.is_some() && spec.target_ref.is_some() {
        subject.error(
            "spec.targetRef",
            "`selector` and `targetRef` exclude each other; keep one",
        );
    }
    if spec
        .selector
        .as_ref()
        .is_some_and(|selector| selector.match_labels.is_empty())
    {
        let message = "an empty selector finds nothing; name a label, or take `selector` out to mean the whole namespace";
        subject.error("spec.selector.matchLabels", message);
    }
    match (spec.action, spec.rules.is_empty()) {
        (Action::Deny, true) => {
            subject.error("spec", "a Deny without rules denies nothing; add a rule (`{}` matches anything), or delete the policy");
        }
        (Action::Allow, true) => {
            subject.warning(
                "spec",
                "an Allow without rules allows nobody: everything that it selects is closed",
            );
        }
        _ => {}
    }
    for (index, rule) in spec.rules.iter().enumerate() {
        for (at, source) in rule.from.iter().enumerate() {
            if source.identities.is_empty() && source.namespaces.is_empty() {
                let message = "an empty source would match anybody; name identities or namespaces, or take `from` out";
                subject.error(format!("spec.rules[{index}].from[{at}]"), message);
            }
        }
        for (at, operation) in rule.to.iter().enumerate() {
            if operation.ports.is_empty()
                && operation.methods.is_empty()
                && operation.paths.is_empty()
            {
                let message = "an empty operation would match anything; name ports, methods or paths, or take `to` out";
                subject.error(format!("spec.rules[{index}].to[{at}]"), message);
            }
        }
    }
}

pub(super) fn mesh_settings(spec: &MeshSettingsSpec, subject: &mut Subject<'_>) {
    vip_range(&spec.vip_range, subject);
    let overrides = spec.mtls.overrides.iter().enumerate();
    let places = overrides.map(|(index, part)| {
        let mut ports = part.ports.clone();
        ports.sort_unstable();
        (
            format!("spec.mtls.overrides[{index}]"),
            (&part.namespace, &part.match_labels, ports),
        )
    });
    subject.no_twice(places, "override");
    if let Some(lifetime) = spec.identity.leaf_lifetime
        && !(LEAF_LIFETIME.0..=LEAF_LIFETIME.1).contains(&lifetime)
    {
        let message = format!("{lifetime} is out of range; write 10m to 720h");
        subject.error("spec.identity.leafLifetime", message);
    }
    if let Some(ttl) = spec.dns.ttl
        && ttl > DNS_TTL_MOST
    {
        subject.error(
            "spec.dns.ttl",
            format!("{ttl} is out of range; write up to 1h"),
        );
    }
    let defaults = &spec.defaults;
    traffic::balancer(defaults.balancer.as_ref(), "spec.defaults", subject);
    traffic::retries(
        defaults.retries.as_ref(),
        defaults.timeout,
        "spec.defaults",
        subject,
    );
    traffic::ejection(defaults.ejection.as_ref(), "spec.defaults", subject);
    traffic::connect_timeout(defaults.connect_timeout, "spec.defaults", subject);
}

fn vip_range(range: &VipRange, subject: &mut Subject<'_>) {
    if let Some(v4) = range.v4 {
        let usable =
            !v4.addr().is_loopback() && !v4.addr().is_multicast() && !v4.addr().is_unspecified();
        if !usable || v4.prefix_len() > 24 || v4.prefix_len() < 4 {
            let message = format!(
                "{v4} cannot hold virtual IPs; write a /4 to a /24 that nothing else uses, for example 240.0.0.0/4"
            );
            subject.error("spec.vipRange.v4", message);
        }
    }
    if let Some(v6) = range.v6 {
        let usable =
            !v6.addr().is_loopback() && !v6.addr().is_multicast() && !v6.addr().is_unspecified();
        if !usable || v6.prefix_len() > 112 || v6.prefix_len() < 8 {
            let message = format!(
                "{v6} cannot hold virtual IPs; write a /8 to a /112 that nothing else uses, for example a /64 within fd00::/8"
            );
            subject.error("spec.vipRange.v6", message);
        }
    }
}

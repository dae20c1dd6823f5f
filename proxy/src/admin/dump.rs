//! The snapshot as JSON, for people. The maps are sorted, so that two dumps can be compared.

mod route;

use crate::snapshot::{
    Backends, Balancing, Cluster, Endpoint, HashKey, HeaderChanges, Host, Inbound, InboundPort,
    Listener, Named, Pattern, Roots, Rule, Snapshot,
};
use serde_json::{Map, Value, json};
use std::fmt::Debug;
use std::time::Duration;

/// All of it.
pub(super) fn dump(snapshot: &Snapshot) -> Value {
    json!({
        "incarnation": snapshot.incarnation,
        "index": snapshot.index,
        "inbound": snapshot.inbound.as_deref().map(inbound),
        "listeners": named(&snapshot.listeners, listener),
        "routes": named(&snapshot.routes, route::routes),
        "clusters": named(&snapshot.clusters, cluster),
        "endpoints": named(&snapshot.endpoints, |all| {
            all.endpoints.iter().map(endpoint).collect()
        }),
        "hosts": named(&snapshot.hosts, host),
        "roots": named(&snapshot.roots, roots),
    })
}

fn named<T>(all: &Named<T>, show: impl Fn(&T) -> Value) -> Value {
    let entry =
        |(name, one): (&std::sync::Arc<str>, &std::sync::Arc<T>)| (name.to_string(), show(one));
    Value::Object(all.iter().map(entry).collect::<Map<_, _>>())
}

/// An enum's variant, in small letters.
fn word(value: impl Debug) -> Value {
    format!("{value:?}").to_lowercase().into()
}

fn seconds(duration: Duration) -> Value {
    format!("{}s", duration.as_secs_f64()).into()
}

fn inbound(inbound: &Inbound) -> Value {
    let ports = inbound.ports.iter();
    let ports = ports.map(|(number, one)| (number.to_string(), port(one)));
    let upstreams = inbound.upstreams.iter();
    let upstreams = upstreams.map(|one| json!({ "listen": one.listen, "target": *one.target }));
    json!({
        "namespace": *inbound.namespace,
        "workload": *inbound.workload,
        "identity": *inbound.identity,
        "ports": ports.collect::<Map<_, _>>(),
        "default": port(&inbound.default),
        "upstreams": upstreams.collect::<Vec<_>>(),
    })
}

fn port(port: &InboundPort) -> Value {
    json!({
        "protocol": word(port.protocol),
        "mtls": word(port.mtls),
        "defaultDeny": port.default_deny,
        "rules": port.rules.iter().map(rule).collect::<Vec<_>>(),
    })
}

fn rule(rule: &Rule) -> Value {
    let patterns = |list: &[Pattern]| list.iter().map(pattern).collect::<Vec<_>>();
    json!({
        "action": word(rule.action),
        "policy": *rule.policy,
        "identities": patterns(&rule.identities),
        "namespaces": rule.namespaces.iter().map(|text| &**text).collect::<Vec<_>>(),
        "methods": rule.methods.iter().map(|text| &**text).collect::<Vec<_>>(),
        "paths": patterns(&rule.paths),
    })
}

fn pattern(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Exact(text) => text.to_string(),
        Pattern::Prefix(text) => format!("{text}*"),
    }
}

fn listener(listener: &Listener) -> Value {
    json!({
        "namespace": *listener.namespace,
        "service": *listener.service,
        "port": listener.port,
        "protocol": word(listener.protocol),
        "routes": listener.routes.as_deref(),
        "opaque": listener.opaque.as_deref().map(backends),
    })
}

fn backends(all: &Backends) -> Value {
    let one = |one: &crate::snapshot::Backend| {
        json!({
            "cluster": *one.cluster,
            "weight": one.weight,
            "requestHeaders": headers(&one.request_headers),
            "responseHeaders": headers(&one.response_headers),
        })
    };
    all.backends.iter().map(one).collect()
}

fn headers(changes: &HeaderChanges) -> Value {
    if changes.is_empty() {
        return Value::Null;
    }
    let set = changes.set.iter().map(|one| {
        json!({
            "name": one.name.as_str(),
            "value": String::from_utf8_lossy(one.value.as_bytes()),
            "append": one.append,
        })
    });
    json!({
        "set": set.collect::<Vec<_>>(),
        "remove": changes.remove.iter().map(|name| name.as_str()).collect::<Vec<_>>(),
    })
}

fn cluster(cluster: &Cluster) -> Value {
    let (balancing, key) = match &cluster.balancing {
        Balancing::PeakEwma => ("peak ewma", None),
        Balancing::LeastRequest => ("least request", None),
        Balancing::RoundRobin => ("round robin", None),
        Balancing::RingHash(key) => ("ring hash", Some(key)),
        Balancing::Maglev(key) => ("maglev", Some(key)),
    };
    let key = key.map(|key| match key {
        HashKey::Client => "client address",
        HashKey::Header(name) => name.as_str(),
    });
    let outlier = cluster.outlier.as_ref().map(|one| {
        json!({
            "consecutive5xx": one.consecutive_5xx,
            "consecutiveGatewayFailure": one.consecutive_gateway_failure,
            "interval": seconds(one.interval),
            "baseEjectionTime": seconds(one.base_ejection_time),
            "maxEjectionTime": seconds(one.max_ejection_time),
            "maxEjectionPercent": one.max_ejection_percent,
        })
    });
    let limits = &cluster.limits;
    json!({
        "namespace": *cluster.namespace,
        "service": *cluster.service,
        "port": cluster.port,
        "connectTimeout": seconds(cluster.connect_timeout),
        "balancing": balancing,
        "hashKey": key,
        "outlier": outlier,
        "limits": {
            "maxConnections": limits.max_connections,
            "maxPendingRequests": limits.max_pending_requests,
            "maxRequests": limits.max_requests,
            "retryBudgetPercent": limits.retry_budget.percent,
            "minRetryConcurrency": limits.retry_budget.min_concurrency,
        },
    })
}

fn endpoint(one: &Endpoint) -> Value {
    json!({
        "address": one.address,
        "namespace": *one.namespace,
        "workload": *one.workload,
        "region": *one.locality.region,
        "zone": *one.locality.zone,
        "health": word(one.health),
        "weight": one.weight,
        "meshPort": one.mesh.as_ref().map(|mesh| mesh.port),
        "identity": one.mesh.as_ref().map(|mesh| &*mesh.identity),
    })
}

fn host(host: &Host) -> Value {
    json!({
        "namespace": *host.namespace,
        "service": *host.service,
        "addresses": host.addresses,
        "ttlSeconds": host.ttl_seconds,
    })
}

fn roots(roots: &Roots) -> Value {
    let fingerprint = |der: &Vec<u8>| {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
        hex::encode(hash)
    };
    roots.certificates.iter().map(fingerprint).collect()
}

//! Objects as `maille get` shows them: their stored text with a status, and cells for a table. Pure.

mod routes;

use serde_json::{Value, json};
use tonic::Status;
use xds_api::generated::maille::v1 as api;

use super::documents::{one_kind, place};
use crate::model::{
    AnyObject, Endpoint, Health, Kind, Mesh, MeshMode, Name, ObjectKey,
    kinds::{
        AuthorizationPolicySpec, GrpcRouteSpec, HttpRouteSpec, MeshSettingsSpec, PortRef,
        ServiceSpec, TrafficPolicySpec, WorkloadSpec, authorization_policy::TargetRef,
    },
    mesh::{Entry, Stored},
    relations, vip,
};
use crate::xds::capabilities;

/// The objects that a request asks for, by kind and name.
pub(super) fn list(mesh: &Mesh, request: &api::GetRequest) -> Result<Vec<api::Object>, Status> {
    let kinds = match request.kind.as_str() {
        "all" => Kind::ALL.to_vec(),
        name => vec![one_kind(name)?],
    };
    let wanted = |kind: Kind, name: &Name| {
        let here = place(kind, &request.namespace, "").namespace;
        (request.all_namespaces || name.namespace == here)
            && (request.name.is_empty() || name.name == request.name)
    };
    let of_kind = |kind: Kind| {
        let stored = mesh.stored_of(kind).into_iter();
        stored
            .filter(move |(name, _)| wanted(kind, name))
            .map(move |(name, stored)| object(mesh, kind, name, stored))
    };
    Ok(kinds.into_iter().flat_map(of_kind).collect())
}

/// What is shown of one object beside its text.
#[derive(Default)]
struct Shown {
    status: Value,
    cells: Vec<(&'static str, String)>,
    /// Only where all is to be shown.
    wide: Vec<(&'static str, String)>,
}

fn object(mesh: &Mesh, kind: Kind, name: &Name, stored: Stored<'_>) -> api::Object {
    let shown = match kind {
        Kind::Service => mesh
            .services()
            .get(name)
            .map(|entry| service(mesh, name, entry)),
        Kind::HttpRoute => mesh
            .http_routes()
            .get(name)
            .map(|entry| http_route(mesh, name, entry)),
        Kind::GrpcRoute => mesh
            .grpc_routes()
            .get(name)
            .map(|entry| grpc_route(mesh, name, entry)),
        Kind::Workload => mesh
            .workloads()
            .get(name)
            .map(|entry| workload(mesh, name, entry)),
        Kind::AuthorizationPolicy => mesh
            .authorization_policies()
            .get(name)
            .map(|entry| policy(mesh, name, entry)),
        Kind::TrafficPolicy => mesh
            .traffic_policies()
            .get(name)
            .map(|entry| traffic_policy(mesh, name, entry)),
        Kind::MeshSettings => mesh.settings().map(|entry| settings(entry)),
    };
    let shown = shown.unwrap_or_default();
    let mut text = stored.json.to_string();
    if !shown.status.is_null() {
        // Canonical text is one object, so its last byte is the brace that closes it.
        text.truncate(text.len() - 1);
        text = format!("{text},\"status\":{}}}", shown.status);
    }
    let mut wide = shown.wide;
    wide.push(("warnings", warnings(mesh, kind, &stored)));
    let wide_columns = u32::try_from(wide.len()).unwrap_or(u32::MAX);
    let (columns, cells) = shown
        .cells
        .into_iter()
        .chain(wide)
        .map(|(column, cell)| (column.to_owned(), cell))
        .unzip();
    api::Object {
        kind: kind.name().to_owned(),
        namespace: name.namespace.clone(),
        name: name.name.clone(),
        json: text,
        changed_at: stored.changed_at,
        author: stored.author.to_string(),
        columns,
        cells,
        wide_columns,
    }
}

/// What clients that are there do otherwise than the object says.
fn warnings(mesh: &Mesh, kind: Kind, stored: &Stored<'_>) -> String {
    let found = match AnyObject::from_json(kind, stored.json) {
        Ok(object) => capabilities::warnings(mesh, &object),
        // What is stored was read before it was written.
        Err(_) => Vec::new(),
    };
    let texts = found
        .into_iter()
        .map(|(path, text)| format!("{path}: {text}"));
    texts.collect::<Vec<_>>().join("; ")
}

fn service(mesh: &Mesh, name: &Name, entry: &Entry<ServiceSpec>) -> Shown {
    let addresses = mesh.addresses_of(name);
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let ports = &entry.object.spec.ports;
    let endpoints: Vec<(u16, Endpoint)> = ports
        .iter()
        .flat_map(|port| {
            mesh.endpoints(name, port.port)
                .into_iter()
                .map(|endpoint| (port.port, endpoint))
        })
        .collect();
    let healthy = endpoints
        .iter()
        .filter(|(_, endpoint)| endpoint.health == Health::Healthy)
        .count();
    let shown_ports: Vec<String> = ports
        .iter()
        .map(|port| match port.target() {
            PortRef::Number(target) if target == port.port => port.port.to_string(),
            PortRef::Number(target) => format!("{}→{target}", port.port),
            PortRef::Name(target) => format!("{}→{target}", port.port),
        })
        .collect();
    Shown {
        cells: vec![
            ("virtual ip", addresses.first().cloned().unwrap_or_default()),
            ("ports", shown_ports.join(",")),
            ("healthy", format!("{healthy}/{}", endpoints.len())),
        ],
        wide: Vec::new(),
        status: json!({
            "virtualIPs": addresses,
            "endpoints": endpoints.iter().map(|(port, endpoint)| endpoint_json(*port, endpoint)).collect::<Vec<_>>(),
        }),
    }
}

fn endpoint_json(port: u16, endpoint: &Endpoint) -> Value {
    json!({
        "port": port,
        "workload": endpoint.name.name,
        "addresses": endpoint.addresses,
        "targetPort": endpoint.port,
        "health": health(endpoint.health),
        "mesh": mesh_mode(endpoint.mesh),
        "meshPort": endpoint.mesh_port,
        "identity": endpoint.identity,
        "locality": endpoint.locality,
    })
}

const fn health(health: Health) -> &'static str {
    match health {
        Health::Unknown => "unknown",
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
    }
}

const fn mesh_mode(mode: MeshMode) -> &'static str {
    match mode {
        MeshMode::None => "none",
        MeshMode::Native => "native",
        MeshMode::Envoy => "envoy",
        MeshMode::Grpc => "grpc",
    }
}

fn http_route(mesh: &Mesh, name: &Name, entry: &Entry<HttpRouteSpec>) -> Shown {
    let key = ObjectKey::new(Kind::HttpRoute, name.clone());
    let rules = entry.object.spec.rules.iter();
    let backends = rules.map(|rule| &rule.backend_refs[..]);
    routes::shown(mesh, &key, entry.changed_at, backends, "redirect")
}

fn grpc_route(mesh: &Mesh, name: &Name, entry: &Entry<GrpcRouteSpec>) -> Shown {
    let key = ObjectKey::new(Kind::GrpcRoute, name.clone());
    let rules = entry.object.spec.rules.iter();
    let backends = rules.map(|rule| &rule.backend_refs[..]);
    routes::shown(mesh, &key, entry.changed_at, backends, "none")
}

fn workload(mesh: &Mesh, name: &Name, entry: &Entry<WorkloadSpec>) -> Shown {
    let instance = mesh.instances().get(name).map(|entry| &entry.instance);
    let services: Vec<&str> = mesh
        .services_selecting(&name.namespace, &mesh.merged_labels(name))
        .into_iter()
        .map(|service| service.name.as_str())
        .collect();
    let addresses: Vec<String> = match instance {
        Some(instance) => instance.addresses.clone(),
        None => entry
            .object
            .spec
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect(),
    };
    let ports = instance.map(|instance| {
        let ports = instance.ports.iter();
        ports.map(|port| json!({"port": port.port, "name": port.name, "health": health(port.health())})).collect::<Vec<_>>()
    });
    let identity = instance
        .map(|instance| instance.identity.clone())
        .unwrap_or_default();
    Shown {
        cells: vec![
            ("addresses", addresses.join(",")),
            (
                "sidecar",
                if instance.is_some() { "yes" } else { "no" }.to_owned(),
            ),
            ("identity", identity.clone()),
            ("services", services.join(",")),
        ],
        wide: Vec::new(),
        status: json!({
            "registered": instance.is_some(),
            "addresses": addresses,
            "identity": identity,
            "ports": ports.unwrap_or_default(),
            "services": services,
        }),
    }
}

fn policy(mesh: &Mesh, name: &Name, entry: &Entry<AuthorizationPolicySpec>) -> Shown {
    let spec = &entry.object.spec;
    let (target, workloads) = match (&spec.selector, &spec.target_ref) {
        (Some(selector), _) => {
            let labels: Vec<String> = selector
                .match_labels
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            (
                labels.join(","),
                mesh.select(&name.namespace, &selector.match_labels),
            )
        }
        (None, Some(target)) => {
            let service = mesh
                .services()
                .get(&Name::new(name.namespace.as_str(), target.name.as_str()));
            let found =
                service.map(|entry| mesh.select(&name.namespace, &entry.object.spec.selector));
            (target_text(target), found.unwrap_or_default())
        }
        (None, None) => (
            "all of the namespace".to_owned(),
            workloads_of(mesh, &name.namespace),
        ),
    };
    let workloads: Vec<String> = workloads
        .into_iter()
        .map(|workload| workload.name)
        .collect();
    Shown {
        cells: vec![
            ("for", target),
            ("action", format!("{:?}", spec.action)),
            ("rules", spec.rules.len().to_string()),
            ("workloads", workloads.len().to_string()),
        ],
        wide: Vec::new(),
        status: json!({ "workloads": workloads }),
    }
}

/// Every workload and instance of a namespace, in order.
fn workloads_of(mesh: &Mesh, namespace: &str) -> Vec<Name> {
    let start = Name::new(namespace, "");
    let workloads = mesh
        .workloads()
        .range(start.clone()..)
        .map(|(name, _)| name);
    let workloads = workloads.take_while(|name| name.namespace == namespace);
    let instances = mesh.instances().range(start..).map(|(name, _)| name);
    let instances = instances.take_while(|name| name.namespace == namespace);
    let all: std::collections::BTreeSet<&Name> = workloads.chain(instances).collect();
    all.into_iter().cloned().collect()
}

fn target_text(target: &TargetRef) -> String {
    match target.port {
        Some(port) => format!("{}:{port}", target.name),
        None => target.name.clone(),
    }
}

fn traffic_policy(mesh: &Mesh, name: &Name, entry: &Entry<TrafficPolicySpec>) -> Shown {
    let spec = &entry.object.spec;
    let key = ObjectKey::new(Kind::TrafficPolicy, name.clone());
    let problem = relations::check(mesh, mesh, &[key]).into_iter().next();
    let balancer = spec
        .balancer
        .as_ref()
        .map(|balancer| format!("{:?}", balancer.algorithm));
    Shown {
        cells: vec![
            ("service", target_text(&spec.target_ref)),
            ("balancer", balancer.unwrap_or_default()),
            (
                "retries",
                spec.retries
                    .as_ref()
                    .map(|retries| retries.attempts.to_string())
                    .unwrap_or_default(),
            ),
            (
                "timeout",
                spec.timeout
                    .map(|timeout| timeout.to_string())
                    .unwrap_or_default(),
            ),
        ],
        wide: Vec::new(),
        status: json!({
            "conditions": [{
                "type": "Accepted",
                "status": if problem.is_none() { "True" } else { "False" },
                "reason": if problem.is_none() { "Accepted" } else { "TargetNotFound" },
                "message": problem.map(|problem| problem.message).unwrap_or_default(),
                "observedIndex": entry.changed_at,
            }],
        }),
    }
}

fn settings(entry: &Entry<MeshSettingsSpec>) -> Shown {
    let spec = &entry.object.spec;
    let (v4, v6) = vip::ranges(&spec.vip_range);
    Shown {
        cells: vec![
            ("mtls", format!("{:?}", spec.mtls.mode)),
            ("overrides", spec.mtls.overrides.len().to_string()),
            ("virtual ips", format!("{v4} {v6}")),
        ],
        wide: Vec::new(),
        status: json!({ "vipRange": { "v4": v4.to_string(), "v6": v6.to_string() } }),
    }
}

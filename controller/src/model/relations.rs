//! Whether objects fit together: what a reference names must exist, what is referred to may not go.

pub mod routes;

use super::{
    Kind, Mesh, Name, ObjectKey, ObjectProblem,
    kinds::{Object, ServiceSpec, authorization_policy::TargetRef},
};

/// Everything that is wrong in `after` because of the objects that were touched.
pub fn check(before: &Mesh, after: &Mesh, touched: &[ObjectKey]) -> Vec<ObjectProblem> {
    let mut problems = Problems {
        mesh: after,
        found: Vec::new(),
    };
    for key in touched {
        match key.kind() {
            Kind::Service => problems.service(key, before),
            Kind::HttpRoute | Kind::GrpcRoute => problems.route(key),
            Kind::Workload => problems.workload(key),
            Kind::AuthorizationPolicy => problems.authorization_policy(key),
            Kind::TrafficPolicy => problems.traffic_policy(key),
            Kind::MeshSettings => {}
        }
    }
    problems.found.sort();
    problems.found.dedup();
    problems.found
}

/// A reference to a port of a service, and the field that it stands in.
struct Reference {
    service: Name,
    port: Option<u16>,
    path: String,
}

struct Problems<'a> {
    mesh: &'a Mesh,
    found: Vec<ObjectProblem>,
}

impl Problems<'_> {
    fn add(&mut self, key: &ObjectKey, path: impl Into<String>, message: String) {
        self.found.push(ObjectProblem {
            key: key.clone(),
            path: path.into(),
            message,
        });
    }

    fn route(&mut self, key: &ObjectKey) {
        for fault in routes::faults(self.mesh, key) {
            self.add(key, fault.path, fault.message);
        }
    }

    fn workload(&mut self, key: &ObjectKey) {
        let Some(entry) = self.mesh.workloads.get(&key.name) else {
            return;
        };
        for reference in upstreams(self.mesh, &key.name) {
            self.reference(key, &reference);
        }
        let wanted = entry.object.spec.service_account.as_deref();
        let instance = self.mesh.instances.get(&key.name);
        let proved = instance.and_then(|entry| service_account(&entry.instance.identity));
        if let (Some(wanted), Some(proved)) = (wanted, proved)
            && wanted != proved
        {
            let message = format!(
                "the sidecar that registered as {} has the service account `{proved}`; withdraw it first, or write `{proved}`",
                key.name
            );
            self.add(key, "spec.serviceAccount", message);
        }
    }

    fn authorization_policy(&mut self, key: &ObjectKey) {
        for reference in policy_target(self.mesh, &key.name) {
            self.reference(key, &reference);
        }
    }

    fn traffic_policy(&mut self, key: &ObjectKey) {
        let Some(entry) = self.mesh.traffic_policies.get(&key.name) else {
            return;
        };
        let target = &entry.object.spec.target_ref;
        self.reference(key, &target_reference(&key.name, target));
        let namespace = self
            .mesh
            .traffic_policies
            .range(Name::new(key.name.namespace.as_str(), "")..);
        let mut namespace = namespace.take_while(|(name, _)| name.namespace == key.name.namespace);
        let same = namespace.find(|(name, other)| {
            let other = &other.object.spec.target_ref;
            **name != key.name && other.name == target.name && other.port == target.port
        });
        if let Some((other, _)) = same {
            let message =
                format!("TrafficPolicy {other} has the same target; merge the two, or delete one");
            self.add(key, "spec.targetRef", message);
        }
    }

    /// Reports a reference that does not hold.
    fn reference(&mut self, key: &ObjectKey, reference: &Reference) {
        if let Err((path, message)) = lookup(self.mesh, reference) {
            self.add(key, path, message);
        }
    }

    /// A service that lost ports, or went: who still refers to them?
    fn service(&mut self, key: &ObjectKey, before: &Mesh) {
        let Some(old) = before.services.get(&key.name) else {
            return;
        };
        let now = self.mesh.services.get(&key.name);
        let kept = |port: u16| now.is_some_and(|entry| entry.object.spec.port(port).is_some());
        if now.is_some() && old.object.spec.ports.iter().all(|port| kept(port.port)) {
            return;
        }
        for (referrer, reference) in references_to(self.mesh, &key.name) {
            let broken = now.is_none() || reference.port.is_some_and(|port| !kept(port));
            if !broken {
                continue;
            }
            let what = match reference.port.filter(|_| now.is_some()) {
                Some(port) => format!("port {port} of Service {}", key.name),
                None => format!("Service {}", key.name),
            };
            let message = format!(
                "{referrer} still refers to {what} ({}); change or delete it first, or in the same apply",
                reference.path
            );
            self.add(key, if now.is_some() { "spec.ports" } else { "" }, message);
        }
    }
}

/// The service that is referred to; else the field that is wrong, and why.
fn lookup<'a>(
    mesh: &'a Mesh,
    reference: &Reference,
) -> Result<&'a Object<ServiceSpec>, (String, String)> {
    let Some(entry) = mesh.services.get(&reference.service) else {
        let nearest = nearest_service(mesh, &reference.service);
        let hint = nearest
            .map(|name| format!(" (there is {name})"))
            .unwrap_or_default();
        let message = format!(
            "Service {} does not exist{hint}; apply it first, or in the same apply",
            reference.service
        );
        return Err((format!("{}.name", reference.path), message));
    };
    let spec = &entry.object.spec;
    if let Some(port) = reference.port.filter(|port| spec.port(*port).is_none()) {
        let message = format!(
            "Service {} has no port {port}; it has {}",
            reference.service,
            port_list(spec)
        );
        return Err((format!("{}.port", reference.path), message));
    }
    Ok(&entry.object)
}

fn upstreams(mesh: &Mesh, name: &Name) -> Vec<Reference> {
    let Some(entry) = mesh.workloads.get(name) else {
        return Vec::new();
    };
    let upstreams = entry.object.spec.upstreams.iter().enumerate();
    upstreams
        .map(|(index, upstream)| Reference {
            service: in_namespace(
                upstream.service.namespace.as_deref(),
                &name.namespace,
                &upstream.service.name,
            ),
            port: Some(upstream.service.port),
            path: format!("spec.upstreams[{index}].service"),
        })
        .collect()
}

fn policy_target(mesh: &Mesh, name: &Name) -> Vec<Reference> {
    let target = mesh
        .authorization_policies
        .get(name)
        .and_then(|entry| entry.object.spec.target_ref.as_ref());
    target
        .map(|target| target_reference(name, target))
        .into_iter()
        .collect()
}

fn target_reference(policy: &Name, target: &TargetRef) -> Reference {
    Reference {
        service: Name::new(policy.namespace.as_str(), target.name.as_str()),
        port: target.port,
        path: "spec.targetRef".to_owned(),
    }
}

/// Every reference to a service. Takes time by the size of the mesh: only asked where a service loses something.
fn references_to(mesh: &Mesh, service: &Name) -> Vec<(ObjectKey, Reference)> {
    let routes = mesh.routes().flat_map(|route| {
        let references = routes::references(mesh, &route);
        keyed(route.kind(), &route.name, references)
    });
    let policies = mesh.authorization_policies.keys();
    let policies =
        policies.flat_map(|name| keyed(Kind::AuthorizationPolicy, name, policy_target(mesh, name)));
    let traffic = mesh.traffic_policies.iter().flat_map(|(name, entry)| {
        keyed(
            Kind::TrafficPolicy,
            name,
            vec![target_reference(name, &entry.object.spec.target_ref)],
        )
    });
    let workloads = mesh.workloads.keys();
    let workloads = workloads.flat_map(|name| keyed(Kind::Workload, name, upstreams(mesh, name)));
    let all = routes.chain(policies).chain(traffic).chain(workloads);
    all.filter(|(_, reference)| reference.service == *service)
        .collect()
}

fn keyed(kind: Kind, name: &Name, references: Vec<Reference>) -> Vec<(ObjectKey, Reference)> {
    references
        .into_iter()
        .map(|reference| (ObjectKey::new(kind, name.clone()), reference))
        .collect()
}

fn in_namespace(namespace: Option<&str>, own: &str, name: &str) -> Name {
    Name::new(namespace.unwrap_or(own), name)
}

fn port_list(spec: &ServiceSpec) -> String {
    let ports: Vec<String> = spec
        .ports
        .iter()
        .map(|port| port.port.to_string())
        .collect();
    ports.join(", ")
}

/// A service whose name is this one's in another namespace, or within two letters of it.
fn nearest_service(mesh: &Mesh, wanted: &Name) -> Option<Name> {
    let same_name = mesh.services.keys().find(|name| name.name == wanted.name);
    let near = || {
        let mut here = mesh
            .services
            .keys()
            .filter(|name| name.namespace == wanted.namespace);
        here.find(|name| edit_distance(&name.name, &wanted.name) <= 2)
    };
    same_name.or_else(near).cloned()
}

/// How many letters must be changed, added or left out to come from one word to the other (Levenshtein).
pub fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

/// The service account of a workload's SPIFFE id.
pub(super) fn service_account(identity: &str) -> Option<&str> {
    identity.rsplit_once("/sa/").map(|(_, account)| account)
}

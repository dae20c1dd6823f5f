//! The mesh: configuration, and nothing that differs between controllers. Cheap to clone, never locked.

use std::{net::IpAddr, sync::Arc};

use imbl::{OrdMap, OrdSet, ordmap::DiffItem};

use super::{
    AnyObject, Instance, Kind, Name, ObjectKey, Root,
    attachment::AttachmentIndex,
    endpoint::LabelIndex,
    kinds::{
        AuthorizationPolicySpec, GrpcRouteSpec, HttpRouteSpec, MeshSettingsSpec, Object,
        ServiceSpec, Spec, TrafficPolicySpec, WorkloadSpec,
        mesh_settings::{SETTINGS_NAME, SETTINGS_NAMESPACE},
    },
    rollout::Rollout,
    vip::Vip,
};

/// A stored object.
#[derive(Clone, Debug)]
pub struct Entry<S> {
    /// Parsed.
    pub object: Object<S>,
    /// As it is stored: canonical JSON.
    pub json: Arc<str>,
    /// The mesh index of its last change.
    pub changed_at: u64,
    /// Who wrote it last.
    pub author: Arc<str>,
}

impl<S> PartialEq for Entry<S> {
    fn eq(&self, other: &Self) -> bool {
        self.changed_at == other.changed_at
            && self.json == other.json
            && self.author == other.author
    }
}

impl<S> Eq for Entry<S> {}

/// All objects of one kind.
pub type Table<S> = OrdMap<Name, Arc<Entry<S>>>;

/// A stored instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceEntry {
    /// As registered, with its health as last reported.
    pub instance: Instance,
    /// The mesh index of its last change.
    pub changed_at: u64,
}

/// What differs between two meshes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// An object came, went or changed.
    Object(ObjectKey),
    /// An instance came, went or changed.
    Instance(Name),
    /// A service got, lost or changed its virtual addresses.
    Vip(Name),
    /// The trust roots or the trust domain.
    Roots,
    /// The feature level: everything may be translated anew.
    Level,
    /// The log was begun afresh: everything a client knows is void.
    Incarnation,
}

/// Configuration at one mesh index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mesh {
    pub(super) index: u64,
    pub(super) incarnation: u64,
    pub(super) level: u32,
    pub(super) trust_domain: Arc<str>,
    pub(super) roots: Arc<Vec<Root>>,
    pub(super) roots_changed_at: u64,
    pub(super) services: Table<ServiceSpec>,
    pub(super) http_routes: Table<HttpRouteSpec>,
    pub(super) grpc_routes: Table<GrpcRouteSpec>,
    pub(super) workloads: Table<WorkloadSpec>,
    pub(super) authorization_policies: Table<AuthorizationPolicySpec>,
    pub(super) traffic_policies: Table<TrafficPolicySpec>,
    pub(super) settings: Table<MeshSettingsSpec>,
    pub(super) instances: OrdMap<Name, Arc<InstanceEntry>>,
    pub(super) vips: OrdMap<Name, Vip>,
    /// Derived from `vips`.
    pub(super) vip_owners: OrdMap<IpAddr, Name>,
    /// Derived from `services`: the addresses that Kubernetes gave them.
    pub(super) cluster_ips: OrdMap<IpAddr, Name>,
    /// The namespaces that belong to Kubernetes.
    pub(super) kubernetes: OrdSet<String>,
    /// Derived from the routes.
    pub(super) attachments: AttachmentIndex,
    /// Derived from `instances` and `workloads`.
    pub(super) labels: LabelIndex,
    /// What a part of the clients sees on top.
    pub(super) rollout: Option<Arc<Rollout>>,
}

impl Mesh {
    /// The log index of the last change to configuration. Versions, `--wait` and xDS count by it.
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// Which history the index counts in; changes when a snapshot is restored.
    pub const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The feature level.
    pub const fn level(&self) -> u32 {
        self.level
    }

    /// The trust domain; empty before the cluster is initialized.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The trust roots, the active one first.
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// The mesh index of the roots' last change.
    pub const fn roots_changed_at(&self) -> u64 {
        self.roots_changed_at
    }

    /// Services.
    pub const fn services(&self) -> &Table<ServiceSpec> {
        &self.services
    }

    /// HTTP routes.
    pub const fn http_routes(&self) -> &Table<HttpRouteSpec> {
        &self.http_routes
    }

    /// gRPC routes.
    pub const fn grpc_routes(&self) -> &Table<GrpcRouteSpec> {
        &self.grpc_routes
    }

    /// Workloads as operators describe them.
    pub const fn workloads(&self) -> &Table<WorkloadSpec> {
        &self.workloads
    }

    /// Authorization policies.
    pub const fn authorization_policies(&self) -> &Table<AuthorizationPolicySpec> {
        &self.authorization_policies
    }

    /// Traffic policies.
    pub const fn traffic_policies(&self) -> &Table<TrafficPolicySpec> {
        &self.traffic_policies
    }

    /// The one `MeshSettings`, where it was written.
    pub fn settings(&self) -> Option<&Arc<Entry<MeshSettingsSpec>>> {
        self.settings.get(&settings_name())
    }

    /// Registered sidecars.
    pub const fn instances(&self) -> &OrdMap<Name, Arc<InstanceEntry>> {
        &self.instances
    }

    /// The virtual addresses of every service.
    pub const fn vips(&self) -> &OrdMap<Name, Vip> {
        &self.vips
    }

    /// The change that a part of the clients sees already.
    pub fn rollout(&self) -> Option<&Rollout> {
        self.rollout.as_deref()
    }

    /// Which service has this virtual address, of the mesh's or of Kubernetes'.
    pub fn vip_owner(&self, address: &IpAddr) -> Option<&Name> {
        let own = self.vip_owners.get(address);
        own.or_else(|| self.cluster_ips.get(address))
    }

    /// All virtual addresses of a service: the mesh's, then those that Kubernetes gave it.
    pub fn addresses_of(&self, service: &Name) -> Vec<IpAddr> {
        let own = self.vips.get(service).map(Vip::addresses);
        let spec = self.services.get(service).map(|entry| &entry.object.spec);
        let given = spec.into_iter().flat_map(|spec| &spec.cluster_ips);
        own.into_iter().flatten().chain(given.copied()).collect()
    }

    /// Whether a namespace belongs to Kubernetes.
    pub fn is_of_kubernetes(&self, namespace: &str) -> bool {
        self.kubernetes.contains(namespace)
    }

    /// The namespaces that belong to Kubernetes.
    pub const fn kubernetes(&self) -> &OrdSet<String> {
        &self.kubernetes
    }

    /// The stored text of an object with its `changed_at` and author.
    pub fn stored(&self, key: &ObjectKey) -> Option<Stored<'_>> {
        fn of<'a, S>(table: &'a Table<S>, name: &Name) -> Option<Stored<'a>> {
            table.get(name).map(|entry| stored(entry))
        }
        match key.kind() {
            Kind::Service => of(&self.services, &key.name),
            Kind::HttpRoute => of(&self.http_routes, &key.name),
            Kind::GrpcRoute => of(&self.grpc_routes, &key.name),
            Kind::Workload => of(&self.workloads, &key.name),
            Kind::AuthorizationPolicy => of(&self.authorization_policies, &key.name),
            Kind::TrafficPolicy => of(&self.traffic_policies, &key.name),
            Kind::MeshSettings => of(&self.settings, &key.name),
        }
    }

    /// Every object of a kind, by name.
    pub fn stored_of(&self, kind: Kind) -> Vec<(&Name, Stored<'_>)> {
        fn of<S>(table: &Table<S>) -> Vec<(&Name, Stored<'_>)> {
            table
                .iter()
                .map(|(name, entry)| (name, stored(entry)))
                .collect()
        }
        match kind {
            Kind::Service => of(&self.services),
            Kind::HttpRoute => of(&self.http_routes),
            Kind::GrpcRoute => of(&self.grpc_routes),
            Kind::Workload => of(&self.workloads),
            Kind::AuthorizationPolicy => of(&self.authorization_policies),
            Kind::TrafficPolicy => of(&self.traffic_policies),
            Kind::MeshSettings => of(&self.settings),
        }
    }

    /// How many objects of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Service => self.services.len(),
            Kind::HttpRoute => self.http_routes.len(),
            Kind::GrpcRoute => self.grpc_routes.len(),
            Kind::Workload => self.workloads.len(),
            Kind::AuthorizationPolicy => self.authorization_policies.len(),
            Kind::TrafficPolicy => self.traffic_policies.len(),
            Kind::MeshSettings => self.settings.len(),
        }
    }

    /// What differs in `newer`. Takes time by what differs, not by what there is, where one mesh was made from the other.
    pub fn diff(&self, newer: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.incarnation != newer.incarnation {
            changes.push(Change::Incarnation);
        }
        if self.level != newer.level {
            changes.push(Change::Level);
        }
        if self.roots_changed_at != newer.roots_changed_at
            || self.trust_domain != newer.trust_domain
        {
            changes.push(Change::Roots);
        }
        diff_table(&self.settings, &newer.settings, &mut changes);
        diff_table(&self.services, &newer.services, &mut changes);
        diff_table(&self.http_routes, &newer.http_routes, &mut changes);
        diff_table(&self.grpc_routes, &newer.grpc_routes, &mut changes);
        diff_table(
            &self.traffic_policies,
            &newer.traffic_policies,
            &mut changes,
        );
        diff_table(
            &self.authorization_policies,
            &newer.authorization_policies,
            &mut changes,
        );
        diff_table(&self.workloads, &newer.workloads, &mut changes);
        changes.extend(changed_names(&self.vips, &newer.vips).map(Change::Vip));
        changes.extend(changed_names(&self.instances, &newer.instances).map(Change::Instance));
        changes
    }

    /// Puts a parsed object; gives back whether it was there.
    pub(super) fn put(
        &mut self,
        object: AnyObject,
        json: &str,
        changed_at: u64,
        author: &Arc<str>,
    ) -> bool {
        let metadata = object.metadata();
        let name = Name::new(metadata.namespace.as_str(), metadata.name.as_str());
        let stamp = Stamp {
            name,
            json,
            changed_at,
            author,
        };
        match object {
            AnyObject::Service(object) => {
                self.give_back_addresses(&stamp.name);
                for address in &object.spec.cluster_ips {
                    self.cluster_ips.insert(*address, stamp.name.clone());
                }
                stamp.put(&mut self.services, object)
            }
            AnyObject::HttpRoute(object) => {
                let key = ObjectKey::new(Kind::HttpRoute, stamp.name.clone());
                self.detach(&key);
                let existed = stamp.put(&mut self.http_routes, object);
                self.attach(&key);
                existed
            }
            AnyObject::GrpcRoute(object) => {
                let key = ObjectKey::new(Kind::GrpcRoute, stamp.name.clone());
                self.detach(&key);
                let existed = stamp.put(&mut self.grpc_routes, object);
                self.attach(&key);
                existed
            }
            AnyObject::Workload(object) => {
                let name = stamp.name.clone();
                let before = self.merged_labels(&name);
                let existed = stamp.put(&mut self.workloads, object);
                self.reindex_labels(&name, before);
                existed
            }
            AnyObject::AuthorizationPolicy(object) => {
                stamp.put(&mut self.authorization_policies, object)
            }
            AnyObject::TrafficPolicy(object) => stamp.put(&mut self.traffic_policies, object),
            AnyObject::MeshSettings(object) => stamp.put(&mut self.settings, object),
        }
    }

    /// Takes an object out; gives back whether it was there.
    pub(super) fn take(&mut self, key: &ObjectKey) -> bool {
        match key.kind() {
            Kind::Service => {
                self.give_back_addresses(&key.name);
                self.services.remove(&key.name).is_some()
            }
            Kind::HttpRoute => {
                self.detach(key);
                self.http_routes.remove(&key.name).is_some()
            }
            Kind::GrpcRoute => {
                self.detach(key);
                self.grpc_routes.remove(&key.name).is_some()
            }
            Kind::Workload => {
                let before = self.merged_labels(&key.name);
                let existed = self.workloads.remove(&key.name).is_some();
                self.reindex_labels(&key.name, before);
                existed
            }
            Kind::AuthorizationPolicy => self.authorization_policies.remove(&key.name).is_some(),
            Kind::TrafficPolicy => self.traffic_policies.remove(&key.name).is_some(),
            Kind::MeshSettings => self.settings.remove(&key.name).is_some(),
        }
    }

    /// Takes the addresses of Kubernetes' from a service. A newer service may have one of them already.
    fn give_back_addresses(&mut self, service: &Name) {
        let Some(entry) = self.services.get(service) else {
            return;
        };
        for address in &entry.object.spec.cluster_ips {
            if self.cluster_ips.get(address) == Some(service) {
                self.cluster_ips.remove(address);
            }
        }
    }

    /// Puts an instance.
    pub(super) fn put_instance(&mut self, instance: Instance, changed_at: u64) {
        let name = instance.name.clone();
        let before = self.merged_labels(&name);
        self.instances.insert(
            name.clone(),
            Arc::new(InstanceEntry {
                instance,
                changed_at,
            }),
        );
        self.reindex_labels(&name, before);
    }

    /// Takes an instance out.
    pub(super) fn take_instance(&mut self, name: &Name) {
        let before = self.merged_labels(name);
        self.instances.remove(name);
        self.reindex_labels(name, before);
    }
}

/// An object as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// Canonical JSON.
    pub json: &'a Arc<str>,
    /// The mesh index of its last change.
    pub changed_at: u64,
    /// Who wrote it last.
    pub author: &'a Arc<str>,
}

fn stored<S>(entry: &Entry<S>) -> Stored<'_> {
    Stored {
        json: &entry.json,
        changed_at: entry.changed_at,
        author: &entry.author,
    }
}

struct Stamp<'a> {
    name: Name,
    json: &'a str,
    changed_at: u64,
    author: &'a Arc<str>,
}

impl Stamp<'_> {
    fn put<S: Spec>(self, table: &mut Table<S>, object: Arc<Object<S>>) -> bool {
        let entry = Entry {
            object: Arc::unwrap_or_clone(object),
            json: self.json.into(),
            changed_at: self.changed_at,
            author: self.author.clone(),
        };
        table.insert(self.name, Arc::new(entry)).is_some()
    }
}

/// Where the one `MeshSettings` is kept.
pub fn settings_name() -> Name {
    Name::new(SETTINGS_NAMESPACE, SETTINGS_NAME)
}

fn diff_table<S: Spec>(older: &Table<S>, newer: &Table<S>, changes: &mut Vec<Change>) {
    changes.extend(
        changed_names(older, newer).map(|name| Change::Object(ObjectKey::new(S::KIND, name))),
    );
}

fn changed_names<'a, V: PartialEq>(
    older: &'a OrdMap<Name, V>,
    newer: &'a OrdMap<Name, V>,
) -> impl Iterator<Item = Name> + 'a {
    older.diff(newer).map(|item| match item {
        DiffItem::Add(name, _)
        | DiffItem::Remove(name, _)
        | DiffItem::Update { new: (name, _), .. } => name.clone(),
    })
}

//! All that the log agrees on: the mesh, and beside it what moves no mesh index.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::{
    Applied, FIRST_LEVEL, Issuer, Mesh, ObjectKey, Sealed, Source, Token, issuance::Issuance,
    vip::VipPool,
};

/// The state after one log entry. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub(super) log_index: u64,
    pub(super) time_millis: u64,
    pub(super) cluster_id: Arc<str>,
    pub(super) mesh: Mesh,
    pub(super) vip_pool: VipPool,
    pub(super) tokens: OrdMap<String, Arc<Token>>,
    /// Derived from `tokens`: the first to be forgotten first.
    pub(super) tokens_by_end: OrdSet<(i64, String)>,
    pub(super) trust_revision: u64,
    pub(super) sealed: OrdMap<String, Arc<Sealed>>,
    pub(super) issuers: OrdMap<String, Arc<Issuer>>,
    pub(super) issuance: Issuance,
    pub(super) members: OrdMap<u64, Arc<Member>>,
    /// The latest term in which Kubernetes was observed.
    pub(super) observed_term: u64,
    /// What the objects of Kubernetes' namespaces were made from.
    pub(super) observed: OrdMap<ObjectKey, Source>,
    pub(super) clients: OrdMap<String, Arc<Client>>,
    /// Derived from `clients`: the first to be forgotten first.
    pub(super) clients_by_index: OrdSet<(u64, String)>,
}

/// A controller of the cluster, as it described itself.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Member {
    /// Its node id; never used twice.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Unique among members.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The id of its data directory: a node with another is somebody else.
    #[prost(string, tag = "3")]
    pub directory: String,
    /// `host:port`.
    #[prost(string, tag = "4")]
    pub peer_address: String,
    /// `host:port`.
    #[prost(string, tag = "5")]
    pub xds_address: String,
    /// `host:port`.
    #[prost(string, tag = "6")]
    pub admin_address: String,
    /// The binary's version.
    #[prost(string, tag = "7")]
    pub version: String,
    /// The lowest feature level that it implements.
    #[prost(uint32, tag = "8")]
    pub min_level: u32,
    /// The highest feature level that it implements.
    #[prost(uint32, tag = "9")]
    pub max_level: u32,
}

/// A writer's last answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Client {
    pub(super) sequence: u64,
    pub(super) log_index: u64,
    pub(super) applied: Applied,
}

impl Default for State {
    fn default() -> Self {
        Self {
            log_index: 0,
            time_millis: 0,
            cluster_id: "".into(),
            mesh: Mesh {
                level: FIRST_LEVEL,
                ..Mesh::default()
            },
            vip_pool: VipPool::default(),
            tokens: OrdMap::new(),
            tokens_by_end: OrdSet::new(),
            trust_revision: 0,
            sealed: OrdMap::new(),
            issuers: OrdMap::new(),
            issuance: Issuance::default(),
            members: OrdMap::new(),
            observed_term: 0,
            observed: OrdMap::new(),
            clients: OrdMap::new(),
            clients_by_index: OrdSet::new(),
        }
    }
}

impl State {
    /// The log index of the last entry that was applied.
    pub const fn log_index(&self) -> u64 {
        self.log_index
    }

    /// The highest time that any entry was stamped with, in Unix milliseconds.
    pub const fn time_millis(&self) -> u64 {
        self.time_millis
    }

    /// The same in Unix seconds.
    pub fn time_seconds(&self) -> i64 {
        i64::try_from(self.time_millis / 1000).unwrap_or(i64::MAX)
    }

    /// Empty before the cluster is initialized.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Configuration.
    pub const fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Join tokens by id.
    pub const fn tokens(&self) -> &OrdMap<String, Arc<Token>> {
        &self.tokens
    }

    /// Grows with every change of roots or sealed secrets; 0 before the first.
    pub const fn trust_revision(&self) -> u64 {
        self.trust_revision
    }

    /// Sealed secrets by name.
    pub const fn sealed(&self) -> &OrdMap<String, Arc<Sealed>> {
        &self.sealed
    }

    /// Issuing certificates by serial.
    pub const fn issuers(&self) -> &OrdMap<String, Arc<Issuer>> {
        &self.issuers
    }

    /// The record of certificates.
    pub const fn issuance(&self) -> &Issuance {
        &self.issuance
    }

    /// Members by node id.
    pub const fn members(&self) -> &OrdMap<u64, Arc<Member>> {
        &self.members
    }

    /// The latest term in which Kubernetes was observed; 0 before the first.
    pub const fn observed_term(&self) -> u64 {
        self.observed_term
    }

    /// What the objects of Kubernetes' namespaces were made from.
    pub const fn observed(&self) -> &OrdMap<ObjectKey, Source> {
        &self.observed
    }

    /// The answer to a write that was applied before, for whoever wants to know before proposing it again.
    pub fn answered(&self, client: &str, sequence: u64) -> Option<&Applied> {
        let answer = self.clients.get(client)?;
        (answer.sequence == sequence).then_some(&answer.applied)
    }

    /// What a new cluster starts from when this state is restored: another cluster and a higher incarnation, without
    /// members, remembered writers, issuing certificates and what was being rolled out. Instances stay: their leases begin anew. The new log must
    /// go on from this state's log index, or an object could be changed twice at one index.
    #[must_use]
    pub fn restored(&self, cluster_id: &str, incarnation: u64) -> Self {
        let mut state = self.clone();
        state.cluster_id = cluster_id.into();
        state.mesh.incarnation = incarnation.max(self.mesh.incarnation + 1);
        state.mesh.rollout = None;
        state.members.clear();
        state.clients.clear();
        state.clients_by_index.clear();
        state.issuers.clear();
        // The new cluster's terms begin anew.
        state.observed_term = 0;
        state
    }

    /// SHA-256 over the canonical encoding of the mesh: equal on all controllers at equal mesh index.
    pub fn hash(&self) -> [u8; 32] {
        super::snapshot::mesh_hash(&self.mesh)
    }
}

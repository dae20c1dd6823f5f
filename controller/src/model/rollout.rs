//! A change that only a part of the clients see yet: what it writes, how far it has come, and the mesh with it.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use super::{AnyObject, DecodeError, Kind, Mesh, Name, ObjectKey, codec::known, command};

/// A change on its way to everybody. At most one is under way.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    pub(super) row: RolloutRow,
    /// What is put, parsed once: the mesh is made anew with every change of the base.
    puts: Vec<(AnyObject, Arc<str>)>,
    author: Arc<str>,
    pub(super) mesh: Mesh,
}

/// What of it is kept in snapshots; the rest is made from it.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RolloutRow {
    /// The mesh index at which it began.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    /// Drawn by the proposer, so that every rollout begins with other clients.
    #[prost(uint64, tag = "2")]
    pub(super) salt: u64,
    /// Who sees it: the clients whose place is at most this.
    #[prost(uint32, tag = "3")]
    pub(super) through: u32,
    /// The same for people: percent of the clients that it concerns.
    #[prost(uint32, tag = "4")]
    pub(super) share: u32,
    #[prost(string, tag = "5")]
    pub(super) author: String,
    #[prost(message, required, tag = "6")]
    pub(super) write: command::WriteObjects,
}

impl Rollout {
    /// Over a base that it fits to. `apply` has checked that; a snapshot holds only what was applied.
    pub(super) fn new(row: RolloutRow, base: &Mesh) -> Result<Self, DecodeError> {
        let mut puts = Vec::new();
        for put in &row.write.puts {
            known::<Kind>(put.key.kind, "kind")?;
            let object = AnyObject::from_json(put.key.kind(), &put.json);
            let object = object.map_err(|error| DecodeError::malformed("an object", error))?;
            puts.push((object, put.json.as_str().into()));
        }
        for delete in &row.write.deletes {
            known::<Kind>(delete.key.kind, "kind")?;
        }
        let mut rollout = Self {
            author: row.author.as_str().into(),
            row,
            puts,
            mesh: Mesh::default(),
        };
        rollout.rebase(base);
        Ok(rollout)
    }

    /// Makes its mesh from another base.
    pub(super) fn rebase(&mut self, base: &Mesh) {
        let mut mesh = base.clone();
        mesh.rollout = None;
        for (object, json) in &self.puts {
            mesh.put(object.clone(), json, self.row.id, &self.author);
        }
        for delete in &self.row.write.deletes {
            mesh.take(&delete.key);
        }
        self.mesh = mesh;
    }

    /// The mesh index at which it began, and its name.
    pub const fn id(&self) -> u64 {
        self.row.id
    }

    /// What makes the places of its clients.
    pub const fn salt(&self) -> u64 {
        self.row.salt
    }

    /// The last place that sees it.
    pub const fn through(&self) -> u32 {
        self.row.through
    }

    /// Percent of the clients that it concerned as its stage began.
    pub const fn share(&self) -> u32 {
        self.row.share
    }

    /// Who began it.
    pub fn author(&self) -> &str {
        &self.author
    }

    /// The mesh as those see it that it has reached.
    pub const fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Whether a client sees it.
    pub fn reaches(&self, client: &Name) -> bool {
        place(self.row.salt, client) <= self.row.through
    }

    /// What it writes.
    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        let puts = self.row.write.puts.iter().map(|put| &put.key);
        puts.chain(self.row.write.deletes.iter().map(|delete| &delete.key))
    }
}

/// A client's place in the order in which a rollout reaches all: the first four bytes of SHA-256 over salt and name.
pub fn place(salt: u64, client: &Name) -> u32 {
    let text = format!("{salt:016x}{client}");
    let hash = digest(&SHA256, text.as_bytes());
    let first = hash.as_ref().first_chunk();
    u32::from_be_bytes(*first.expect("SHA-256 is 32 bytes long by definition"))
}

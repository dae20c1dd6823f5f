//! The cluster itself: its name, trust, members and feature level.

use std::sync::Arc;

use crate::model::{
    Applied, Issuer, Member, Refusal, RefusalCode, State,
    command::{Initialize, RemoveMember, SetLevel, SetTrust},
    limits::{MEMBERS, ROOTS},
};

impl State {
    pub(super) fn initialize(&mut self, command: &Initialize) -> Result<Applied, Refusal> {
        if !self.cluster_id.is_empty() {
            let message = format!("the cluster is initialized already, as {}", self.cluster_id);
            return Err(Refusal::new(RefusalCode::Conflict, message));
        }
        if command.cluster_id.is_empty() || command.trust_domain.is_empty() {
            return Err(Refusal::new(
                RefusalCode::Invalid,
                "a cluster needs an id and a trust domain",
            ));
        }
        self.cluster_id = command.cluster_id.as_str().into();
        self.mesh.trust_domain = command.trust_domain.as_str().into();
        self.mesh.incarnation = command.incarnation;
        self.touch_mesh();
        Ok(Applied::default())
    }

    pub(super) fn set_trust(&mut self, command: &SetTrust) -> Result<Applied, Refusal> {
        if command.expected_revision != self.trust_revision {
            let message = format!(
                "trust is at revision {}, not {}; read it again",
                self.trust_revision, command.expected_revision
            );
            return Err(Refusal::new(RefusalCode::Conflict, message));
        }
        if command.roots.is_empty() || command.roots.len() > ROOTS {
            let message = format!("a mesh has 1 to {ROOTS} roots, not {}", command.roots.len());
            return Err(Refusal::new(RefusalCode::Invalid, message));
        }
        self.trust_revision += 1;
        let sealed = command
            .sealed
            .iter()
            .map(|secret| (secret.name.clone(), Arc::new(secret.clone())));
        self.sealed = sealed.collect();
        if *self.mesh.roots != command.roots {
            self.mesh.roots = Arc::new(command.roots.clone());
            self.mesh.roots_changed_at = self.log_index;
            self.touch_mesh();
        }
        Ok(Applied::default())
    }

    pub(super) fn put_issuer(&mut self, issuer: &Issuer) -> Result<Applied, Refusal> {
        if issuer.serial.is_empty() || issuer.certificate.is_empty() {
            return Err(Refusal::new(
                RefusalCode::Invalid,
                "an issuing certificate needs a serial and its DER",
            ));
        }
        self.issuers
            .insert(issuer.serial.clone(), Arc::new(issuer.clone()));
        Ok(Applied::default())
    }

    /// There is about one issuer per member and day, so all are looked at.
    pub(super) fn expire_issuers(&mut self, now: i64) {
        let ended = self
            .issuers
            .values()
            .filter(|issuer| issuer.not_after < now);
        let ended: Vec<String> = ended.map(|issuer| issuer.serial.clone()).collect();
        for serial in ended {
            self.issuers.remove(&serial);
        }
    }

    pub(super) fn put_member(&mut self, member: &Member) -> Result<Applied, Refusal> {
        let taken = self
            .members
            .values()
            .find(|other| other.name == member.name && other.id != member.id);
        if let Some(other) = taken {
            let message = format!(
                "the name {} belongs to member {}; remove that one first, or give this controller another `name`",
                member.name, other.id
            );
            return Err(Refusal::new(RefusalCode::Conflict, message));
        }
        let known = self.members.get(&member.id);
        if known
            .is_some_and(|known| !known.directory.is_empty() && known.directory != member.directory)
        {
            let message = format!(
                "member {} has another data directory; a new one joins under a new id",
                member.id
            );
            return Err(Refusal::new(RefusalCode::Conflict, message));
        }
        if known.is_none() && self.members.len() >= MEMBERS {
            return Err(Refusal::new(
                RefusalCode::Exhausted,
                format!("a cluster has at most {MEMBERS} members"),
            ));
        }
        self.members.insert(member.id, Arc::new(member.clone()));
        Ok(Applied::default())
    }

    pub(super) fn remove_member(&mut self, command: &RemoveMember) -> Result<Applied, Refusal> {
        match self.members.remove(&command.id) {
            Some(_) => Ok(Applied::default()),
            None => Err(Refusal::new(
                RefusalCode::NotFound,
                format!("there is no member {}", command.id),
            )),
        }
    }

    pub(super) fn set_level(&mut self, command: &SetLevel) -> Result<Applied, Refusal> {
        if command.level < self.mesh.level {
            let message = format!(
                "the feature level is {} and never goes down",
                self.mesh.level
            );
            return Err(Refusal::new(RefusalCode::Conflict, message));
        }
        if command.level != self.mesh.level {
            self.mesh.level = command.level;
            self.touch_mesh();
        }
        Ok(Applied::default())
    }
}

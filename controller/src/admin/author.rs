//! Who calls: an administrator by certificate, or root at the local socket. Recorded with every write.

use std::fmt;

use tonic::{Request, Status};
use xds_api::spiffe::SpiffeId;

use crate::peer_ca::{Grant, Role};
use crate::tls::Caller;

/// Who wrote something, a SPIFFE id or `local user <uid>`, and what that one may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    name: String,
    grant: Grant,
}

impl Author {
    /// The administrator who sent the request.
    ///
    /// # Errors
    /// The caller is none: it has no certificate, or one for something else, or without a role.
    pub(super) fn of<T>(request: &Request<T>, trust_domain: &str) -> Result<Self, Status> {
        let caller = request.extensions().get::<Caller>();
        let caller =
            caller.ok_or_else(|| Status::internal("the connection does not say who calls"))?;
        if let Some(user) = caller.local_user {
            return Ok(Self {
                name: format!("local user {user}"),
                grant: Grant::everything(),
            });
        }
        let refuse = |who: &str| {
            Status::permission_denied(format!(
                "{who} is no administrator of {trust_domain}; use the directory that `maille-controller init` or `maille-controller admin-certificate` wrote"
            ))
        };
        let (Some(leaf), Some(id)) = (&caller.leaf, caller.spiffe_id()) else {
            return Err(refuse("the holder of this certificate"));
        };
        let parsed: Option<SpiffeId> = id.parse().ok();
        let own = |id: &SpiffeId| id.admin_name().is_some() && id.trust_domain() == trust_domain;
        let Some(id) = parsed.filter(own) else {
            return Err(refuse(id));
        };
        let grant = Grant::of(leaf).ok_or_else(|| {
            Status::permission_denied(format!(
                "the certificate of {id} names no role; make another with `maille-controller admin-certificate`"
            ))
        })?;
        Ok(Self {
            name: id.to_string(),
            grant,
        })
    }

    /// Demands a role.
    pub(super) fn must_be(&self, role: Role) -> Result<(), Status> {
        if self.grant.role >= role {
            return Ok(());
        }
        Err(Status::permission_denied(format!(
            "{} has the role {}; this takes {role}",
            self.name, self.grant.role
        )))
    }

    /// Demands that a namespace is within reach.
    pub(super) fn must_reach(&self, namespace: &str) -> Result<(), Status> {
        if self.grant.reaches(namespace) {
            return Ok(());
        }
        let where_else = match namespace {
            "" => "all namespaces at once".to_owned(),
            name => format!("the namespace {name}"),
        };
        Err(Status::permission_denied(format!(
            "{} reaches {}, not {where_else}",
            self.name,
            self.grant.namespaces.join(", ")
        )))
    }

    /// Whether something of a namespace may be shown.
    pub(super) fn sees(&self, namespace: &str) -> bool {
        self.grant.reaches(namespace)
    }

    /// Whether a client may be shown, by its node: `<namespace>/<workload>`.
    pub(super) fn sees_node(&self, node: &str) -> bool {
        self.sees(node.split_once('/').map_or("", |(namespace, _)| namespace))
    }

    /// Whoever a test says, with every right.
    #[cfg(test)]
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            grant: Grant::everything(),
        }
    }

    /// As it is recorded.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Author {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.name)
    }
}

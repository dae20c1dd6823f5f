//! Who calls: an administrator by certificate, or root at the local socket. Recorded with every write.

use std::fmt;

use tonic::{Request, Status};
use xds_api::spiffe::SpiffeId;

use crate::tls::Caller;

/// Who wrote something: a SPIFFE id, or `local user <uid>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author(String);

impl Author {
    /// The administrator who sent the request.
    ///
    /// # Errors
    /// The caller is none: it has no certificate, or one for something else.
    pub(super) fn of<T>(request: &Request<T>, trust_domain: &str) -> Result<Self, Status> {
        let caller = request.extensions().get::<Caller>();
        let caller =
            caller.ok_or_else(|| Status::internal("the connection does not say who calls"))?;
        if let Some(user) = caller.local_user {
            return Ok(Self(format!("local user {user}")));
        }
        let refuse = |who: &str| {
            Status::permission_denied(format!(
                "{who} is no administrator of {trust_domain}; use the directory that `maille-controller init` or `maille-controller admin-certificate` wrote"
            ))
        };
        let Some(id) = caller.spiffe_id() else {
            return Err(refuse("the holder of this certificate"));
        };
        let parsed: Option<SpiffeId> = id.parse().ok();
        match parsed {
            Some(parsed)
                if parsed.admin_name().is_some() && parsed.trust_domain() == trust_domain =>
            {
                Ok(Self(parsed.to_string()))
            }
            _ => Err(refuse(id)),
        }
    }

    /// Whoever a test says.
    #[cfg(test)]
    pub(super) fn named(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// As it is recorded.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Author {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

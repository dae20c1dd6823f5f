//! SPIFFE ids: who a workload or an operator is. The only two forms that Maille issues and accepts.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

#[cfg(test)]
mod tests;

/// The longest id, in bytes (SPIFFE-ID 2.3).
const MAX_ID: usize = 2048;
/// The longest trust domain, in bytes (SPIFFE-ID 2.1).
const MAX_TRUST_DOMAIN: usize = 255;
/// The longest namespace: a DNS label (RFC 1123).
const MAX_LABEL: usize = 63;
/// The longest service account: a DNS subdomain (RFC 1123).
const MAX_SUBDOMAIN: usize = 253;

const SCHEME: &str = "spiffe://";

/// Why a text is no SPIFFE id of Maille's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpiffeError {
    /// It is longer than the standard allows.
    #[error("a SPIFFE id has at most {MAX_ID} bytes, this one has {0}")]
    TooLong(usize),
    /// It does not start with `spiffe://`.
    #[error("{0:?} is not a SPIFFE id: it must start with `spiffe://`")]
    Scheme(String),
    /// The trust domain is empty, too long or has characters that are not allowed.
    #[error(
        "{0:?} is not a trust domain: use 1 to {MAX_TRUST_DOMAIN} of a-z, 0-9, '.', '-' and '_'"
    )]
    TrustDomain(String),
    /// The path has neither of the two forms.
    #[error(
        "{0:?} names nobody: use spiffe://<trust domain>/ns/<namespace>/sa/<service account> or spiffe://<trust domain>/admin/<name>"
    )]
    Path(String),
    /// The namespace is no DNS label.
    #[error(
        "{0:?} is not a namespace: use 1 to {MAX_LABEL} of a-z, 0-9 and '-', beginning and ending with a letter or digit"
    )]
    Namespace(String),
    /// The service account is no DNS subdomain.
    #[error(
        "{0:?} is not a service account: use 1 to {MAX_SUBDOMAIN} of a-z, 0-9, '-' and '.', each part beginning and ending with a letter or digit"
    )]
    ServiceAccount(String),
    /// The administrator's name is no SPIFFE path segment.
    #[error(
        "{0:?} is not an administrator's name: use 1 to {MAX_LABEL} of A-Z, a-z, 0-9, '.', '-' and '_', other than \".\" and \"..\""
    )]
    AdminName(String),
}

/// The name under which one authority issues, for example `example.org`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The name, without a scheme.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if text.is_empty() || text.len() > MAX_TRUST_DOMAIN || !text.bytes().all(legal) {
            return Err(SpiffeError::TrustDomain(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Whose id it is; the numbers are where the parts end in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Role {
    Workload { namespace_end: usize },
    Admin,
}

/// A checked SPIFFE id: of a workload, `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`, or of an
/// operator, `spiffe://<trust domain>/admin/<name>`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: Arc<str>,
    domain_end: usize,
    role: Role,
}

impl SpiffeId {
    /// The id of the workloads that run as this service account.
    pub fn workload(
        domain: &TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, SpiffeError> {
        check_namespace(namespace)?;
        check_service_account(service_account)?;
        format!("{SCHEME}{domain}/ns/{namespace}/sa/{service_account}").parse()
    }

    /// The id of the operator of this name.
    pub fn admin(domain: &TrustDomain, name: &str) -> Result<Self, SpiffeError> {
        check_admin_name(name)?;
        format!("{SCHEME}{domain}/admin/{name}").parse()
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain's name.
    pub fn trust_domain(&self) -> &str {
        &self.text[SCHEME.len()..self.domain_end]
    }

    /// A workload's namespace; `None` for an operator.
    pub fn namespace(&self) -> Option<&str> {
        match self.role {
            Role::Workload { namespace_end } => {
                Some(&self.text[self.domain_end + "/ns/".len()..namespace_end])
            }
            Role::Admin => None,
        }
    }

    /// A workload's service account; `None` for an operator.
    pub fn service_account(&self) -> Option<&str> {
        match self.role {
            Role::Workload { namespace_end } => Some(&self.text[namespace_end + "/sa/".len()..]),
            Role::Admin => None,
        }
    }

    /// An operator's name; `None` for a workload.
    pub fn admin_name(&self) -> Option<&str> {
        match self.role {
            Role::Workload { .. } => None,
            Role::Admin => Some(&self.text[self.domain_end + "/admin/".len()..]),
        }
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        if text.len() > MAX_ID {
            return Err(SpiffeError::TooLong(text.len()));
        }
        let rest = text
            .strip_prefix(SCHEME)
            .ok_or_else(|| SpiffeError::Scheme(text.to_owned()))?;
        let nobody = || SpiffeError::Path(text.to_owned());
        let (domain, path) = rest.split_once('/').ok_or_else(nobody)?;
        TrustDomain::from_str(domain)?;
        let domain_end = SCHEME.len() + domain.len();
        let parts: Vec<&str> = path.split('/').collect();
        let role = match parts.as_slice() {
            ["ns", namespace, "sa", account] => {
                check_namespace(namespace)?;
                check_service_account(account)?;
                let namespace_end = domain_end + "/ns/".len() + namespace.len();
                Role::Workload { namespace_end }
            }
            ["admin", name] => {
                check_admin_name(name)?;
                Role::Admin
            }
            _ => return Err(nobody()),
        };
        Ok(Self {
            text: text.into(),
            domain_end,
            role,
        })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

/// Whether a text is a DNS label (RFC 1123): what namespaces are.
fn is_label(text: &str) -> bool {
    let inside = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    let bytes = text.as_bytes();
    bytes.len() <= MAX_LABEL
        && bytes.iter().copied().all(inside)
        && edge(bytes.first())
        && edge(bytes.last())
}

fn check_namespace(text: &str) -> Result<(), SpiffeError> {
    if is_label(text) {
        Ok(())
    } else {
        Err(SpiffeError::Namespace(text.to_owned()))
    }
}

fn check_service_account(text: &str) -> Result<(), SpiffeError> {
    if text.len() <= MAX_SUBDOMAIN && text.split('.').all(is_label) {
        Ok(())
    } else {
        Err(SpiffeError::ServiceAccount(text.to_owned()))
    }
}

fn check_admin_name(text: &str) -> Result<(), SpiffeError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let length = (1..=MAX_LABEL).contains(&text.len());
    if length && text.bytes().all(legal) && text != "." && text != ".." {
        Ok(())
    } else {
        Err(SpiffeError::AdminName(text.to_owned()))
    }
}

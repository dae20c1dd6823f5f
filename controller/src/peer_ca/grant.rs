//! What an administrator may do: a role, and the namespaces that it is for. It stands in the certificate's subject.

use std::fmt;

use crate::pki::Facts;

/// What stands before the role in the subject's organization: another CA's organizations mean nothing here.
const PREFIX: &str = "maille:";
/// Between namespaces in the organization's unit; no name has one.
const SEPARATOR: char = ',';

/// How much somebody may do. Each may what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look at everything that is no secret.
    Viewer,
    /// Write the mesh's objects, and make join tokens of workloads.
    Editor,
    /// Everything: members, backups, tokens of controllers.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 3] = [Role::Viewer, Role::Editor, Role::Admin];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// A role, in all namespaces or in some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// How much.
    pub role: Role,
    /// Where; empty: everywhere.
    pub namespaces: Vec<String>,
}

impl Grant {
    /// Everything, everywhere.
    pub fn everything() -> Self {
        Self {
            role: Role::Admin,
            namespaces: Vec::new(),
        }
    }

    /// What a certificate grants; nothing where it says nothing that is known.
    pub fn of(facts: &Facts) -> Option<Self> {
        let name = facts.organization.strip_prefix(PREFIX)?;
        let role = Role::ALL.into_iter().find(|role| role.name() == name)?;
        let namespaces = facts.unit.split(SEPARATOR).filter(|one| !one.is_empty());
        let namespaces: Vec<String> = namespaces.map(str::to_owned).collect();
        // Who may do everything is not held back by namespaces: such a certificate is a mistake.
        (role != Role::Admin || namespaces.is_empty()).then_some(Self { role, namespaces })
    }

    /// Whether it can be granted; if not, what to do.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.role == Role::Admin && !self.namespaces.is_empty() {
            return Err(
                "the role `admin` reaches every namespace: leave `--namespace` out, or grant `editor`"
                    .to_owned(),
            );
        }
        let label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let wrong = |name: &&String| name.is_empty() || !name.chars().all(label);
        match self.namespaces.iter().find(wrong) {
            Some(name) => Err(format!("`{name}` is no namespace: use a–z, 0–9 and `-`")),
            None => Ok(()),
        }
    }

    pub(super) fn organization(&self) -> String {
        format!("{PREFIX}{}", self.role)
    }

    pub(super) fn unit(&self) -> String {
        self.namespaces.join(&SEPARATOR.to_string())
    }

    /// Whether it reaches a namespace.
    pub fn reaches(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|one| one == namespace)
    }
}

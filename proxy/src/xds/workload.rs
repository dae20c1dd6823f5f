//! Who this proxy says that it is.

use crate::identity::Credentials;
use xds_api::node::{Claim, NATIVE_AGENT};

/// The workload that a proxy stands beside.
#[derive(Debug, Clone)]
pub struct Workload {
    /// The workload's namespace.
    pub namespace: String,
    /// The workload's name.
    pub name: String,
    /// `<region>/<zone>`, may be empty.
    pub locality: String,
}

impl Workload {
    /// The node that it is, by its certificate.
    pub(super) fn claim(&self, credentials: &Credentials) -> Claim {
        let account = credentials.identity.rsplit_once("/sa/");
        Claim {
            namespace: self.namespace.clone(),
            workload: self.name.clone(),
            service_account: account
                .map(|(_, account)| account.to_owned())
                .unwrap_or_default(),
            agent: NATIVE_AGENT.to_owned(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            locality: self.locality.clone(),
            view: None,
        }
    }
}

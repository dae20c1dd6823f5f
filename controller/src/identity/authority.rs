//! The authority at work: it founds the root, gets itself an issuing certificate, renews it, and certifies who asks.

mod certify;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use super::accounts::Accounts;
use super::issue::Issuing;
use super::ledger::Ledger;
use super::seal::Keyring;
use super::server_tls::ServerTls;
use crate::agreement::Agreement;
use crate::config::RootFiles;
use crate::model::Mesh;
use crate::supervise::Stage;

pub use certify::{Asking, Certified};

/// An issuing certificate's life, seconds: several renewals may fail before it ends.
pub(super) const ISSUER_LIFETIME: i64 = 72 * 3600;
/// After so long it is made anew, seconds.
pub(super) const ISSUER_RENEWAL: i64 = 24 * 3600;

/// How an authority is set up.
#[derive(Debug, Clone)]
pub struct AuthoritySettings {
    /// This controller's name.
    pub controller: String,
    /// How long a workload's leaf lives.
    pub leaf_lifetime: Duration,
    /// A root brought along; read only while the cluster has none.
    pub root: Option<RootFiles>,
    /// Who knows pods' tokens; none where there is no Kubernetes.
    pub accounts: Option<Arc<dyn Accounts>>,
}

/// Whether this controller can issue, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It waits for the cluster's root.
    Waiting,
    /// It cannot open the root key.
    Sealed(String),
    /// It issues.
    Issuing,
}

/// The certificate authority at this controller. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Authority {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: AuthoritySettings,
    keyring: Keyring,
    agreement: Arc<dyn Agreement>,
    ledger: Ledger,
    server_tls: ServerTls,
    issuing: ArcSwapOption<Issuing>,
    standing: watch::Sender<Standing>,
}

impl Authority {
    /// Starts the authority's tasks. `server_tls` gets the mesh's roots and this controller's certificate from it.
    pub fn start(
        stage: &Stage,
        settings: AuthoritySettings,
        keyring: Keyring,
        agreement: Arc<dyn Agreement>,
        server_tls: ServerTls,
    ) -> Self {
        let ledger = Ledger::start(stage, Arc::clone(&agreement), &settings.controller);
        let inner = Arc::new(Inner {
            settings,
            keyring,
            agreement,
            ledger,
            server_tls,
            issuing: ArcSwapOption::empty(),
            standing: watch::Sender::new(Standing::Waiting),
        });
        stage.vital(
            "authority",
            upkeep::run(Arc::clone(&inner), stage.stopping()),
        );
        Self { inner }
    }

    /// Whether this controller can issue, as it changes.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.inner.standing.subscribe()
    }

    /// A workload leaf's life: as `MeshSettings` has it, or else this controller's configuration.
    pub fn leaf_lifetime(&self, mesh: &Mesh) -> Duration {
        let told = mesh
            .settings()
            .and_then(|entry| entry.object.spec.identity.leaf_lifetime);
        told.map_or(self.inner.settings.leaf_lifetime, |told| told.get())
    }

    /// The cluster, for those who answer from its state.
    pub fn agreement(&self) -> &Arc<dyn Agreement> {
        &self.inner.agreement
    }
}

//! The way to the API server: by the pod's own service account, or by a kubeconfig.

use std::path::Path;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// Beyond it a server that took the connection and says nothing is given up.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// There is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig.
    #[error("{0} cannot be used")]
    Kubeconfig(std::path::PathBuf, #[source] kube::config::KubeconfigError),
    /// No pod, or one without a token.
    #[error("this controller does not run in a pod with a service account; name a kubeconfig")]
    NoPod(#[source] kube::config::InClusterError),
    /// TLS.
    #[error("the API server cannot be called")]
    Client(#[source] kube::Error),
}

/// A client by this kubeconfig, or, without one, by the service account of the pod in which this controller runs. Calls nobody yet.
///
/// # Errors
/// The kubeconfig cannot be used, or there is no service account.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ClientError> {
    let mut config = match kubeconfig {
        Some(path) => {
            let failed = |error| ClientError::Kubeconfig(path.to_owned(), error);
            let file = Kubeconfig::read_from(path).map_err(failed)?;
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(file, &options).await;
            config.map_err(failed)?
        }
        None => Config::incluster().map_err(ClientError::NoPod)?,
    };
    config.connect_timeout = Some(CONNECT_LIMIT);
    Client::try_from(config).map_err(ClientError::Client)
}

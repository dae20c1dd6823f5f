//! `restore`: a new cluster's first data directory from a snapshot.

use std::path::Path;

use super::Failure;
use super::consensus;
use super::controller::check_trust_domain;
use crate::config::Config;
use crate::peer_ca::Secrets;

pub(super) fn restore(config: &Config, snapshot: &Path) -> Result<(), Failure> {
    let secrets = Secrets::load(&config.secrets)?;
    check_trust_domain(config, &secrets)?;
    let (cluster, address) = (secrets.cluster_id(), &config.advertise.peers);
    let restored = crate::raft::restore(&config.data_dir, snapshot, cluster, address)
        .map_err(consensus::failure)?;
    eprintln!(
        "restored {} of cluster {} into {} as cluster {cluster}: mesh index {}, incarnation {}",
        snapshot.display(),
        restored.from_cluster,
        config.data_dir.display(),
        restored.index,
        restored.incarnation
    );
    eprintln!(
        "next: start it with `maille-controller run --config FILE`, then add the other controllers by `maille token create --controller` and joinTokenFile"
    );
    Ok(())
}

//! A snapshot to keep, and a new cluster from one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::machine::{header_of, write};
use super::types::{Membership, NodeId, Peer, StoredMembership, log_id};
use super::{Raft, RaftError};
use crate::agreement::AgreementError;
use crate::model::State;
use crate::store::StoreError;
use crate::store::directory::{Directory, Membership as Served};
use crate::store::log::{LogEngine, LogOptions, OnFailure, SegmentLog, Vote, path_in};
use crate::store::media::{Disk, Media};
use crate::store::snapshot::{SnapshotFile, Snapshots};

/// The first member of a restored cluster. Its cluster id is new, so the number was never used in it.
const FIRST_NODE: NodeId = 1;
/// How long writing a snapshot may take.
const SAVE_LIMIT: Duration = Duration::from_secs(60);

/// What a restore made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The mesh index that it goes on from.
    pub index: u64,
    /// The mesh's new incarnation.
    pub incarnation: u64,
    /// The cluster that the snapshot was of.
    pub from_cluster: String,
}

impl Raft {
    /// A verified snapshot of everything applied here until now.
    pub async fn save_snapshot(&self) -> Result<SnapshotFile, AgreementError> {
        let core = self.require_core()?;
        let wanted = core.metrics().last_applied;
        let is_covered = |covered: Option<super::types::LogId>| covered >= wanted;
        if !is_covered(core.metrics().snapshot) {
            let asked = core.engine.trigger().snapshot().await;
            asked.map_err(|fatal| AgreementError::Unavailable(fatal.to_string()))?;
            let written = core
                .engine
                .wait(Some(SAVE_LIMIT))
                .metrics(|now| is_covered(now.snapshot), "a snapshot")
                .await;
            if written.is_err() {
                return Err(AgreementError::Unavailable(
                    "the snapshot was not written in time; see the controller's log".into(),
                ));
            }
        }
        let file = core.stores.snapshots.current();
        file.ok_or_else(|| AgreementError::Unavailable("there is nothing to save yet".into()))
    }
}

/// Makes a new cluster of one from a snapshot: an empty data directory becomes its first member. Others join it by token.
///
/// `cluster` is the new cluster's id (from new secrets), `address` the first member's peer address.
pub fn restore(
    data_dir: &Path,
    snapshot: &Path,
    cluster: &str,
    address: &str,
) -> Result<Restored, RaftError> {
    let media: Arc<dyn Media> = Arc::new(Disk);
    let file = SnapshotFile::open(snapshot)?;
    let from_cluster = file.header().cluster.clone();
    if from_cluster == cluster {
        let text = format!(
            "the snapshot is of this very cluster ({cluster}), of which members may still live; make new secrets with `maille-controller init` \
             and restore with those"
        );
        return Err(RaftError::Refused(text));
    }
    let directory = Directory::open(data_dir, media.clone())?;
    if directory.identity().membership.is_some() || data_dir.join("log").exists() {
        let text = format!(
            "{} holds a controller's data; restore into an empty directory",
            data_dir.display()
        );
        return Err(RaftError::Refused(text));
    }
    let body = file.chunks()?.concat();
    let old = State::decode(Cursor::new(body))
        .map_err(|error| RaftError::Refused(format!("the snapshot cannot be read: {error}")))?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let state = old.restored(cluster, now.as_secs());
    let Some(position) = file.header().position else {
        return Err(RaftError::Refused(
            "the snapshot is of an empty cluster".into(),
        ));
    };
    let peer = Peer {
        directory: directory.id().to_string(),
        address: address.to_owned(),
    };
    let members = Membership::new(
        vec![BTreeSet::from([FIRST_NODE])],
        BTreeMap::from([(FIRST_NODE, peer)]),
    );
    let members = members.map_err(|error| RaftError::Engine(error.to_string()))?;
    let id = log_id(position);
    let header = header_of(
        cluster,
        &state,
        Some(id),
        &StoredMembership::new(Some(id), members),
    );
    write(
        &Snapshots::open(&data_dir.join("snapshots"), media.clone())?,
        &header,
        &state,
    )?;
    begin_log(data_dir, &directory, media, position)?;
    directory.join(Served {
        cluster: cluster.to_owned(),
        node: FIRST_NODE,
    })?;
    Ok(Restored {
        index: state.mesh().index(),
        incarnation: state.mesh().incarnation(),
        from_cluster,
    })
}

/// An empty log that goes on behind the snapshot's last entry, in a later term.
fn begin_log(
    data_dir: &Path,
    directory: &Directory,
    media: Arc<dyn Media>,
    position: crate::store::log::Position,
) -> Result<(), StoreError> {
    let on_failure = OnFailure(Arc::new(|error| {
        tracing::error!(error = error.full_text(), "cannot write the log")
    }));
    let options = LogOptions::new(path_in(data_dir), directory.id(), media, on_failure);
    SegmentLog::create(&options)?;
    let log = SegmentLog::open(options)?;
    let (sent, written) = std::sync::mpsc::channel();
    for step in 0..2 {
        let sent = sent.clone();
        let done = Box::new(move |result| drop(sent.send(result)));
        match step {
            0 => log.save_vote(
                Vote {
                    term: position.term,
                    node: position.leader,
                    committed: true,
                },
                done,
            ),
            _ => log.purge(position, done),
        }
    }
    drop(sent);
    written.iter().collect()
}

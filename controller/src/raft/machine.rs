//! The state machine: `model::State`, published after every entry, snapshotted into files.

use std::io::{self, Cursor};
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use openraft::alias::SnapshotOf;
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use tokio::sync::watch;

use super::payload;
use super::types::{
    Answers, Entry, LogId, Payload, SnapshotMeta, StoredMembership, Types, log_id, position,
};
use crate::model::{IssuanceRecord, State};
use crate::store::snapshot::{Header, SnapshotFile, Snapshots, Unpublished};
use crate::store::table::{Row, Table, Tables};
use prost::Message;

/// A snapshot on its way through openraft.
#[derive(Debug)]
pub(super) enum SnapshotData {
    /// One of ours, verified.
    Published(SnapshotFile),
    /// Received whole, not yet verified.
    Received(Unpublished),
}

/// The state and where it stands.
#[derive(Debug)]
pub(super) struct Machine {
    applied: Option<LogId>,
    membership: StoredMembership,
    state: State,
    published: watch::Sender<Arc<State>>,
    snapshots: Snapshots,
    tables: Arc<Tables>,
    cluster: String,
}

/// Writes the state of one moment into a file.
#[derive(Debug)]
pub(super) struct Builder {
    applied: Option<LogId>,
    membership: StoredMembership,
    state: State,
    snapshots: Snapshots,
    cluster: String,
}

impl Machine {
    /// An empty state; openraft installs the newest snapshot into it at once.
    pub(super) fn new(
        cluster: String,
        snapshots: Snapshots,
        tables: Arc<Tables>,
        published: watch::Sender<Arc<State>>,
    ) -> Self {
        Self {
            applied: None,
            membership: StoredMembership::default(),
            state: State::default(),
            published,
            snapshots,
            tables,
            cluster,
        }
    }

    fn apply_entry(&mut self, entry: Entry) -> io::Result<Answers> {
        let index = entry.log_id.index;
        self.applied = Some(entry.log_id);
        let answers = match entry.payload {
            Payload::Blank => {
                self.state.skip(index);
                Vec::new()
            }
            Payload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                self.state.skip(index);
                Vec::new()
            }
            Payload::Normal(batch) => {
                let proposals = payload::proposals(&batch)?;
                let recorded = self.state.issuance().count();
                let answers = proposals
                    .iter()
                    .map(|proposal| self.state.apply(index, proposal))
                    .collect();
                self.archive(recorded);
                answers
            }
        };
        self.published.send_replace(Arc::new(self.state.clone()));
        Ok(Answers(answers))
    }

    /// Copies new issuance records to the table, where they outlive the certificates.
    fn archive(&self, recorded: u64) {
        if self.state.issuance().count() == recorded {
            return;
        }
        let new = self.state.issuance().records_from(recorded + 1);
        let rows: Vec<Row> = new.map(|record| issuance_row(record)).collect();
        self.tables.note(rows);
    }
}

fn issuance_row(record: &IssuanceRecord) -> Row {
    Row {
        table: Table::Issuance,
        key: record.number.to_be_bytes().to_vec().into(),
        value: Some(record.encode_to_vec().into()),
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let answers = self.apply_entry(entry)?;
            if let Some(responder) = responder {
                responder.send(answers);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            applied: self.applied,
            membership: self.membership.clone(),
            state: self.state.clone(),
            snapshots: self.snapshots.clone(),
            cluster: self.cluster.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let is_from_a_peer = matches!(snapshot, SnapshotData::Received(_));
        let (snapshots, cluster) = (self.snapshots.clone(), self.cluster.clone());
        let state = blocking(move || {
            let file = match snapshot {
                SnapshotData::Published(file) => snapshots.adopt(file)?,
                SnapshotData::Received(received) => snapshots.publish(received)?,
            };
            if file.header().cluster != cluster {
                let text = format!(
                    "the snapshot {} belongs to cluster {}, this controller to {cluster}",
                    file.path().display(),
                    file.header().cluster
                );
                return Err(io::Error::other(text));
            }
            let body = file.chunks()?.concat();
            State::decode(Cursor::new(body)).map_err(io::Error::other)
        })
        .await?;
        self.state = state;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        let rows = self
            .state
            .issuance()
            .records_from(0)
            .map(|record| issuance_row(record))
            .collect();
        self.tables.note(rows);
        self.published.send_replace(Arc::new(self.state.clone()));
        if is_from_a_peer {
            let entry = self.state.log_index();
            tracing::info!(entry, "installed a peer's snapshot");
        }
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<Types, SnapshotData>>, io::Error> {
        let Some(file) = self.snapshots.current() else {
            return Ok(None);
        };
        Ok(Some(Snapshot {
            meta: meta_of(file.header())?,
            snapshot: SnapshotData::Published(file),
        }))
    }
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types, SnapshotData>, io::Error> {
        let header = header_of(&self.cluster, &self.state, self.applied, &self.membership);
        let (state, snapshots) = (self.state.clone(), self.snapshots.clone());
        let file = blocking(move || Ok(write(&snapshots, &header, &state)?)).await?;
        Ok(Snapshot {
            meta: meta_of(file.header())?,
            snapshot: SnapshotData::Published(file),
        })
    }
}

/// Writes a state into a snapshot file and publishes it. Where a peer's newer snapshot was installed meanwhile, that one is answered.
pub(super) fn write(
    snapshots: &Snapshots,
    header: &Header,
    state: &State,
) -> Result<SnapshotFile, crate::store::StoreError> {
    let mut writer = snapshots.create(header)?;
    for chunk in state.encode() {
        writer.write(&chunk)?;
    }
    snapshots.publish_unless_newer(writer.finish()?)
}

pub(super) fn header_of(
    cluster: &str,
    state: &State,
    applied: Option<LogId>,
    membership: &StoredMembership,
) -> Header {
    Header {
        cluster: cluster.to_owned(),
        level: state.mesh().level(),
        position: applied.as_ref().map(position),
        membership: super::wire::encode_stored_membership(membership),
    }
}

pub(super) fn meta_of(header: &Header) -> io::Result<SnapshotMeta> {
    Ok(SnapshotMeta {
        last_log_id: header.position.map(log_id),
        last_membership: super::wire::decode_stored_membership(header.membership.clone())?,
    })
}

/// Runs what reads or writes files where it holds nothing up.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

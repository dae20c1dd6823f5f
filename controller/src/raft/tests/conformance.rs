//! openraft's own suite over our log and state machine.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::raft::log_store::LogStore;
use crate::raft::machine::Machine;
use crate::raft::types::Types;
use crate::store::directory::DirectoryId;
use crate::store::log::{LogOptions, OnFailure, SegmentLog};
use crate::store::media::Disk;
use crate::store::snapshot::Snapshots;
use crate::store::table::Tables;

struct Fresh;

impl StoreBuilder<Types, LogStore, Machine, TempDir> for Fresh {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<Types>> {
        let home = tempfile::tempdir().unwrap();
        let media = Arc::new(Disk);
        let on_failure = OnFailure(Arc::new(|error| panic!("{error}")));
        let options = LogOptions {
            // Small, so that the suite crosses segments and reads from the disk.
            segment_bytes: 16 << 10,
            cache_bytes: 0,
            ..LogOptions::new(
                home.path().join("log"),
                DirectoryId::random(),
                media.clone(),
                on_failure.clone(),
            )
        };
        SegmentLog::create(&options).unwrap();
        let log = Arc::new(SegmentLog::open(options).unwrap());
        let tables =
            Arc::new(Tables::open(&home.path().join("tables"), media.clone(), on_failure).unwrap());
        let snapshots = Snapshots::open(&home.path().join("snapshots"), media).unwrap();
        let machine = Machine::new(
            "c".into(),
            snapshots,
            tables.clone(),
            watch::Sender::new(Arc::default()),
        );
        Ok((home, LogStore::new(log, tables, None), machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_passes_openrafts_suite() {
    Suite::test_all(Fresh).await.unwrap();
}

//! How a controller takes part in the cluster.

use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

use crate::store::StoreError;
use crate::store::log::{LogEngine, LogOptions, OnFailure, SEGMENT_BYTES, SegmentLog};

/// Entries a follower may lack and still be sent entries, beyond a snapshot's distance: else a snapshot would not cure its lag.
const LAG_BEYOND_SNAPSHOT: u64 = 1000;
/// Entries in one message to a follower.
const MESSAGE_ENTRIES: u64 = 1000;
/// How long sending and installing a snapshot may take.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(60);
/// How long an unreachable peer is left alone, growing.
const BACKOFF: &str = "50ms 100ms 200ms ...500ms";

/// Opens the log. Another engine can stand in to show that the tests can fail.
#[derive(Clone)]
pub struct OpenLog(pub Arc<OpenLogFn>);

/// Opens a log with these options.
pub type OpenLogFn = dyn Fn(LogOptions) -> Result<Arc<dyn LogEngine>, StoreError> + Send + Sync;

impl OpenLog {
    /// The segment log.
    pub fn segments() -> Self {
        Self(Arc::new(|options| {
            SegmentLog::create(&options)?;
            Ok(Arc::new(SegmentLog::open(options)?))
        }))
    }
}

impl std::fmt::Debug for OpenLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OpenLog")
    }
}

/// Raft's clocks and its one dangerous switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// The least time without a leader before an election.
    pub election_least: Duration,
    /// The most; also the leader's lease.
    pub election_most: Duration,
    /// Whether a restarted leader leads on without an election. It loses acknowledged writes with a log that answers after `append` has
    /// returned: its log may be shorter than its followers', and it would use the same log ids again. Never set but to show that.
    pub leader_restore: bool,
}

impl Default for Timing {
    /// As measured: failover in 0.7 to 0.8 s, and no election under a slow disk.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_least: Duration::from_millis(250),
            election_most: Duration::from_millis(450),
            leader_restore: false,
        }
    }
}

/// Where others reach this controller, `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// The peer port.
    pub peers: String,
    /// The xDS port.
    pub xds: String,
    /// The admin port.
    pub admin: String,
}

/// How a controller takes part.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name, unique in the cluster.
    pub name: String,
    /// The cluster's id, from the secrets.
    pub cluster: String,
    /// The mesh's trust domain; becomes part of the state when the cluster is made.
    pub trust_domain: String,
    /// Where others reach it.
    pub advertise: Addresses,
    /// Peer ports to look for a cluster at; this controller's own may be among them.
    pub peers: Vec<String>,
    /// How many controllers found the cluster together; 0: it joins one by token.
    pub bootstrap_expect: u32,
    /// The controller token to join with.
    pub join_token: Option<String>,
    /// Entries between two snapshots.
    pub snapshot_every: u64,
    /// Entries kept in the log behind a snapshot.
    pub keep_log: u64,
    /// Bytes of the disk that are kept free; `None`: a part of it.
    pub reserve: Option<u64>,
    /// The size of a log segment.
    pub segment_bytes: u64,
    /// Raft's clocks.
    pub timing: Timing,
    /// The log.
    pub open_log: OpenLog,
    /// Told of the first failed write or sync, and of anything else after which Raft cannot go on.
    pub on_failure: OnFailure,
}

impl Settings {
    /// The size of a log segment unless set.
    pub const SEGMENT_BYTES: u64 = SEGMENT_BYTES;

    pub(super) fn config(&self) -> Result<Config, openraft::ConfigError> {
        let millis = |time: Duration| time.as_millis() as u64;
        Config {
            cluster_name: self.cluster.clone(),
            heartbeat_interval: millis(self.timing.heartbeat),
            election_timeout_min: millis(self.timing.election_least),
            election_timeout_max: millis(self.timing.election_most),
            enable_pre_vote: Some(true),
            enable_leader_restore: Some(self.timing.leader_restore),
            // One client is to be as fast as the disk: followers get an entry while the leader still syncs it.
            broadcast_submitted_on_append: Some(true),
            allow_log_reversion: None,
            // Switched on once no promise to an earlier leader can be alive, see `core`.
            enable_elect: false,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every),
            // `trimming` cuts.
            max_in_snapshot_log_to_keep: u64::MAX,
            replication_lag_threshold: self.snapshot_every + self.keep_log + LAG_BEYOND_SNAPSHOT,
            max_payload_entries: MESSAGE_ENTRIES,
            install_snapshot_timeout: millis(SNAPSHOT_LIMIT),
            backoff: BACKOFF.to_owned(),
            ..Config::default()
        }
        .validate()
    }
}

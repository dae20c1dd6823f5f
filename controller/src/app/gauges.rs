//! Metrics that are values of the moment: Raft's place, the mesh's size, what was issued. Read as they are scraped.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::model::Kind;
use crate::raft::Raft;

#[derive(Debug)]
pub(super) struct Gauges(pub(super) Raft);

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let status = self.0.status();
        let state = self.0.state().borrow().clone();
        let is_leader = self.0.leadership().borrow().is_leader;
        let mesh = state.mesh();
        let objects: usize = Kind::ALL.iter().map(|kind| mesh.count(*kind)).sum();
        let gauges = [
            ("raft_term", "The election term", status.term),
            (
                "raft_leads",
                "1 where this controller leads",
                u64::from(is_leader),
            ),
            (
                "raft_last_log",
                "The last entry in this controller's log",
                status.last_log,
            ),
            (
                "raft_committed",
                "The last entry that a quorum has",
                status.committed,
            ),
            (
                "raft_applied",
                "The last entry applied here",
                status.applied,
            ),
            (
                "raft_snapshot",
                "The last entry that the newest snapshot covers",
                status.snapshot,
            ),
            (
                "raft_purged",
                "The last entry that was purged from the log",
                status.purged,
            ),
            (
                "disk_bytes",
                "Bytes of log, tables and the newest snapshot",
                status.disk_bytes,
            ),
            (
                "members",
                "Members of the cluster",
                state.members().len() as u64,
            ),
            ("mesh_index", "The mesh index", mesh.index()),
            (
                "mesh_incarnation",
                "The mesh's incarnation",
                mesh.incarnation(),
            ),
            ("mesh_level", "The feature level", u64::from(mesh.level())),
            ("mesh_objects", "Objects of all kinds", objects as u64),
            (
                "mesh_instances",
                "Registered instances",
                mesh.instances().len() as u64,
            ),
            (
                "join_tokens",
                "Join tokens, used and unused",
                state.tokens().len() as u64,
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            gauge.encode(metric)?;
        }
        let issued = ConstCounter::new(state.issuance().count());
        let metric = encoder.encode_descriptor(
            "certificates_issued",
            "Certificates on the record",
            None,
            MetricType::Counter,
        )?;
        issued.encode(metric)
    }
}

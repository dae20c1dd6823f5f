//! The label sets, and what each becomes when its family is full.

use prometheus_client::encoding::{
    EncodeLabel, EncodeLabelSet, EncodeLabelValue, LabelSetEncoder, LabelValueEncoder,
};
use std::fmt::Write as _;
use std::hash::Hash;
use std::sync::Arc;

/// A label set that has a form for overflow.
pub(super) trait Folded:
    Clone + Hash + Eq + EncodeLabelSet + Send + Sync + std::fmt::Debug + 'static
{
    /// Replaces everything unbounded by `other`.
    fn fold(&mut self);

    /// The same, folded.
    fn folded(&self) -> Self {
        let mut folded = self.clone();
        folded.fold();
        folded
    }
}

/// A label set, and whose it is where the host has several workloads: the label `workload`, `<namespace>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Owned<L> {
    pub(super) labels: L,
    pub(super) workload: Option<Arc<str>>,
}

impl<L: EncodeLabelSet> EncodeLabelSet for Owned<L> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.labels.encode(encoder)?;
        match &self.workload {
            Some(workload) => ("workload", &**workload).encode(encoder.encode_label()),
            None => Ok(()),
        }
    }
}

/// Which way a connection goes, seen from the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Towards the workload.
    Inbound,
    /// From the workload.
    Outbound,
}

impl EncodeLabelValue for Direction {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        })
    }
}

fn other() -> String {
    "other".to_owned()
}

macro_rules! label_sets {
    ($($(#[$doc:meta])* $visibility:vis $name:ident { $($field:ident: $kind:ty),* } folds { $($folded:ident),* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        #[allow(missing_docs)] // each field is the label of its name
        $visibility struct $name { $(pub $field: $kind),* }

        impl Folded for $name {
            fn fold(&mut self) {
                $(self.$folded = other();)*
            }
        }
    )*};
}

label_sets! {
    /// Who sends what where. Outbound: `service` is `<namespace>/<service>:<port>` as called, `backend` the one chosen.
    /// Inbound: `service` is `<namespace>/<workload>:<port>`, `peer` the verified identity, empty for plaintext.
    pub RequestLabels {
        direction: Direction, service: String, route: String, backend: String, peer: String
    } folds { service, route, backend, peer }

    pub(super) StatusLabels {
        direction: Direction, service: String, route: String, backend: String, peer: String, status: &'static str
    } folds { service, route, backend, peer }

    pub(super) GrpcLabels {
        direction: Direction, service: String, route: String, backend: String, peer: String, grpc_status: u32
    } folds { service, route, backend, peer }

    pub(super) LatencyLabels { direction: Direction, service: String, route: String, backend: String }
        folds { service, route, backend }

    /// Why the proxy itself ended something.
    pub ErrorLabels { direction: Direction, service: String, reason: &'static str } folds { service }

    /// One connection: `protocol` as found, `tls` mesh or none.
    pub ConnectionLabels {
        direction: Direction, service: String, protocol: &'static str, tls: &'static str, peer: String
    } folds { service, peer }

    /// A retry: `outcome` is sent, succeeded, refused_by_budget or body_too_large.
    pub RetryLabels { service: String, outcome: &'static str } folds { service }

    /// A cluster.
    pub ClusterLabels { cluster: String } folds { cluster }

    /// A decision: `decision` is allow or deny; `policy` is `<namespace>/<policy>`, or why there was none.
    pub AuthorizationLabels { decision: &'static str, port: u16, policy: String, peer: String } folds { policy, peer }

    /// One way to shake hands.
    pub HandshakeLabels { role: &'static str, outcome: &'static str } folds {}

    /// One protocol found.
    pub DetectLabels { direction: Direction, protocol: &'static str } folds {}
}

/// A family that overflowed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OverflowLabels {
    pub family: &'static str,
}

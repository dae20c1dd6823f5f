//! Clusters in one process, over loopback and real TLS.

mod cluster;
mod conformance;
mod membership;
mod reads;
mod restarts;
mod settings;
mod snapshots;

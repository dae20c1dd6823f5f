//! What a controller keeps on its disk: the log, the tables, the snapshots, and who the directory is.
//!
//! It knows neither Raft's library nor the mesh: entries, rows and snapshot chunks are bytes here.
//!
//! ```text
//! <dataDir>/lock             held while a process uses the directory
//! <dataDir>/identity         cluster, node and directory ids
//! <dataDir>/log/             segment files and the high-water mark
//! <dataDir>/tables/          sled: what is looked up
//! <dataDir>/snapshots/       one file a snapshot
//! ```

pub mod directory;
pub mod failure;
pub mod log;
mod mark;
pub mod media;
pub mod snapshot;
pub mod space;
pub mod table;

pub use failure::StoreError;

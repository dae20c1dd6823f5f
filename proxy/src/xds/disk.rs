//! The last good configuration on disk: the resources as they came, good for as long as the certificate is.

use crate::files::{self, FileError, Format};
use bytes::Bytes;
use prost::Message;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xds_api::mesh_version::MeshVersion;
use xds_api::type_url::TypeUrl;

use super::state::Held;

const FORMAT: Format = Format {
    magic: *b"MAILLESN",
    version: 1,
};

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(string, tag = "1")]
    identity: String,
    #[prost(int64, tag = "2")]
    not_after: i64,
    #[prost(uint64, tag = "3")]
    incarnation: u64,
    #[prost(uint64, tag = "4")]
    index: u64,
    #[prost(message, repeated, tag = "5")]
    resources: Vec<Resource>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    version: String,
    #[prost(bytes = "bytes", tag = "4")]
    body: Bytes,
}

/// What was stored cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiskError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{path} holds something else than a configuration")]
    Content {
        path: PathBuf,
        source: prost::DecodeError,
    },
    #[error("{path} is {found}'s, this proxy is {wanted}; it is not used")]
    Identity {
        path: PathBuf,
        found: String,
        wanted: String,
    },
    #[error("{path} was good until its certificate ended; it is not used")]
    Expired { path: PathBuf },
}

/// Whose the configuration is and until when it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) identity: Arc<str>,
    /// Seconds since the epoch.
    pub(super) not_after: i64,
}

/// What was stored.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) version: MeshVersion,
    pub(super) resources: Vec<(TypeUrl, Arc<str>, String, Bytes)>,
}

/// The file.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    path: PathBuf,
}

impl Disk {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            path: directory.join("configuration"),
        }
    }

    /// What was stored for this identity, if it still holds at `now` (seconds since the epoch).
    pub(super) fn load(&self, identity: &str, now: i64) -> Result<Option<Saved>, DiskError> {
        let Some(body) = files::read(&self.path, FORMAT)? else {
            return Ok(None);
        };
        let path = self.path.clone();
        let record = match Record::decode(Bytes::from(body)) {
            Ok(record) => record,
            Err(source) => return Err(DiskError::Content { path, source }),
        };
        if record.identity != identity {
            return Err(DiskError::Identity {
                path,
                found: record.identity,
                wanted: identity.to_owned(),
            });
        }
        if now >= record.not_after {
            return Err(DiskError::Expired { path });
        }
        let version = MeshVersion {
            incarnation: record.incarnation,
            index: record.index,
        };
        // A type that this version does not know is asked for by nobody.
        let known = |one: Resource| {
            let kind = TypeUrl::parse(&one.type_url)?;
            Some((kind, Arc::from(one.name), one.version, one.body))
        };
        let resources = record.resources.into_iter().filter_map(known).collect();
        Ok(Some(Saved { version, resources }))
    }

    /// The bytes to store.
    pub(super) fn encode(owner: &Owner, version: MeshVersion, held: &Held) -> Vec<u8> {
        let mut resources = Vec::new();
        for kind in TypeUrl::ALL {
            let mut names: Vec<_> = held.of(kind).iter().collect();
            names.sort_by_key(|(name, _)| Arc::clone(name));
            resources.extend(names.into_iter().map(|(name, one)| Resource {
                type_url: kind.to_string(),
                name: name.to_string(),
                version: one.version.clone(),
                body: one.body.clone(),
            }));
        }
        let record = Record {
            identity: owner.identity.to_string(),
            not_after: owner.not_after,
            incarnation: version.incarnation,
            index: version.index,
            resources,
        };
        record.encode_to_vec()
    }

    /// Stores bytes that `encode` made.
    pub(super) fn store(&self, body: &[u8]) -> Result<(), FileError> {
        files::write(&self.path, FORMAT, body)
    }
}

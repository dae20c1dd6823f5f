//! A resource: a name, a version that is the hash of its bytes, and those bytes, encoded once and shared.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256, digest};
use bytes::{Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len, string};
use thiserror::Error;

use crate::type_url::{Served, TypeUrl};

/// The first 16 bytes of SHA-256 over a resource's bytes; 32 hexadecimal digits as text. Equal on every controller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version([u8; 16]);

/// A text that is no version of ours.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a resource version: 32 hexadecimal digits were expected")]
pub struct VersionError(String);

impl Version {
    /// The version of these bytes.
    pub fn of(body: &[u8]) -> Self {
        Self::head(digest(&SHA256, body).as_ref())
    }

    /// One version for a set of resources, which come in the order of their names.
    pub fn of_all<'a>(resources: impl Iterator<Item = (&'a str, Self)>) -> Self {
        let mut hash = Context::new(&SHA256);
        for (name, version) in resources {
            // The length keeps apart what would read the same one after the other.
            hash.update(&(name.len() as u64).to_be_bytes());
            hash.update(name.as_bytes());
            hash.update(&version.0);
        }
        Self::head(hash.finish().as_ref())
    }

    fn head(hash: &[u8]) -> Self {
        let mut first = [0; 16];
        first.copy_from_slice(&hash[..16]);
        Self(first)
    }

    /// The bytes themselves.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| VersionError(text.to_owned()))?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One resource as the server sends it. Made once, shared by every stream.
#[derive(Clone, PartialEq, Eq)]
pub struct Resource {
    name: Arc<str>,
    version: Version,
    segment: Bytes,
    any: Bytes,
    body: Bytes,
    endpoints: Option<Arc<str>>,
}

/// `resources` of `DeltaDiscoveryResponse` and of `DiscoveryResponse`.
const FIELD_RESOURCES: u32 = 2;
/// Fields of `Resource`.
const FIELD_VERSION: u32 = 1;
const FIELD_RESOURCE: u32 = FIELD_RESOURCES;
const FIELD_NAME: u32 = 3;
/// Fields of `Any`.
const FIELD_TYPE_URL: u32 = 1;
const FIELD_VALUE: u32 = 2;

impl Resource {
    /// Encodes a message as the resource of this name.
    pub fn new<M: Served>(name: Arc<str>, message: &M) -> Self {
        Self::from_bytes(M::TYPE, name, &message.encode_to_vec())
    }

    /// A resource of which the message's bytes are at hand.
    pub fn from_bytes(kind: TypeUrl, name: Arc<str>, body: &[u8]) -> Self {
        let version = Version::of(body);
        let (segment, any, body) = encode(kind, &name, version, body);
        Self {
            name,
            version,
            segment,
            any,
            body,
            endpoints: None,
        }
    }

    /// Says that this is a cluster by EDS whose endpoints have the given name: they must be sent after it.
    pub fn with_endpoints(mut self, name: Arc<str>) -> Self {
        self.endpoints = Some(name);
        self
    }

    /// The canonical name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The hash of the bytes.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The message's bytes.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The finished `resources` field of a delta response: responses are these, one after the other.
    pub fn segment(&self) -> &Bytes {
        &self.segment
    }

    /// The finished `resources` field of a response of the state of the world: a part of [`Self::segment`], for in both
    /// messages the `Any` is field 2.
    pub fn any(&self) -> &Bytes {
        &self.any
    }

    /// The name of the endpoints that must follow, for a cluster by EDS.
    pub fn endpoints(&self) -> Option<&Arc<str>> {
        self.endpoints.as_ref()
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}@{} ({} bytes)",
            self.name,
            self.version,
            self.body.len()
        )
    }
}

/// The finished field, and, as parts of it, the field with the `Any` and the message's bytes.
fn encode(kind: TypeUrl, name: &str, version: Version, body: &[u8]) -> (Bytes, Bytes, Bytes) {
    let (name, version) = (name.to_owned(), version.to_string());
    let url = kind.as_str().to_owned();
    let value = key_len(FIELD_VALUE) + encoded_len_varint(body.len() as u64) + body.len();
    let any = string::encoded_len(FIELD_TYPE_URL, &url) + value;
    let resource = string::encoded_len(FIELD_VERSION, &version)
        + key_len(FIELD_RESOURCE)
        + encoded_len_varint(any as u64)
        + any
        + string::encoded_len(FIELD_NAME, &name);
    let mut out = BytesMut::with_capacity(
        key_len(FIELD_RESOURCES) + encoded_len_varint(resource as u64) + resource,
    );
    encode_key(FIELD_RESOURCES, WireType::LengthDelimited, &mut out);
    encode_varint(resource as u64, &mut out);
    string::encode(FIELD_VERSION, &version, &mut out);
    let field = out.len();
    encode_key(FIELD_RESOURCE, WireType::LengthDelimited, &mut out);
    encode_varint(any as u64, &mut out);
    string::encode(FIELD_TYPE_URL, &url, &mut out);
    encode_key(FIELD_VALUE, WireType::LengthDelimited, &mut out);
    encode_varint(body.len() as u64, &mut out);
    let start = out.len();
    out.extend_from_slice(body);
    let end = out.len();
    string::encode(FIELD_NAME, &name, &mut out);
    let segment = out.freeze();
    let (any, body) = (segment.slice(field..end), segment.slice(start..end));
    (segment, any, body)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use prost::Message;

    use super::*;
    use crate::envoy::config::listener::v3::Listener;
    use crate::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};

    #[test]
    fn a_segment_is_the_resources_field_of_a_response() {
        for length in [1, 200, 70_000] {
            let listener = Listener {
                name: "x".repeat(length),
                ..Default::default()
            };
            let resource = Resource::new("out/a:80".into(), &listener);
            let response = DeltaDiscoveryResponse::decode(resource.segment().clone()).unwrap();
            assert_eq!(response.encode_to_vec(), *resource.segment());
            let [read] = response.resources.as_slice() else {
                panic!("{response:?}")
            };
            assert_eq!(read.name, "out/a:80");
            assert_eq!(read.version, resource.version().to_string());
            let any = read.resource.as_ref().unwrap();
            assert_eq!(any.type_url, TypeUrl::Listener.as_str());
            assert_eq!(any.value, *resource.body());
            let whole = DiscoveryResponse::decode(resource.any().clone()).unwrap();
            assert_eq!(whole.resources, std::slice::from_ref(any));
            assert_eq!(whole.encode_to_vec(), *resource.any());
            assert_eq!(Listener::decode(any.value.clone()).unwrap(), listener);
        }
    }

    #[test]
    fn the_version_of_a_set_tells_names_and_versions_apart() {
        let of = |set: &[(&str, &[u8])]| {
            Version::of_all(set.iter().map(|(name, body)| (*name, Version::of(body))))
        };
        let sets: [&[(&str, &[u8])]; 5] = [
            &[],
            &[("a", b"1")],
            &[("a", b"2")],
            &[("b", b"1")],
            &[("a", b"1"), ("b", b"1")],
        ];
        let versions: std::collections::BTreeSet<_> = sets.iter().map(|set| of(set)).collect();
        assert_eq!(versions.len(), sets.len());
        assert_eq!(of(sets[4]), of(&[("a", b"1"), ("b", b"1")]));
    }

    #[test]
    fn a_version_is_the_head_of_sha_256() {
        let version = Version::of(b"abc");
        assert_eq!(version.to_string(), "ba7816bf8f01cfea414140de5dae2223");
        assert_eq!(version.to_string().parse(), Ok(version));
        for text in [
            "",
            "1",
            "ba7816bf8f01cfea414140de5dae222",
            "ba7816bf8f01cfea414140de5dae2223a",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }
}

//! A response as gRPC bytes: a small head of its own, then the resources' shared bytes.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use xds_api::delta::Response;
use xds_api::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use xds_api::mesh_version::MeshVersion;

/// Below this a resource is copied next to its neighbours: a frame of its own would cost more than the copy.
const SHARED_BYTES: usize = 8 * 1024;

/// gRPC's prefix of a message: one byte for "not compressed", four for the length.
const PREFIX: usize = 5;

/// The pieces of one response, in order. Large resources are not copied.
///
/// A protobuf message may be written in pieces: fields in any order, a repeated field in several runs.
pub(super) fn frames(response: &Response, version: MeshVersion) -> Vec<Bytes> {
    let head = DeltaDiscoveryResponse {
        system_version_info: version.to_string(),
        type_url: response.kind.as_str().to_owned(),
        removed_resources: response
            .removed
            .iter()
            .map(|name| name.to_string())
            .collect(),
        nonce: response.nonce.to_string(),
        ..Default::default()
    };
    let segments = || response.resources.iter().map(|resource| resource.segment());
    let small = |segment: &&Bytes| segment.len() < SHARED_BYTES;
    let head_length = head.encoded_len();
    let total = head_length + segments().map(Bytes::len).sum::<usize>();
    let copied = segments().filter(small).map(Bytes::len).sum::<usize>();
    let mut buffer = BytesMut::with_capacity(PREFIX + head_length + copied);
    buffer.put_u8(0);
    buffer.put_u32(u32::try_from(total).expect("a response is bounded far below 4 GiB"));
    head.encode(&mut buffer)
        .expect("the buffer has room for what was measured");
    let mut frames = Vec::new();
    for segment in segments() {
        if small(&segment) {
            buffer.extend_from_slice(segment);
        } else {
            frames.extend((!buffer.is_empty()).then(|| buffer.split().freeze()));
            frames.push(segment.clone());
        }
    }
    frames.extend((!buffer.is_empty()).then(|| buffer.freeze()));
    frames
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use xds_api::envoy::config::listener::v3::Listener;
    use xds_api::resource::Resource;
    use xds_api::type_url::TypeUrl;

    use super::*;

    fn check(sizes: &[usize], pieces: usize) {
        let resource = |(number, size): (usize, &usize)| {
            let listener = Listener {
                name: "x".repeat(*size),
                ..Default::default()
            };
            Arc::new(Resource::new(format!("r{number}").into(), &listener))
        };
        let response = Response {
            kind: TypeUrl::Listener,
            nonce: 7,
            resources: sizes.iter().enumerate().map(resource).collect(),
            removed: vec!["gone".into()],
            missing: vec![],
            version: None,
        };
        let frames = frames(
            &response,
            MeshVersion {
                incarnation: 1,
                index: 9,
            },
        );
        assert_eq!(frames.len(), pieces, "{sizes:?}");
        let whole = frames.concat();
        let length = u32::try_from(whole.len() - PREFIX).unwrap();
        assert_eq!(
            whole[..PREFIX],
            [&[0][..], &length.to_be_bytes()[..]].concat()
        );
        let read = DeltaDiscoveryResponse::decode(&whole[PREFIX..]).unwrap();
        let names: Vec<_> = read.resources.iter().map(|one| one.name.as_str()).collect();
        let expected: Vec<_> = response.resources.iter().map(|one| &**one.name()).collect();
        assert_eq!(names, expected);
        assert_eq!(
            (read.system_version_info.as_str(), read.nonce.as_str()),
            ("1.9", "7")
        );
        assert_eq!(read.removed_resources, ["gone"]);
    }

    #[test]
    fn the_pieces_together_are_the_response() {
        check(&[], 1);
        check(&[10, 20, 30], 1);
        check(&[10, 9_000, 30, 9_000], 4);
        check(&[9_000, 9_000], 3);
    }
}

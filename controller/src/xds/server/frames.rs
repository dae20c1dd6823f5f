//! A response as gRPC bytes: a small head of its own, then the resources' shared bytes.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use xds_api::delta::Response;
use xds_api::envoy::service::discovery::v3::{
    DeltaDiscoveryResponse, DiscoveryResponse, ResourceError, ResourceName,
};
use xds_api::google::rpc::Status;
use xds_api::mesh_version::MeshVersion;

/// Below this a resource is copied next to its neighbours: a frame of its own would cost more than the copy.
const SHARED_BYTES: usize = 8 * 1024;

/// gRPC's prefix of a message: one byte for "not compressed", four for the length.
const PREFIX: usize = 5;

/// gRPC's code of what does not exist.
const NOT_FOUND: i32 = 5;

/// The pieces of one response, in order. Large resources are not copied.
///
/// A protobuf message may be written in pieces: fields in any order, a repeated field in several runs.
pub(super) fn frames(response: &Response, version: MeshVersion) -> Vec<Bytes> {
    match response.version {
        None => {
            let head = DeltaDiscoveryResponse {
                system_version_info: version.to_string(),
                type_url: response.kind.to_string(),
                removed_resources: response
                    .removed
                    .iter()
                    .map(|name| name.to_string())
                    .collect(),
                nonce: response.nonce.to_string(),
                resource_errors: errors(response),
                ..Default::default()
            };
            join(&head, || response.resources.iter().map(|one| one.segment()))
        }
        Some(version) => {
            let head = DiscoveryResponse {
                version_info: version.to_string(),
                type_url: response.kind.to_string(),
                nonce: response.nonce.to_string(),
                resource_errors: errors(response),
                ..Default::default()
            };
            join(&head, || response.resources.iter().map(|one| one.any()))
        }
    }
}

/// What a client is told of the names that it asked for in vain.
fn errors(response: &Response) -> Vec<ResourceError> {
    let error = |name: &Arc<str>| ResourceError {
        resource_name: Some(ResourceName {
            name: name.to_string(),
        }),
        error_detail: Some(Status {
            code: NOT_FOUND,
            message: format!(
                "{} {name:?} does not exist, or not for this client",
                response.kind.short()
            ),
            ..Default::default()
        }),
    };
    response.missing.iter().map(error).collect()
}

/// A message's head and the rest of it, which stands ready.
fn join<'a, Segments: Iterator<Item = &'a Bytes>>(
    head: &impl Message,
    segments: impl Fn() -> Segments,
) -> Vec<Bytes> {
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

    use xds_api::envoy::config::listener::v3::Listener;
    use xds_api::resource::{Resource, Version};
    use xds_api::type_url::TypeUrl;

    use super::*;

    /// The pieces of a response with resources of these sizes, and its bytes without the prefix.
    fn pieces(sizes: &[usize], version: Option<Version>) -> (usize, Vec<u8>, Response) {
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
            missing: vec!["never".into()],
            version,
        };
        let mesh = MeshVersion {
            incarnation: 1,
            index: 9,
        };
        let frames = frames(&response, mesh);
        let whole = frames.concat();
        let length = u32::try_from(whole.len() - PREFIX).unwrap();
        assert_eq!(
            whole[..PREFIX],
            [&[0][..], &length.to_be_bytes()[..]].concat()
        );
        (frames.len(), whole[PREFIX..].to_vec(), response)
    }

    fn check_error(errors: &[ResourceError]) {
        let [error] = errors else {
            panic!("{errors:?}")
        };
        assert_eq!(error.resource_name.as_ref().unwrap().name, "never");
        assert_eq!(error.error_detail.as_ref().unwrap().code, 5);
    }

    fn check(sizes: &[usize], expected: usize) {
        let (frames, bytes, response) = pieces(sizes, None);
        assert_eq!(frames, expected, "{sizes:?}");
        let read = DeltaDiscoveryResponse::decode(&bytes[..]).unwrap();
        let names: Vec<_> = read.resources.iter().map(|one| one.name.as_str()).collect();
        let expected: Vec<_> = response.resources.iter().map(|one| &**one.name()).collect();
        assert_eq!(names, expected);
        assert_eq!(
            (read.system_version_info.as_str(), read.nonce.as_str()),
            ("1.9", "7")
        );
        assert_eq!(read.removed_resources, ["gone"]);
        check_error(&read.resource_errors);
    }

    fn check_state(sizes: &[usize], expected: usize) {
        let version = Version::of(b"v");
        let (frames, bytes, response) = pieces(sizes, Some(version));
        assert_eq!(frames, expected, "{sizes:?}");
        let read = DiscoveryResponse::decode(&bytes[..]).unwrap();
        let bodies: Vec<_> = read.resources.iter().map(|one| &one.value).collect();
        let expected: Vec<_> = response.resources.iter().map(|one| one.body()).collect();
        assert_eq!(bodies, expected);
        assert!(
            read.resources
                .iter()
                .all(|one| one.type_url == read.type_url)
        );
        assert_eq!(
            (read.version_info, read.nonce.as_str()),
            (version.to_string(), "7")
        );
        check_error(&read.resource_errors);
    }

    #[test]
    fn the_pieces_together_are_the_response() {
        check(&[], 1);
        check(&[10, 20, 30], 1);
        check(&[10, 9_000, 30, 9_000], 4);
        check(&[9_000, 9_000], 3);
    }

    #[test]
    fn the_state_of_the_world_is_made_of_the_same_bytes() {
        check_state(&[], 1);
        check_state(&[10, 20, 30], 1);
        check_state(&[10, 9_000, 30, 9_000], 4);
        let (_, _, response) = pieces(&[9_000], None);
        let resource = &response.resources[0];
        let segment = resource.segment().as_ptr_range();
        assert!(segment.contains(&resource.any().as_ptr()));
    }
}

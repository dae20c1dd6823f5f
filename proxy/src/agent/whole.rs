//! The state-of-the-world half of SDS on one stream: what was asked for, what was sent last. Pure.

use super::certificate::OWN;
use std::sync::Arc;
use xds_api::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use xds_api::google::protobuf::Any;
use xds_api::resource::{Resource, Version};
use xds_api::type_url::TypeUrl;

/// One stream. A name that is not there has no answer in this form: the client waits for it.
#[derive(Debug, Default)]
pub(super) struct Stream {
    wanted: bool,
    sent: Option<Version>,
    last_nonce: u64,
}

impl Stream {
    /// Takes a request: a subscription, an ACK or a NACK. What was rejected is not sent again until it changes.
    pub(super) fn request(&mut self, request: &DiscoveryRequest) {
        let current = request.response_nonce.is_empty()
            || request.response_nonce == self.last_nonce.to_string();
        if !current {
            return;
        }
        let wanted = request.resource_names.iter().any(|name| name == OWN);
        if !wanted {
            // Asked for anew it is sent anew.
            self.sent = None;
        }
        self.wanted = wanted;
    }

    /// The response that is due.
    pub(super) fn next(&mut self, own: Option<&Arc<Resource>>) -> Option<DiscoveryResponse> {
        let own = own.filter(|own| self.wanted && self.sent != Some(own.version()))?;
        self.sent = Some(own.version());
        self.last_nonce += 1;
        let type_url = TypeUrl::Secret.to_string();
        Some(DiscoveryResponse {
            version_info: own.version().to_string(),
            resources: vec![Any {
                type_url: type_url.clone(),
                value: own.body().clone(),
            }],
            type_url,
            nonce: self.last_nonce.to_string(),
            ..DiscoveryResponse::default()
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn own(body: &[u8]) -> Arc<Resource> {
        Resource::from_bytes(TypeUrl::Secret, OWN.into(), body).into()
    }

    fn request(names: &[&str], nonce: &str) -> DiscoveryRequest {
        DiscoveryRequest {
            resource_names: names.iter().map(ToString::to_string).collect(),
            response_nonce: nonce.into(),
            ..DiscoveryRequest::default()
        }
    }

    #[test]
    fn a_secret_is_sent_once_and_again_when_it_changes() {
        let (first, second) = (own(b"1"), own(b"2"));
        let mut stream = Stream::default();
        assert!(stream.next(Some(&first)).is_none(), "nobody has asked");
        stream.request(&request(&[OWN], ""));
        assert!(stream.next(None).is_none(), "there is none yet");
        let sent = stream.next(Some(&first)).unwrap();
        assert_eq!(sent.resources[0].value, *first.body());
        assert_eq!(sent.version_info, first.version().to_string());
        stream.request(&request(&[OWN], &sent.nonce));
        assert!(stream.next(Some(&first)).is_none(), "acknowledged");
        let sent = stream.next(Some(&second)).unwrap();
        assert_eq!(sent.version_info, second.version().to_string());
        stream.request(&request(&[], "1"));
        assert!(stream.wanted, "that was about a response before");
        stream.request(&request(&[], &sent.nonce));
        assert!(stream.next(Some(&first)).is_none(), "not wanted any more");
        stream.request(&request(&[OWN], &sent.nonce));
        assert!(stream.next(Some(&second)).is_some(), "wanted again");
    }

    #[test]
    fn another_name_is_not_answered() {
        let mut stream = Stream::default();
        stream.request(&request(&["other"], ""));
        assert!(stream.next(Some(&own(b"1"))).is_none());
    }
}

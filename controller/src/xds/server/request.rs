//! What a stream reads: a request in the form of the method that opened it.

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder};
use xds_api::conversation::Form;
use xds_api::envoy::config::core::v3::Node;
use xds_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use xds_api::services::Service;

/// Requests are small but for the first of a type; a big buffer for each of ten thousand streams would be most of their memory.
const READ_BUFFER: usize = 512;

/// A request in either form.
#[derive(Debug)]
pub(super) enum Asked {
    Delta(DeltaDiscoveryRequest),
    State(DiscoveryRequest),
}

impl Asked {
    pub(super) fn node(&self) -> Option<&Node> {
        match self {
            Self::Delta(request) => request.node.as_ref(),
            Self::State(request) => request.node.as_ref(),
        }
    }

    pub(super) fn type_url(&self) -> &str {
        match self {
            Self::Delta(request) => &request.type_url,
            Self::State(request) => &request.type_url,
        }
    }

    /// Whether the client has resources from an earlier stream.
    pub(super) fn brings_state(&self) -> bool {
        match self {
            Self::Delta(request) => !request.initial_resource_versions.is_empty(),
            Self::State(request) => !request.version_info.is_empty(),
        }
    }

    /// Puts in the type that the service implies.
    pub(super) fn imply(&mut self, service: &Service) -> Result<(), Status> {
        let Some(kind) = service.kind else {
            return Ok(());
        };
        let url = match self {
            Self::Delta(request) => &mut request.type_url,
            Self::State(request) => &mut request.type_url,
        };
        if url.is_empty() {
            kind.as_str().clone_into(url);
        }
        if url == kind.as_str() {
            return Ok(());
        }
        Err(Status::invalid_argument(format!(
            "{} serves {kind} alone: ask for {url:?} on an aggregated stream",
            service.name
        )))
    }
}

/// Reads requests of one form.
#[derive(Debug)]
pub(super) struct RequestDecoder(pub(super) Form);

impl Decoder for RequestDecoder {
    type Item = Asked;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Asked>, Status> {
        let asked = match self.0 {
            Form::Delta => DeltaDiscoveryRequest::decode(bytes).map(Asked::Delta),
            Form::StateOfTheWorld => DiscoveryRequest::decode(bytes).map(Asked::State),
        };
        let wrong = |failure: prost::DecodeError| {
            Status::invalid_argument(format!("not a discovery request: {failure}"))
        };
        asked.map(Some).map_err(wrong)
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(READ_BUFFER, READ_BUFFER)
    }
}

//! Mutual TLS. Key, certificate and roots stand in files that the agent writes; the program's bootstrap says where, under one name.

use prost::Name as MessageName;
use std::collections::BTreeSet;

use xds_api::envoy::config::core::v3::{TransportSocket, transport_socket};
use xds_api::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use xds_api::envoy::extensions::transport_sockets::tls::v3::{
    CertificateProviderPluginInstance, CertificateValidationContext, CommonTlsContext,
    DownstreamTlsContext, UpstreamTlsContext,
};
use xds_api::envoy::r#type::matcher::v3::StringMatcher;
use xds_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use xds_api::google::protobuf::BoolValue;

use super::super::any::pack;

/// What `maille grpc bootstrap` calls the agent's files.
const PROVIDER: &str = "maille";

/// For connections to endpoints in the mesh, whose host names are what SNI says. One of these identities is expected.
pub(super) fn upstream(identities: BTreeSet<String>) -> TransportSocket {
    let exact = |identity| StringMatcher {
        match_pattern: Some(MatchPattern::Exact(identity)),
        ..StringMatcher::default()
    };
    let context = UpstreamTlsContext {
        common_tls_context: Some(common(identities.into_iter().map(exact).collect())),
        auto_host_sni: true,
    };
    socket(&context)
}

/// For connections from the mesh. gRPC takes no list of names here; a certificate of another mesh has no root of ours. It is always demanded: where it
/// is not, grpc-go does not even ask for it, and a denied identity would come in as nobody.
pub(super) fn downstream() -> TransportSocket {
    let context = DownstreamTlsContext {
        common_tls_context: Some(common(Vec::new())),
        require_client_certificate: Some(BoolValue { value: true }),
        ..Default::default()
    };
    socket(&context)
}

/// gRPC refuses nearly every other field.
fn common(names: Vec<StringMatcher>) -> CommonTlsContext {
    let provider = || {
        Some(CertificateProviderPluginInstance {
            instance_name: PROVIDER.to_owned(),
        })
    };
    let trusted = CertificateValidationContext {
        match_subject_alt_names: names,
        ca_certificate_provider_instance: provider(),
        ..Default::default()
    };
    let trusted = CombinedCertificateValidationContext {
        default_validation_context: Some(trusted),
        ..Default::default()
    };
    CommonTlsContext {
        tls_certificate_provider_instance: provider(),
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(trusted)),
        ..Default::default()
    }
}

fn socket<M: MessageName>(context: &M) -> TransportSocket {
    TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(pack(context))),
    }
}

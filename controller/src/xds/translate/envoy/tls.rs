//! Mutual TLS on both sides of an Envoy. Its own certificate comes from the agent beside it, whom it trusts come by ADS.

use std::time::Duration;

use prost::Name as MessageName;
use xds_api::envoy::config::core::v3::api_config_source::ApiType;
use xds_api::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use xds_api::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use xds_api::envoy::config::core::v3::{
    ApiConfigSource, ApiVersion, BackoffStrategy, ConfigSource, GrpcService, RetryPolicy,
    TransportSocket, transport_socket,
};
use xds_api::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use xds_api::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use xds_api::envoy::extensions::transport_sockets::tls::v3::downstream_tls_context::SessionTicketKeysType;
use xds_api::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use xds_api::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use xds_api::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
    SubjectAltNameMatcher, TlsParameters, UpstreamTlsContext,
};
use xds_api::envoy::r#type::matcher::v3::StringMatcher;
use xds_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

use super::super::any::pack;
use super::chain::{ads, time, yes};
use crate::model::{Mesh, Name};
use crate::xds::names::{self, Callers};

/// The cluster of the local agent, in every bootstrap.
const AGENT: &str = "agent";
/// The name of an Envoy's own certificate at its agent.
const OWN: &str = "own";
const TLS: &str = "envoy.transport_sockets.tls";
/// How soon an Envoy asks its agent again: Envoy's own pauses grow to half a minute.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// For connections to a service's meshed endpoints.
pub(super) fn upstream(service: &Name, alpn: &[&str]) -> TransportSocket {
    let peers = by_ads(&names::peers(service));
    let peers = ValidationContextType::ValidationContextSdsSecretConfig(peers);
    let context = UpstreamTlsContext {
        common_tls_context: Some(common(peers, alpn)),
        auto_host_sni: true,
    };
    socket(TLS, &context)
}

/// For connections to the mesh port from whoever has a certificate of this mesh.
pub(super) fn from_anybody(mesh: &Mesh, alpn: &[&str]) -> TransportSocket {
    let domain = format!("spiffe://{}/", mesh.trust_domain());
    let anybody_of_ours = CertificateValidationContext {
        match_typed_subject_alt_names: vec![uri(MatchPattern::Prefix(domain))],
        ..Default::default()
    };
    let trusted = CombinedCertificateValidationContext {
        default_validation_context: Some(anybody_of_ours),
        validation_context_sds_secret_config: Some(by_ads(&names::roots(mesh.trust_domain()))),
    };
    let trusted = ValidationContextType::CombinedValidationContext(trusted);
    downstream(trusted, alpn)
}

/// For connections to the mesh port from those whom a port's rules let in.
pub(super) fn from_callers(callers: &Callers, alpn: &[&str]) -> TransportSocket {
    let callers = by_ads(&callers.to_string());
    let trusted = ValidationContextType::ValidationContextSdsSecretConfig(callers);
    downstream(trusted, alpn)
}

fn by_ads(name: &str) -> SdsSecretConfig {
    SdsSecretConfig {
        name: name.to_owned(),
        sds_config: ads(),
    }
}

fn downstream(trusted: ValidationContextType, alpn: &[&str]) -> TransportSocket {
    let context = DownstreamTlsContext {
        common_tls_context: Some(common(trusted, alpn)),
        require_client_certificate: yes(),
        // A resumed session is not asked for its certificate again, and outlives it.
        session_ticket_keys_type: Some(SessionTicketKeysType::DisableStatelessSessionResumption(
            true,
        )),
        disable_stateful_session_resumption: true,
    };
    socket(TLS, &context)
}

/// Plain text.
pub(super) fn clear() -> TransportSocket {
    socket("envoy.transport_sockets.raw_buffer", &RawBuffer {})
}

/// A name in a certificate, of the kind that SPIFFE ids are.
pub(super) fn uri(pattern: MatchPattern) -> SubjectAltNameMatcher {
    SubjectAltNameMatcher {
        san_type: SanType::Uri as i32,
        matcher: Some(StringMatcher {
            match_pattern: Some(pattern),
            ..StringMatcher::default()
        }),
    }
}

fn common(trusted: ValidationContextType, alpn: &[&str]) -> CommonTlsContext {
    let version = TlsProtocol::TlSv13 as i32;
    CommonTlsContext {
        tls_params: Some(TlsParameters {
            tls_minimum_protocol_version: version,
            tls_maximum_protocol_version: version,
        }),
        tls_certificate_sds_secret_configs: vec![SdsSecretConfig {
            name: OWN.to_owned(),
            sds_config: Some(agent()),
        }],
        validation_context_type: Some(trusted),
        alpn_protocols: alpn.iter().map(|&protocol| protocol.to_owned()).collect(),
        tls_certificate_provider_instance: None,
    }
}

fn agent() -> ConfigSource {
    let retry = RetryPolicy {
        retry_back_off: Some(BackoffStrategy {
            base_interval: Some(time(FIRST_PAUSE)),
            max_interval: Some(time(LONGEST_PAUSE)),
        }),
    };
    let service = GrpcService {
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
            cluster_name: AGENT.to_owned(),
            retry_policy: Some(retry),
        })),
    };
    let source = ApiConfigSource {
        api_type: ApiType::DeltaGrpc as i32,
        transport_api_version: ApiVersion::V3 as i32,
        grpc_services: vec![service],
    };
    ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(source)),
        // Nothing is served before the certificate is there, however long that takes.
        initial_fetch_timeout: Some(time(Duration::ZERO)),
        resource_api_version: ApiVersion::V3 as i32,
    }
}

fn socket<M: MessageName>(name: &str, context: &M) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(pack(context))),
    }
}

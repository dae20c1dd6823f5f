//! One sample of each resource with every field set: Envoy's own messages must read it and give it back whole.

use std::collections::BTreeMap;

use envoy_types::pb::envoy as theirs;
use prost::Message;
use xds_api::envoy::config::cluster::v3::circuit_breakers::{Thresholds, thresholds::RetryBudget};
use xds_api::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy,
};
use xds_api::envoy::config::cluster::v3::{CircuitBreakers, Cluster, OutlierDetection};
use xds_api::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use xds_api::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use xds_api::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ConfigSource, ControlPlane, DataSource, HeaderValue,
    HeaderValueOption, HealthStatus, Locality, Metadata, Node, SocketAddress, TypedExtensionConfig,
    address, data_source, node, socket_address,
};
use xds_api::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
};
use xds_api::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use xds_api::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use xds_api::envoy::config::route::v3::{
    DirectResponseAction, HeaderMatcher, NonForwardingAction, QueryParameterMatcher,
    RedirectAction, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
    WeightedCluster, header_matcher, query_parameter_matcher, retry_policy, route, route_action,
    route_match, weighted_cluster,
};
use xds_api::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, Rds, http_connection_manager::RouteSpecifier,
};
use xds_api::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use xds_api::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret,
};
use xds_api::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
    ResourceError, ResourceLocator, ResourceName,
};
use xds_api::envoy::r#type::matcher::v3::{
    RegexMatchAndSubstitute, RegexMatcher, StringMatcher, string_matcher::MatchPattern,
};
use xds_api::envoy::r#type::v3::Percent;
use xds_api::google::protobuf::{Any, Duration, Struct, UInt32Value, Value, value};
use xds_api::google::rpc::Status;

fn check<Ours, Theirs>(sample: Ours)
where
    Ours: Message + Default + PartialEq + std::fmt::Debug,
    Theirs: Message + Default,
{
    let read = Theirs::decode(sample.encode_to_vec().as_slice()).unwrap();
    let back = Ours::decode(read.encode_to_vec().as_slice()).unwrap();
    assert_eq!(back, sample);
}

fn any(message: &impl prost::Name) -> Any {
    Any::pack(message)
}

trait Pack {
    fn pack(message: &impl prost::Name) -> Self;
}

impl Pack for Any {
    fn pack(message: &impl prost::Name) -> Self {
        fn url<M: prost::Name>(_: &M) -> String {
            M::type_url()
        }
        Self {
            type_url: url(message),
            value: message.encode_to_vec().into(),
        }
    }
}

fn metadata() -> Option<Metadata> {
    let host = xds_api::maille::v1::Host {
        namespace: "shop".into(),
        ..Default::default()
    };
    let typed_filter_metadata = BTreeMap::from([("maille.v1".to_owned(), any(&host))]);
    Some(Metadata {
        typed_filter_metadata,
        ..Default::default()
    })
}

fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 5 })
}

fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

fn ads() -> Option<ConfigSource> {
    let ads = ConfigSourceSpecifier::Ads(AggregatedConfigSource {});
    Some(ConfigSource {
        config_source_specifier: Some(ads),
        ..Default::default()
    })
}

fn regex() -> RegexMatcher {
    RegexMatcher {
        regex: "a.*".into(),
    }
}

fn header(append_action: HeaderAppendAction) -> Vec<HeaderValueOption> {
    vec![HeaderValueOption {
        header: Some(HeaderValue {
            key: "k".into(),
            value: "v".into(),
        }),
        append_action: append_action as i32,
    }]
}

#[test]
fn envoy_reads_a_listener() {
    let rds = Rds {
        config_source: ads(),
        route_config_name: "shop/web:80".into(),
    };
    let http = HttpConnectionManager {
        stat_prefix: "s".into(),
        route_specifier: Some(RouteSpecifier::Rds(rds)),
        ..Default::default()
    };
    check::<
        _,
        theirs::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager,
    >(http.clone());
    let weight = tcp_proxy::weighted_cluster::ClusterWeight {
        name: "a".into(),
        weight: 3,
    };
    let weighted = tcp_proxy::WeightedCluster {
        clusters: vec![weight],
    };
    let tcp = |specifier| TcpProxy {
        stat_prefix: "s".into(),
        cluster_specifier: Some(specifier),
    };
    let split = tcp(tcp_proxy::ClusterSpecifier::WeightedClusters(weighted));
    check::<_, theirs::extensions::filters::network::tcp_proxy::v3::TcpProxy>(split);
    let one = tcp(tcp_proxy::ClusterSpecifier::Cluster("c".into()));
    check::<_, theirs::extensions::filters::network::tcp_proxy::v3::TcpProxy>(one.clone());

    let chain = |name: &str, config| FilterChain {
        filters: vec![Filter {
            name: name.into(),
            config_type: Some(filter::ConfigType::TypedConfig(config)),
        }],
        ..Default::default()
    };
    check::<_, theirs::config::listener::v3::Listener>(Listener {
        name: "out/240.0.0.1:80".into(),
        filter_chains: vec![chain("http", any(&http))],
        default_filter_chain: Some(chain("tcp", any(&one))),
        metadata: metadata(),
        ..Default::default()
    });
}

fn weighted() -> route_action::ClusterSpecifier {
    let one = weighted_cluster::ClusterWeight {
        name: "a".into(),
        weight: number(4),
        request_headers_to_add: header(HeaderAppendAction::OverwriteIfExistsOrAdd),
        request_headers_to_remove: vec!["a".into()],
        response_headers_to_add: header(HeaderAppendAction::AddIfAbsent),
        response_headers_to_remove: vec!["b".into()],
    };
    route_action::ClusterSpecifier::WeightedClusters(WeightedCluster {
        clusters: vec![one],
    })
}

fn forward() -> RouteAction {
    RouteAction {
        cluster_specifier: Some(weighted()),
        prefix_rewrite: "/p".into(),
        regex_rewrite: Some(RegexMatchAndSubstitute {
            pattern: Some(regex()),
            substitution: "s".into(),
        }),
        host_rewrite_specifier: Some(route_action::HostRewriteSpecifier::HostRewriteLiteral(
            "h".into(),
        )),
        timeout: seconds(3),
        retry_policy: Some(RetryPolicy {
            retry_on: "5xx".into(),
            num_retries: number(2),
            per_try_timeout: seconds(1),
            retriable_status_codes: vec![503],
            retry_back_off: Some(retry_policy::RetryBackOff {
                base_interval: seconds(1),
                max_interval: seconds(2),
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn redirect(path: PathRewriteSpecifier) -> route::Action {
    route::Action::Redirect(RedirectAction {
        scheme_rewrite_specifier: Some(SchemeRewriteSpecifier::SchemeRedirect("https".into())),
        host_redirect: "h".into(),
        port_redirect: 8443,
        path_rewrite_specifier: Some(path),
        response_code: RedirectResponseCode::PermanentRedirect as i32,
    })
}

#[test]
fn envoy_reads_a_route_configuration() {
    let text = |pattern| StringMatcher {
        match_pattern: Some(pattern),
        ignore_case: true,
    };
    let headers = [
        header_matcher::HeaderMatchSpecifier::PresentMatch(true),
        header_matcher::HeaderMatchSpecifier::StringMatch(text(MatchPattern::Exact("x".into()))),
    ];
    let queries = [
        query_parameter_matcher::QueryParameterMatchSpecifier::PresentMatch(true),
        query_parameter_matcher::QueryParameterMatchSpecifier::StringMatch(text(
            MatchPattern::SafeRegex(regex()),
        )),
    ];
    let paths = [
        route_match::PathSpecifier::Prefix("/".into()),
        route_match::PathSpecifier::Path("/a".into()),
        route_match::PathSpecifier::PathSeparatedPrefix("/b".into()),
        route_match::PathSpecifier::SafeRegex(regex()),
    ];
    let single = RouteAction {
        cluster_specifier: Some(route_action::ClusterSpecifier::Cluster("c".into())),
        ..Default::default()
    };
    let actions = [
        route::Action::Route(forward()),
        route::Action::Route(single),
        redirect(PathRewriteSpecifier::PathRedirect("/full".into())),
        redirect(PathRewriteSpecifier::PrefixRewrite("/prefix".into())),
        route::Action::DirectResponse(DirectResponseAction { status: 500 }),
        route::Action::NonForwardingAction(NonForwardingAction {}),
    ];
    let routes = actions
        .into_iter()
        .zip(paths.into_iter().cycle())
        .map(|(action, path)| Route {
            name: "r".into(),
            r#match: Some(RouteMatch {
                path_specifier: Some(path),
                headers: headers
                    .clone()
                    .map(|one| HeaderMatcher {
                        name: "h".into(),
                        header_match_specifier: Some(one),
                    })
                    .into(),
                query_parameters: queries
                    .clone()
                    .map(|one| QueryParameterMatcher {
                        name: "q".into(),
                        query_parameter_match_specifier: Some(one),
                    })
                    .into(),
            }),
            action: Some(action),
            request_headers_to_add: header(HeaderAppendAction::OverwriteIfExists),
            request_headers_to_remove: vec!["a".into()],
            response_headers_to_add: header(HeaderAppendAction::AppendIfExistsOrAdd),
            response_headers_to_remove: vec!["b".into()],
        });
    let host = VirtualHost {
        name: "v".into(),
        domains: vec!["*".into()],
        routes: routes.collect(),
    };
    check::<_, theirs::config::route::v3::RouteConfiguration>(RouteConfiguration {
        name: "shop/web:80".into(),
        virtual_hosts: vec![host],
    });
}

#[test]
fn envoy_reads_a_cluster() {
    let budget = RetryBudget {
        budget_percent: Some(Percent { value: 20.0 }),
        min_retry_concurrency: number(3),
    };
    let thresholds = Thresholds {
        max_connections: number(1),
        max_pending_requests: number(2),
        max_requests: number(3),
        retry_budget: Some(budget),
    };
    check::<_, theirs::config::cluster::v3::Cluster>(Cluster {
        name: "shop/web:80".into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: ads(),
            service_name: "s".into(),
        }),
        connect_timeout: seconds(5),
        lb_policy: LbPolicy::Maglev as i32,
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![thresholds],
        }),
        outlier_detection: Some(OutlierDetection {
            consecutive_5xx: number(5),
            interval: seconds(1),
            base_ejection_time: seconds(2),
            max_ejection_percent: number(50),
            consecutive_gateway_failure: number(4),
            max_ejection_time: seconds(9),
            enforcing_success_rate: number(6),
            failure_percentage_threshold: number(7),
            enforcing_failure_percentage: number(8),
            failure_percentage_minimum_hosts: number(10),
            failure_percentage_request_volume: number(11),
            ..Default::default()
        }),
        metadata: metadata(),
        ..Default::default()
    });
}

#[test]
fn envoy_reads_endpoints_and_a_secret() {
    let socket = SocketAddress {
        address: "::1".into(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(80)),
    };
    let address = Address {
        address: Some(address::Address::SocketAddress(socket)),
    };
    let endpoint = LbEndpoint {
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(Endpoint {
            address: Some(address),
            ..Default::default()
        })),
        health_status: HealthStatus::Degraded as i32,
        metadata: metadata(),
        load_balancing_weight: number(7),
    };
    let locality = Locality {
        region: "r".into(),
        zone: "z".into(),
        sub_zone: "s".into(),
    };
    check::<_, theirs::config::endpoint::v3::ClusterLoadAssignment>(ClusterLoadAssignment {
        cluster_name: "shop/web:80".into(),
        endpoints: vec![LocalityLbEndpoints {
            locality: Some(locality),
            lb_endpoints: vec![endpoint],
            load_balancing_weight: number(3),
            priority: 1,
        }],
    });

    let pem = |text: &'static str| DataSource {
        specifier: Some(data_source::Specifier::InlineBytes(text.into())),
    };
    let context = CertificateValidationContext {
        trusted_ca: Some(pem("roots")),
        ..Default::default()
    };
    check::<_, theirs::extensions::transport_sockets::tls::v3::Secret>(Secret {
        name: "roots/example.org".into(),
        r#type: Some(secret::Type::ValidationContext(context)),
    });
    let own = TlsCertificate {
        certificate_chain: Some(pem("chain")),
        private_key: Some(pem("key")),
    };
    check::<_, theirs::extensions::transport_sockets::tls::v3::Secret>(Secret {
        name: "own".into(),
        r#type: Some(secret::Type::TlsCertificate(own)),
    });
}

#[test]
fn envoy_reads_an_extension() {
    check::<_, theirs::config::core::v3::TypedExtensionConfig>(TypedExtensionConfig {
        name: "authz/shop/web-1:8080/http/deny".into(),
        typed_config: Some(any(&Percent { value: 1.0 })),
    });
}

#[test]
fn envoy_reads_the_conversation() {
    let text = Value {
        kind: Some(value::Kind::StringValue("7".into())),
    };
    let node = Node {
        id: "shop/web-1".into(),
        cluster: "web".into(),
        metadata: Some(Struct {
            fields: BTreeMap::from([("index".to_owned(), text)]),
        }),
        locality: Some(Locality {
            region: "r".into(),
            ..Default::default()
        }),
        user_agent_name: "maille-proxy".into(),
        user_agent_version_type: Some(node::UserAgentVersionType::UserAgentVersion("1".into())),
        client_features: vec!["f".into()],
    };
    let locator = ResourceLocator {
        name: "n".into(),
        dynamic_parameters: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
    };
    let status = Status {
        code: 5,
        message: "m".into(),
        details: vec![any(&Percent { value: 1.0 })],
    };
    check::<_, theirs::service::discovery::v3::DiscoveryRequest>(DiscoveryRequest {
        version_info: "v".into(),
        node: Some(node.clone()),
        resource_names: vec!["a".into()],
        resource_locators: vec![locator.clone()],
        type_url: "t".into(),
        response_nonce: "n".into(),
        error_detail: Some(status.clone()),
    });
    check::<_, theirs::service::discovery::v3::DeltaDiscoveryRequest>(DeltaDiscoveryRequest {
        node: Some(node.clone()),
        type_url: "t".into(),
        resource_names_subscribe: vec!["a".into()],
        resource_names_unsubscribe: vec!["b".into()],
        resource_locators_subscribe: vec![locator.clone()],
        resource_locators_unsubscribe: vec![locator.clone()],
        initial_resource_versions: BTreeMap::from([("a".to_owned(), "1".to_owned())]),
        response_nonce: "n".into(),
        error_detail: Some(status.clone()),
    });
    let error = ResourceError {
        resource_name: Some(ResourceName { name: "n".into() }),
        error_detail: Some(status.clone()),
    };
    check::<_, theirs::service::discovery::v3::DiscoveryResponse>(DiscoveryResponse {
        version_info: "v".into(),
        resources: vec![any(&Percent { value: 2.0 })],
        type_url: "t".into(),
        nonce: "n".into(),
        control_plane: Some(ControlPlane {
            identifier: "c".into(),
        }),
        resource_errors: vec![error.clone()],
    });
    check::<_, theirs::service::discovery::v3::DeltaDiscoveryResponse>(DeltaDiscoveryResponse {
        system_version_info: "1.2".into(),
        resources: vec![Resource {
            name: "n".into(),
            aliases: vec!["a".into()],
            version: "v".into(),
            resource: Some(any(&Percent { value: 2.0 })),
        }],
        type_url: "t".into(),
        removed_resources: vec!["r".into()],
        nonce: "n".into(),
        control_plane: Some(ControlPlane {
            identifier: "c".into(),
        }),
        resource_errors: vec![error.clone()],
    });
    check::<_, theirs::service::discovery::v3::DiscoveryRequest>(DiscoveryRequest {
        version_info: "1".into(),
        node: Some(node),
        resource_names: vec!["a".into()],
        resource_locators: vec![locator],
        type_url: "t".into(),
        response_nonce: "n".into(),
        error_detail: Some(status),
    });
    check::<_, theirs::service::discovery::v3::DiscoveryResponse>(DiscoveryResponse {
        version_info: "1".into(),
        resources: vec![any(&Percent { value: 2.0 })],
        type_url: "t".into(),
        nonce: "n".into(),
        control_plane: Some(ControlPlane {
            identifier: "c".into(),
        }),
        resource_errors: vec![error],
    });
}

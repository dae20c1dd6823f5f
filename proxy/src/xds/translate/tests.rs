//! Every field of the dialect: what it becomes, and what is said about a value that is not understood.
#![allow(clippy::unwrap_used)]

use super::{Value, translate};
use crate::snapshot::{
    Action, Balancing, HashKey, Health, Mtls, PathMatch, PathRewrite, Pattern, Protocol,
    RedirectPath, RouteAction, TextTest,
};
use crate::xds::tests::*;
use bytes::Bytes;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use xds_api::envoy::config::cluster::v3 as cds;
use xds_api::envoy::config::core::v3 as base;
use xds_api::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds_api::envoy::config::listener::v3::Listener;
use xds_api::envoy::config::route::v3 as rds;
use xds_api::envoy::r#type::matcher::v3 as matcher;
use xds_api::envoy::r#type::v3::Percent;
use xds_api::google::protobuf::UInt32Value;
use xds_api::maille::v1;
use xds_api::type_url::Served;

const PORT: &str = "shop/api:80";

fn read<M: Served>(name: &str, message: &M) -> Result<Value, String> {
    let body = Bytes::from(message.encode_to_vec());
    translate(M::TYPE, &Arc::from(name), &body).map_err(|invalid| invalid.to_string())
}

/// The message must be refused with this text.
fn refuse<M: Served>(name: &str, message: &M, expected: &str) {
    assert_eq!(read(name, message).unwrap_err(), expected);
}

#[test]
fn what_a_later_version_would_say_is_refused_and_not_dropped() {
    let mut body = cluster(PORT).encode_to_vec();
    // Field 500, the number 1.
    body.extend_from_slice(&[0xa0, 0x1f, 0x01]);
    let name: Arc<str> = PORT.into();
    let kind = xds_api::type_url::TypeUrl::Cluster;
    let refused = translate(kind, &name, &body.into())
        .unwrap_err()
        .to_string();
    let expected =
        "Cluster has fields that this version does not know (3 bytes); upgrade the proxy";
    assert_eq!(refused, expected);
    let refused = translate(kind, &name, &Bytes::from_static(&[0xff])).unwrap_err();
    assert!(refused.to_string().starts_with("the bytes are no Cluster"));
}

#[test]
fn names_must_fit_their_type() {
    refuse(
        "x/y",
        &Listener::default(),
        "a listener is named `in/…`, `host/…` or `out/…`",
    );
    refuse(
        "other",
        &cluster(PORT),
        "name: \"shop/api:80\" differs from the resource's name \"other\"",
    );
    refuse(
        "keys",
        &secret("keys", ""),
        "name: a secret is named `roots/<trust domain>`",
    );
}

mod listeners {
    use super::*;

    #[test]
    fn http_and_opaque_ports_are_told_apart() {
        let Value::Listener(http) = read("out/a:80", &http_listener("out/a:80", PORT)).unwrap()
        else {
            panic!("no listener");
        };
        assert_eq!(
            (http.protocol, http.routes.as_deref()),
            (Protocol::Http1, Some(PORT))
        );
        assert!(http.opaque.is_none());
        let Value::Listener(tcp) = read("out/a:80", &tcp_listener("out/a:80", PORT)).unwrap()
        else {
            panic!("no listener");
        };
        assert_eq!((tcp.protocol, tcp.routes.as_deref()), (Protocol::Tcp, None));
        assert_eq!(&*tcp.opaque.as_ref().unwrap().backends[0].cluster, PORT);
        assert_eq!(
            (&*tcp.namespace, &*tcp.service, tcp.port),
            ("shop", "api", 80)
        );
    }

    #[test]
    fn chains_that_do_not_fit_the_protocol_are_refused() {
        let check = |change: fn(&mut Listener), expected: &str| {
            let mut listener = http_listener("out/a:80", PORT);
            change(&mut listener);
            refuse("out/a:80", &listener, expected);
        };
        check(
            |one| one.filter_chains.clear(),
            "filter_chains: does not fit the protocol Http1",
        );
        check(
            |one| one.default_filter_chain = tcp_listener("", PORT).default_filter_chain,
            "default_filter_chain: does not fit the protocol Http1",
        );
        check(
            |one| one.filter_chains.push(one.filter_chains[0].clone()),
            "filter_chains: holds more than one",
        );
        check(
            |one| one.filter_chains[0].filters.clear(),
            "filter_chains[0].filters: must hold exactly one",
        );
        check(
            |one| one.filter_chains = vec![tcp_listener("", PORT).default_filter_chain.unwrap()],
            "filter_chains[0].filters[0].typed_config: holds \"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\", not HttpConnectionManager",
        );
        check(
            |one| one.metadata = None,
            "metadata.typed_filter_metadata.maille.v1: is missing",
        );
        check(
            |one| one.metadata = metadata(&v1::Host::default()),
            "metadata.typed_filter_metadata.maille.v1: holds \"type.googleapis.com/maille.v1.Host\", not Outbound",
        );
        check(
            |one| {
                let all = &mut one.metadata.as_mut().unwrap().typed_filter_metadata;
                all.insert("envoy.lb".into(), any(&v1::Host::default()));
            },
            "metadata.typed_filter_metadata.envoy.lb: is not known here",
        );
        check(
            |one| {
                let outbound = v1::Outbound {
                    namespace: "shop".into(),
                    service: "api".into(),
                    port: 80,
                    protocol: 99,
                };
                one.metadata = metadata(&outbound);
            },
            "protocol: 99 is not known",
        );
    }

    #[test]
    fn a_host_has_addresses() {
        let Value::Host(found) = read("host/api.shop", &host(&["240.0.0.1", "fd00::1"])).unwrap()
        else {
            panic!("no host");
        };
        assert_eq!(found.addresses.len(), 2);
        refuse(
            "host/api.shop",
            &host(&["x"]),
            "addresses[0]: \"x\" is no address",
        );
    }
}

mod policies {
    use super::*;

    fn policy(change: impl FnOnce(&mut v1::Inbound)) -> Listener {
        let mut inbound = v1::Inbound {
            namespace: "shop".into(),
            workload: "web-1".into(),
            identity: "spiffe://mesh.test/ns/shop/sa/web".into(),
            default_mtls: v1::Mtls::Permissive.into(),
            ports: vec![v1::InboundPort {
                port: 80,
                protocol: v1::Protocol::Http1.into(),
                mtls: v1::Mtls::Strict.into(),
                rules: vec![rule()],
                default_deny: true,
            }],
            upstreams: vec![v1::Upstream {
                listen: "[::1]:9001".into(),
                namespace: "shop".into(),
                service: "api".into(),
                port: 80,
            }],
            ..Default::default()
        };
        change(&mut inbound);
        Listener {
            name: "in/shop/web-1".into(),
            metadata: metadata(&inbound),
            ..Default::default()
        }
    }

    fn rule() -> v1::AuthorizationRule {
        v1::AuthorizationRule {
            action: v1::authorization_rule::Action::Deny.into(),
            policy: "shop/no".into(),
            identities: vec!["spiffe://mesh.test/*".into()],
            namespaces: vec!["bank".into()],
            methods: vec!["PUT".into()],
            paths: vec!["/a".into(), "/b/*".into()],
        }
    }

    #[test]
    fn every_field_arrives() {
        let Value::Inbound(found) = read("in/shop/web-1", &policy(|_| {})).unwrap() else {
            panic!("no policy");
        };
        let port = found.port(80);
        assert_eq!(
            (port.protocol, port.mtls, port.default_deny),
            (Protocol::Http1, Mtls::Strict, true)
        );
        let rule = &port.rules[0];
        assert_eq!((rule.action, &*rule.policy), (Action::Deny, "shop/no"));
        assert_eq!(
            rule.identities,
            [Pattern::Prefix("spiffe://mesh.test/".into())]
        );
        assert_eq!(
            rule.paths,
            [Pattern::Exact("/a".into()), Pattern::Prefix("/b/".into())]
        );
        assert_eq!((&*rule.methods[0], &*rule.namespaces[0]), ("PUT", "bank"));
        let other = found.port(81);
        assert_eq!(
            (other.protocol, other.mtls),
            (Protocol::Detect, Mtls::Permissive)
        );
        assert_eq!(&*found.upstreams[0].target, "out/api.shop:80");
        assert_eq!(found.upstreams[0].listen.to_string(), "[::1]:9001");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let check = |change: fn(&mut v1::Inbound), expected: &str| {
            refuse("in/shop/web-1", &policy(change), expected);
        };
        check(|one| one.default_mtls = 0, "default_mtls: is not set");
        check(|one| one.ports[0].mtls = 7, "ports[0].mtls: 7 is not known");
        check(
            |one| one.ports[0].port = 70_000,
            "ports[0].port: 70000 is no port",
        );
        check(
            |one| one.ports.push(one.ports[0].clone()),
            "ports: 80 stands twice",
        );
        check(
            |one| one.ports[0].rules[0].action = 0,
            "ports[0].rules[0].action: is not set",
        );
        check(
            |one| one.ports[0].rules[0].paths = vec!["/*/x".into()],
            "ports[0].rules[0].paths[0]: \"/*/x\" has a * elsewhere than at its end",
        );
        check(|one| one.identity.clear(), "identity: is empty");
        check(
            |one| one.workload = "web-2".into(),
            "namespace and workload: \"in/shop/web-2\" differs from the resource's name \"in/shop/web-1\"",
        );
        check(
            |one| one.upstreams[0].listen = "9001".into(),
            "upstreams[0].listen: \"9001\" is no ip:port",
        );
    }
}

mod clusters {
    use super::*;

    fn check(change: impl FnOnce(&mut cds::Cluster), expected: &str) {
        let mut message = cluster(PORT);
        change(&mut message);
        refuse(PORT, &message, expected);
    }

    fn number(value: u32) -> Option<UInt32Value> {
        Some(UInt32Value { value })
    }

    #[test]
    fn every_field_arrives() {
        let mut message = cluster(PORT);
        message.metadata = metadata(&v1::Destination {
            namespace: "shop".into(),
            service: "api".into(),
            port: 80,
            balancer: v1::Balancer::Maglev.into(),
            hash_header: "x-user".into(),
        });
        message.outlier_detection = Some(cds::OutlierDetection {
            consecutive_5xx: number(7),
            interval: Some(seconds(3)),
            base_ejection_time: Some(seconds(4)),
            max_ejection_time: Some(seconds(9)),
            max_ejection_percent: number(50),
            consecutive_gateway_failure: number(2),
        });
        let thresholds = cds::circuit_breakers::Thresholds {
            max_connections: number(1),
            max_pending_requests: number(2),
            max_requests: number(3),
            retry_budget: Some(cds::circuit_breakers::thresholds::RetryBudget {
                budget_percent: Some(Percent { value: 12.5 }),
                min_retry_concurrency: number(4),
            }),
        };
        message.circuit_breakers = Some(cds::CircuitBreakers {
            thresholds: vec![thresholds],
        });
        let Value::Cluster(found) = read(PORT, &message).unwrap() else {
            panic!("no cluster");
        };
        assert_eq!(
            found.balancing,
            Balancing::Maglev(HashKey::Header("x-user".parse().unwrap()))
        );
        let outlier = found.outlier.as_ref().unwrap();
        assert_eq!(
            (outlier.consecutive_5xx, outlier.consecutive_gateway_failure),
            (7, 2)
        );
        assert_eq!(outlier.base_ejection_time, Duration::from_secs(4));
        assert_eq!(
            (outlier.max_ejection_time, outlier.max_ejection_percent),
            (Duration::from_secs(9), 50)
        );
        let limits = &found.limits;
        assert_eq!(
            (
                limits.max_connections,
                limits.max_pending_requests,
                limits.max_requests
            ),
            (Some(1), Some(2), Some(3))
        );
        assert_eq!(
            (
                limits.retry_budget.percent,
                limits.retry_budget.min_concurrency
            ),
            (12.5, 4)
        );
        assert_eq!(found.connect_timeout, Duration::from_secs(5));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        use cds::cluster::{ClusterDiscoveryType, DiscoveryType};
        let kind = ClusterDiscoveryType::Type(DiscoveryType::StrictDns.into());
        check(
            |one| one.cluster_discovery_type = Some(kind),
            "type: must be EDS",
        );
        check(
            |one| one.eds_cluster_config.as_mut().unwrap().eds_config = None,
            "eds_cluster_config.eds_config: must be `ads`",
        );
        check(
            |one| one.connect_timeout = Some(seconds(-1)),
            "connect_timeout: is no duration from zero up",
        );
        check(
            |one| one.connect_timeout = Some(seconds(0)),
            "connect_timeout: must be above zero",
        );
        check(|one| one.lb_policy = 4, "lb_policy: 4 is not known");
        check(
            |one| {
                one.outlier_detection = Some(cds::OutlierDetection {
                    max_ejection_percent: number(101),
                    ..Default::default()
                })
            },
            "outlier_detection.max_ejection_percent: 101 is above 100",
        );
        check(
            |one| {
                one.circuit_breakers = Some(cds::CircuitBreakers {
                    thresholds: vec![Default::default(); 2],
                })
            },
            "circuit_breakers.thresholds: holds more than one",
        );
    }
}

mod endpoint_lists {
    use super::*;

    fn assignment(
        extra: &v1::EndpointExtra,
        change: impl FnOnce(&mut ClusterLoadAssignment),
    ) -> ClusterLoadAssignment {
        let mut message = endpoints(PORT, &[]);
        message.endpoints[0].lb_endpoints = vec![endpoint("[fd00::9]:8080", extra)];
        change(&mut message);
        message
    }

    #[test]
    fn every_field_arrives() {
        let message = assignment(&native(), |one| {
            let endpoint = &mut one.endpoints[0].lb_endpoints[0];
            endpoint.health_status = base::HealthStatus::Unhealthy.into();
            endpoint.load_balancing_weight = Some(UInt32Value { value: 3 });
        });
        let Value::Endpoints(found) = read(PORT, &message).unwrap() else {
            panic!("no endpoints");
        };
        let one = &found.endpoints[0];
        assert_eq!(one.address.to_string(), "[fd00::9]:8080");
        assert_eq!((one.health, one.weight), (Health::Unhealthy, 3));
        assert_eq!((&*one.locality.region, &*one.locality.zone), ("eu", "a"));
        let mesh = one.mesh.as_ref().unwrap();
        assert_eq!(
            (mesh.port, &*mesh.identity),
            (4743, "spiffe://mesh.test/ns/shop/sa/api")
        );
        let plain = v1::EndpointExtra::default();
        let Value::Endpoints(found) = read(PORT, &assignment(&plain, |_| {})).unwrap() else {
            panic!("no endpoints");
        };
        assert!(found.endpoints[0].mesh.is_none());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let check = |change: fn(&mut v1::EndpointExtra), expected: &str| {
            let mut extra = native();
            change(&mut extra);
            let expected = format!("endpoints[0].lb_endpoints[0].{expected}");
            refuse(PORT, &assignment(&extra, |_| {}), &expected);
        };
        check(
            |one| one.mesh = v1::Mesh::Envoy.into(),
            "mesh: Envoy is not spoken by this version",
        );
        check(|one| one.mesh_port = 0, "mesh_port: 0 is no port");
        check(|one| one.identity.clear(), "identity: is empty");
        let unknown = assignment(&native(), |one| {
            one.endpoints[0].lb_endpoints[0].health_status = 0;
        });
        refuse(
            PORT,
            &unknown,
            "endpoints[0].lb_endpoints[0].health_status: 0 is neither HEALTHY nor UNHEALTHY",
        );
        let weightless = assignment(&native(), |one| {
            one.endpoints[0].lb_endpoints[0].load_balancing_weight = Some(UInt32Value { value: 0 });
        });
        refuse(
            PORT,
            &weightless,
            "endpoints[0].lb_endpoints[0].load_balancing_weight: must be above zero",
        );
    }
}

mod route_tables {
    use super::*;
    use rds::route::Action as Does;
    use rds::route_match::PathSpecifier;

    fn one_route(told: rds::Route) -> Result<crate::snapshot::Route, String> {
        match read(PORT, &table(PORT, vec![told]))? {
            Value::Routes(found) => Ok(found.routes[0].clone()),
            other => panic!("{other:?}"),
        }
    }

    fn check(told: rds::Route, expected: &str) {
        let expected = format!("virtual_hosts[0].routes[0].{expected}");
        assert_eq!(one_route(told).unwrap_err(), expected);
    }

    fn exact(text: &str) -> matcher::StringMatcher {
        matcher::StringMatcher {
            match_pattern: Some(matcher::string_matcher::MatchPattern::Exact(text.into())),
        }
    }

    fn pattern(text: &str) -> matcher::StringMatcher {
        let regex = matcher::RegexMatcher { regex: text.into() };
        matcher::StringMatcher {
            match_pattern: Some(matcher::string_matcher::MatchPattern::SafeRegex(regex)),
        }
    }

    fn header(name: &str, test: matcher::StringMatcher) -> rds::HeaderMatcher {
        rds::HeaderMatcher {
            name: name.into(),
            header_match_specifier: Some(rds::header_matcher::HeaderMatchSpecifier::StringMatch(
                test,
            )),
        }
    }

    fn path(specifier: PathSpecifier) -> rds::RouteMatch {
        rds::RouteMatch {
            path_specifier: Some(specifier),
            ..Default::default()
        }
    }

    #[test]
    fn matches_arrive() {
        let regex = |regex: &str| {
            PathSpecifier::SafeRegex(matcher::RegexMatcher {
                regex: regex.into(),
            })
        };
        let matched = |told| {
            one_route(route(told, Does::Route(to(PORT))))
                .unwrap()
                .matches
        };
        assert!(matches!(matched(prefix("/a")).path, PathMatch::Prefix(text) if &*text == "/a"));
        assert!(
            matches!(matched(path(PathSpecifier::Path("/a".into()))).path, PathMatch::Exact(text) if &*text == "/a")
        );
        assert!(
            matches!(matched(path(PathSpecifier::PathSeparatedPrefix("/a".into()))).path, PathMatch::Segments(text) if &*text == "/a")
        );
        let PathMatch::Regex(found) = matched(path(regex(r"/v\d|/w\w+"))).path else {
            panic!("no regex");
        };
        assert!(found.is_match("/v1") && found.is_match("/www") && !found.is_match("/v1/x"));
        let mut told = prefix("/");
        told.headers = vec![
            header(":method", exact("GET")),
            header("x-a", pattern("b+")),
        ];
        told.query_parameters = vec![rds::QueryParameterMatcher {
            name: "q".into(),
            query_parameter_match_specifier: Some(
                rds::query_parameter_matcher::QueryParameterMatchSpecifier::StringMatch(exact("1")),
            ),
        }];
        let found = matched(told);
        assert!(matches!(found.method, Some(TextTest::Exact(text)) if &*text == "GET"));
        assert_eq!((found.headers.len(), &*found.query[0].name), (1, "q"));
    }

    #[test]
    fn forwarding_arrives() {
        let mut action = to(PORT);
        action.timeout = Some(seconds(3));
        action.prefix_rewrite = "/b".into();
        action.host_rewrite_specifier = Some(
            rds::route_action::HostRewriteSpecifier::HostRewriteLiteral("h".into()),
        );
        action.retry_policy = Some(rds::RetryPolicy {
            retry_on: "5xx,reset, retriable-status-codes".into(),
            num_retries: Some(UInt32Value { value: 2 }),
            per_try_timeout: Some(seconds(1)),
            retriable_status_codes: vec![418],
            retry_back_off: None,
        });
        let found = one_route(route(prefix("/a"), Does::Route(action))).unwrap();
        let RouteAction::Forward(forward) = found.action else {
            panic!("no forward");
        };
        assert_eq!(forward.timeout, Some(Duration::from_secs(3)));
        assert!(matches!(forward.rewrite, Some(PathRewrite::Prefix(text)) if &*text == "/b"));
        assert_eq!(forward.host.unwrap(), "h");
        let retry = forward.retry.unwrap();
        assert!(retry.on.server_error && retry.on.reset && retry.on.retriable_status_codes);
        assert!(!retry.on.gateway_error);
        assert_eq!((retry.limit, retry.statuses[0].as_u16()), (2, 418));
        assert_eq!(retry.backoff_max, retry.backoff_base * 10);
        let mut none = to(PORT);
        none.timeout = Some(seconds(0));
        let found = one_route(route(prefix("/"), Does::Route(none))).unwrap();
        assert!(matches!(found.action, RouteAction::Forward(forward) if forward.timeout.is_none()));
    }

    #[test]
    fn a_substitution_is_put_into_our_notation() {
        let mut action = to(PORT);
        action.regex_rewrite = Some(matcher::RegexMatchAndSubstitute {
            pattern: Some(matcher::RegexMatcher {
                regex: "^/(a)(b)".into(),
            }),
            substitution: r"/\2\1$\\".into(),
        });
        let found = one_route(route(prefix("/"), Does::Route(action))).unwrap();
        let RouteAction::Forward(forward) = found.action else {
            panic!("no forward");
        };
        let Some(PathRewrite::Regex(regex, with)) = forward.rewrite else {
            panic!("no rewrite");
        };
        assert_eq!(regex.replace_all("/ab/c", &*with), r"/ba$\/c");
    }

    #[test]
    fn splits_redirects_and_answers_arrive() {
        let weight = |name: &str, weight| rds::weighted_cluster::ClusterWeight {
            name: name.into(),
            weight: Some(UInt32Value { value: weight }),
            request_headers_to_remove: vec!["x-b".into()],
            ..Default::default()
        };
        let split = |clusters| {
            let weighted = rds::WeightedCluster { clusters };
            let specifier = rds::route_action::ClusterSpecifier::WeightedClusters(weighted);
            let mut action = to(PORT);
            action.cluster_specifier = Some(specifier);
            route(prefix("/"), Does::Route(action))
        };
        let found = one_route(split(vec![weight("a", 90), weight("b", 10)])).unwrap();
        let RouteAction::Forward(forward) = found.action else {
            panic!("no forward");
        };
        assert_eq!(
            (forward.backends.total, forward.backends.backends.len()),
            (100, 2)
        );
        assert_eq!(forward.backends.backends[0].request_headers.remove.len(), 1);
        check(
            split(vec![weight("a", 0)]),
            "route.weighted_clusters.clusters: must have a weight above zero",
        );

        let redirect = rds::RedirectAction {
            host_redirect: "h".into(),
            port_redirect: 8443,
            response_code: rds::redirect_action::RedirectResponseCode::PermanentRedirect.into(),
            scheme_rewrite_specifier: Some(
                rds::redirect_action::SchemeRewriteSpecifier::SchemeRedirect("https".into()),
            ),
            path_rewrite_specifier: Some(rds::redirect_action::PathRewriteSpecifier::PathRedirect(
                "/p".into(),
            )),
        };
        let found = one_route(route(prefix("/"), Does::Redirect(redirect))).unwrap();
        let RouteAction::Redirect(to) = found.action else {
            panic!("no redirect");
        };
        assert_eq!((to.status.as_u16(), to.port), (308, Some(8443)));
        assert_eq!(
            (to.scheme.as_deref(), to.host.as_deref()),
            (Some("https"), Some("h"))
        );
        assert!(matches!(to.path, Some(RedirectPath::Whole(path)) if &*path == "/p"));

        let answer = Does::DirectResponse(rds::DirectResponseAction { status: 500 });
        let found = one_route(route(prefix("/"), answer)).unwrap();
        assert!(
            matches!(found.action, RouteAction::Respond(answer) if answer.status.as_u16() == 500)
        );
    }

    #[test]
    fn header_changes_arrive() {
        use base::header_value_option::HeaderAppendAction as Append;
        let option = |append: Append| base::HeaderValueOption {
            header: Some(base::HeaderValue {
                key: "x-a".into(),
                value: "1".into(),
            }),
            append_action: append.into(),
        };
        let mut told = route(prefix("/"), Does::Route(to(PORT)));
        told.request_headers_to_add = vec![
            option(Append::AppendIfExistsOrAdd),
            option(Append::OverwriteIfExistsOrAdd),
        ];
        told.response_headers_to_remove = vec!["server".into()];
        let found = one_route(told.clone()).unwrap();
        let appends: Vec<_> = found
            .request_headers
            .set
            .iter()
            .map(|one| one.append)
            .collect();
        assert_eq!(appends, [true, false]);
        assert_eq!(found.response_headers.remove[0], "server");
        told.request_headers_to_add[1].append_action = Append::AddIfAbsent.into();
        check(
            told,
            "request_headers_to_add[1].append_action: 1 is not known",
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let action = || Does::Route(to(PORT));
        check(
            route(
                path(PathSpecifier::PathSeparatedPrefix("/a/".into())),
                action(),
            ),
            "match.path_separated_prefix: \"/a/\" must begin with / and not end with it",
        );
        let mut bad = prefix("/");
        bad.headers = vec![header("a b", exact("x"))];
        check(
            route(bad, action()),
            "match.headers[0].name: \"a b\" is no header",
        );
        let mut bad = to(PORT);
        bad.retry_policy = Some(rds::RetryPolicy {
            retry_on: "5xx,moon".into(),
            ..Default::default()
        });
        check(
            route(prefix("/"), Does::Route(bad)),
            "route.retry_policy.retry_on: \"moon\" is not known",
        );
        let answer = Does::DirectResponse(rds::DirectResponseAction { status: 99 });
        check(
            route(prefix("/"), answer),
            "direct_response.status: 99 is no status",
        );
        let mut none = route(prefix("/"), action());
        none.action = None;
        check(none, "action: is missing");
        let unbalanced = path(PathSpecifier::SafeRegex(matcher::RegexMatcher {
            regex: "a)(b".into(),
        }));
        let refused = one_route(route(unbalanced, action())).unwrap_err();
        assert!(
            refused.contains("match.safe_regex.regex: \"a)(b\" is no pattern"),
            "{refused}"
        );
        let mut two = table(PORT, Vec::new());
        two.virtual_hosts[0].domains = vec!["a".into()];
        refuse(PORT, &two, "virtual_hosts[0].domains: must be [\"*\"]");
    }
}

#[test]
fn roots_are_read_from_pem() {
    let root = crate::fakes::Authority::new().root;
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &root);
    let pem = format!("-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n");
    let twice = format!("{pem}{pem}");
    let Value::Roots(found) = read("roots/mesh.test", &secret("roots/mesh.test", &twice)).unwrap()
    else {
        panic!("no roots");
    };
    assert_eq!(&*found.trust_domain, "mesh.test");
    assert_eq!(found.certificates, [root.to_vec(), root.to_vec()]);
    let field = "validation_context.trusted_ca.inline_bytes";
    refuse(
        "roots/x",
        &secret("roots/x", ""),
        &format!("{field}: holds no certificate"),
    );
}

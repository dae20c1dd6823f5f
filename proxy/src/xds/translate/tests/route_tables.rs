//! Routes.

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
        ..Default::default()
    }
}

fn pattern(text: &str) -> matcher::StringMatcher {
    let regex = matcher::RegexMatcher { regex: text.into() };
    matcher::StringMatcher {
        match_pattern: Some(matcher::string_matcher::MatchPattern::SafeRegex(regex)),
        ..Default::default()
    }
}

fn header(name: &str, test: matcher::StringMatcher) -> rds::HeaderMatcher {
    rds::HeaderMatcher {
        name: name.into(),
        header_match_specifier: Some(rds::header_matcher::HeaderMatchSpecifier::StringMatch(test)),
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
        ..Default::default()
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
    assert!(matches!(found.action, RouteAction::Respond(answer) if answer.status.as_u16() == 500));
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
    let mut bad = prefix("/");
    let caseless = matcher::StringMatcher {
        ignore_case: true,
        ..exact("x")
    };
    bad.headers = vec![header("a", caseless)];
    check(
        route(bad, action()),
        "match.headers[0].string_match: holds fields that are for Envoy or gRPC, not for this proxy",
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

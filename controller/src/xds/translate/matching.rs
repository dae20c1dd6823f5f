//! What a request must look like, and in which order conditions are tried: Gateway API's precedence.

use std::cmp::Reverse;

use xds_api::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use xds_api::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use xds_api::envoy::config::route::v3::route_match::PathSpecifier;
use xds_api::envoy::config::route::v3::{HeaderMatcher, QueryParameterMatcher, RouteMatch};
use xds_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use xds_api::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};

use crate::model::kinds::http_route::{
    Match, PathMatch, PathMatchType, ValueMatch, ValueMatchType,
};

/// The pseudo header by which methods are matched.
pub(in crate::xds) const METHOD: &str = ":method";

/// Smaller is tried first. Of requests: exact paths, then regular expressions, then prefixes; longer before shorter; then a method (which has no length),
/// then more headers, then more parameters. Of calls: see `calls`.
pub(in crate::xds) type Precedence = (
    u8,
    Reverse<usize>,
    u8,
    Reverse<usize>,
    Reverse<usize>,
    Reverse<usize>,
);

/// Where a condition stands.
pub(in crate::xds) fn precedence(one: &Match) -> Precedence {
    let (class, length) = match &one.path {
        Some(path) => match path.match_type {
            PathMatchType::Exact => (0, path.value.len()),
            PathMatchType::RegularExpression => (1, path.value.len()),
            PathMatchType::PathPrefix => (2, prefix(path).len()),
        },
        None => (2, 0),
    };
    (
        class,
        Reverse(length),
        u8::from(one.method.is_none()),
        Reverse(0),
        Reverse(one.headers.len()),
        Reverse(one.query_params.len()),
    )
}

/// A condition in Envoy's terms.
pub(in crate::xds) fn route_match(one: &Match) -> RouteMatch {
    let path = match &one.path {
        Some(path) => match path.match_type {
            PathMatchType::Exact => PathSpecifier::Path(path.value.clone()),
            PathMatchType::RegularExpression => PathSpecifier::SafeRegex(regex(&path.value)),
            PathMatchType::PathPrefix => match prefix(path) {
                "" => PathSpecifier::Prefix("/".to_owned()),
                prefix => PathSpecifier::PathSeparatedPrefix(prefix.to_owned()),
            },
        },
        None => PathSpecifier::Prefix("/".to_owned()),
    };
    let method = one.method.iter().map(|method| HeaderMatcher {
        name: METHOD.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(exact(method))),
    });
    let headers = one.headers.iter().map(|header| HeaderMatcher {
        name: header.name.to_ascii_lowercase(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(value(header))),
    });
    let query = one
        .query_params
        .iter()
        .map(|parameter| QueryParameterMatcher {
            name: parameter.name.clone(),
            query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(
                value(parameter),
            )),
        });
    RouteMatch {
        path_specifier: Some(path),
        headers: method.chain(headers).collect(),
        query_parameters: query.collect(),
    }
}

/// A prefix of whole segments without the slash at its end: `""` is every path.
pub(in crate::xds) fn prefix(path: &PathMatch) -> &str {
    path.value.trim_end_matches('/')
}

fn value(one: &ValueMatch) -> StringMatcher {
    match one.match_type {
        ValueMatchType::Exact => exact(&one.value),
        ValueMatchType::RegularExpression => StringMatcher {
            match_pattern: Some(MatchPattern::SafeRegex(regex(&one.value))),
            ..StringMatcher::default()
        },
    }
}

fn exact(text: &str) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(MatchPattern::Exact(text.to_owned())),
        ..StringMatcher::default()
    }
}

fn regex(pattern: &str) -> RegexMatcher {
    RegexMatcher {
        regex: pattern.to_owned(),
    }
}

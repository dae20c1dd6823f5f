//! What a route looks at.

use super::super::foreign;
use super::super::strict::{Invalid, Within, invalid, not_empty, present, whole_regex};
use super::header_name;
use crate::snapshot::{HeaderMatch, HeaderTest, PathMatch, QueryMatch, RouteMatch, TextTest};
use xds_api::envoy::config::route::v3 as envoy;
use xds_api::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use xds_api::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use xds_api::envoy::config::route::v3::route_match::PathSpecifier;
use xds_api::envoy::r#type::matcher::v3::StringMatcher;
use xds_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

/// The pseudo header by which methods are matched.
const METHOD: &str = ":method";

pub(super) fn matches(told: envoy::RouteMatch) -> Result<RouteMatch, Invalid> {
    let mut method = None;
    let mut headers = Vec::new();
    for (index, one) in told.headers.into_iter().enumerate() {
        if one.name != METHOD {
            headers.push(header(one).within_item("headers", index)?);
            continue;
        }
        if method.is_some() {
            return invalid("headers", "match :method twice");
        }
        method = Some(method_test(one).within_item("headers", index)?);
    }
    let query = told.query_parameters.into_iter().enumerate();
    let query = query.map(|(index, one)| parameter(one).within_item("query_parameters", index));
    Ok(RouteMatch {
        path: path(present("path_specifier", told.path_specifier)?)?,
        method,
        headers,
        query: query.collect::<Result<_, _>>()?,
    })
}

fn path(told: PathSpecifier) -> Result<PathMatch, Invalid> {
    Ok(match told {
        PathSpecifier::Prefix(prefix) => PathMatch::Prefix(prefix.into()),
        PathSpecifier::Path(path) => PathMatch::Exact(path.into()),
        PathSpecifier::SafeRegex(regex) => {
            PathMatch::Regex(whole_regex("safe_regex.regex", &regex.regex)?)
        }
        PathSpecifier::PathSeparatedPrefix(prefix) => {
            if !prefix.starts_with('/') || prefix.ends_with('/') {
                let text = format!("{prefix:?} must begin with / and not end with it");
                return invalid("path_separated_prefix", text);
            }
            PathMatch::Segments(prefix.into())
        }
    })
}

fn text(told: StringMatcher) -> Result<TextTest, Invalid> {
    foreign::check(&told)?;
    Ok(match present("match_pattern", told.match_pattern)? {
        MatchPattern::Exact(exact) => TextTest::Exact(exact.into()),
        MatchPattern::SafeRegex(regex) => {
            TextTest::Regex(whole_regex("safe_regex.regex", &regex.regex)?)
        }
        MatchPattern::Prefix(_) | MatchPattern::Suffix(_) => {
            return invalid("match_pattern", "must be `exact` or `safe_regex`");
        }
    })
}

fn method_test(told: envoy::HeaderMatcher) -> Result<TextTest, Invalid> {
    match present("header_match_specifier", told.header_match_specifier)? {
        HeaderMatchSpecifier::StringMatch(matcher) => text(matcher).within("string_match"),
        HeaderMatchSpecifier::PresentMatch(_) => {
            invalid("present_match", "every request has a method")
        }
    }
}

fn header(told: envoy::HeaderMatcher) -> Result<HeaderMatch, Invalid> {
    let specifier = present("header_match_specifier", told.header_match_specifier)?;
    let test = match specifier {
        HeaderMatchSpecifier::PresentMatch(present) => HeaderTest::Present(present),
        HeaderMatchSpecifier::StringMatch(matcher) => {
            HeaderTest::Value(text(matcher).within("string_match")?)
        }
    };
    Ok(HeaderMatch {
        name: header_name(&told.name).within("name")?,
        test,
    })
}

fn parameter(told: envoy::QueryParameterMatcher) -> Result<QueryMatch, Invalid> {
    not_empty("name", &told.name)?;
    let specifier = told.query_parameter_match_specifier;
    match present("query_parameter_match_specifier", specifier)? {
        QueryParameterMatchSpecifier::StringMatch(matcher) => Ok(QueryMatch {
            name: told.name.into(),
            test: text(matcher).within("string_match")?,
        }),
        QueryParameterMatchSpecifier::PresentMatch(_) => {
            invalid("present_match", "is not known here")
        }
    }
}

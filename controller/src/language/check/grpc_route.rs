//! `GRPCRoute` as a whole.

use super::{
    Subject,
    http_route::{check_backends, check_counts, check_filters, check_regex, check_values},
    parents,
};
use crate::model::kinds::{
    GrpcRouteSpec,
    grpc_route::{GrpcMatch, GrpcRule, MethodMatch},
    http_route::ValueMatchType,
};

pub(super) fn check(spec: &GrpcRouteSpec, namespace: &str, subject: &mut Subject<'_>) {
    parents::check(&spec.parent_refs, namespace, subject);
    let matches = spec.rules.iter().map(|rule| rule.matches.len());
    check_counts(&matches.collect::<Vec<_>>(), subject);
    for (index, rule) in spec.rules.iter().enumerate() {
        check_rule(rule, &format!("spec.rules[{index}]"), subject);
    }
}

fn check_rule(rule: &GrpcRule, at: &str, subject: &mut Subject<'_>) {
    for (index, condition) in rule.matches.iter().enumerate() {
        check_match(condition, &format!("{at}.matches[{index}]"), subject);
    }
    let forward = rule.forward();
    check_filters(&forward, at, subject);
    check_backends(&forward, at, "its calls end with UNAVAILABLE", subject);
}

fn check_match(condition: &GrpcMatch, at: &str, subject: &mut Subject<'_>) {
    if let Some(method) = &condition.method {
        check_method(method, &format!("{at}.method"), subject);
    }
    let headers = format!("{at}.headers");
    check_values(&condition.headers, &headers, str::to_lowercase, subject);
}

fn check_method(method: &MethodMatch, at: &str, subject: &mut Subject<'_>) {
    if method.service.is_none() && method.method.is_none() {
        let message = "this matches nothing in particular; set `service`, `method` or both, or leave `method` out of the match";
        subject.error(at, message);
    }
    let parts = [
        ("service", &method.service, is_service as fn(&str) -> bool),
        ("method", &method.method, is_identifier),
    ];
    for (field, text, fits) in parts {
        let Some(text) = text else { continue };
        let problem = match method.match_type {
            ValueMatchType::RegularExpression => check_regex(text),
            ValueMatchType::Exact if fits(text) => Ok(()),
            ValueMatchType::Exact => Err(format!(
                "`{text}` is not the name of a gRPC {field}; write it as in the .proto file, a service with its package and without `/`"
            )),
        };
        if let Err(message) = problem {
            subject.error(format!("{at}.{field}"), message);
        }
    }
}

/// By Gateway API: identifiers with dots between.
fn is_service(text: &str) -> bool {
    text.len() <= 1024 && text.split('.').all(is_identifier)
}

fn is_identifier(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !text.is_empty()
        && text.len() <= 1024
        && text.bytes().all(inner)
        && !text.starts_with(|first: char| first.is_ascii_digit())
}

//! `HTTPRoute` as a whole.

use regex::RegexBuilder;

use super::{Subject, parents};
use crate::{
    language::format::Format,
    model::kinds::{
        HttpRouteSpec,
        http_route::{
            BackendRef, Filter, Match, PathMatch, PathMatchType, PathModifier, Redirect, Rule,
            ValueMatch, ValueMatchType,
        },
    },
};

/// What a compiled expression may take: every proxy that is asked compiles it, and a program of this size is already odd.
const REGEX_BYTES: usize = 64 * 1024;
/// Rules of one route, as Gateway API has it.
const RULES: usize = 16;
/// Matches of one rule, as Gateway API has it.
const MATCHES: usize = 64;
/// Statuses that redirect.
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

pub(super) fn check(spec: &HttpRouteSpec, namespace: &str, subject: &mut Subject<'_>) {
    parents::check(&spec.parent_refs, namespace, subject);
    let matches = spec.rules.iter().map(|rule| rule.matches.len());
    check_counts(&matches.collect::<Vec<_>>(), subject);
    for (index, rule) in spec.rules.iter().enumerate() {
        check_rule(rule, &format!("spec.rules[{index}]"), subject);
    }
}

/// How many rules there are, and how many matches each has.
pub(super) fn check_counts(matches: &[usize], subject: &mut Subject<'_>) {
    let rules = matches.len();
    if rules > RULES {
        let message =
            format!("a route has at most {RULES} rules, not {rules}; write several routes");
        subject.error("spec.rules", message);
    }
    for (index, count) in matches
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > MATCHES)
    {
        let message =
            format!("a rule has at most {MATCHES} matches, not {count}; write several rules");
        subject.error(format!("spec.rules[{index}].matches"), message);
    }
}

fn check_rule(rule: &Rule, at: &str, subject: &mut Subject<'_>) {
    for (index, condition) in rule.matches.iter().enumerate() {
        check_match(condition, &format!("{at}.matches[{index}]"), subject);
    }
    check_filters(rule, at, subject);
    check_backends(rule, at, "its requests are answered with 500", subject);
    if let Some(timeouts) = rule.timeouts
        && let (Some(whole), Some(one)) = (timeouts.request, timeouts.backend_request)
        && !whole.is_zero()
        && one > whole
    {
        let message = format!(
            "one attempt may take {one}, and the whole request only {whole}; make it shorter"
        );
        subject.error(format!("{at}.timeouts.backendRequest"), message);
    }
}

fn check_match(condition: &Match, at: &str, subject: &mut Subject<'_>) {
    if let Some(path) = &condition.path {
        check_path(path, &format!("{at}.path.value"), subject);
    }
    check_values(
        &condition.headers,
        &format!("{at}.headers"),
        str::to_lowercase,
        subject,
    );
    check_values(
        &condition.query_params,
        &format!("{at}.queryParams"),
        str::to_owned,
        subject,
    );
}

fn check_path(path: &PathMatch, at: &str, subject: &mut Subject<'_>) {
    let problem = match path.match_type {
        PathMatchType::RegularExpression => check_regex(&path.value),
        PathMatchType::Exact | PathMatchType::PathPrefix => Format::Path.check(&path.value),
    };
    if let Err(message) = problem {
        subject.error(at, message);
    }
}

pub(super) fn check_values(
    values: &[ValueMatch],
    at: &str,
    fold: fn(&str) -> String,
    subject: &mut Subject<'_>,
) {
    let names = values
        .iter()
        .enumerate()
        .map(|(index, value)| (format!("{at}[{index}].name"), fold(&value.name)));
    subject.no_twice(names, "name");
    for (index, value) in values.iter().enumerate() {
        if value.name.is_empty() {
            subject.error(
                format!("{at}[{index}].name"),
                "the name is empty; write one",
            );
        }
        if value.match_type == ValueMatchType::RegularExpression
            && let Err(message) = check_regex(&value.value)
        {
            subject.error(format!("{at}[{index}].value"), message);
        }
    }
}

pub(super) fn check_regex(text: &str) -> Result<(), String> {
    match RegexBuilder::new(text).size_limit(REGEX_BYTES).build() {
        Ok(_) => Ok(()),
        Err(regex::Error::CompiledTooBig(_)) => {
            Err("this expression is too large; split the rule".to_owned())
        }
        Err(error) => {
            // The parser's message draws several lines; its last one says what is wrong.
            let text_of = error.to_string();
            let last = text_of
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .to_owned();
            Err(format!("`{text}` is not a regular expression: {last}"))
        }
    }
}

pub(super) fn check_filters(rule: &Rule, at: &str, subject: &mut Subject<'_>) {
    let types = rule.filters.iter().enumerate();
    subject.no_twice(
        types.map(|(index, filter)| (format!("{at}.filters[{index}]"), filter.type_name())),
        "filter type",
    );
    let has = |name: &str| rule.filters.iter().any(|filter| filter.type_name() == name);
    if has("RequestRedirect") && has("URLRewrite") {
        subject.error(
            format!("{at}.filters"),
            "a redirect and a rewrite exclude each other; keep one",
        );
    }
    if has("RequestRedirect") && !rule.backend_refs.is_empty() {
        let message = "a redirect answers by itself; take `backendRefs` out, or the redirect";
        subject.error(format!("{at}.backendRefs"), message);
    }
    for (index, filter) in rule.filters.iter().enumerate() {
        check_filter(filter, rule, &format!("{at}.filters[{index}]"), subject);
    }
}

fn check_filter(filter: &Filter, rule: &Rule, at: &str, subject: &mut Subject<'_>) {
    match filter {
        Filter::RequestHeaderModifier {
            request_header_modifier: modifier,
        } => {
            check_header_names(modifier, &format!("{at}.requestHeaderModifier"), subject);
        }
        Filter::ResponseHeaderModifier {
            response_header_modifier: modifier,
        } => {
            check_header_names(modifier, &format!("{at}.responseHeaderModifier"), subject);
        }
        Filter::RequestRedirect {
            request_redirect: redirect,
        } => {
            check_redirect(redirect, rule, &format!("{at}.requestRedirect"), subject);
        }
        Filter::UrlRewrite {
            url_rewrite: rewrite,
        } => {
            if rewrite.hostname.is_none() && rewrite.path.is_none() {
                subject.error(
                    format!("{at}.urlRewrite"),
                    "this rewrite changes nothing; set `hostname` or `path`",
                );
            }
            check_prefix(
                rewrite.path.as_ref(),
                rule,
                &format!("{at}.urlRewrite.path"),
                subject,
            );
        }
    }
}

fn check_header_names(
    modifier: &crate::model::kinds::http_route::HeaderModifier,
    at: &str,
    subject: &mut Subject<'_>,
) {
    let set = modifier
        .set
        .iter()
        .enumerate()
        .map(|(index, header)| (format!("{at}.set[{index}]"), &header.name));
    let add = modifier
        .add
        .iter()
        .enumerate()
        .map(|(index, header)| (format!("{at}.add[{index}]"), &header.name));
    let remove = modifier
        .remove
        .iter()
        .enumerate()
        .map(|(index, name)| (format!("{at}.remove[{index}]"), name));
    let all: Vec<(String, String)> = set
        .chain(add)
        .chain(remove)
        .map(|(path, name)| (path, name.to_lowercase()))
        .collect();
    for (path, name) in &all {
        if let Some(why) = kept_header(name) {
            subject.error(path, format!("`{name}` {why}"));
        }
    }
    if all.is_empty() {
        subject.error(
            at,
            "this filter changes nothing; set `set`, `add` or `remove`",
        );
    }
    subject.no_twice(all, "header");
}

/// Headers that a route may not change.
fn kept_header(name: &str) -> Option<&'static str> {
    match name {
        "host" => Some("is changed by a URLRewrite with `hostname`"),
        "connection" | "transfer-encoding" | "content-length" | "upgrade" | "te" | "trailer"
        | "keep-alive" => Some("belongs to one connection and cannot be changed by a route"),
        "x-forwarded-client-cert" => {
            Some("carries the caller's proved identity and cannot be changed by a route")
        }
        _ => None,
    }
}

fn check_redirect(redirect: &Redirect, rule: &Rule, at: &str, subject: &mut Subject<'_>) {
    if let Some(code) = redirect
        .status_code
        .filter(|code| !REDIRECTS.contains(code))
    {
        subject.error(
            format!("{at}.statusCode"),
            format!("{code} does not redirect; write 301, 302, 303, 307 or 308"),
        );
    }
    let unchanged = redirect.scheme.is_none()
        && redirect.hostname.is_none()
        && redirect.path.is_none()
        && redirect.port.is_none();
    if unchanged {
        subject.error(
            at,
            "this redirect leads back to itself; set `scheme`, `hostname`, `path` or `port`",
        );
    }
    check_prefix(redirect.path.as_ref(), rule, &format!("{at}.path"), subject);
}

fn check_prefix(path: Option<&PathModifier>, rule: &Rule, at: &str, subject: &mut Subject<'_>) {
    let prefix = |condition: &Match| {
        condition
            .path
            .as_ref()
            .is_none_or(|path| path.match_type == PathMatchType::PathPrefix)
    };
    if matches!(path, Some(PathModifier::ReplacePrefixMatch { .. }))
        && !rule.matches.iter().all(prefix)
    {
        let message = "a prefix can be replaced only where every match of the rule is a PathPrefix; use ReplaceFullPath";
        subject.error(at, message);
    }
}

/// `without`: what becomes of requests where there is no backend.
pub(super) fn check_backends(rule: &Rule, at: &str, without: &str, subject: &mut Subject<'_>) {
    let redirects = rule
        .filters
        .iter()
        .any(|filter| matches!(filter, Filter::RequestRedirect { .. }));
    if rule.backend_refs.is_empty() && !redirects {
        subject.warning(at, format!("this rule has no backend, so {without}"));
    }
    if !rule.backend_refs.is_empty() && rule.backend_refs.iter().all(|backend| backend.weight == 0)
    {
        let message =
            "all weights are 0, so no backend would get a request; give one a weight of at least 1";
        subject.error(format!("{at}.backendRefs"), message);
    }
    let backends = rule.backend_refs.iter().enumerate();
    let named = |backend: &BackendRef| {
        (
            backend.namespace.clone(),
            backend.name.clone(),
            backend.port,
        )
    };
    subject.no_twice(
        backends.map(|(index, backend)| (format!("{at}.backendRefs[{index}]"), named(backend))),
        "backend",
    );
    for (index, backend) in rule.backend_refs.iter().enumerate() {
        for (position, filter) in backend.filters.iter().enumerate() {
            let here = format!("{at}.backendRefs[{index}].filters[{position}]");
            let headers = matches!(
                filter,
                Filter::RequestHeaderModifier { .. } | Filter::ResponseHeaderModifier { .. }
            );
            if headers {
                check_filter(filter, rule, &here, subject);
            } else {
                subject.error(
                    here,
                    format!(
                        "a {} belongs to the rule, not to a backend; move it",
                        filter.type_name()
                    ),
                );
            }
        }
    }
}

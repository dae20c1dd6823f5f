//! What a route does.

use super::super::foreign;
use super::super::listener::check_weights;
use super::super::strict::{
    Invalid, Within, duration, invalid, not_empty, optional_duration, present, regex,
};
use super::{header_changes, header_value};
use crate::snapshot::{
    Backend, Backends, DirectResponse, Forward, PathRewrite, Redirect, RedirectPath, RetryOn,
    RetryPolicy,
};
use http::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use xds_api::envoy::config::route::v3 as envoy;
use xds_api::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use xds_api::envoy::config::route::v3::route_action::{ClusterSpecifier, HostRewriteSpecifier};
use xds_api::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use xds_api::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;

/// Where a retry policy names no pauses: Envoy's own default, and ten times that as the limit.
const BACKOFF: Duration = Duration::from_millis(25);

pub(super) fn forward(told: envoy::RouteAction) -> Result<Forward, Invalid> {
    foreign::check(&told)?;
    let rewrite = match (told.prefix_rewrite.as_str(), told.regex_rewrite) {
        ("", None) => None,
        (prefix, None) => Some(PathRewrite::Prefix(prefix.into())),
        ("", Some(rewrite)) => Some(path_rewrite(rewrite).within("regex_rewrite")?),
        _ => return invalid("regex_rewrite", "cannot stand beside prefix_rewrite"),
    };
    let host = match told.host_rewrite_specifier {
        None => None,
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
            Some(header_value(&host).within("host_rewrite_literal")?)
        }
    };
    let timeout = optional_duration("timeout", told.timeout.as_ref())?;
    let retry = told.retry_policy.map(retry).transpose();
    Ok(Forward {
        backends: Arc::new(backends(told.cluster_specifier)?),
        timeout: timeout.filter(|timeout| !timeout.is_zero()),
        rewrite,
        host,
        retry: retry.within("retry_policy")?,
    })
}

fn backends(told: Option<ClusterSpecifier>) -> Result<Backends, Invalid> {
    match present("cluster_specifier", told)? {
        ClusterSpecifier::Cluster(cluster) => {
            not_empty("cluster", &cluster)?;
            Ok(Backends::single(cluster))
        }
        ClusterSpecifier::WeightedClusters(weighted) => {
            let one = |(index, told)| backend(told).within_item("clusters", index);
            let all: Result<Vec<_>, _> =
                weighted.clusters.into_iter().enumerate().map(one).collect();
            all.and_then(|all| check_weights(Backends::new(all)))
                .within("weighted_clusters")
        }
    }
}

fn backend(told: ClusterWeight) -> Result<Backend, Invalid> {
    Ok(Backend {
        cluster: told.name.into(),
        weight: present("weight", told.weight)?.value,
        request_headers: header_changes(
            "request_headers",
            &told.request_headers_to_add,
            &told.request_headers_to_remove,
        )?,
        response_headers: header_changes(
            "response_headers",
            &told.response_headers_to_add,
            &told.response_headers_to_remove,
        )?,
    })
}

fn path_rewrite(told: RegexMatchAndSubstitute) -> Result<PathRewrite, Invalid> {
    let pattern = present("pattern", told.pattern)?;
    let pattern = regex("pattern.regex", &pattern.regex)?;
    let substitution = substitution(&told.substitution).within("substitution")?;
    Ok(PathRewrite::Regex(pattern, substitution.into()))
}

/// From `\N` and `\\` to the regex crate's `${N}` and `$$`.
fn substitution(told: &str) -> Result<String, Invalid> {
    let mut ours = String::with_capacity(told.len());
    let mut rest = told.chars();
    while let Some(next) = rest.next() {
        match next {
            '$' => ours.push_str("$$"),
            '\\' => match rest.next() {
                Some('\\') => ours.push('\\'),
                Some(group) if group.is_ascii_digit() => {
                    ours.push_str("${");
                    ours.push(group);
                    ours.push('}');
                }
                _ => {
                    return Err(Invalid::new(format!(
                        "{told:?}: after \\ comes a digit or \\"
                    )));
                }
            },
            other => ours.push(other),
        }
    }
    Ok(ours)
}

fn retry(told: envoy::RetryPolicy) -> Result<RetryPolicy, Invalid> {
    foreign::check(&told)?;
    let mut on = RetryOn::default();
    for token in told.retry_on.split(',').map(str::trim) {
        let flag = retry_flag(&mut on, token);
        *flag
            .ok_or_else(|| Invalid::new(format!("{token:?} is not known")).within("retry_on"))? =
            true;
    }
    let status =
        |(index, code): (usize, u32)| status(code).within_item("retriable_status_codes", index);
    let codes = told.retriable_status_codes.into_iter().enumerate();
    let back_off = told.retry_back_off.unwrap_or_default();
    let base = optional_duration(
        "retry_back_off.base_interval",
        back_off.base_interval.as_ref(),
    )?;
    let base = base.unwrap_or(BACKOFF);
    let longest = optional_duration(
        "retry_back_off.max_interval",
        back_off.max_interval.as_ref(),
    )?;
    let per_try = told.per_try_timeout.as_ref();
    let per_try = per_try
        .map(|limit| duration("per_try_timeout", limit))
        .transpose()?;
    Ok(RetryPolicy {
        on,
        statuses: codes.map(status).collect::<Result<_, _>>()?,
        limit: told.num_retries.map_or(1, |number| number.value),
        per_try_timeout: per_try.filter(|limit| !limit.is_zero()),
        backoff_base: base,
        backoff_max: longest.unwrap_or(base * 10).max(base),
    })
}

fn retry_flag<'a>(on: &'a mut RetryOn, token: &str) -> Option<&'a mut bool> {
    Some(match token {
        "5xx" => &mut on.server_error,
        "gateway-error" => &mut on.gateway_error,
        "connect-failure" => &mut on.connect_failure,
        "reset" => &mut on.reset,
        "refused-stream" => &mut on.refused_stream,
        "retriable-status-codes" => &mut on.retriable_status_codes,
        "cancelled" => &mut on.cancelled,
        "deadline-exceeded" => &mut on.deadline_exceeded,
        "resource-exhausted" => &mut on.resource_exhausted,
        "unavailable" => &mut on.unavailable,
        "internal" => &mut on.internal,
        _ => return None,
    })
}

pub(super) fn redirect(told: envoy::RedirectAction) -> Result<Redirect, Invalid> {
    let status = match RedirectResponseCode::try_from(told.response_code) {
        Ok(RedirectResponseCode::MovedPermanently) => StatusCode::MOVED_PERMANENTLY,
        Ok(RedirectResponseCode::Found) => StatusCode::FOUND,
        Ok(RedirectResponseCode::SeeOther) => StatusCode::SEE_OTHER,
        Ok(RedirectResponseCode::TemporaryRedirect) => StatusCode::TEMPORARY_REDIRECT,
        Ok(RedirectResponseCode::PermanentRedirect) => StatusCode::PERMANENT_REDIRECT,
        Err(_) => {
            let text = format!("{} is not known", told.response_code);
            return invalid("response_code", text);
        }
    };
    let scheme = match told.scheme_rewrite_specifier {
        None => None,
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => {
            if scheme != "http" && scheme != "https" {
                let text = format!("{scheme:?} is neither http nor https");
                return invalid("scheme_redirect", text);
            }
            Some(scheme.into())
        }
    };
    let port = match told.port_redirect {
        0 => None,
        port => Some(super::super::strict::port("port_redirect", port)?),
    };
    let path = told.path_rewrite_specifier.map(|path| match path {
        PathRewriteSpecifier::PathRedirect(whole) => RedirectPath::Whole(whole.into()),
        PathRewriteSpecifier::PrefixRewrite(prefix) => RedirectPath::Prefix(prefix.into()),
    });
    Ok(Redirect {
        status,
        scheme,
        host: (!told.host_redirect.is_empty()).then(|| told.host_redirect.into()),
        port,
        path,
    })
}

pub(super) fn respond(told: &envoy::DirectResponseAction) -> Result<DirectResponse, Invalid> {
    Ok(DirectResponse {
        status: status(told.status).within("status")?,
        body: bytes::Bytes::new(),
    })
}

fn status(code: u32) -> Result<StatusCode, Invalid> {
    let status = u16::try_from(code).ok();
    let status = status.filter(|code| (200..600).contains(code));
    status
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| Invalid::new(format!("{code} is no status")))
}

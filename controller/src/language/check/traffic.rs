//! `TrafficPolicy` as a whole, and the same fields as defaults in `MeshSettings`.

use super::Subject;
use crate::model::kinds::{
    Duration, TrafficPolicySpec,
    traffic_policy::{Balancer, Ejection, Retries},
};

pub(super) fn policy(spec: &TrafficPolicySpec, subject: &mut Subject<'_>) {
    balancer(spec.balancer.as_ref(), "spec", subject);
    retries(spec.retries.as_ref(), spec.timeout, "spec", subject);
    ejection(spec.ejection.as_ref(), "spec", subject);
    connect_timeout(spec.connect_timeout, "spec", subject);
    let nothing = spec.balancer.is_none()
        && spec.retries.is_none()
        && spec.timeout.is_none()
        && spec.connect_timeout.is_none()
        && spec.ejection.is_none()
        && spec.limits.is_none();
    if nothing {
        subject.warning("spec", "this policy sets nothing");
    }
}

pub(super) fn balancer(balancer: Option<&Balancer>, at: &str, subject: &mut Subject<'_>) {
    if balancer
        .is_some_and(|balancer| balancer.hash_header.is_some() && !balancer.algorithm.hashes())
    {
        let message =
            "only ringHash and maglev hash a header; change `type`, or take `hashHeader` out";
        subject.error(format!("{at}.balancer.hashHeader"), message);
    }
}

pub(super) fn retries(
    retries: Option<&Retries>,
    timeout: Option<Duration>,
    at: &str,
    subject: &mut Subject<'_>,
) {
    let Some(retries) = retries else { return };
    let conditions = retries.on.iter().enumerate();
    let conditions =
        conditions.map(|(index, on)| (format!("{at}.retries.on[{index}]"), format!("{on:?}")));
    subject.no_twice(conditions, "condition");
    if retries.per_try_timeout.is_some_and(Duration::is_zero) {
        let message = "0s would leave no time for an attempt; take `perTryTimeout` out for none";
        subject.error(format!("{at}.retries.perTryTimeout"), message);
    }
    if let (Some(one), Some(all)) = (retries.per_try_timeout, timeout)
        && !all.is_zero()
        && one > all
    {
        let message = format!(
            "one attempt may take {one}, and the whole request only {all}; make it shorter"
        );
        subject.error(format!("{at}.retries.perTryTimeout"), message);
    }
    if let Some(backoff) = retries.backoff {
        if backoff.base.is_zero() {
            subject.error(
                format!("{at}.retries.backoff.base"),
                "0s is no pause; write at least 1ms",
            );
        }
        if backoff.max.is_some_and(|max| max < backoff.base) {
            subject.error(
                format!("{at}.retries.backoff.max"),
                "the longest pause is shorter than the first; make it longer",
            );
        }
    }
    let no_budget = retries
        .budget
        .is_some_and(|budget| budget.percent == 0 && budget.min_concurrency == Some(0));
    if no_budget && retries.attempts > 0 {
        let message =
            "a budget of 0 % and 0 at a time allows no retry; set `attempts: 0` if that is meant";
        subject.error(format!("{at}.retries.budget"), message);
    }
}

pub(super) fn ejection(ejection: Option<&Ejection>, at: &str, subject: &mut Subject<'_>) {
    let Some(ejection) = ejection else { return };
    for (name, value) in [
        ("interval", ejection.interval),
        ("baseTime", ejection.base_time),
        ("maxTime", ejection.max_time),
    ] {
        if value.is_some_and(Duration::is_zero) {
            subject.error(
                format!("{at}.ejection.{name}"),
                "0s is of no use here; write at least 1ms, or take it out",
            );
        }
    }
    if let (Some(base), Some(max)) = (ejection.base_time, ejection.max_time)
        && max < base
    {
        subject.error(
            format!("{at}.ejection.maxTime"),
            format!("{max} is shorter than `baseTime` {base}; make it longer"),
        );
    }
    if ejection.max_percent == Some(0) && ejection.consecutive_errors > 0 {
        subject.warning(
            format!("{at}.ejection.maxPercent"),
            "0 % means that nothing is ever ejected",
        );
    }
}

pub(super) fn connect_timeout(timeout: Option<Duration>, at: &str, subject: &mut Subject<'_>) {
    if timeout.is_some_and(Duration::is_zero) {
        subject.error(
            format!("{at}.connectTimeout"),
            "0s would leave no time to connect; take it out for the default",
        );
    }
}

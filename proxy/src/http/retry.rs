//! Whether and when a request is tried again. Pure.

use super::failure::Failure;
use crate::snapshot::RetryPolicy;
use http::{HeaderMap, HeaderName, Response, StatusCode};
use std::time::Duration;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The gRPC status in headers or trailers.
pub fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

/// Whether this answer, or the lack of one, is worth another try.
pub fn worth_retrying<B>(policy: &RetryPolicy, result: &Result<Response<B>, Failure>) -> bool {
    match result {
        Ok(response) => retriable_answer(policy, response),
        Err(failure) => retriable_failure(policy, *failure),
    }
}

fn retriable_answer<B>(policy: &RetryPolicy, response: &Response<B>) -> bool {
    let (on, status) = (&policy.on, response.status());
    let gateway = is_gateway_error(status);
    let listed = on.retriable_status_codes && policy.statuses.contains(&status);
    let by_status =
        listed || (on.server_error && status.is_server_error()) || (on.gateway_error && gateway);
    by_status
        || match grpc_status(response.headers()) {
            Some(1) => on.cancelled,
            Some(4) => on.deadline_exceeded,
            Some(8) => on.resource_exhausted,
            Some(13) => on.internal,
            Some(14) => on.unavailable,
            _ => false,
        }
}

fn retriable_failure(policy: &RetryPolicy, failure: Failure) -> bool {
    let on = &policy.on;
    match failure {
        Failure::Connect | Failure::Tls => {
            on.connect_failure || on.server_error || on.gateway_error
        }
        Failure::Refused => on.refused_stream || on.server_error || on.gateway_error,
        // The lack of an answer counts as a 5xx, as in Envoy.
        Failure::Reset => on.reset || on.server_error || on.gateway_error,
        Failure::Timeout => on.server_error || on.gateway_error || on.deadline_exceeded,
        _ => false,
    }
}

/// 502, 503, 504.
pub fn is_gateway_error(status: StatusCode) -> bool {
    matches!(status.as_u16(), 502..=504)
}

/// The pause before try `number` (1: the first retry), drawn from a range that doubles. `random` is from 0 to 1.
pub fn backoff(policy: &RetryPolicy, number: u32, random: f64) -> Duration {
    let range = policy
        .backoff_base
        .saturating_mul(1_u32.checked_shl(number - 1).unwrap_or(u32::MAX));
    range
        .min(policy.backoff_max.max(policy.backoff_base))
        .mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::snapshot::RetryOn;

    fn policy(on: RetryOn) -> RetryPolicy {
        RetryPolicy {
            on,
            statuses: vec![StatusCode::CONFLICT],
            limit: 2,
            per_try_timeout: None,
            backoff_base: Duration::from_millis(25),
            backoff_max: Duration::from_millis(250),
        }
    }

    fn answer(status: u16, grpc: Option<&str>) -> Result<Response<()>, Failure> {
        let mut response = Response::builder().status(status);
        if let Some(grpc) = grpc {
            response = response.header(GRPC_STATUS, grpc);
        }
        Ok(response.body(()).unwrap())
    }

    #[test]
    fn each_token_retries_what_it_names_and_nothing_else() {
        let cases = [
            answer(500, None),
            answer(503, None),
            answer(409, None),
            answer(200, None),
            answer(200, Some("1")),
            answer(200, Some("4")),
            answer(200, Some("8")),
            answer(200, Some("13")),
            answer(200, Some("14")),
            Err(Failure::Connect),
            Err(Failure::Reset),
            Err(Failure::Refused),
            Err(Failure::Timeout),
            Err(Failure::NoEndpoint),
        ];
        let check = |set: fn(&mut RetryOn) -> &mut bool, expected: &[usize]| {
            let mut on = RetryOn::default();
            *set(&mut on) = true;
            let policy = policy(on);
            let found: Vec<_> = (0..cases.len())
                .filter(|case| worth_retrying(&policy, &cases[*case]))
                .collect();
            assert_eq!(found, expected, "{on:?}");
        };
        check(|on| &mut on.server_error, &[0, 1, 9, 10, 11, 12]);
        check(|on| &mut on.gateway_error, &[1, 9, 10, 11, 12]);
        check(|on| &mut on.retriable_status_codes, &[2]);
        check(|on| &mut on.cancelled, &[4]);
        check(|on| &mut on.deadline_exceeded, &[5, 12]);
        check(|on| &mut on.resource_exhausted, &[6]);
        check(|on| &mut on.internal, &[7]);
        check(|on| &mut on.unavailable, &[8]);
        check(|on| &mut on.connect_failure, &[9]);
        check(|on| &mut on.reset, &[10]);
        check(|on| &mut on.refused_stream, &[11]);
    }

    #[test]
    fn pauses_double_up_to_their_limit() {
        let policy = policy(RetryOn::default());
        let pauses: Vec<_> = [1, 2, 3, 4, 5, 40]
            .map(|number| backoff(&policy, number, 1.0).as_millis())
            .into();
        assert_eq!(pauses, [25, 50, 100, 200, 250, 250]);
        assert_eq!(backoff(&policy, 3, 0.5).as_millis(), 50);
    }
}

//! Retries, their budget, timeouts, ejection: what the application is asked, and what the client gets.
#![allow(clippy::unwrap_used)]

use crate::snapshot::{Outlier, Protocol, RetryOn, RetryPolicy, RouteAction};
use crate::testing::apps::{self, LIMIT, ask, get};
use crate::testing::pair::{Pair, endpoint, forward, route};
use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Fails as long as `fails` is not counted down, then tells the body's length.
fn failing(fails: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let app = apps::http(move |request| {
        let number = counter.fetch_add(1, Ordering::SeqCst);
        async move {
            let length = request
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .len();
            let status = if number < fails { 503 } else { 200 };
            let body = Full::new(Bytes::from(length.to_string()));
            Response::builder().status(status).body(body).unwrap()
        }
    });
    (app, asked)
}

fn policy(limit: u32) -> RetryPolicy {
    RetryPolicy {
        on: RetryOn {
            server_error: true,
            ..RetryOn::default()
        },
        statuses: Vec::new(),
        limit,
        per_try_timeout: None,
        backoff_base: Duration::from_millis(1),
        backoff_max: Duration::from_millis(2),
    }
}

fn retrying(pair: &Pair, policy: RetryPolicy, timeout: Option<Duration>) {
    let mut forward = forward();
    forward.retry = Some(policy);
    forward.timeout = timeout;
    pair.route(vec![route(RouteAction::Forward(forward))]);
}

async fn post(address: SocketAddr, length: usize) -> (u16, String) {
    let body = "x".repeat(length);
    let answer = ask(address, &format!("POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")).await;
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test]
async fn a_small_body_is_sent_again_and_a_large_one_is_not() {
    let (app, asked) = failing(2);
    let pair = Pair::new(app, Protocol::Http1).await;
    retrying(&pair, policy(2), None);
    assert_eq!(post(pair.listen, 1_000).await, (200, "1000".to_owned()));
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    assert_eq!(pair.client.count("maille_retries_total", &["sent"]), 2.0);
    assert_eq!(
        pair.client.count("maille_retries_total", &["succeeded"]),
        1.0
    );
    let (app, asked) = failing(2);
    let pair = Pair::new(app, Protocol::Http1).await;
    retrying(&pair, policy(2), None);
    assert_eq!(post(pair.listen, 100_000).await, (503, "100000".to_owned()));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(
        pair.client
            .count("maille_retries_total", &["body_too_large"]),
        1.0
    );
}

#[tokio::test]
async fn the_number_of_tries_is_kept_and_without_a_policy_there_is_one() {
    let (app, asked) = failing(usize::MAX);
    let pair = Pair::new(app, Protocol::Http1).await;
    assert_eq!(get(pair.listen, "/").await.0, 503);
    assert_eq!(asked.swap(0, Ordering::SeqCst), 1);
    retrying(&pair, policy(3), None);
    assert_eq!(get(pair.listen, "/").await.0, 503);
    assert_eq!(asked.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn the_budget_bounds_retries_when_everything_fails() {
    let (app, asked) = failing(usize::MAX);
    let pair = Pair::new(app, Protocol::Http1).await;
    pair.cluster(|cluster| {
        cluster.limits.retry_budget.percent = 20.0;
        cluster.limits.retry_budget.min_concurrency = 1;
    });
    let mut slow = policy(5);
    slow.backoff_base = Duration::from_millis(20);
    slow.backoff_max = Duration::from_millis(20);
    retrying(&pair, slow, None);
    let calls = (0..200).map(|_| get(pair.listen, "/"));
    let statuses = futures_util::future::join_all(calls).await;
    assert!(statuses.iter().all(|(status, _)| *status == 503));
    let retries = asked.load(Ordering::SeqCst) - 200;
    assert!(
        retries < 200,
        "{retries} retries of 200 requests that could each have made 5"
    );
    assert!(
        pair.client
            .count("maille_retries_total", &["refused_by_budget"])
            > 0.0
    );
    pair.cluster(|cluster| {
        cluster.limits.retry_budget.percent = 0.0;
        cluster.limits.retry_budget.min_concurrency = 0;
    });
    asked.store(0, Ordering::SeqCst);
    get(pair.listen, "/").await;
    assert_eq!(asked.load(Ordering::SeqCst), 1, "no budget, no retry");
}

#[tokio::test]
async fn timeouts_end_tries_and_the_whole() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let app = apps::http(move |_| {
        let first = counter.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                std::future::pending::<()>().await;
            }
            Response::new(Full::new(Bytes::from_static(b"second")))
        }
    });
    let pair = Pair::new(app, Protocol::Http1).await;
    let mut hurried = policy(1);
    hurried.per_try_timeout = Some(Duration::from_millis(50));
    retrying(&pair, hurried, Some(LIMIT));
    assert_eq!(get(pair.listen, "/").await, (200, "second".to_owned()));

    let stuck = apps::http(|_| std::future::pending::<Response<Full<Bytes>>>());
    let pair = Pair::new(stuck, Protocol::Http1).await;
    let mut timed = forward();
    timed.timeout = Some(Duration::from_millis(50));
    pair.route(vec![route(RouteAction::Forward(timed))]);
    let answer = ask(
        pair.listen,
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 504 ") && answer.contains("maille-error: timeout\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn an_endpoint_that_fails_is_ejected_and_the_other_serves() {
    let (bad, asked) = failing(usize::MAX);
    let (good, _) = failing(0);
    let pair = Pair::new(good, Protocol::Http1).await;
    pair.cluster(|cluster| {
        cluster.outlier = Some(Outlier {
            consecutive_5xx: 3,
            consecutive_gateway_failure: 0,
            interval: LIMIT,
            base_ejection_time: 10 * LIMIT,
            max_ejection_time: 10 * LIMIT,
            max_ejection_percent: 50,
        });
        cluster.balancing = crate::snapshot::Balancing::RoundRobin;
    });
    // Both outside the mesh: what is plain stays plain.
    pair.endpoints(vec![endpoint(bad, None), endpoint(good, None)]);
    let mut failed = 0;
    for _ in 0..40 {
        failed += usize::from(get(pair.listen, "/").await.0 == 503);
    }
    assert_eq!((failed, asked.load(Ordering::SeqCst)), (3, 3));
    assert_eq!(
        pair.client
            .count("maille_ejections_total", &["demo/api:80"]),
        1.0
    );
}

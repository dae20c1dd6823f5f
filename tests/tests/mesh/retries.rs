//! `TrafficPolicy`, retries: which failures are tried again, how often, and what that may cost. Attempts are counted at the application.

use std::time::{Duration, Instant};

use anyhow::ensure;
use maille_tests::mesh::{Mesh, answers, ask, policy};
use maille_tests::sidecar::Kind;
use serde_json::{Value, json};

for_each_kind!(
    a_failure_is_tried_again_where_the_policy_says_so,
    a_budget_bounds_retries_under_total_failure,
    retries_wait_as_the_back_off_says,
);

/// Policy, trouble in the first attempts, and how many attempts the application must see with which final status.
struct Case {
    name: &'static str,
    retries: Value,
    trouble: &'static str,
    attempts: u64,
    status: u16,
}

fn cases() -> Vec<Case> {
    let on = |on: Value| json!({"attempts": 2, "on": on, "backoff": {"base": "1ms"}, "budget": {"percent": 100, "minConcurrency": 10}});
    let case = |name, retries, trouble, attempts, status| Case {
        name,
        retries,
        trouble,
        attempts,
        status,
    };
    vec![
        case(
            "five-xx",
            on(json!(["5xx"])),
            "x-reply-status=500 x-fail-first=1",
            2,
            200,
        ),
        case(
            "five-xx-twice",
            on(json!(["5xx"])),
            "x-reply-status=500 x-fail-first=2",
            3,
            200,
        ),
        case(
            "five-xx-too-often",
            on(json!(["5xx"])),
            "x-reply-status=500 x-fail-first=3",
            3,
            500,
        ),
        case(
            "five-xx-not-4xx",
            on(json!(["5xx"])),
            "x-reply-status=429 x-fail-first=1",
            1,
            429,
        ),
        case(
            "gateway-error",
            on(json!(["gateway-error"])),
            "x-reply-status=503 x-fail-first=1",
            2,
            200,
        ),
        case(
            "gateway-error-not-500",
            on(json!(["gateway-error"])),
            "x-reply-status=500 x-fail-first=1",
            1,
            500,
        ),
        case(
            "reset",
            on(json!(["reset"])),
            "x-reply-close=1 x-fail-first=1",
            2,
            200,
        ),
        case(
            "reset-too-often",
            on(json!(["reset"])),
            "x-reply-close=1",
            3,
            503,
        ),
        case(
            "reset-not-503",
            on(json!(["reset"])),
            "x-reply-status=503 x-fail-first=1",
            1,
            503,
        ),
        case(
            "gateway-error-of-a-reset",
            on(json!(["gateway-error"])),
            "x-reply-close=1 x-fail-first=1",
            2,
            200,
        ),
        case(
            "reset-not-retried",
            json!({"attempts": 0}),
            "x-reply-close=1 x-fail-first=1",
            1,
            503,
        ),
        case(
            "status",
            on(json!([429])),
            "x-reply-status=429 x-fail-first=1",
            2,
            200,
        ),
        case(
            "status-not-others",
            on(json!([429])),
            "x-reply-status=503 x-fail-first=1",
            1,
            503,
        ),
        case(
            "default-503",
            json!({"attempts": 2, "backoff": {"base": "1ms"}}),
            "x-reply-status=503 x-fail-first=1",
            2,
            200,
        ),
        case(
            "default-not-500",
            json!({"attempts": 2, "backoff": {"base": "1ms"}}),
            "x-reply-status=500 x-fail-first=1",
            1,
            500,
        ),
        case(
            "no-attempts",
            json!({"attempts": 0, "on": ["5xx"]}),
            "x-reply-status=500 x-fail-first=1",
            1,
            500,
        ),
        case(
            "per-try-timeout",
            json!({"attempts": 1, "on": ["reset", "gateway-error"], "perTryTimeout": "300ms", "backoff": {"base": "1ms"}}),
            "x-reply-delay=5000 x-fail-first=1",
            2,
            200,
        ),
    ]
}

async fn a_failure_is_tried_again_where_the_policy_says_so(
    [calls, _]: [Kind; 2],
) -> anyhow::Result<()> {
    // An Envoy before the application answers a reset with 503: nobody can tell then.
    let mut mesh = Mesh::of([calls, Kind::Native], "http", &["one"]).await?;
    let cases = cases();
    let services: Vec<(&str, &str)> = cases.iter().map(|case| (case.name, "one")).collect();
    let listeners = mesh.services("http", &services).await?;
    for listen in &listeners {
        answers(*listen).await?;
    }
    let policies: Vec<String> = cases
        .iter()
        .map(|case| policy(case.name, &json!({"retries": case.retries})))
        .collect();
    mesh.apply(&policies.join("\n---\n")).await?;
    let mut wrong = Vec::new();
    for (case, listen) in cases.iter().zip(&listeners) {
        let answer = ask(
            *listen,
            &format!("GET / x-key={} {}", case.name, case.trouble),
        )
        .await?;
        let attempts = mesh.application("one").attempts(case.name);
        if (attempts, answer.status) != (case.attempts, case.status) {
            wrong.push(format!(
                "{}: {attempts} attempts, status {}; expected {} and {}",
                case.name, answer.status, case.attempts, case.status
            ));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

async fn a_budget_bounds_retries_under_total_failure(kinds: [Kind; 2]) -> anyhow::Result<()> {
    let mut mesh = Mesh::of(kinds, "http", &["one"]).await?;
    let listen = mesh.service("budget", "one").await?;
    let retries = json!({"attempts": 5, "on": ["5xx"], "backoff": {"base": "1ms"}, "budget": {"percent": 20, "minConcurrency": 1}});
    mesh.apply(&policy("budget", &json!({"retries": retries})))
        .await?;
    let requests = 400u64;
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        workers.spawn(async move {
            for _ in 0..requests / 20 {
                let answer = ask(
                    listen,
                    "GET / x-key=budget x-reply-status=500 x-reply-delay=20",
                )
                .await?;
                ensure!(answer.status == 500, "{} {}", answer.status, answer.body);
            }
            Ok(())
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    let attempts = mesh.application("one").attempts("budget");
    // Without a budget they would be 6 times the requests. The share is of what is in flight, retries are as long as first attempts.
    let bound = requests + requests * 30 / 100;
    ensure!(
        attempts <= bound,
        "{attempts} attempts for {requests} requests, at most {bound} expected"
    );
    ensure!(attempts > requests, "no retry at all");
    Ok(())
}

async fn retries_wait_as_the_back_off_says(kinds: [Kind; 2]) -> anyhow::Result<()> {
    let mut mesh = Mesh::of(kinds, "http", &["one"]).await?;
    let listeners = mesh
        .services("http", &[("short", "one"), ("long", "one")])
        .await?;
    for listen in &listeners {
        answers(*listen).await?;
    }
    let retries = |base: &str| json!({"retries": {"attempts": 3, "on": ["5xx"], "backoff": {"base": base, "max": base}, "budget": {"percent": 100, "minConcurrency": 10}}});
    mesh.apply(
        &[
            policy("short", &retries("1ms")),
            policy("long", &retries("400ms")),
        ]
        .join("\n---\n"),
    )
    .await?;
    let mut took = [Duration::ZERO; 2];
    // Full jitter: a single pause may be short, the mean of 12 is not.
    for round in 0..4 {
        for (at, listen) in listeners.iter().enumerate() {
            let begin = Instant::now();
            let answer = ask(
                *listen,
                &format!("GET / x-key={at}-{round} x-reply-status=500 x-fail-first=3"),
            )
            .await?;
            took[at] += begin.elapsed();
            ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
        }
    }
    // 12 pauses of 200 ms in the mean; the standard deviation of their sum is 0.4 s.
    ensure!(
        took[1] > Duration::from_millis(800) && took[1] < Duration::from_secs(6),
        "12 pauses took {took:?}"
    );
    ensure!(took[0] * 2 < took[1], "{took:?}");
    Ok(())
}

//! `TrafficPolicy`, balancing and limits: who gets requests, and how many.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use maille_tests::mesh::{Mesh, answers, ask, object, policy};
use maille_tests::sidecar::Kind;
use maille_tests::wait;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::ejection::{all_three, pool, spread};
use super::timeouts::deaf;

for_each_kind!(
    each_balancer_spreads_as_its_name_says,
    limits_refuse_what_is_above_them,
);

async fn each_balancer_spreads_as_its_name_says(kinds: [Kind; 2]) -> anyhow::Result<()> {
    let mut mesh = pool(kinds).await?;
    let algorithms = [
        "peakEwma",
        "leastRequest",
        "roundRobin",
        "ringHash",
        "maglev",
    ];
    let names: Vec<String> = algorithms.iter().map(|name| name.to_lowercase()).collect();
    let services: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "pool")).collect();
    let listeners = mesh.services("http", &services).await?;
    let balancer = |algorithm: &str| match algorithm {
        "ringHash" | "maglev" => json!({"balancer": {"type": algorithm, "hashHeader": "x-user"}}),
        _ => json!({"balancer": {"type": algorithm}}),
    };
    let policies: Vec<String> = names
        .iter()
        .zip(algorithms)
        .map(|(name, algorithm)| policy(name, &balancer(algorithm)))
        .collect();
    mesh.apply(&policies.join("\n---\n")).await?;
    let by_client = mesh.service("by-client", "pool").await?;
    let by_address = json!({"balancer": {"type": "maglev"}});
    mesh.apply(&policy("by-client", &by_address)).await?;
    let seen = spread(by_client, "GET /", 20).await?;
    ensure!(seen.len() == 1, "one client's address met {seen:?}");
    for (algorithm, listen) in algorithms.iter().zip(&listeners) {
        answers(*listen).await?;
        let hashes = matches!(*algorithm, "ringHash" | "maglev");
        if hashes {
            sticks(*listen).await?;
        } else {
            all_three(*listen).await?;
            let seen = spread(*listen, "GET / x-reply-delay=10", 90).await?;
            let least = if *algorithm == "roundRobin" { 29 } else { 5 };
            ensure!(
                seen.len() == 3 && seen.values().all(|count| *count >= least),
                "{algorithm}: {seen:?}"
            );
        }
    }
    Ok(())
}

/// One value always meets one server, many values meet all.
pub(crate) async fn sticks(listen: SocketAddr) -> anyhow::Result<()> {
    let mut owners = BTreeMap::new();
    for user in 0..40 {
        let line = format!("GET / x-user=user-{user}");
        let seen = spread(listen, &line, 3).await?;
        ensure!(seen.len() == 1, "user {user} met {seen:?}");
        owners.extend(seen);
    }
    ensure!(owners.len() == 3, "40 users met only {owners:?}");
    Ok(())
}

async fn limits_refuse_what_is_above_them(kinds: [Kind; 2]) -> anyhow::Result<()> {
    let mut mesh = Mesh::of(kinds, "http", &["one"]).await?;
    let cases: [(&str, Value, u32); 2] = [
        ("few-requests", json!({"limits": {"maxRequests": 3}}), 3),
        ("many-requests", json!({"limits": {"maxRequests": 100}}), 12),
    ];
    for (name, limits, allowed) in cases {
        let listen = mesh.service(name, "one").await?;
        mesh.apply(&policy(name, &limits)).await?;
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..12 {
            calls.spawn(async move { ask(listen, "GET / x-reply-delay=1500").await });
        }
        let mut statuses: BTreeMap<u16, u32> = BTreeMap::new();
        while let Some(call) = calls.join_next().await {
            *statuses.entry(call??.status).or_default() += 1;
        }
        let good = statuses.get(&200).copied().unwrap_or_default();
        let refused = statuses.get(&503).copied().unwrap_or_default();
        ensure!(
            good == allowed && refused == 12 - allowed,
            "{name}: {statuses:?}"
        );
    }
    Ok(())
}

/// An application that repeats what it is told, and its workload without a sidecar.
async fn echo(name: &str) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            open.spawn(async move {
                let (mut reader, mut writer) = stream.split();
                tokio::io::copy(&mut reader, &mut writer).await.ok();
            });
        }
    });
    Ok(workload(name, address))
}

/// A workload that is reached in plain text; its label `app` is its name.
fn workload(name: &str, address: SocketAddr) -> String {
    let spec =
        json!({"addresses": [address.ip()], "ports": [{"name": "main", "port": address.port()}]});
    labelled("Workload", name, &spec)
}

fn labelled(kind: &str, name: &str, spec: &Value) -> String {
    object(kind, name, spec).replace(
        &format!("\"name\": \"{name}\","),
        &format!("\"name\": \"{name}\", \"labels\": {{\"app\": \"{name}\"}},"),
    )
}

fn behind(name: &str, protocol: &str) -> String {
    let port = json!({"name": "main", "port": 80, "targetPort": "main", "appProtocol": protocol});
    object(
        "Service",
        name,
        &json!({"selector": {"app": name}, "ports": [port]}),
    )
}

/// A connection that is carried to the end and back.
async fn connected(listen: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(listen).await?;
    stream.write_all(b"hello").await?;
    let mut back = [0; 5];
    stream.read_exact(&mut back).await?;
    ensure!(&back == b"hello");
    Ok(stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_above_the_limit_are_reset_until_one_ends() -> anyhow::Result<()> {
    let mut mesh = Mesh::start("http", &[]).await?;
    let listen = mesh.services("tcp", &[("echo", "echo")]).await?[0];
    let limits = policy("echo", &json!({"limits": {"maxConnections": 2}}));
    mesh.apply(&[echo("echo").await?, behind("echo", "tcp"), limits].join("\n---\n"))
        .await?;
    let first = connected(listen).await?;
    let second = connected(listen).await?;
    ensure!(connected(listen).await.is_err(), "a third one was carried");
    drop(first);
    let room = wait::until("there is room", Duration::from_secs(5), async || {
        connected(listen).await
    });
    let third = room.await?;
    drop((second, third));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_would_wait_above_the_limit_are_refused_at_once() -> anyhow::Result<()> {
    let mut mesh = Mesh::start("http", &[]).await?;
    let (_listener, _fill, address) = deaf();
    let listen = mesh.services("http", &[("deaf", "deaf")]).await?[0];
    let spec = json!({"limits": {"maxPendingRequests": 2}, "connectTimeout": "3s"});
    let documents = [
        workload("deaf", address),
        behind("deaf", "http"),
        policy("deaf", &spec),
    ];
    mesh.apply(&documents.join("\n---\n")).await?;
    let begin = Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..6 {
        calls.spawn(async move { ask(listen, "GET /").await });
    }
    let mut errors: BTreeMap<String, u32> = BTreeMap::new();
    let mut refused = Duration::ZERO;
    while let Some(call) = calls.join_next().await {
        let error = call??.header("maille-error");
        if error == "overloaded" {
            refused = begin.elapsed();
        }
        *errors.entry(error).or_default() += 1;
    }
    let expected = BTreeMap::from([("connect".to_owned(), 2), ("overloaded".to_owned(), 4)]);
    ensure!(errors == expected, "{errors:?}");
    ensure!(
        refused < Duration::from_secs(2),
        "refused after {refused:?}"
    );
    Ok(())
}

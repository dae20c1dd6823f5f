//! `AuthorizationPolicy` for a server that speaks first: whom it denies must not hear a byte, whatever kind of sidecar asks the rules.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use maille_tests::mesh::{Mesh, NAMESPACE, object};
use maille_tests::sidecar::{Kind, Plan, Sidecar};
use maille_tests::{ports, wait};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

for_each_kind!(whom_a_rule_denies_hears_nothing);

const GREETING: &[u8] = b"220 hello\r\n";
/// From registration to the first connection lie a health check and two pushes.
const REACHABLE: Duration = Duration::from_secs(20);
/// An Envoy that would let somebody in does so within a millisecond.
const SILENCE: Duration = Duration::from_secs(5);

/// Greets, then gives back what it hears.
async fn greeter() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            open.spawn(async move {
                stream.write_all(GREETING).await?;
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    Ok(address)
}

/// All that a silent client hears before the connection ends; what is longer than the greeting is none of it.
async fn heard(listen: SocketAddr) -> anyhow::Result<Vec<u8>> {
    let mut heard = Vec::new();
    let mut stream = match TcpStream::connect(listen).await {
        // It may be over before the client knows that it has begun.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(heard),
        other => other?,
    };
    let read = timeout(SILENCE, async {
        while heard.len() < GREETING.len() {
            // A reset is an end, too.
            match stream.read_buf(&mut heard).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
    });
    read.await
        .context("the connection is neither served nor ended")?;
    Ok(heard)
}

async fn hears(listen: SocketAddr) -> anyhow::Result<()> {
    wait::until(&format!("{listen} greets"), REACHABLE, async || {
        let heard = heard(listen).await?;
        ensure!(heard == GREETING, "{}", heard.escape_ascii());
        Ok(())
    })
    .await
}

/// The listener at `listen` for the service `mail`.
fn caller(name: &str, listen: SocketAddr) -> String {
    let upstream = json!({"listen": listen, "service": {"name": "mail", "port": 80}});
    object("Workload", name, &json!({"upstreams": [upstream]}))
}

fn account(name: &str) -> String {
    format!("spiffe://mesh.test/ns/{NAMESPACE}/sa/{name}")
}

/// Rules under which the caller is let in and the guest is not.
fn rules() -> Vec<(&'static str, Vec<Value>)> {
    let deny = |source: Value| json!({"action": "Deny", "rules": [{"from": [source]}]});
    let allow = |source: Value| json!({"action": "Allow", "rules": [{"from": [source]}]});
    let many = (0..30).map(|at| account(&format!("nobody-{at}")));
    let long = format!("{}.{}", "long".repeat(15), "name".repeat(15));
    let many: Vec<_> = many.chain([account(&long), account("guest")]).collect();
    vec![
        (
            "deny",
            vec![deny(json!({"identities": [account("guest")]}))],
        ),
        (
            "allow",
            vec![allow(json!({"identities": [account("caller")]}))],
        ),
        (
            "deny some of those allowed",
            vec![
                allow(json!({"namespaces": [NAMESPACE]})),
                deny(json!({"identities": [account("gu*")]})),
            ],
        ),
        ("deny many", vec![deny(json!({"identities": many}))]),
    ]
}

async fn whom_a_rule_denies_hears_nothing(kinds: [Kind; 2]) -> anyhow::Result<()> {
    let mut mesh = Mesh::of(kinds, "tcp", &[]).await?;
    let server = Plan::server(NAMESPACE, "mail", "tcp", greeter().await?).of(kinds[1]);
    let server = Sidecar::start(&mesh.cluster, server).await?;
    let guest = Plan::caller(NAMESPACE, "guest").of(kinds[0]);
    let guest = Sidecar::start(&mesh.cluster, guest).await?;
    let (ours, theirs) = (
        mesh.services("tcp", &[("mail", "mail")]).await?[0],
        ports::free(),
    );
    let settled = async |index| -> anyhow::Result<()> {
        mesh.settled(index).await?;
        guest.clean(&mesh.cluster, index).await?;
        server.clean(&mesh.cluster, index).await
    };
    settled(mesh.cluster.apply(&caller("guest", theirs)).await?).await?;
    hears(ours).await?;
    hears(theirs).await?;
    let mut live = TcpStream::connect(ours).await?;
    let mut greeting = [0; GREETING.len()];
    live.read_exact(&mut greeting).await?;

    for (name, policies) in rules() {
        let written: Vec<_> = policies
            .iter()
            .enumerate()
            .map(|(at, spec)| object("AuthorizationPolicy", &format!("rule-{at}"), spec))
            .collect();
        settled(mesh.cluster.apply(&written.join("\n---\n")).await?).await?;
        let found = heard(theirs).await.context(name)?;
        ensure!(found.is_empty(), "{name}: {}", found.escape_ascii());
        hears(ours).await.context(name)?;
        live.write_all(name.as_bytes()).await?;
        let mut echo = vec![0; name.len()];
        let back = timeout(SILENCE, live.read_exact(&mut echo));
        back.await.context(name)?.context(name)?;
        for at in 0..policies.len() {
            mesh.delete("AuthorizationPolicy", &format!("rule-{at}"))
                .await?;
        }
        hears(theirs).await.context(name)?;
    }
    replaced_none(&server).await
}

/// A rule changes at most what takes connections in clear, whose callers have no name: that chain, in its place. Everybody else's connections stay.
async fn replaced_none(server: &Sidecar) -> anyhow::Result<()> {
    if server.plan.kind != Kind::Envoy {
        return Ok(());
    }
    let statistics = server.statistics().await?;
    let count = |name: &str| {
        let mut lines = statistics.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.unwrap_or("0").parse::<u64>()
    };
    let modified = count("listener_manager.listener_modified")?;
    let in_place = count("listener_manager.listener_in_place_updated")?;
    ensure!(
        modified == in_place,
        "{modified} changes, {in_place} in place"
    );
    let removed = count("listener_manager.listener_removed")?;
    ensure!(removed == 0, "{removed} removed");
    Ok(())
}

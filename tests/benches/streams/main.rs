//! A thousand delta streams with TLS on one controller: how soon one changed endpoint is acknowledged by all, what a push costs the server in CPU,
//! and what a stream costs it in memory. This process is the generator. `make bench` runs it.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use maille_tests::account;
use maille_tests::cluster::Cluster;
use maille_tests::identity;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::stream::Event;

mod stream;

/// How many streams.
const STREAMS: usize = 1000;
/// How many endpoint changes; figures are over all of them.
const CHANGES: usize = 30;
/// Opened side by side: a storm is another bench.
const OPENING: usize = 16;
/// For everything that is waited for.
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let cluster = Cluster::found(1).await?;
    let controller = &cluster.controllers[0];
    let server = controller.address("xds");
    let pid = controller
        .process
        .as_ref()
        .and_then(|process| process.pid())
        .context("no process")?;
    cluster.apply(&backend(0)).await?;
    cluster.apply(SERVICE).await?;
    let tls = identity::obtain(&cluster, "bench", "client")
        .await?
        .tls(b"h2")?;

    let rest = account::memory(pid)?;
    let (events, mut arrivals) = mpsc::unbounded_channel();
    let mut streams = JoinSet::new();
    let gate = Arc::new(Semaphore::new(OPENING));
    let begin = Instant::now();
    for id in 0..STREAMS {
        let (tls, events, gate) = (tls.clone(), events.clone(), gate.clone());
        streams.spawn(async move {
            let permit = gate.acquire_owned().await?;
            let (opened, mut first) = mpsc::unbounded_channel();
            let listener: Arc<str> = "out/app.bench:80".into();
            let run = stream::run(tls, server, format!("bench/client-{id}"), listener, opened);
            let relay = async move {
                let mut permit = Some(permit);
                while let Some(event) = first.recv().await {
                    permit.take();
                    events.send(event)?;
                }
                anyhow::Ok(())
            };
            tokio::try_join!(run, relay)?;
            anyhow::Ok(())
        });
    }
    for _ in 0..STREAMS {
        next(&mut arrivals, &mut streams).await?;
    }
    let opened = begin.elapsed();
    let memory = account::memory(pid)?;

    let before = account::cpu(pid)?;
    let mut times = Vec::new();
    for change in 1..=CHANGES {
        let begin = Instant::now();
        cluster.apply(&backend(change)).await?;
        for _ in 0..STREAMS {
            if let Event::Endpoints(at) = next(&mut arrivals, &mut streams).await? {
                times.push(at.duration_since(begin).as_secs_f64() * 1e3);
            }
        }
    }
    let cpu = account::cpu(pid)?.saturating_sub(before);
    times.sort_by(f64::total_cmp);
    let quantile = |share: f64| times[((times.len() - 1) as f64 * share) as usize];

    println!("{STREAMS} delta streams over mutual TLS, {CHANGES} changes of one endpoint");
    println!("opened within            {:>8.1} s", opened.as_secs_f64());
    println!(
        "RSS a stream             {:>8.1} KiB",
        (memory.saturating_sub(rest)) as f64 / STREAMS as f64
    );
    println!(
        "acknowledged, p50        {:>8.1} ms from the write's call",
        quantile(0.5)
    );
    println!("acknowledged, p99        {:>8.1} ms", quantile(0.99));
    println!(
        "server CPU a push        {:>8.1} µs",
        cpu.as_secs_f64() * 1e6 / times.len() as f64
    );
    Ok(())
}

/// The next event, unless a stream ends or nothing comes.
async fn next(
    events: &mut mpsc::UnboundedReceiver<Event>,
    streams: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<Event> {
    tokio::select! {
        event = events.recv() => event.context("every stream has ended"),
        ended = streams.join_next() => match ended {
            Some(ended) => bail!("a stream ended: {:?}", ended?),
            None => bail!("every stream has ended"),
        },
        () = tokio::time::sleep(LIMIT) => bail!("nothing arrived within {LIMIT:?}"),
    }
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {namespace: bench, name: app}
spec:
  selector: {app: app}
  ports: [{name: http, port: 80, targetPort: 8080, appProtocol: http}]
";

/// A workload without a sidecar, at another address each time.
fn backend(change: usize) -> String {
    let (high, low) = (change / 250, change % 250 + 1);
    format!(
        "
apiVersion: maille.dev/v1alpha1
kind: Workload
metadata: {{namespace: bench, name: app, labels: {{app: app}}}}
spec: {{addresses: [\"127.9.{high}.{low}\"]}}
"
    )
}

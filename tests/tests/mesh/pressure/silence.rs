//! Clients that read nothing: one whose HTTP/2 still answers pings, one that has stopped altogether. Their connections are closed.

use std::time::{Duration, Instant};

use anyhow::ensure;
use maille_tests::client;
use maille_tests::identity;
use maille_tests::stream::{self, Stream};
use maille_tests::wait;
use tokio::io::AsyncWriteExt;
use xds_api::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use xds_api::type_url::TypeUrl;

use super::Site;

/// A minute of patience, a look every ten seconds, five to leave, and a busy machine.
const READS_NOTHING: Duration = Duration::from_secs(100);
/// A ping every 15 s, and ten for its answer.
const STOPPED: Duration = Duration::from_secs(60);
/// So many unknown names make an answer of several times HTTP/2's window.
const NAMES: usize = 10_000;

/// Asks for more than fits into the window, and takes none of it.
async fn reads_nothing(site: &Site) -> anyhow::Result<()> {
    let server = site.cluster.controllers[0].address("xds");
    let mut stream = Stream::open(site.offender.clone(), server).await?;
    let names: Vec<String> = (0..NAMES)
        .map(|number| format!("out/nobody-{number}.bench:80"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    stream.send(&DeltaDiscoveryRequest {
        node: Some(stream::node("bench/silent", "offender")),
        ..stream::subscribe(TypeUrl::Listener, &names)
    })?;
    let begin = Instant::now();
    wait::until("the connection is closed", READS_NOTHING, async || {
        wait::ensure(!stream.is_connected(), "it stands")
    })
    .await?;
    eprintln!("reads nothing: closed after {:?}", begin.elapsed());
    site.log_names("bench/silent", "nothing was answered for 60s")?;
    let health = site.cluster.controllers[0].address("health");
    let metrics = client::get(health, "/metrics").await?.body;
    ensure!(
        metrics.contains("xds_stuck_streams_total 1"),
        "it is not counted"
    );
    Ok(())
}

/// Speaks HTTP/2's first bytes, and is never heard of again.
async fn stops(site: &Site) -> anyhow::Result<()> {
    let server = site.cluster.controllers[0].address("xds");
    let mut tls = identity::secure(
        server,
        site.offender.clone(),
        "maille-controller".to_owned(),
    )
    .await?;
    // The preface and an empty SETTINGS frame (RFC 9113, 3.4 and 6.5).
    tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await?;
    tls.flush().await?;
    let (tcp, _) = tls.into_inner();
    let begin = Instant::now();
    // What came lies unread in the socket; that the peer is gone shows in the socket's error.
    wait::until("the connection is closed", STOPPED, async || {
        let mut left = [0; 4096];
        let gone = matches!(tcp.try_read(&mut left), Ok(0) | Err(_))
            && tcp.try_read(&mut left).map_or_else(
                |error| error.kind() != std::io::ErrorKind::WouldBlock,
                |read| read == 0,
            );
        wait::ensure(gone, "it stands")
    })
    .await?;
    eprintln!("stopped: closed after {:?}", begin.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_nothing_loses_its_connection() -> anyhow::Result<()> {
    let site = Site::found().await?;
    let (one, other) = tokio::join!(reads_nothing(&site), stops(&site));
    one.and(other)
}

//! What an offender does, and what it must get for it.

use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use maille_tests::stream::{self, Stream};
use tokio::task::JoinSet;
use tonic::Status;
use xds_api::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use xds_api::generated::google::rpc;
use xds_api::generated::maille::v1 as api;
use xds_api::type_url::TypeUrl;

use super::Site;
use super::neighbours::{backend, opening};

/// For one answer, in a debug build on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

type Done<'a> = Pin<Box<dyn Future<Output = anyhow::Result<String>> + Send + 'a>>;

/// One kind of misbehaviour.
pub(super) struct Offence {
    pub(super) what: &'static str,
    pub(super) node: &'static str,
    pub(super) commit: for<'a> fn(&'a Site, &'a str) -> Done<'a>,
    /// Is in what the offender got.
    pub(super) expected: &'static str,
    /// Is in a line of the log with its node.
    pub(super) logged: Option<&'static str>,
}

macro_rules! offence {
    ($what:literal, $node:literal, $commit:path, $expected:literal, $logged:expr) => {
        Offence {
            what: $what,
            node: $node,
            commit: |site, name| Box::pin($commit(site, name)),
            expected: $expected,
            logged: $logged,
        }
    };
}

/// All of them.
pub(super) const ALL: [Offence; 11] = [
    offence!(
        "17 MiB in one request",
        "large",
        oversize,
        "OutOfRange: Error, decoded message length too large",
        Some("too large")
    ),
    offence!(
        "no protobuf",
        "garbled",
        malformed,
        "InvalidArgument: not a discovery request",
        Some("not a discovery request")
    ),
    offence!(
        "a message cut short",
        "short",
        truncated,
        "Internal: Unexpected EOF",
        None
    ),
    offence!(
        "compressed unasked",
        "packed",
        compressed,
        "Internal: protocol error",
        None
    ),
    offence!(
        "1,000 unknown types",
        "odd-types",
        unknown_types,
        "silence, and is served",
        Some("asks for a type that is not served")
    ),
    offence!(
        "1,000 wrong nonces",
        "odd-nonces",
        wrong_nonces,
        "silence, and is served",
        None
    ),
    offence!(
        "another's node id",
        "someone",
        another_node,
        "PermissionDenied",
        None
    ),
    offence!(
        "a million names",
        "greedy",
        many_names,
        "InvalidArgument: a stream may subscribe to at most 100000 names",
        Some("at most 100000 names")
    ),
    offence!(
        "names of a kilobyte",
        "long-names",
        long_names,
        "InvalidArgument: a resource name has at most 1024 bytes",
        Some("at most 1024 bytes")
    ),
    offence!(
        "NACKs for ever",
        "stubborn",
        nacks,
        "one response a change",
        Some("rejects what it was sent")
    ),
    offence!(
        "300 streams in a storm",
        "storm",
        storm,
        "300 first answers",
        None
    ),
];

/// A stream that has begun as it should and holds what it asked for.
async fn begun(site: &Site, node: &str) -> anyhow::Result<Stream> {
    let mut stream = unsaid(site).await?;
    for request in opening(node, "offender") {
        stream.send(&request)?;
    }
    served(&mut stream).await?;
    Ok(stream)
}

async fn unsaid(site: &Site) -> anyhow::Result<Stream> {
    let server = site.cluster.controllers[0].address("xds");
    Stream::open(site.offender.clone(), server).await
}

/// Takes what comes until there are endpoints.
async fn served(stream: &mut Stream) -> anyhow::Result<()> {
    let come = async {
        loop {
            let response = stream.response().await?;
            stream.send(&stream::ack(&response))?;
            if response.type_url == TypeUrl::Endpoints.as_str() && !response.resources.is_empty() {
                return anyhow::Ok(());
            }
        }
    };
    tokio::time::timeout(LIMIT, come)
        .await
        .context("not served")?
}

/// Asks for the endpoints once more and gets them: nothing that was done before has harmed the stream.
async fn still_served(stream: &mut Stream) -> anyhow::Result<String> {
    stream.send(&stream::subscribe(TypeUrl::Endpoints, &["*"]))?;
    served(stream).await?;
    Ok("silence, and is served".to_owned())
}

async fn refused(stream: &mut Stream) -> anyhow::Result<String> {
    let status = tokio::time::timeout(LIMIT, stream.ended()).await;
    Ok(brief(&status.context("the stream does not end")?))
}

fn brief(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// gRPC's prefix and a body of its own.
fn framed(flag: u8, length: usize, body: &[u8]) -> anyhow::Result<Bytes> {
    let mut bytes = BytesMut::with_capacity(body.len() + 5);
    bytes.put_u8(flag);
    bytes.put_u32(u32::try_from(length)?);
    bytes.put_slice(body);
    Ok(bytes.freeze())
}

async fn oversize(site: &Site, node: &str) -> anyhow::Result<String> {
    let mut stream = begun(site, node).await?;
    let length = 17 << 20;
    stream.send_raw(framed(0, length, &vec![0; length])?)?;
    refused(&mut stream).await
}

async fn malformed(site: &Site, node: &str) -> anyhow::Result<String> {
    let mut stream = begun(site, node).await?;
    stream.send_raw(framed(0, 64, &[0xff; 64])?)?;
    refused(&mut stream).await
}

async fn truncated(site: &Site, _: &str) -> anyhow::Result<String> {
    let mut stream = unsaid(site).await?;
    stream.send_raw(framed(0, 100, &[0; 10])?)?;
    stream.close()?;
    refused(&mut stream).await
}

async fn compressed(site: &Site, _: &str) -> anyhow::Result<String> {
    let mut stream = unsaid(site).await?;
    stream.send_raw(framed(1, 10, &[0; 10])?)?;
    refused(&mut stream).await
}

async fn unknown_types(site: &Site, node: &str) -> anyhow::Result<String> {
    let mut stream = begun(site, node).await?;
    for number in 0..1000 {
        let request = DeltaDiscoveryRequest {
            type_url: format!("type.googleapis.com/no.such.Type{number}"),
            resource_names_subscribe: vec!["*".to_owned()],
            ..Default::default()
        };
        stream.send(&request)?;
    }
    still_served(&mut stream).await
}

async fn wrong_nonces(site: &Site, node: &str) -> anyhow::Result<String> {
    let mut stream = begun(site, node).await?;
    for number in 0..1000 {
        let request = DeltaDiscoveryRequest {
            type_url: TypeUrl::Endpoints.to_string(),
            response_nonce: format!("wrong-{number}"),
            ..Default::default()
        };
        stream.send(&request)?;
    }
    still_served(&mut stream).await
}

async fn another_node(site: &Site, _: &str) -> anyhow::Result<String> {
    let mut stream = unsaid(site).await?;
    for request in opening("bench/client-1", "client") {
        stream.send(&request)?;
    }
    refused(&mut stream).await
}

async fn many_names(site: &Site, node: &str) -> anyhow::Result<String> {
    let mut stream = begun(site, node).await?;
    for batch in 0..20 {
        let names: Vec<String> = (0..50_000)
            .map(|number| format!("out/n-{batch}-{number}.bench:80"))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        stream.send(&stream::subscribe(TypeUrl::Listener, &names))?;
    }
    refused(&mut stream).await
}

async fn long_names(site: &Site, node: &str) -> anyhow::Result<String> {
    let mut stream = begun(site, node).await?;
    stream.send(&stream::subscribe(
        TypeUrl::Listener,
        &["n".repeat(1025).as_str()],
    ))?;
    refused(&mut stream).await
}

/// Rejects everything through twenty changes: each is sent once, and none again.
async fn nacks(site: &Site, node: &str) -> anyhow::Result<String> {
    let mut stream = begun(site, node).await?;
    let changes = 20;
    for change in 0..changes {
        site.cluster.apply(&backend(1000 + change)).await?;
        let response = tokio::time::timeout(LIMIT, stream.response()).await??;
        let mut nack = stream::ack(&response);
        nack.error_detail = Some(rpc::Status {
            code: 3,
            message: "it is not to my liking".to_owned(),
            ..Default::default()
        });
        stream.send(&nack)?;
    }
    // What comes next is the answer to this, and no repetition of what was rejected.
    stream.send(&stream::subscribe(TypeUrl::Route, &["*"]))?;
    let next = tokio::time::timeout(LIMIT, async {
        loop {
            let response = stream.response().await?;
            stream.send(&stream::ack(&response))?;
            if !response.resources.is_empty() {
                return anyhow::Ok(response);
            }
        }
    });
    let next = next.await??;
    // The neighbours change the endpoints too.
    let kind = TypeUrl::parse(&next.type_url);
    ensure!(
        matches!(kind, Some(TypeUrl::Route | TypeUrl::Endpoints)),
        "{next:?}"
    );
    let mut admin = site.cluster.any().await?;
    let proxies = admin
        .proxies(api::ProxiesRequest {})
        .await?
        .into_inner()
        .proxies;
    let own = proxies
        .iter()
        .find(|one| one.node == node)
        .context("it is not listed")?;
    if kind == Some(TypeUrl::Route) {
        ensure!(own.last_nack.contains("not to my liking"), "{own:?}");
    }
    Ok("one response a change; `maille proxies` has its text".to_owned())
}

/// Thirty connections at a time, each gone after its first answer.
async fn storm(site: &Site, node: &str) -> anyhow::Result<String> {
    let (total, at_once) = (300, 30);
    let mut done = 0;
    for _ in 0..total / at_once {
        let mut streams = JoinSet::new();
        for _ in 0..at_once {
            let (tls, node) = (site.offender.clone(), node.to_owned());
            let server = site.cluster.controllers[0].address("xds");
            streams.spawn(async move {
                let mut stream = Stream::open(tls, server).await?;
                for request in opening(&node, "offender") {
                    stream.send(&request)?;
                }
                stream.response().await?;
                anyhow::Ok(())
            });
        }
        while let Some(one) = streams.join_next().await {
            match one? {
                Ok(()) => done += 1,
                Err(failure) => bail!("after {done}: {failure:#}"),
            }
        }
    }
    Ok(format!("{done} first answers"))
}

//! From the file's text to a `Config`: defaults, checks of each field, and checks between fields.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;

use super::raw::{At, Fields, Mistakes, Top};
use super::{Advertise, Config, Kubernetes, Listen, Log, Mistake, RootFiles, ports};
use crate::telemetry::{LogFormat, check_level};

/// Entries between snapshots, as etcd has it.
const SNAPSHOT_EVERY: u64 = 10_000;
/// Entries kept behind a snapshot, as etcd has it.
const KEEP_LOG: u64 = 5_000;
/// A leaf lives a day unless configured: about nine hours without any controller are then survivable.
const LEAF_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Below this, renewals alone would be a load, and a controller that restarts would cost certificates.
const MIN_LEAF_LIFETIME: Duration = Duration::from_secs(60);
/// An issuer lives 72 h and is renewed after 24: a leaf that could outlive what is left would be cut short always.
const MAX_LEAF_LIFETIME: Duration = Duration::from_secs(48 * 3600);
/// New connections of sidecars a second: a handshake is half a millisecond of CPU, so a storm of them leaves most of a core to the rest.
const ACCEPT_PER_SECOND: u32 = 500;
/// New connections that may come at once after a quiet time.
const ACCEPT_BURST: u32 = 1_000;
/// How the API server is called from a pod: as its service account.
const POD_CREDENTIALS: &str = "pod";
/// Streams above the mean, and a fifth of it: a move costs a handshake, and what a few more cost a controller cannot be measured.
const MOVE_STREAMS_ABOVE: u32 = 10;
/// Clients report what they counted of their calls so often, in seconds: a rate over a minute is then of six reports.
const LOAD_REPORT_SECONDS: u64 = 10;
/// More often gRPC does not report; more seldom the usual window of a minute would be of one report.
const LOAD_REPORT_RANGE: RangeInclusive<u64> = 1..=60;
/// A name stands in certificates and on the wire.
const MAX_NAME: usize = 63;
/// SPIFFE-ID, section 2.1.
const MAX_TRUST_DOMAIN: usize = 255;

/// Checks a file's text. All mistakes come back together.
pub fn resolve(text: &str) -> Result<Config, Vec<Mistake>> {
    let top: Top = if text.trim().is_empty() {
        Top::new()
    } else {
        serde_saphyr::from_str(text).map_err(|failure| {
            vec![Mistake {
                field: String::new(),
                line: 0,
                text: format!("is not valid YAML: {failure}"),
            }]
        })?
    };
    let mut mistakes = Mistakes::default();
    let config = read(Fields::of_file(top), &mut mistakes);
    match config {
        Some(config) if mistakes.0.is_empty() => Ok(config),
        _ => {
            mistakes
                .0
                .sort_by_key(|mistake| (mistake.line, mistake.field.clone()));
            Err(mistakes.0)
        }
    }
}

fn read(mut file: Fields, mistakes: &mut Mistakes) -> Option<Config> {
    let name = file.required("name", "give each controller one of its own", mistakes);
    let name = name.and_then(|name| checked_name(name, mistakes));
    let data_dir = file.required(
        "dataDir",
        "say where log, database and snapshots are to live",
        mistakes,
    );
    let secrets = file.required(
        "secrets",
        "name the directory that `maille-controller init` made",
        mistakes,
    );
    let trust_domain = file.required("trustDomain", "for example `mesh.example.com`", mistakes);
    let trust_domain = trust_domain.and_then(|domain| checked_trust_domain(domain, mistakes));
    let listen = read_listen(&mut file, mistakes);
    let advertise = read_advertise(&mut file, &listen, mistakes);
    let admin_socket = file.text("adminSocket", mistakes);
    let founding = read_founding(&mut file, mistakes);
    let snapshots = read_snapshots(&mut file, mistakes);
    let accept_per_second = read_count(&mut file, "acceptPerSecond", ACCEPT_PER_SECOND, mistakes);
    let accept_burst = read_count(&mut file, "acceptBurst", ACCEPT_BURST, mistakes);
    let move_streams_above =
        read_count(&mut file, "moveStreamsAbove", MOVE_STREAMS_ABOVE, mistakes);
    let load_report_seconds = read_load_report_seconds(&mut file, mistakes);
    let leaf_lifetime = read_leaf_lifetime(&mut file, mistakes);
    let root = read_root(&mut file, mistakes);
    let kubernetes = read_kubernetes(&mut file, mistakes);
    let log = read_log(&mut file, mistakes);
    file.finish(
        &[
            "name",
            "dataDir",
            "secrets",
            "trustDomain",
            "listen",
            "advertise",
            "adminSocket",
            "peers",
            "bootstrapExpect",
            "joinTokenFile",
            "snapshotEvery",
            "keepLog",
            "acceptPerSecond",
            "acceptBurst",
            "moveStreamsAbove",
            "loadReportSeconds",
            "leafLifetime",
            "root",
            "kubernetes",
            "log",
        ],
        mistakes,
    );
    let data_dir = PathBuf::from(data_dir?.value);
    let (peers, bootstrap_expect, join_token_file) = founding;
    Some(Config {
        name: name?,
        admin_socket: admin_socket
            .map_or_else(|| data_dir.join("admin.sock"), |at| PathBuf::from(at.value)),
        data_dir,
        secrets: PathBuf::from(secrets?.value),
        trust_domain: trust_domain?,
        listen,
        advertise: advertise?,
        peers,
        bootstrap_expect,
        join_token_file,
        snapshot_every: snapshots.0,
        keep_log: snapshots.1,
        accept_per_second,
        accept_burst,
        move_streams_above,
        load_report_seconds,
        leaf_lifetime_seconds: leaf_lifetime.as_secs(),
        root,
        kubernetes,
        log,
    })
}

fn checked_name(At { field, line, value }: At<String>, mistakes: &mut Mistakes) -> Option<String> {
    let label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if value.len() <= MAX_NAME
        && value.chars().all(label)
        && !value.starts_with('-')
        && !value.ends_with('-')
    {
        return Some(value);
    }
    mistakes.add(
        field,
        line,
        format!("`{value}` is no name: use up to {MAX_NAME} of a–z, 0–9 and `-`, which stands at neither end"),
    );
    None
}

fn checked_trust_domain(
    At { field, line, value }: At<String>,
    mistakes: &mut Mistakes,
) -> Option<String> {
    let fits =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
    if value.len() <= MAX_TRUST_DOMAIN && value.chars().all(fits) {
        return Some(value);
    }
    mistakes.add(
        field,
        line,
        format!("`{value}` is no trust domain: use a–z, 0–9, `.`, `-` and `_`, for example `mesh.example.com`"),
    );
    None
}

fn read_listen(file: &mut Fields, mistakes: &mut Mistakes) -> Listen {
    let mut fields = file.fields("listen", mistakes);
    let mut one = |name: &str, port: u16| {
        let given = fields.text(name, mistakes);
        let line = given.as_ref().map_or(0, |at| at.line);
        (name.to_owned(), line, socket_address(given, port, mistakes))
    };
    let all = [
        one("xds", ports::XDS),
        one("peers", ports::PEERS),
        one("admin", ports::ADMIN),
        one("health", ports::HEALTH),
    ];
    fields.finish(&["xds", "peers", "admin", "health"], mistakes);
    for (place, (name, line, address)) in all.iter().enumerate() {
        for (other, _, taken) in &all[..place] {
            if overlap(*address, *taken) {
                mistakes.add(
                    format!("listen.{name}"),
                    *line,
                    format!(
                        "is {address}, which listen.{other} has already; give each its own port"
                    ),
                );
            }
        }
    }
    Listen {
        xds: all[0].2,
        peers: all[1].2,
        admin: all[2].2,
        health: all[3].2,
    }
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() != 0
        && one.port() == other.port()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

fn socket_address(given: Option<At<String>>, port: u16, mistakes: &mut Mistakes) -> SocketAddr {
    let anywhere = SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), port);
    let Some(At { field, line, value }) = given else {
        return anywhere;
    };
    if let Ok(address) = value.parse::<SocketAddr>() {
        return address;
    }
    if let Ok(ip) = value.trim_matches(['[', ']']).parse::<IpAddr>() {
        return SocketAddr::new(ip, port);
    }
    mistakes.add(
        field,
        line,
        format!("`{value}` is no address to listen at; write `0.0.0.0:{port}` or `[::1]:{port}`"),
    );
    anywhere
}

fn read_advertise(
    file: &mut Fields,
    listen: &Listen,
    mistakes: &mut Mistakes,
) -> Option<Advertise> {
    let mut fields = file.fields("advertise", mistakes);
    let mut one = |name: &str, listening: SocketAddr| match fields.text(name, mistakes) {
        Some(given) => host_port(given, mistakes),
        None if listening.ip().is_unspecified() || listening.port() == 0 => {
            mistakes.add(
                format!("advertise.{name}"),
                0,
                format!("is missing: listen.{name} is {listening}, which nobody can call; write `host:port`"),
            );
            None
        }
        None => Some(listening.to_string()),
    };
    let (xds, peers, admin) = (
        one("xds", listen.xds),
        one("peers", listen.peers),
        one("admin", listen.admin),
    );
    fields.finish(&["xds", "peers", "admin"], mistakes);
    Some(Advertise {
        xds: xds?,
        peers: peers?,
        admin: admin?,
    })
}

fn host_port(At { field, line, value }: At<String>, mistakes: &mut Mistakes) -> Option<String> {
    let fits = match value.rsplit_once(':') {
        Some((host, port)) => {
            let bracketed = host.starts_with('[') && host.ends_with(']');
            let host_fits = !host.is_empty()
                && !host.contains([' ', '/'])
                && (bracketed || !host.contains(':'));
            host_fits && port.parse::<u16>().is_ok_and(|port| port != 0)
        }
        None => false,
    };
    if fits {
        return Some(value);
    }
    mistakes.add(
        field,
        line,
        format!("`{value}` is no `host:port`; an IPv6 address stands in brackets"),
    );
    None
}

fn read_founding(
    file: &mut Fields,
    mistakes: &mut Mistakes,
) -> (Vec<String>, u32, Option<PathBuf>) {
    let peers = file.texts("peers", mistakes);
    let expect = file.number("bootstrapExpect", mistakes);
    let token = file.text("joinTokenFile", mistakes);
    let mut checked = Vec::new();
    if let Some(At { field, line, value }) = peers {
        for (place, peer) in value.into_iter().enumerate() {
            let at = At {
                field: format!("{field}[{place}]"),
                line,
                value: peer,
            };
            checked.extend(host_port(at, mistakes));
        }
    }
    let (expect_line, expect) = expect.map_or((0, None), |at| (at.line, Some(at.value)));
    match (expect, &token) {
        (Some(1..), Some(token)) => mistakes.add(
            "joinTokenFile",
            token.line,
            "stands beside bootstrapExpect; a controller either founds a cluster or joins one: take one of them out",
        ),
        (None | Some(0), None) => mistakes.add(
            "bootstrapExpect",
            expect_line,
            "is missing: say how many controllers found the cluster (1, 3 or 5), or give joinTokenFile to join one",
        ),
        (Some(expect), None) if expect > 9 || expect % 2 == 0 => mistakes.add(
            "bootstrapExpect",
            expect_line,
            format!("is {expect}; use 1, 3 or 5: an even number survives no more failures than the odd one below it"),
        ),
        (Some(expect), None) if expect > 1 && (checked.len() as u64) + 1 < expect => mistakes.add(
            "peers",
            expect_line,
            format!("names {} controller(s), but bootstrapExpect is {expect}; name all of them", checked.len()),
        ),
        (None | Some(0), Some(token)) if checked.is_empty() => mistakes.add(
            "peers",
            token.line,
            "is empty: name the peer port of at least one controller of the cluster to join",
        ),
        _ => {}
    }
    let expect = expect.unwrap_or(0).try_into().unwrap_or(u32::MAX);
    (checked, expect, token.map(|at| PathBuf::from(at.value)))
}

fn read_snapshots(file: &mut Fields, mistakes: &mut Mistakes) -> (u64, u64) {
    let every = file.number("snapshotEvery", mistakes);
    let keep = file.number("keepLog", mistakes);
    if let Some(At {
        field,
        line,
        value: 0,
    }) = &every
    {
        mistakes.add(
            field.clone(),
            *line,
            format!("must be 1 or more; leave it out for {SNAPSHOT_EVERY}"),
        );
    }
    let every = every.map_or(SNAPSHOT_EVERY, |at| at.value);
    // Where only `snapshotEvery` was lowered, keeping half of it keeps the default's proportion.
    let keep = keep.map_or_else(|| KEEP_LOG.min(every / 2), |at| at.value);
    (every, keep)
}

/// A number of at least one.
fn read_count(file: &mut Fields, name: &'static str, default: u32, mistakes: &mut Mistakes) -> u32 {
    let Some(At { field, line, value }) = file.number(name, mistakes) else {
        return default;
    };
    match u32::try_from(value) {
        Ok(value @ 1..) => value,
        _ => {
            let text = format!("is {value}; use 1 or more, or leave it out for {default}");
            mistakes.add(field, line, text);
            default
        }
    }
}

fn read_load_report_seconds(file: &mut Fields, mistakes: &mut Mistakes) -> u64 {
    let Some(At { field, line, value }) = file.number("loadReportSeconds", mistakes) else {
        return LOAD_REPORT_SECONDS;
    };
    if LOAD_REPORT_RANGE.contains(&value) {
        return value;
    }
    let (least, most) = LOAD_REPORT_RANGE.into_inner();
    let text =
        format!("is {value}; use {least} to {most}, or leave it out for {LOAD_REPORT_SECONDS}");
    mistakes.add(field, line, text);
    LOAD_REPORT_SECONDS
}

fn read_leaf_lifetime(file: &mut Fields, mistakes: &mut Mistakes) -> Duration {
    let Some(At { field, line, value }) = file.text("leafLifetime", mistakes) else {
        return LEAF_LIFETIME;
    };
    let parsed = value
        .parse::<SignedDuration>()
        .ok()
        .and_then(|span| Duration::try_from(span).ok());
    match parsed {
        Some(span) if (MIN_LEAF_LIFETIME..=MAX_LEAF_LIFETIME).contains(&span) => span,
        Some(_) => {
            mistakes.add(
                field,
                line,
                format!("`{value}` is out of range; use 1m to 48h"),
            );
            LEAF_LIFETIME
        }
        None => {
            mistakes.add(
                field,
                line,
                format!("`{value}` is no duration; write `24h` or `90m`"),
            );
            LEAF_LIFETIME
        }
    }
}

fn read_root(file: &mut Fields, mistakes: &mut Mistakes) -> Option<RootFiles> {
    let mut fields = file.fields("root", mistakes);
    if fields.is_empty() {
        return None;
    }
    let certificate = fields.required("certificate", "the root's PEM file", mistakes);
    let key = fields.required("key", "the root key's PEM file (PKCS#8, P-256)", mistakes);
    fields.finish(&["certificate", "key"], mistakes);
    Some(RootFiles {
        certificate: PathBuf::from(certificate?.value),
        key: PathBuf::from(key?.value),
    })
}

fn read_kubernetes(file: &mut Fields, mistakes: &mut Mistakes) -> Option<Kubernetes> {
    let mut fields = file.fields("kubernetes", mistakes);
    if fields.is_empty() {
        return None;
    }
    let kubeconfig = fields.text("kubeconfig", mistakes);
    let credentials = fields.text("credentials", mistakes);
    fields.finish(&["kubeconfig", "credentials"], mistakes);
    match (kubeconfig, credentials) {
        (Some(at), None) => Some(Kubernetes {
            kubeconfig: Some(PathBuf::from(at.value)),
        }),
        (None, Some(at)) if at.value == POD_CREDENTIALS => Some(Kubernetes { kubeconfig: None }),
        (None, Some(At { field, line, value })) => {
            mistakes.add(
                field,
                line,
                format!(
                    "`{value}` is unknown; write `{POD_CREDENTIALS}`, or name a `kubeconfig` instead"
                ),
            );
            None
        }
        (Some(_), Some(At { field, line, .. })) => {
            mistakes.add(field, line, "stands beside `kubeconfig`; leave one out");
            None
        }
        (None, None) => None,
    }
}

fn read_log(file: &mut Fields, mistakes: &mut Mistakes) -> Log {
    let mut fields = file.fields("log", mistakes);
    let level = fields.text("level", mistakes);
    let format = fields.text("format", mistakes);
    fields.finish(&["level", "format"], mistakes);
    if let Some(At { field, line, value }) = &level
        && let Err(refusal) = check_level(value)
    {
        mistakes.add(field.clone(), *line, refusal.to_string());
    }
    let format = match format {
        None => LogFormat::Text,
        Some(At { value, .. }) if value == "text" => LogFormat::Text,
        Some(At { value, .. }) if value == "json" => LogFormat::Json,
        Some(At { field, line, value }) => {
            mistakes.add(
                field,
                line,
                format!("`{value}` is no format; use `text` or `json`"),
            );
            LogFormat::Text
        }
    };
    Log {
        level: level.map_or_else(|| "info".to_owned(), |at| at.value),
        format,
    }
}

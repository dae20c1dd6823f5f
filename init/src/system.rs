//! The programs and files that say and change what the kernel does: iptables, ip, /proc. Their complaints become typed failures.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use serde::Deserialize;

use crate::{args::Variant, failure::Failure, plan::Family, render::Table};

/// How long another holder of the xtables lock is waited for, seconds; a container runtime holds it for less than one.
pub const LOCK_WAIT_SECONDS: u32 = 10;
/// Marks our routes among those of others (rtnetlink's protocol numbers above 4 are free for administrators; see ip-route(8)).
pub const ROUTE_PROTOCOL: &str = "74";
/// CAP_NET_ADMIN's bit, capabilities(7).
const CAP_NET_ADMIN: u32 = 12;

/// iptables programs of one variant and family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Iptables {
    stem: String,
}

impl Iptables {
    /// Finds the programs for a family: the variant that already holds our chains, else the first that works. Answers the table too.
    pub fn find(variant: Variant, family: Family) -> Result<(Iptables, Table), Failure> {
        let name = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        let endings: &[&str] = match variant {
            Variant::Auto => &["", "-nft", "-legacy"],
            Variant::Nft => &["-nft"],
            Variant::Legacy => &["-legacy"],
        };
        let mut working = Vec::new();
        let mut first_failure = None;
        for ending in endings {
            let programs = Iptables {
                stem: format!("{name}{ending}"),
            };
            match programs.table() {
                Ok(table) if table.is_ours() => return Ok((programs, table)),
                Ok(table) => working.push((programs, table)),
                Err(failure) => first_failure = first_failure.or(Some(failure)),
            }
        }
        match (working.into_iter().next(), first_failure) {
            (Some(found), _) => Ok(found),
            (None, Some(failure)) => Err(failure),
            (None, None) => Err(Failure::ToolMissing {
                tool: name.to_owned(),
            }),
        }
    }

    /// The `nat` table as it is.
    pub fn table(&self) -> Result<Table, Failure> {
        let saved = run(&format!("{}-save", self.stem), &["-t", "nat"], None)?;
        Ok(Table::parse(&saved))
    }

    /// Lets the kernel check a transaction without committing it.
    pub fn test(&self, transaction: &str) -> Result<(), Failure> {
        self.restore(&["--test"], transaction)
    }

    /// Commits a transaction.
    pub fn commit(&self, transaction: &str) -> Result<(), Failure> {
        self.restore(&[], transaction)
    }

    fn restore(&self, extra: &[&str], transaction: &str) -> Result<(), Failure> {
        let wait = format!("--wait={LOCK_WAIT_SECONDS}");
        let arguments: Vec<&str> = ["--noflush", wait.as_str()]
            .into_iter()
            .chain(extra.iter().copied())
            .collect();
        run(
            &format!("{}-restore", self.stem),
            &arguments,
            Some(transaction),
        )
        .map(drop)
    }
}

/// One route as `ip -j route` prints it; what we do not look at is left out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Route {
    /// The network.
    pub dst: String,
    /// The interface.
    #[serde(default)]
    pub dev: String,
    /// Who set it: a name or a number.
    #[serde(default)]
    pub protocol: String,
    /// The source address that it gives.
    #[serde(default)]
    pub prefsrc: String,
}

impl Route {
    /// Whether `maille-init` set it.
    pub fn is_ours(&self) -> bool {
        self.protocol == ROUTE_PROTOCOL
    }
}

fn ip_family(family: Family) -> &'static str {
    match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    }
}

/// The routes of the main table for exactly this network, or, without one, all that are ours.
pub fn routes(family: Family, network: Option<&str>) -> Result<Vec<Route>, Failure> {
    let mut arguments = vec!["-j", ip_family(family), "route", "show", "table", "main"];
    match network {
        Some(network) => arguments.extend(["exact", network]),
        None => arguments.extend(["proto", ROUTE_PROTOCOL]),
    }
    let text = run("ip", &arguments, None)?;
    let parsed: Result<Vec<Route>, _> =
        serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text });
    let mut routes = parsed.map_err(|e| Failure::Refused {
        tool: "ip route".to_owned(),
        said: format!("unexpected output ({e}): {text}"),
    })?;
    if network.is_none() {
        // When the listing is narrowed by protocol, `ip` leaves the protocol out.
        routes
            .iter_mut()
            .for_each(|route| route.protocol = ROUTE_PROTOCOL.to_owned());
    }
    Ok(routes)
}

/// The arguments of `ip` that set a route. The source is given because a namespace without any other address would take 0.0.0.0.
pub fn route_arguments(family: Family, network: &str) -> Vec<&str> {
    let mut arguments = vec![ip_family(family), "route", "replace"];
    arguments.extend([
        network,
        "dev",
        "lo",
        "proto",
        ROUTE_PROTOCOL,
        "src",
        loopback(family),
    ]);
    arguments
}

/// The loopback address.
pub fn loopback(family: Family) -> &'static str {
    match family {
        Family::V4 => "127.0.0.1",
        Family::V6 => "::1",
    }
}

/// Sets a route.
pub fn set_route(family: Family, network: &str) -> Result<(), Failure> {
    run("ip", &route_arguments(family, network), None).map(drop)
}

/// Takes a route of ours away.
pub fn delete_route(family: Family, network: &str) -> Result<(), Failure> {
    run(
        "ip",
        &[
            ip_family(family),
            "route",
            "del",
            network,
            "dev",
            "lo",
            "proto",
            ROUTE_PROTOCOL,
        ],
        None,
    )
    .map(drop)
}

/// Whether the loopback interface carries traffic here.
pub fn loopback_is_up() -> Result<bool, Failure> {
    // `ifi_flags` of `lo`, IFF_UP is the lowest bit. Read through `ip`: /sys may belong to another network namespace.
    #[derive(Deserialize)]
    struct Link {
        flags: Vec<String>,
    }
    let text = run("ip", &["-j", "link", "show", "lo"], None)?;
    let links: Vec<Link> = serde_json::from_str(&text).map_err(|e| Failure::Refused {
        tool: "ip link".to_owned(),
        said: format!("unexpected output ({e}): {text}"),
    })?;
    Ok(links
        .iter()
        .any(|link| link.flags.iter().any(|flag| flag == "UP")))
}

/// Whether this process has CAP_NET_ADMIN.
pub fn may_change_the_network() -> Result<bool, Failure> {
    let status = read("/proc/self/status")?;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    Ok(mask.is_some_and(|mask| mask >> CAP_NET_ADMIN & 1 == 1))
}

/// IPv6 in this network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv6State {
    /// The kernel has none, or it is switched off.
    Absent,
    /// Only the loopback interface has an address.
    LoopbackOnly,
    /// Another interface has an address.
    InUse,
}

/// Looks at the addresses that the kernel lists for this process's network namespace.
pub fn ipv6_state() -> Result<Ipv6State, Failure> {
    let text = match std::fs::read_to_string("/proc/net/if_inet6") {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Ipv6State::Absent),
        Err(source) => {
            return Err(Failure::Io {
                what: "reading /proc/net/if_inet6".to_owned(),
                source,
            });
        }
    };
    let mut interfaces = text
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .peekable();
    if interfaces.peek().is_none() {
        return Ok(Ipv6State::Absent);
    }
    Ok(if interfaces.all(|name| name == "lo") {
        Ipv6State::LoopbackOnly
    } else {
        Ipv6State::InUse
    })
}

fn read(path: &str) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|source| Failure::Io {
        what: format!("reading {path}"),
        source,
    })
}

fn run(program: &str, arguments: &[&str], input: Option<&str>) -> Result<String, Failure> {
    let io = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => Failure::ToolMissing {
            tool: program.to_owned(),
        },
        _ => Failure::Io {
            what: format!("running {program}"),
            source,
        },
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(io)?;
    if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
        // A program that ends early closes the pipe; what it says on stderr is the better error.
        match stdin.write_all(text.as_bytes()) {
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => return Err(io(e)),
            _ => {}
        }
    }
    let output = child.wait_with_output().map_err(io)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(classify(program, &output))
}

/// Both variants of iptables tell by text only; these are their words (1.8).
fn classify(program: &str, output: &Output) -> Failure {
    const NOT_PERMITTED: [&str; 2] = ["Permission denied", "Operation not permitted"];
    const KERNEL: [&str; 8] = [
        "Table does not exist",
        "do you need to insmod",
        "can't initialize",
        "Failed to initialize nft",
        "Protocol not supported",
        "No chain/target/match by that name",
        "Extension",
        "Couldn't load match",
    ];
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let said = if said.is_empty() {
        output.status.to_string()
    } else {
        said.join("; ")
    };
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let tool = program.to_owned();
    if has(&NOT_PERMITTED) {
        Failure::NotPermitted
    } else if has(&KERNEL) {
        Failure::Kernel { tool, said }
    } else {
        Failure::Refused { tool, said }
    }
}

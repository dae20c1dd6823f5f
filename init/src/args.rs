//! The command line, and the settings that it means. Contradictions are reported all at once.

use std::{net::IpAddr, path::PathBuf};

use clap::{Parser, ValueEnum};
use ipnet::IpNet;

use crate::{
    failure::Failure,
    plan::{DNS_PORT, Dns, Mode, Owner, PortRange, ProxyPorts, Settings},
};

/// The user that the proxy runs as when nothing else is said.
pub const DEFAULT_PROXY_UID: u32 = 2740;
/// Virtual IPv4 addresses when nothing else is said.
pub const DEFAULT_VIRTUAL_V4: &str = "240.0.0.0/4";
/// Virtual IPv6 addresses when nothing else is said.
pub const DEFAULT_VIRTUAL_V6: &str = "fd4d:6169:6c6c:65::/64";

/// Whether IPv6 is redirected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ipv6 {
    /// Where IPv6 is in use; an error where it is in use and cannot be redirected.
    Auto,
    /// Always; an error where it cannot be.
    On,
    /// Never; what is there is left alone.
    Off,
}

/// Which iptables programs are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Variant {
    /// The one that already holds our rules, else the first that works of `iptables`, `iptables-nft`, `iptables-legacy`.
    Auto,
    /// `iptables-nft`.
    Nft,
    /// `iptables-legacy`.
    Legacy,
}

/// Which questions to DNS servers go to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DnsMode {
    /// None.
    Off,
    /// Those to the name servers in --resolv-conf, so that a local resolver's own questions pass.
    Servers,
    /// All.
    All,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done; with --check: everything is as it should be
  1  --check found differences (they are on stdout)
  2  the command line is wrong
  3  not permitted: needs root, or the capabilities NET_ADMIN and NET_RAW
  4  iptables or ip is not installed
  5  the kernel lacks a table, a match or a target
  6  refused for another reason";

/// Redirects traffic to Maille's sidecar with iptables, once, and ends.
///
/// Run it in the network namespace that it is meant for. It may be repeated: the same command gives the same rules. Each family's rules are
/// set in one transaction.
#[derive(Debug, Clone, Parser)]
#[command(name = "maille-init", version, after_help = EXIT_CODES)]
pub struct Args {
    /// pod: all TCP in and out. host: outbound only the virtual ranges, inbound only --inbound-ports.
    #[arg(long, value_enum, default_value = "pod")]
    pub mode: Mode,

    /// The user that the proxy runs as; its traffic is never redirected. Without this and --proxy-gid: 2740.
    #[arg(long, value_name = "UID")]
    pub proxy_uid: Option<u32>,

    /// The group that the proxy runs as; its traffic is never redirected.
    #[arg(long, value_name = "GID")]
    pub proxy_gid: Option<u32>,

    /// The proxy's port for outbound connections.
    #[arg(long, value_name = "PORT", default_value_t = 4740, value_parser = clap::value_parser!(u16).range(1..))]
    pub outbound_port: u16,

    /// The proxy's mesh port, where redirected inbound connections go too.
    #[arg(long, value_name = "PORT", default_value_t = 4743, value_parser = clap::value_parser!(u16).range(1..))]
    pub mesh_port: u16,

    /// The proxy's port for probes and metrics, reached directly.
    #[arg(long, value_name = "PORT", default_value_t = 4791, value_parser = clap::value_parser!(u16).range(1..))]
    pub metrics_port: u16,

    /// The proxy's DNS port.
    #[arg(long, value_name = "PORT", default_value_t = 4753, value_parser = clap::value_parser!(u16).range(1..))]
    pub dns_port: u16,

    /// Which questions to DNS servers (port 53, UDP and TCP) go to the proxy.
    #[arg(long, value_enum, default_value = "off")]
    pub dns: DnsMode,

    /// Where --dns=servers finds the name servers.
    #[arg(long, value_name = "FILE", default_value = "/etc/resolv.conf")]
    pub resolv_conf: PathBuf,

    /// Networks of virtual addresses, IPv4 or IPv6: redirected in both modes, and routed to the loopback interface.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', default_values = [DEFAULT_VIRTUAL_V4, DEFAULT_VIRTUAL_V6])]
    pub virtual_range: Vec<IpNet>,

    /// Host mode: the ports of the application that are redirected inbound, for example 8080,9000-9010.
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    pub inbound_ports: Vec<PortRange>,

    /// Ports of the application that are reached directly.
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    pub skip_inbound_ports: Vec<PortRange>,

    /// Pod mode: ports of others that are called directly (those of virtual addresses never are).
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    pub skip_outbound_ports: Vec<PortRange>,

    /// Networks that are called directly.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub skip_destinations: Vec<IpNet>,

    /// Networks whose calls come in directly.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub skip_sources: Vec<IpNet>,

    /// Whether IPv6 is redirected.
    #[arg(long, value_enum, default_value = "auto")]
    pub ipv6: Ipv6,

    /// Which iptables programs are used.
    #[arg(long, value_enum, default_value = "auto")]
    pub iptables: Variant,

    /// Sets no routes for the virtual ranges.
    #[arg(long)]
    pub no_routes: bool,

    /// Prints what would be set on a machine without rules of ours, and changes nothing. Needs no rights.
    #[arg(long, group = "action")]
    pub simulate: bool,

    /// Changes nothing; says on stdout what differs from these options.
    #[arg(long, group = "action")]
    pub check: bool,

    /// Takes away all rules and routes of ours, whatever options they were set with.
    #[arg(long, group = "action")]
    pub remove: bool,
}

impl Args {
    /// The settings, or every mistake.
    pub fn settings(&self) -> Result<Settings, Failure> {
        let mut mistakes = Vec::new();
        self.check_ports(&mut mistakes);
        self.check_mode(&mut mistakes);
        if let Some(range) = self
            .virtual_range
            .iter()
            .find(|range| range.prefix_len() == 0)
        {
            mistakes.push(format!(
                "--virtual-range {range} is everything: for that there is --mode=pod"
            ));
        }
        let dns = self.dns_servers(&mut mistakes)?;
        if !mistakes.is_empty() {
            return Err(Failure::Usage(mistakes));
        }
        Ok(Settings {
            mode: self.mode,
            owner: self.owner(),
            ports: ProxyPorts {
                outbound: self.outbound_port,
                mesh: self.mesh_port,
                metrics: self.metrics_port,
                dns: self.dns_port,
            },
            dns,
            virtual_ranges: self.virtual_range.clone(),
            inbound: self.inbound_ports.clone(),
            skip_inbound: self.skip_inbound_ports.clone(),
            skip_outbound: self.skip_outbound_ports.clone(),
            skip_destinations: self.skip_destinations.clone(),
            skip_sources: self.skip_sources.clone(),
            routes: !self.no_routes,
        })
    }

    /// What is legal and probably not meant.
    pub fn warnings(&self) -> Vec<String> {
        let owner = self.owner();
        let mut warnings = Vec::new();
        if owner.uid == Some(0) || owner.gid == Some(0) {
            warnings.push(
                "the proxy is known as root: nothing that root runs will be redirected".to_owned(),
            );
        }
        warnings
    }

    fn owner(&self) -> Owner {
        match (self.proxy_uid, self.proxy_gid) {
            (None, None) => Owner {
                uid: Some(DEFAULT_PROXY_UID),
                gid: None,
            },
            (uid, gid) => Owner { uid, gid },
        }
    }

    fn check_ports(&self, mistakes: &mut Vec<String>) {
        let own = [
            ("--outbound-port", self.outbound_port),
            ("--mesh-port", self.mesh_port),
            ("--metrics-port", self.metrics_port),
            ("--dns-port", self.dns_port),
        ];
        for (at, (flag, port)) in own.iter().enumerate() {
            if let Some((other, _)) = own[..at].iter().find(|(_, taken)| taken == port) {
                mistakes.push(format!(
                    "{other} and {flag} are both {port}: each listener needs a port of its own"
                ));
            }
            if self.inbound_ports.iter().any(|range| range.contains(*port)) {
                mistakes.push(format!(
                    "--inbound-ports holds {port}, which is the proxy's own ({flag}): leave it out"
                ));
            }
        }
    }

    fn check_mode(&self, mistakes: &mut Vec<String>) {
        match self.mode {
            Mode::Pod if !self.inbound_ports.is_empty() => {
                mistakes.push("--inbound-ports is for --mode=host: in a pod all ports are redirected, except --skip-inbound-ports".to_owned());
            }
            Mode::Host if !self.skip_outbound_ports.is_empty() => {
                mistakes.push("--skip-outbound-ports is for --mode=pod: a host's outbound redirection is of virtual addresses only".to_owned());
            }
            Mode::Pod | Mode::Host => {}
        }
        if self.dns != DnsMode::Off
            && self
                .skip_outbound_ports
                .iter()
                .any(|range| range.contains(DNS_PORT))
        {
            mistakes.push(format!("--skip-outbound-ports holds {DNS_PORT} and --dns redirects it: leave one of them out"));
        }
    }

    fn dns_servers(&self, mistakes: &mut Vec<String>) -> Result<Dns, Failure> {
        match self.dns {
            DnsMode::Off => return Ok(Dns::Off),
            DnsMode::All => return Ok(Dns::All),
            DnsMode::Servers => {}
        }
        let text = std::fs::read_to_string(&self.resolv_conf).map_err(|source| Failure::Io {
            what: format!(
                "reading the name servers from {}",
                self.resolv_conf.display()
            ),
            source,
        })?;
        let servers = name_servers(&text);
        if servers.is_empty() {
            mistakes.push(format!(
                "{} names no name server: add one, or use --dns=all",
                self.resolv_conf.display()
            ));
        }
        Ok(Dns::Servers(servers))
    }
}

/// The addresses after `nameserver` in a resolv.conf(5), each once. A zone behind `%` does not matter to a rule.
fn name_servers(text: &str) -> Vec<IpAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let address = (words.next() == Some("nameserver"))
            .then(|| words.next())
            .flatten();
        let parsed = address
            .and_then(|text| text.split('%').next())
            .and_then(|text| text.parse::<IpAddr>().ok());
        if let Some(ip) = parsed.filter(|ip| !servers.contains(ip)) {
            servers.push(ip);
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(line: &str) -> Args {
        Args::try_parse_from(std::iter::once("maille-init").chain(line.split_whitespace())).unwrap()
    }

    fn check(line: &str, mistakes: &[&str]) {
        let found = match parse(line).settings() {
            Ok(_) => Vec::new(),
            Err(Failure::Usage(found)) => found,
            Err(other) => panic!("`{line}`: {other}"),
        };
        assert_eq!(found.len(), mistakes.len(), "`{line}` gave {found:?}");
        for (found, expected) in found.iter().zip(mistakes) {
            assert!(
                found.contains(expected),
                "`{line}` gave {found:?}, not {expected:?}"
            );
        }
    }

    #[test]
    fn contradictions_are_reported_all_at_once() {
        check("", &[]);
        check("--mode host --inbound-ports 8080,9000-9010", &[]);
        check("--inbound-ports 8080", &["--mode=host"]);
        check("--mode host --skip-outbound-ports 22", &["--mode=pod"]);
        check(
            "--mode host --inbound-ports 4700-4800 --dns-port 4743",
            &[
                "holds 4740",
                "holds 4743",
                "holds 4791",
                "both 4743",
                "holds 4743",
            ],
        );
        check("--skip-outbound-ports 50-60 --dns all", &["holds 53"]);
        check("--virtual-range 0.0.0.0/0", &["--mode=pod"]);
        check(
            "--dns servers --resolv-conf /dev/null",
            &["names no name server"],
        );
    }

    #[test]
    fn the_proxy_is_known_by_uid_2740_unless_something_else_is_said() {
        let owner = |line: &str| parse(line).settings().unwrap().owner;
        assert_eq!(
            owner(""),
            Owner {
                uid: Some(2740),
                gid: None
            }
        );
        assert_eq!(
            owner("--proxy-gid 7"),
            Owner {
                uid: None,
                gid: Some(7)
            }
        );
        assert_eq!(
            owner("--proxy-gid 7 --proxy-uid 8"),
            Owner {
                uid: Some(8),
                gid: Some(7)
            }
        );
    }

    #[test]
    fn bad_ports_and_networks_are_refused_by_name() {
        for (line, expected) in [
            ("--skip-inbound-ports 0", "is not a port"),
            ("--skip-inbound-ports 90-80", "ends before it begins"),
            ("--skip-sources 10.0.0.0/33", "invalid"),
            ("--mesh-port 0", "0 is not in 1..=65535"),
            ("--check --remove", "cannot be used with"),
        ] {
            let said =
                Args::try_parse_from(std::iter::once("maille-init").chain(line.split_whitespace()))
                    .unwrap_err()
                    .to_string();
            assert!(said.contains(expected), "`{line}` said: {said}");
        }
    }

    #[test]
    fn name_servers_are_read_as_resolv_conf_says() {
        let text = "# a comment\nsearch a.example\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\n nameserver  127.0.0.53\nnameserver x\n";
        assert_eq!(
            name_servers(text),
            [
                "127.0.0.53".parse::<IpAddr>().unwrap(),
                "fe80::1".parse().unwrap()
            ]
        );
    }
}

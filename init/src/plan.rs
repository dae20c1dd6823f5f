//! What shall be redirected, as values: from settings to chains of rules and routes. Pure; knows no iptables syntax.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

/// The chain that OUTPUT jumps to.
pub const OUTBOUND_CHAIN: &str = "MAILLE_OUTBOUND";
/// The chain that PREROUTING jumps to.
pub const INBOUND_CHAIN: &str = "MAILLE_INBOUND";
/// Where DNS is asked.
pub const DNS_PORT: u16 = 53;
/// A multiport match takes fifteen ports; a range counts twice (iptables-extensions(8)).
pub const MULTIPORT_SLOTS: usize = 15;

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

impl Family {
    /// Whether a network is of this family.
    pub fn holds(self, net: &IpNet) -> bool {
        matches!(
            (self, net),
            (Family::V4, IpNet::V4(_)) | (Family::V6, IpNet::V6(_))
        )
    }
}

/// How much is redirected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// All TCP, in and out.
    Pod,
    /// Outbound only the virtual ranges, inbound only registered ports: ssh, apt and Raft stay as they are.
    Host,
}

/// A port, or a range with both ends in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    /// The first port; never 0.
    pub first: u16,
    /// The last port, not below the first.
    pub last: u16,
}

impl PortRange {
    /// One port.
    pub fn single(port: u16) -> Self {
        PortRange {
            first: port,
            last: port,
        }
    }

    /// Whether a port is in it.
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    fn slots(&self) -> usize {
        if self.first == self.last { 1 } else { 2 }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}:{}", self.first, self.last)
        }
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |t: &str| match t.trim().parse::<u16>() {
            Ok(0) | Err(_) => Err(format!(
                "`{t}` is not a port: write 1 to 65535, or a range such as 8000-8010"
            )),
            Ok(port) => Ok(port),
        };
        match text.split_once(['-', ':']) {
            None => port(text).map(PortRange::single),
            Some((first, last)) => {
                let range = PortRange {
                    first: port(first)?,
                    last: port(last)?,
                };
                if range.first > range.last {
                    return Err(format!("the range `{text}` ends before it begins"));
                }
                Ok(range)
            }
        }
    }
}

/// Which questions to DNS servers go to the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dns {
    /// None.
    Off,
    /// Those to these servers. What a local resolver asks elsewhere stays as it is: else it would be asked by the proxy, and ask the proxy.
    Servers(Vec<IpAddr>),
    /// All.
    All,
}

/// By whom the proxy's own traffic is known; at least one is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user that the proxy runs as.
    pub uid: Option<u32>,
    /// The group that the proxy runs as.
    pub gid: Option<u32>,
}

/// Where the proxy listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyPorts {
    /// Outbound connections of the application.
    pub outbound: u16,
    /// The mesh port, which takes redirected inbound connections too.
    pub mesh: u16,
    /// Probes and metrics.
    pub metrics: u16,
    /// DNS.
    pub dns: u16,
}

/// What the plan is made from; checked by `args`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How much is redirected.
    pub mode: Mode,
    /// The proxy's user or group.
    pub owner: Owner,
    /// The proxy's listeners.
    pub ports: ProxyPorts,
    /// DNS.
    pub dns: Dns,
    /// Where virtual addresses come from, both families.
    pub virtual_ranges: Vec<IpNet>,
    /// Registered ports, host mode only.
    pub inbound: Vec<PortRange>,
    /// Ports of the application that are reached directly.
    pub skip_inbound: Vec<PortRange>,
    /// Ports of others that are called directly; the virtual ranges are not touched by it.
    pub skip_outbound: Vec<PortRange>,
    /// Networks that are called directly.
    pub skip_destinations: Vec<IpNet>,
    /// Networks whose calls come in directly.
    pub skip_sources: Vec<IpNet>,
    /// Whether routes of the virtual ranges are wanted.
    pub routes: bool,
}

/// TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Where a packet goes that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Leaves our chain: not redirected.
    Return,
    /// To this port of the local host.
    Redirect(u16),
    /// On to one of our chains.
    Jump(&'static str),
}

/// One rule; what is unset matches everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Why it is there, for a person who reads the firewall.
    pub purpose: &'static str,
    /// The packet's source.
    pub source: Option<IpNet>,
    /// The packet's destination.
    pub destination: Option<IpNet>,
    /// Leaves by the loopback interface.
    pub loopback: bool,
    /// TCP or UDP.
    pub transport: Option<Transport>,
    /// Destination ports; empty: any. With a transport only.
    pub ports: Vec<PortRange>,
    /// The sender's user.
    pub uid: Option<u32>,
    /// The sender's group.
    pub gid: Option<u32>,
    /// The destination is an address of this host: what is only passing through is not ours.
    pub to_this_host: bool,
    /// Where it goes.
    pub target: Target,
}

impl Rule {
    fn new(purpose: &'static str, target: Target) -> Self {
        Rule {
            purpose,
            source: None,
            destination: None,
            loopback: false,
            transport: None,
            ports: Vec::new(),
            uid: None,
            gid: None,
            to_this_host: false,
            target,
        }
    }

    fn tcp(purpose: &'static str, target: Target) -> Self {
        Rule {
            transport: Some(Transport::Tcp),
            ..Rule::new(purpose, target)
        }
    }
}

/// A chain of ours and the jump that leads to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// The built-in chain that jumps to it.
    pub hook: &'static str,
    /// The jump.
    pub jump: Rule,
    /// Tried in order.
    pub rules: Vec<Rule>,
}

/// All that shall be there for one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Which one.
    pub family: Family,
    /// At most one for each way; a way that redirects nothing has none.
    pub chains: Vec<Chain>,
    /// Networks that need a route to the loopback interface: without any route a connect fails before it could be redirected.
    pub routes: Vec<IpNet>,
}

/// Plans one family.
pub fn plan(settings: &Settings, family: Family) -> Plan {
    let chains = [outbound(settings, family), inbound(settings, family)]
        .into_iter()
        .flatten()
        .collect();
    let routes = if settings.routes {
        of_family(&settings.virtual_ranges, family).collect()
    } else {
        Vec::new()
    };
    Plan {
        family,
        chains,
        routes,
    }
}

fn of_family(nets: &[IpNet], family: Family) -> impl Iterator<Item = IpNet> + '_ {
    nets.iter()
        .filter(move |net| family.holds(net))
        .map(IpNet::trunc)
}

/// The order is the meaning: the proxy first (else it would call itself), DNS and the virtual ranges before the loopback rule (the resolver
/// may be on loopback, and the virtual ranges are routed there).
fn outbound(settings: &Settings, family: Family) -> Option<Chain> {
    let to_proxy = Target::Redirect(settings.ports.outbound);
    let mut rules = Vec::new();
    rules.extend(settings.owner.uid.map(|uid| Rule {
        uid: Some(uid),
        ..Rule::new("proxy-user", Target::Return)
    }));
    rules.extend(settings.owner.gid.map(|gid| Rule {
        gid: Some(gid),
        ..Rule::new("proxy-group", Target::Return)
    }));
    let exempt = rules.len();
    rules.extend(dns(settings, family));
    rules.extend(
        of_family(&settings.skip_destinations, family).map(|net| Rule {
            destination: Some(net),
            ..Rule::tcp("skip-destination", Target::Return)
        }),
    );
    rules.extend(of_family(&settings.virtual_ranges, family).map(|net| Rule {
        destination: Some(net),
        ..Rule::tcp("virtual-range", to_proxy.clone())
    }));
    if settings.mode == Mode::Pod {
        rules.push(Rule {
            loopback: true,
            ..Rule::new("own-loopback", Target::Return)
        });
        rules.extend(ports(
            "skip-outbound-ports",
            &settings.skip_outbound,
            Target::Return,
        ));
        rules.push(Rule::tcp("outbound", to_proxy));
    }
    let redirects = rules
        .iter()
        .skip(exempt)
        .any(|rule| matches!(rule.target, Target::Redirect(_)));
    let jump = Rule::new("outbound", Target::Jump(OUTBOUND_CHAIN));
    redirects.then_some(Chain {
        name: OUTBOUND_CHAIN,
        hook: "OUTPUT",
        jump,
        rules,
    })
}

fn dns(settings: &Settings, family: Family) -> Vec<Rule> {
    let servers: Vec<Option<IpNet>> = match &settings.dns {
        Dns::Off => Vec::new(),
        Dns::All => vec![None],
        Dns::Servers(servers) => servers
            .iter()
            .map(|ip| IpNet::from(*ip))
            .filter(|net| family.holds(net))
            .map(Some)
            .collect(),
    };
    let rule = |destination: Option<IpNet>, transport| Rule {
        destination,
        transport: Some(transport),
        ports: vec![PortRange::single(DNS_PORT)],
        ..Rule::new("dns", Target::Redirect(settings.ports.dns))
    };
    servers
        .into_iter()
        .flat_map(|server| [rule(server, Transport::Udp), rule(server, Transport::Tcp)])
        .collect()
}

fn inbound(settings: &Settings, family: Family) -> Option<Chain> {
    let to_proxy = Target::Redirect(settings.ports.mesh);
    let mut rules = Vec::new();
    if settings.mode == Mode::Pod {
        let own = [
            PortRange::single(settings.ports.mesh),
            PortRange::single(settings.ports.metrics),
        ];
        rules.extend(ports("proxy-ports", &own, Target::Return));
    }
    rules.extend(ports(
        "skip-inbound-ports",
        &settings.skip_inbound,
        Target::Return,
    ));
    rules.extend(of_family(&settings.skip_sources, family).map(|net| Rule {
        source: Some(net),
        ..Rule::tcp("skip-source", Target::Return)
    }));
    match settings.mode {
        Mode::Pod => rules.push(Rule::tcp("inbound", to_proxy)),
        Mode::Host if settings.inbound.is_empty() => return None,
        Mode::Host => rules.extend(ports("registered-ports", &settings.inbound, to_proxy)),
    }
    let jump = Rule {
        to_this_host: true,
        ..Rule::tcp("inbound", Target::Jump(INBOUND_CHAIN))
    };
    Some(Chain {
        name: INBOUND_CHAIN,
        hook: "PREROUTING",
        jump,
        rules,
    })
}

/// As few rules as a multiport match allows.
fn ports(purpose: &'static str, ranges: &[PortRange], target: Target) -> Vec<Rule> {
    let mut groups: Vec<Vec<PortRange>> = Vec::new();
    let mut free = 0;
    for range in ranges {
        match groups.last_mut() {
            Some(group) if free >= range.slots() => group.push(*range),
            _ => {
                groups.push(vec![*range]);
                free = MULTIPORT_SLOTS;
            }
        }
        free -= range.slots();
    }
    groups
        .into_iter()
        .map(|ports| Rule {
            ports,
            ..Rule::tcp(purpose, target.clone())
        })
        .collect()
}

//! A plan as `iptables-restore` text. Rules are written as `iptables-save` writes them, so that what is there can be compared with what shall be.

use std::{collections::BTreeMap, fmt::Write};

use crate::plan::{Chain, INBOUND_CHAIN, OUTBOUND_CHAIN, Plan, Rule, Target, Transport};

/// The built-in chains that we hang our own on.
pub const HOOKS: [&str; 2] = ["OUTPUT", "PREROUTING"];
/// The chains that are ours.
pub const OWN_CHAINS: [&str; 2] = [OUTBOUND_CHAIN, INBOUND_CHAIN];

/// The `nat` table as `iptables-save` shows it: rules by chain, in order, without `-A <chain>`. Chains without rules are there too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    chains: BTreeMap<String, Vec<String>>,
}

impl Table {
    /// Reads the output of `iptables-save -t nat`. Lines that are no chain and no rule are passed over.
    pub fn parse(saved: &str) -> Self {
        let mut chains: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in saved.lines() {
            if let Some(declaration) = line.strip_prefix(':') {
                let name = declaration.split(' ').next().unwrap_or_default();
                chains.entry(name.to_owned()).or_default();
            }
            if let Some((chain, rule)) = line
                .strip_prefix("-A ")
                .and_then(|rest| rest.split_once(' '))
            {
                chains
                    .entry(chain.to_owned())
                    .or_default()
                    .push(normal(rule));
            }
        }
        Table { chains }
    }

    /// The rules of a chain, `None` where there is no such chain.
    pub fn rules(&self, chain: &str) -> Option<&[String]> {
        self.chains.get(chain).map(Vec::as_slice)
    }

    /// The jumps to a chain, with the built-in chain that each stands in.
    pub fn jumps(&self, to: &str) -> Vec<(&'static str, &str)> {
        let ending = format!("-j {to}");
        HOOKS
            .iter()
            .flat_map(|hook| {
                self.chains
                    .get(*hook)
                    .into_iter()
                    .flatten()
                    .map(move |rule| (*hook, rule.as_str()))
            })
            .filter(|(_, rule)| rule.ends_with(&ending))
            .collect()
    }

    /// Whether anything of ours is there.
    pub fn is_ours(&self) -> bool {
        OWN_CHAINS
            .iter()
            .any(|chain| self.chains.contains_key(*chain))
    }
}

/// Quotes around comments differ between versions of iptables.
fn normal(rule: &str) -> String {
    rule.replace('"', "")
}

/// One rule without `-A <chain>`.
pub fn rule(rule: &Rule) -> String {
    let mut words: Vec<String> = Vec::new();
    // A network of length 0 matches everything, and `iptables-save` leaves it out.
    let mut network = |flag: &str, net: &Option<ipnet::IpNet>| {
        if let Some(net) = net.filter(|net| net.prefix_len() > 0) {
            words.push(format!("{flag} {net}"));
        }
    };
    network("-s", &rule.source);
    network("-d", &rule.destination);
    if rule.loopback {
        words.push("-o lo".to_owned());
    }
    if let Some(transport) = rule.transport {
        words.push(format!("-p {}", transport_name(transport)));
    }
    if !rule.ports.is_empty() {
        let list: Vec<String> = rule.ports.iter().map(ToString::to_string).collect();
        words.push(format!("-m multiport --dports {}", list.join(",")));
    }
    if rule.to_this_host {
        words.push("-m addrtype --dst-type LOCAL".to_owned());
    }
    words.extend(rule.uid.map(|uid| format!("-m owner --uid-owner {uid}")));
    words.extend(rule.gid.map(|gid| format!("-m owner --gid-owner {gid}")));
    words.push(format!("-m comment --comment maille/{}", rule.purpose));
    words.push(match &rule.target {
        Target::Return => "-j RETURN".to_owned(),
        Target::Redirect(port) => format!("-j REDIRECT --to-ports {port}"),
        Target::Jump(chain) => format!("-j {chain}"),
    });
    words.join(" ")
}

fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

/// The transaction that makes `current` what the plan says, whatever of ours is in it. For `iptables-restore --noflush`.
pub fn transaction(plan: &Plan, current: &Table) -> String {
    let wanted: Vec<&str> = plan.chains.iter().map(|chain| chain.name).collect();
    let mut text = String::from("*nat\n");
    declare(&mut text, current, &wanted);
    for chain in &plan.chains {
        append(&mut text, chain);
    }
    delete_chains(&mut text, current, &wanted);
    text.push_str("COMMIT\n");
    text
}

/// The transaction that takes everything of ours out of `current`; `None` where there is nothing.
pub fn removal(current: &Table) -> Option<String> {
    current.is_ours().then(|| {
        let mut text = String::from("*nat\n");
        declare(&mut text, current, &[]);
        delete_chains(&mut text, current, &[]);
        text.push_str("COMMIT\n");
        text
    })
}

/// A declaration makes a chain, or empties it where it exists. Then the old jumps go, however many there are.
fn declare(text: &mut String, current: &Table, wanted: &[&str]) {
    let here = |chain: &&&str| wanted.contains(*chain) || current.rules(chain).is_some();
    for chain in OWN_CHAINS.iter().filter(here) {
        line(text, format_args!(":{chain} - [0:0]"));
    }
    for chain in OWN_CHAINS {
        for (hook, jump) in current.jumps(chain) {
            line(text, format_args!("-D {hook} {jump}"));
        }
    }
}

/// The jump stands first: a container runtime's own DNS rules, for one, would otherwise take what is ours.
fn append(text: &mut String, chain: &Chain) {
    line(
        text,
        format_args!("-I {} 1 {}", chain.hook, rule(&chain.jump)),
    );
    for each in &chain.rules {
        line(text, format_args!("-A {} {}", chain.name, rule(each)));
    }
}

fn delete_chains(text: &mut String, current: &Table, wanted: &[&str]) {
    for chain in OWN_CHAINS
        .iter()
        .filter(|chain| current.rules(chain).is_some() && !wanted.contains(*chain))
    {
        line(text, format_args!("-X {chain}"));
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("writing to a string cannot fail");
}

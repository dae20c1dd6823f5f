//! What is there beside what shall be: every difference, named.

use std::fmt;

use crate::{
    plan::{Chain, Family, Plan},
    render::{self, OWN_CHAINS, Table},
    system::{Route, loopback},
};

/// One difference between the plan and what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// A chain is missing.
    NoChain(&'static str),
    /// A chain is there and should not be.
    ExtraChain(&'static str),
    /// No jump leads to the chain, or a changed one.
    Jump {
        /// The chain.
        chain: &'static str,
        /// As it shall be.
        expected: String,
        /// As it is: one line a jump.
        found: Vec<String>,
    },
    /// A rule differs, is missing (`found` unset) or is too much (`expected` unset).
    Rule {
        /// The chain.
        chain: &'static str,
        /// Counted from 1.
        position: usize,
        /// As it shall be.
        expected: Option<String>,
        /// As it is.
        found: Option<String>,
    },
    /// The route of a virtual range is missing or another.
    Route {
        /// The range.
        network: String,
        /// What is there instead.
        found: Option<Route>,
    },
    /// A route of ours is there and should not be.
    ExtraRoute(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::NoChain(chain) => write!(f, "chain {chain} is missing"),
            Difference::ExtraChain(chain) => {
                write!(f, "chain {chain} is there, and these options want none")
            }
            Difference::Jump {
                chain,
                expected,
                found,
            } if found.is_empty() => {
                write!(f, "no jump leads to {chain}: expected `{expected}`")
            }
            Difference::Jump {
                expected, found, ..
            } => write!(
                f,
                "expected the one jump `{expected}`, found `{}`",
                found.join("`, `")
            ),
            Difference::Rule {
                chain,
                position,
                expected: Some(expected),
                found: Some(found),
            } => {
                write!(
                    f,
                    "{chain} rule {position}: expected `{expected}`, found `{found}`"
                )
            }
            Difference::Rule {
                chain,
                position,
                expected: Some(expected),
                found: None,
            } => {
                write!(f, "{chain} rule {position} is missing: `{expected}`")
            }
            Difference::Rule {
                chain,
                position,
                found,
                ..
            } => {
                write!(
                    f,
                    "{chain} rule {position} is too much: `{}`",
                    found.as_deref().unwrap_or_default()
                )
            }
            Difference::ExtraRoute(network) => {
                write!(
                    f,
                    "the route of {network} to lo is there, and these options want none"
                )
            }
            Difference::Route {
                network,
                found: None,
            } => write!(f, "the route of {network} to lo is missing"),
            Difference::Route {
                network,
                found: Some(route),
            } => {
                write!(
                    f,
                    "the route of {network} leads to `{}` with source `{}`, not to lo",
                    route.dev, route.prefsrc
                )
            }
        }
    }
}

/// Compares rules.
pub fn rules(plan: &Plan, table: &Table) -> Vec<Difference> {
    let mut differences = Vec::new();
    for name in OWN_CHAINS {
        match (
            plan.chains.iter().find(|chain| chain.name == name),
            table.rules(name),
        ) {
            (Some(chain), Some(found)) => compare(chain, found, table, &mut differences),
            (Some(_), None) => differences.push(Difference::NoChain(name)),
            (None, Some(_)) => differences.push(Difference::ExtraChain(name)),
            (None, None) => {}
        }
    }
    differences
}

fn compare(chain: &Chain, found: &[String], table: &Table, differences: &mut Vec<Difference>) {
    let expected_jump = render::rule(&chain.jump);
    let jumps = table.jumps(chain.name);
    if jumps != [(chain.hook, expected_jump.as_str())] {
        let found = jumps
            .into_iter()
            .map(|(hook, rule)| format!("-A {hook} {rule}"))
            .collect();
        differences.push(Difference::Jump {
            chain: chain.name,
            expected: format!("-A {} {expected_jump}", chain.hook),
            found,
        });
    }
    let expected: Vec<String> = chain.rules.iter().map(render::rule).collect();
    for at in 0..expected.len().max(found.len()) {
        let (expected, found) = (expected.get(at).cloned(), found.get(at).cloned());
        if expected != found {
            differences.push(Difference::Rule {
                chain: chain.name,
                position: at + 1,
                expected,
                found,
            });
        }
    }
}

/// Compares the route of one virtual range with what the main table holds for it.
pub fn route(family: Family, network: &str, found: &[Route]) -> Option<Difference> {
    let good = |route: &Route| route.dev == "lo" && route.prefsrc == loopback(family);
    match found {
        [route] if good(route) => None,
        _ => Some(Difference::Route {
            network: network.to_owned(),
            found: found.first().cloned(),
        }),
    }
}

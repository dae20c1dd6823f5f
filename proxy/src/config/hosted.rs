//! A file comes to one workload's configuration, or to one for each of several that share the host's sidecar.

use super::fields::Fields;
use super::problems::Problems;
use super::{Agent, Config, HostPort, InvalidConfig, JoinToken, Own, Problem, Workload, yaml};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Each has a key, a stream and checks of its own; a host with more is better off with containers.
const WORKLOADS: usize = 64;

/// How a file names its workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `workload`.
    One,
    /// `workloads`.
    Several,
}

/// What a file comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hosted {
    /// The proxy stands beside one workload: whatever leaves the host through it is its own.
    One(Box<Config>),
    /// Beside several: each with a complete configuration, equal but for what is its own. The directory is that in which
    /// theirs lie where nothing else is said.
    Several(PathBuf, Vec<Config>),
}

impl Hosted {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, InvalidConfig> {
        let text = std::fs::read_to_string(path).map_err(|error| InvalidConfig {
            problems: vec![Problem {
                path: String::new(),
                message: format!("cannot read {}: {error}", path.display()),
            }],
        })?;
        text.parse()
    }

    /// The only workload's. An agent has one: a program beside it is one workload.
    pub fn alone(self) -> Result<Config, InvalidConfig> {
        match self {
            Self::One(config) => Ok(*config),
            Self::Several(..) => Err(InvalidConfig {
                problems: vec![Problem {
                    path: "workloads".to_owned(),
                    message: "only a sidecar stands beside several workloads; give each agent a file of its own, with workload".to_owned(),
                }],
            }),
        }
    }

    /// Each workload's configuration.
    pub fn workloads(&self) -> &[Config] {
        match self {
            Self::One(config) => std::slice::from_ref(config),
            Self::Several(_, workloads) => workloads,
        }
    }

    /// The resolved value as YAML; join tokens are left out.
    pub fn resolved(&self) -> String {
        match self {
            Self::One(config) => config.resolved(),
            Self::Several(directory, workloads) => match workloads.first() {
                Some(first) => yaml(&Shown::new(directory, first, workloads)),
                None => String::new(),
            },
        }
    }
}

impl FromStr for Hosted {
    type Err = InvalidConfig;

    fn from_str(text: &str) -> Result<Self, InvalidConfig> {
        let problems = Problems::default();
        let hosted = match serde_saphyr::from_str::<serde_json::Value>(text) {
            Ok(value) => super::read(Fields::root(value, &problems)),
            Err(error) => {
                problems.add("", format!("this is not YAML: {error}"));
                None
            }
        };
        problems.into_result(hosted)
    }
}

/// Several workloads as the file has them: what they share once.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    #[serde(rename = "dataDir")]
    data_directory: &'a Path,
    workloads: Vec<ShownWorkload<'a>>,
    #[serde(flatten)]
    shared: serde_json::Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownWorkload<'a> {
    #[serde(flatten)]
    workload: &'a Workload,
    #[serde(flatten)]
    join_token: Option<&'a JoinToken>,
    #[serde(rename = "dataDir")]
    data_directory: &'a Path,
}

impl<'a> Shown<'a> {
    fn new(data_directory: &'a Path, first: &Config, workloads: &'a [Config]) -> Self {
        let mut shared = serde_json::to_value(first).expect(
            "a configuration is made of texts, numbers and lists, which JSON can always hold",
        );
        if let Some(fields) = shared.as_object_mut() {
            for own in ["workload", "joinToken", "joinTokenFile", "dataDir", "agent"] {
                fields.remove(own);
            }
        }
        let workload = |config: &'a Config| ShownWorkload {
            workload: &config.workload,
            join_token: config.join_token.as_ref(),
            data_directory: &config.data_directory,
        };
        Self {
            data_directory,
            workloads: workloads.iter().map(workload).collect(),
            shared,
        }
    }
}

/// How several workloads come to the control plane: each by a token of its own, all at the same controllers. Those that a
/// token names would be gone with the token.
pub(super) fn check_joining(
    fields: &Fields<'_>,
    controllers: &[HostPort],
    join_token: Option<&JoinToken>,
) {
    if controllers.is_empty() {
        let text = "is missing; a host of several workloads names its controllers itself";
        fields.problem("controllers", text);
    }
    match join_token {
        None => {}
        Some(JoinToken::Inline(_)) => fields.problem("joinToken", "belongs to each of workloads"),
        Some(JoinToken::File(_)) => fields.problem("joinTokenFile", "belongs to each of workloads"),
    }
}

/// Reads `workloads`, and checks what they must not share.
pub(super) fn read(fields: &mut Fields<'_>, data_directory: &Path) -> Vec<Own> {
    let wanted = fields.has("workloads");
    let entries = fields.mappings("workloads");
    if wanted && entries.is_empty() {
        fields.problem("workloads", "must name at least one workload");
    }
    if entries.len() > WORKLOADS {
        let text = format!("at most {WORKLOADS} may share a sidecar");
        fields.problem("workloads", text);
    }
    let read = |entry| Workload::read(entry, Form::Several);
    let own = |read: super::workload::Read| {
        let workload = read.workload;
        let default = || data_directory.join(format!("{}.{}", workload.namespace, workload.name));
        let directory = read.data_directory.unwrap_or_else(default);
        Own {
            join_token: read.join_token,
            agent: Agent::none(&directory),
            data_directory: directory,
            workload,
        }
    };
    let owns: Vec<Own> = entries.into_iter().filter_map(read).map(own).collect();
    for (index, later) in owns.iter().enumerate() {
        for earlier in &owns[..index] {
            for text in clashes(earlier, later) {
                fields.problem("workloads", text);
            }
        }
    }
    owns
}

/// What two workloads of one host must not have in common. Each says both names, and what to do.
fn clashes(one: &Own, two: &Own) -> Vec<String> {
    let (a, b) = (one.workload.node(), two.workload.node());
    let mut found = Vec::new();
    if a == b {
        found.push(format!("{a} stands twice"));
        return found;
    }
    if one.data_directory == two.data_directory {
        let directory = one.data_directory.display();
        found.push(format!(
            "{a} and {b} have the same dataDir {directory}; give each its own"
        ));
    }
    if let Some(users) = one.workload.users.common(&two.workload.users) {
        found.push(format!(
            "{a} and {b} both name the users {users}; a user's connections belong to one workload"
        ));
    }
    let numbers: BTreeMap<u16, _> = ports(two).collect();
    for (number, _) in ports(one).filter(|(number, _)| numbers.contains_key(number)) {
        found.push(format!(
            "{a} and {b} both have port {number}; give one of them another port, with application where it listens"
        ));
    }
    for (number, application) in ports(one) {
        let same = |(other, at): &(&u16, &SocketAddr)| **other != number && **at == application;
        if let Some((other, _)) = numbers.iter().find(same) {
            found.push(format!(
                "port {number} of {a} and port {other} of {b} are the same application, {application}; an application belongs to one workload"
            ));
        }
    }
    found
}

/// Each port, and where its application listens as far as peers are sent there first.
fn ports(own: &Own) -> impl Iterator<Item = (u16, SocketAddr)> {
    own.workload.ports.iter().map(|port| {
        let default = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port.port);
        (port.port, port.application.unwrap_or(default))
    })
}

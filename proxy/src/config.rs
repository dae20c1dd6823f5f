//! The proxy's settings: one YAML file, read strictly, every mistake reported at once, the resolved value printable.

mod agent;
mod fields;
mod health;
mod hosted;
mod listen;
mod problems;
#[cfg(test)]
mod tests;
mod users;
mod values;
mod workload;

pub use agent::{Agent, AgentKind};
pub use health::{HealthCheck, Probe};
pub use hosted::Hosted;
pub use listen::{Bind, Listen};
pub use problems::{InvalidConfig, Problem};
pub use users::Users;
pub use values::{Account, Egress, HostPort, Label, LogFormat, Protocol};
pub use workload::{Port, Workload};

use fields::Fields;
use ipnet::IpNet;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// Where the key, the certificate and the last good snapshot are kept.
const DATA_DIRECTORY: &str = "/var/lib/maille-proxy";
/// A sidecar rarely gets more cores than this, and each worker has pools of its own.
const WORKERS: RangeInclusive<u64> = 1..=64;
/// Past an hour the host's own supervisor has long killed the process.
const DRAIN_TIMEOUT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3_600);
/// What peers need to hear that the workload is gone; longer only delays the end.
const DRAIN_DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60);
/// `MeshSettings.vipRange`'s own defaults.
const VIRTUAL_RANGES: [&str; 2] = ["240.0.0.0/4", "fd4d:6169:6c6c:65::/64"];
/// More controllers than a cluster has members, learners included.
const CONTROLLERS: usize = 64;

/// Everything that the file says of one workload, with defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Where controllers serve xDS and identity. Empty: those that the join token names.
    pub controllers: Vec<HostPort>,
    /// How a first certificate is got. None: there must be one in `data_directory` already.
    #[serde(flatten)]
    pub join_token: Option<JoinToken>,
    /// Key, certificate and last good snapshot; made with mode 0700.
    #[serde(rename = "dataDir")]
    pub data_directory: PathBuf,
    /// What the control plane's trust domain must be. None: what the join token says.
    pub trust_domain: Option<String>,
    /// What stands behind the proxy.
    pub workload: Workload,
    /// Where the proxy listens.
    pub listen: Listen,
    /// What others are told.
    pub advertise: Advertise,
    /// What happens to destinations outside the mesh.
    pub egress: Egress,
    /// Addresses that exist only in the mesh: never dialled as they are. Must hold `MeshSettings.vipRange`.
    pub virtual_ranges: Vec<IpNet>,
    /// Where DNS questions about other names go. Empty: what `/etc/resolv.conf` says.
    pub resolvers: Vec<SocketAddr>,
    /// Threads of the data path.
    pub workers: usize,
    /// From the end of `drain_delay` until connections that are left are cut.
    #[serde(serialize_with = "values::span")]
    pub drain_timeout: Duration,
    /// From the withdrawal until the listeners close, so that peers hear of it first.
    #[serde(serialize_with = "values::span")]
    pub drain_delay: Duration,
    /// Directives such as `info` or `info,maille_proxy::xds=debug`.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What the agent does beside; a sidecar does not look at it.
    pub agent: Agent,
}

/// Where the join token stands.
#[derive(Clone, PartialEq, Eq)]
pub enum JoinToken {
    /// In the file itself.
    Inline(String),
    /// In a file of its own, read when a certificate is needed.
    File(PathBuf),
}

impl Serialize for JoinToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match self {
            Self::Inline(_) => map.serialize_entry("joinToken", "(given, not shown)")?,
            Self::File(path) => map.serialize_entry("joinTokenFile", path)?,
        }
        map.end()
    }
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inline(_) => out.write_str("Inline(…)"),
            Self::File(path) => out.debug_tuple("File").field(path).finish(),
        }
    }
}

/// What others are told where it differs from what is bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Advertise {
    /// Where other proxies reach this one.
    pub mesh_port: u16,
}

impl Config {
    /// Reads and checks a file that is of one workload.
    pub fn load(path: &Path) -> Result<Self, InvalidConfig> {
        Hosted::load(path)?.alone()
    }

    /// The resolved value as YAML; the join token is left out.
    pub fn resolved(&self) -> String {
        yaml(self)
    }
}

impl FromStr for Config {
    type Err = InvalidConfig;

    fn from_str(text: &str) -> Result<Self, InvalidConfig> {
        text.parse::<Hosted>()?.alone()
    }
}

fn yaml(value: &impl Serialize) -> String {
    serde_saphyr::to_string(value)
        .expect("a configuration is made of texts, numbers and lists, which YAML can always hold")
}

/// What is a workload's own.
struct Own {
    join_token: Option<JoinToken>,
    data_directory: PathBuf,
    workload: Workload,
    agent: Agent,
}

/// What a file says, whose workloads are `Own`.
fn read(mut fields: Fields<'_>) -> Option<Hosted> {
    let several = fields.has("workloads");
    if several && fields.has("workload") {
        fields.problem("workloads", "cannot stand beside workload; keep one");
    } else if !several && !fields.has("workload") {
        fields.problem("workload", "is missing");
    }
    let controllers = read_controllers(&mut fields);
    let join_token = read_join_token(&mut fields);
    if several {
        hosted::check_joining(&fields, &controllers, join_token.as_ref());
    } else if controllers.is_empty() && join_token.is_none() {
        let text = "is missing; name controllers, or give a joinToken that does";
        fields.problem("controllers", text);
    }
    let data_directory: Option<PathBuf> = fields.text("dataDir");
    let data_directory = data_directory.unwrap_or_else(|| DATA_DIRECTORY.into());
    let trust_domain = fields.text("trustDomain");
    let wanted = fields.has("workload");
    let workload = fields.mapping("workload");
    let workload = match wanted && !several {
        true => Workload::read(workload, hosted::Form::One).map(|read| read.workload),
        false => None,
    };
    let listed = hosted::read(&mut fields, &data_directory);
    let listen = Listen::read(fields.mapping("listen"));
    let advertise = read_advertise(fields.mapping("advertise"), &listen);
    let egress = fields.text("egress").unwrap_or_default();
    let virtual_ranges = fields.texts("virtualRanges");
    let resolvers = read_resolvers(&mut fields);
    let workers = fields.number("workers", WORKERS).unwrap_or(1);
    let drain_timeout = fields.duration("drainTimeout", DRAIN_TIMEOUT);
    let drain_delay = fields.duration("drainDelay", DRAIN_DELAY);
    let log = fields.text("log").unwrap_or_else(|| "info".to_owned());
    if let Err(error) = log.parse::<tracing_subscriber::EnvFilter>() {
        fields.problem("log", format!("{log:?}: {error}"));
    }
    let log_format = fields.text("logFormat").unwrap_or_default();
    if several && fields.has("agent") {
        let text = "stands beside one workload; take it out, or name one workload";
        fields.problem("agent", text);
    }
    let agent = Agent::read(
        fields.mapping("agent"),
        &data_directory,
        workload.as_ref().filter(|_| !several),
    );
    if let Some(workload) = &workload {
        check_relations(&fields, "workload", workload, &listen);
    }
    for (index, own) in listed.iter().enumerate() {
        let path = format!("workloads[{index}]");
        check_relations(&fields, &path, &own.workload, &listen);
    }
    fields.finish();
    let workers = usize::try_from(workers).ok()?;
    let virtual_ranges = virtual_ranges.unwrap_or_else(default_ranges);
    let drain_timeout = drain_timeout.unwrap_or(Duration::from_secs(30));
    let drain_delay = drain_delay.unwrap_or(Duration::from_secs(1));
    let resolved = |own: Own| Config {
        controllers: controllers.clone(),
        join_token: own.join_token,
        data_directory: own.data_directory,
        trust_domain: trust_domain.clone(),
        workload: own.workload,
        listen: listen.clone(),
        advertise: advertise.clone(),
        egress,
        virtual_ranges: virtual_ranges.clone(),
        resolvers: resolvers.clone(),
        workers,
        drain_timeout,
        drain_delay,
        log: log.clone(),
        log_format,
        agent: own.agent,
    };
    if several {
        let workloads = listed.into_iter().map(resolved).collect();
        return Some(Hosted::Several(data_directory.clone(), workloads));
    }
    let own = Own {
        join_token,
        data_directory: data_directory.clone(),
        workload: workload?,
        agent,
    };
    Some(Hosted::One(Box::new(resolved(own))))
}

fn read_controllers(fields: &mut Fields<'_>) -> Vec<HostPort> {
    let controllers: Vec<HostPort> = fields.texts("controllers").unwrap_or_default();
    if controllers.len() > CONTROLLERS {
        fields.problem("controllers", format!("at most {CONTROLLERS} may be named"));
    }
    controllers
}

fn read_join_token(fields: &mut Fields<'_>) -> Option<JoinToken> {
    let inline: Option<String> = fields.text("joinToken");
    let file: Option<PathBuf> = fields.text("joinTokenFile");
    if inline.is_some() && file.is_some() {
        fields.problem("joinToken", "cannot stand beside joinTokenFile; keep one");
    }
    inline.map(JoinToken::Inline).or(file.map(JoinToken::File))
}

fn read_advertise(mut fields: Fields<'_>, listen: &Listen) -> Advertise {
    let mesh_port = fields.number("meshPort", 1..=65_535);
    fields.finish();
    let given = mesh_port.and_then(|port| u16::try_from(port).ok());
    let bound = listen.mesh.first().map(|bind| bind.address.port());
    Advertise {
        mesh_port: given.or(bound).unwrap_or(listen::MESH_PORT),
    }
}

fn default_ranges() -> Vec<IpNet> {
    let range = |text: &str| {
        text.parse()
            .expect("the text stands in the code and is tested")
    };
    VIRTUAL_RANGES.map(range).into()
}

/// A resolver is an address, with a port where it is not 53.
struct Resolver(SocketAddr);

impl FromStr for Resolver {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |ip: IpAddr| SocketAddr::new(ip, 53);
        text.parse()
            .or_else(|_| text.parse().map(plain))
            .map(Self)
            .map_err(|_| "must be an address, or address:port")
    }
}

fn read_resolvers(fields: &mut Fields<'_>) -> Vec<SocketAddr> {
    let resolvers: Vec<Resolver> = fields.texts("resolvers").unwrap_or_default();
    resolvers.into_iter().map(|resolver| resolver.0).collect()
}

/// `path`: where the workload stands.
fn check_relations(fields: &Fields<'_>, path: &str, workload: &Workload, listen: &Listen) {
    if listen.mesh.is_empty() && !workload.ports.is_empty() {
        let text = format!("must not be empty while {path}.ports names ports to serve");
        fields.problem("listen.mesh", text);
    }
    for port in &workload.ports {
        let own = |bind: &&Bind| Some(bind.address) == port.application;
        if let Some(bind) = listen.mesh.iter().find(own) {
            let text = format!("application {} is the proxy itself", bind.address);
            fields.problem(&format!("{path}.ports"), text);
        }
    }
}

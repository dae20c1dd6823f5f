//! Command lines of `maille dev` and of the hidden commands that it starts.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `maille dev`
#[derive(Args, Clone, Debug)]
pub struct Dev {
    /// Runs on loopback with explicit listeners: no network namespaces, no redirection, no root. The default without root.
    #[arg(long)]
    pub no_netns: bool,
    /// Has everything a second time behind Envoy, beside the native workloads [default PATH: target/peers/envoy of the checkout, else `envoy` on the search path]
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true)]
    pub envoy: Option<Option<PathBuf>>,
    /// The Python with gRPC, for programs that are in the mesh without a sidecar beside what `--envoy` shows [default: target/peers/grpc-venv/bin/python of the checkout]
    #[arg(long, value_name = "PATH", requires = "envoy")]
    pub grpc: Option<PathBuf>,
    /// Proves instead of showing: runs the checks unattended and ends with 0 if all pass, 1 otherwise.
    #[arg(long)]
    pub check: bool,
    /// Only the checks whose name contains this. May be given several times.
    #[arg(long, requires = "check", value_name = "TEXT")]
    pub only: Vec<String>,
    /// How long all controllers stay dead in the outage check, in seconds.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub outage: u64,
    /// How often the leader is killed to measure how long writes are refused.
    #[arg(long, default_value_t = 10, value_name = "TIMES")]
    pub kills: u32,
    /// How many requests the weighted route is measured with.
    #[arg(long, default_value_t = 10_000, value_name = "REQUESTS")]
    pub split_requests: u64,
    /// How many requests each protocol and address family is checked with.
    #[arg(long, default_value_t = 200, value_name = "REQUESTS")]
    pub requests: u64,
    /// The rate of the steady load during the failover and outage checks, in requests per second.
    #[arg(long, default_value_t = 200, value_name = "RATE")]
    pub rate: u32,
    /// Where everything that the demo makes is kept while it runs [default: target/dev in a checkout, else the temporary directory]
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Keeps logs and configuration of the run after its end.
    #[arg(long)]
    pub keep: bool,
    /// Ends by itself after this many seconds. Without it the demo runs until Ctrl-C.
    #[arg(long, conflicts_with = "check", value_name = "SECONDS")]
    pub seconds: Option<u64>,
}

/// `maille dev-janitor`: waits for the end of its standard input, then removes a run. So a run that was killed is removed too.
#[derive(Args, Debug)]
pub struct DevJanitor {
    /// The run's directory.
    #[arg(long)]
    pub run: PathBuf,
}

/// `maille dev-app`: the applications of the demo. They know nothing of the mesh.
#[derive(Args, Debug)]
pub struct DevApp {
    #[command(subcommand)]
    pub app: App,
}

/// The applications.
#[derive(Debug, Subcommand)]
pub enum App {
    /// The web front: a page is one call to each of the services behind it.
    Web(Web),
    /// The API, and any HTTP server: answers who it is and what it saw. HTTP/1, HTTP/2, WebSocket.
    Api(Api),
    /// The gRPC service.
    Greeter(Server),
    /// The server-first TCP service: speaks as soon as it is called.
    Banner(Server),
    /// A client that makes load and counts what comes of it.
    Client(Client),
    /// Copies every packet of a network namespace into a file.
    Capture(Capture),
    /// Fetches one page, trying until it is there.
    Fetch(Fetch),
    /// Becomes another user, then another program.
    As(As),
}

/// One page.
#[derive(Args, Debug)]
pub struct Fetch {
    /// host:port.
    #[arg(long)]
    pub address: String,
    /// The path.
    #[arg(long)]
    pub path: String,
    /// How long it is tried until the answer is 200, in seconds.
    #[arg(long, default_value_t = 0)]
    pub limit: u64,
}

/// A program that is to run as another user.
#[derive(Args, Debug)]
pub struct As {
    /// The user and group.
    #[arg(long)]
    pub uid: u32,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// A server.
#[derive(Args, Clone, Debug)]
pub struct Server {
    /// Where it listens; several addresses may be given.
    #[arg(long, required = true)]
    pub listen: Vec<SocketAddr>,
    /// What it calls itself in its answers.
    #[arg(long)]
    pub name: String,
}

/// The API.
#[derive(Args, Debug)]
pub struct Api {
    #[command(flatten)]
    pub server: Server,
    /// Where it listens with TLS of its own, besides.
    #[arg(long, requires = "certificate")]
    pub secure: Option<SocketAddr>,
    /// The certificate and key for that (PEM).
    #[arg(long)]
    pub certificate: Option<PathBuf>,
}

/// The web front.
#[derive(Args, Debug)]
pub struct Web {
    #[command(flatten)]
    pub server: Server,
    /// host:port of the API.
    #[arg(long)]
    pub api: String,
    /// host:port of the gRPC service.
    #[arg(long)]
    pub greeter: String,
    /// host:port of the server-first TCP service.
    #[arg(long)]
    pub banner: String,
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    Http1,
    Http2,
    Grpc,
    #[value(name = "grpc-stream")]
    GrpcStream,
    Websocket,
    Banner,
    /// HTTP/1 in TLS of the application's own.
    Tls,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Family {
    V4,
    V6,
}

/// A client.
#[derive(Args, Clone, Debug)]
pub struct Client {
    /// What it speaks.
    #[arg(long, value_enum)]
    pub protocol: Protocol,
    /// host:port that it calls.
    #[arg(long)]
    pub target: String,
    /// The certificate that a server's own TLS must have (PEM).
    #[arg(long, required_if_eq("protocol", "tls"))]
    pub trust: Option<PathBuf>,
    /// Calls only addresses of this family, for a name that has both.
    #[arg(long, value_enum)]
    pub family: Option<Family>,
    /// The path of requests.
    #[arg(long, default_value = "/")]
    pub path: String,
    /// A header of requests, `name: value`.
    #[arg(long)]
    pub header: Vec<String>,
    /// What stands in every body.
    #[arg(long, default_value = "hello")]
    pub body: String,
    /// Requests per second over all connections; 0: as fast as answers come.
    #[arg(long, default_value_t = 0)]
    pub rate: u32,
    /// Ends after this many requests; without it, at the end of standard input.
    #[arg(long)]
    pub count: Option<u64>,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 4)]
    pub connections: u32,
    /// A new connection for every request.
    #[arg(long)]
    pub reconnect: bool,
    /// Prints a line of counts every second.
    #[arg(long)]
    pub progress: bool,
}

/// A packet capture.
#[derive(Args, Debug)]
pub struct Capture {
    /// The file, in pcap form.
    #[arg(long)]
    pub file: PathBuf,
}

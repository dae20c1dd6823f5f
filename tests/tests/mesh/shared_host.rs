//! Two workloads of one host behind one sidecar are two members of the mesh to everybody else: callers are told apart by
//! their users, callees by their ports.
//!
//! Connections are redirected by `maille-init`, in a network namespace of the test's own: the test starts itself in it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use maille_tests::application::Application;
use maille_tests::binaries::Binaries;
use maille_tests::client;
use maille_tests::cluster::{Cluster, TRUST_DOMAIN};
use maille_tests::dns::Resolver;
use maille_tests::mesh::{Mesh, NAMESPACE, answers, ask, object};
use maille_tests::ports;
use maille_tests::process::{self, Finished, Process};
use maille_tests::sidecar::{Plan, Sidecar};
use maille_tests::wait;
use serde_json::{Value, json};

/// Set where the test runs in its namespace.
const INSIDE: &str = "MAILLE_TEST_IN_NAMESPACE";
/// Users that no host has by name, of each workload and of none.
const WEB: u32 = 61_001;
const API: u32 = 61_002;
const NOBODYS: u32 = 61_003;
/// Certificates, registration, health checks and pushes; other tests may hold both cores.
const LIMIT: Duration = Duration::from_secs(30);
/// A drain: withdrawals, `drainDelay` and `drainTimeout`.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Runs `body` in a network namespace in which there is nothing but the loopback. `test` is the test's whole name.
fn in_a_namespace(test: &str, body: impl Future<Output = anyhow::Result<()>>) {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(body).unwrap();
    }
    let possible = [
        "true",
        "iptables -t nat -S OUTPUT",
        "setpriv --version",
        "curl --version",
    ];
    for command in possible {
        let tried = Command::new("unshare")
            .args(["--net", "sh", "-c", command])
            .output();
        if !tried.as_ref().is_ok_and(|output| output.status.success()) {
            assert_ne!(
                std::env::var("CI").as_deref(),
                Ok("true"),
                "{command}: {tried:?}"
            );
            return eprintln!("SKIPPED: no namespace with `{command}` in it: {tried:?}");
        }
    }
    // Built out here, once.
    Binaries::get();
    let script = "ip link set lo up && exec \"$0\" \"$@\"";
    let status = Command::new("unshare")
        .args(["--net", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed in its namespace");
}

/// A host with the workloads `web` and `api`, and their applications.
struct Host {
    applications: BTreeMap<&'static str, Application>,
    process: Option<Process>,
    home: PathBuf,
    outbound: SocketAddr,
    mesh: SocketAddr,
    dns: SocketAddr,
    admin: SocketAddr,
    metrics: SocketAddr,
}

impl Host {
    /// Starts applications and sidecar; `token` gives each workload's token file.
    async fn start(cluster: &Cluster, token: impl Fn(&str) -> PathBuf) -> anyhow::Result<Host> {
        let home = cluster.path().join("host");
        std::fs::create_dir_all(&home)?;
        let mut applications = BTreeMap::new();
        for name in ["web", "api"] {
            applications.insert(name, Application::start(name).await?);
        }
        let [outbound, mesh, dns, admin, metrics] = [(); 5].map(|()| ports::free());
        let mut host = Host {
            applications,
            process: None,
            home,
            outbound,
            mesh,
            dns,
            admin,
            metrics,
        };
        let config = host.config(cluster, token);
        std::fs::write(host.file(), format!("{config:#}\n"))?;
        host.restart()?;
        Ok(host)
    }

    fn file(&self) -> PathBuf {
        self.home.join("proxy.yaml")
    }

    fn config(&self, cluster: &Cluster, token: impl Fn(&str) -> PathBuf) -> Value {
        let controllers: Vec<_> = cluster
            .controllers
            .iter()
            .map(|one| one.address("xds").to_string())
            .collect();
        let workload = |(name, port, users): (&'static str, u16, Value)| {
            json!({
                "namespace": NAMESPACE, "name": name, "serviceAccount": name,
                "joinTokenFile": token(name), "users": users,
                "labels": {"app": name}, "addresses": ["127.0.0.1"],
                "ports": [{
                    "name": "main", "port": port, "protocol": "http",
                    "application": self.applications[name].address(),
                    "health": {"tcp": {}, "interval": "200ms"},
                }],
            })
        };
        let members = [
            ("web", 80, json!([WEB])),
            ("api", 81, json!([API, "70000-79999"])),
        ];
        json!({
            "controllers": controllers, "trustDomain": TRUST_DOMAIN, "dataDir": self.home.join("data"),
            "workloads": members.map(workload),
            "listen": {
                "outbound": [self.outbound], "mesh": [self.mesh], "dns": [self.dns],
                "admin": self.admin, "metrics": [self.metrics],
            },
            "drainDelay": "200ms", "drainTimeout": "5s",
        })
    }

    fn restart(&mut self) -> anyhow::Result<()> {
        let arguments = ["run".into(), "--config".into(), self.file()];
        let process = Process::start("host", &self.home, &Binaries::get().proxy(), &arguments)?;
        self.process = Some(process);
        Ok(())
    }

    /// Waits until `/ready` says this.
    async fn says(&mut self, status: u16, text: &str) -> anyhow::Result<()> {
        let process = self.process.as_mut().context("it does not run")?;
        let metrics = self.metrics;
        let what = format!("the host's sidecar says {status} {text}");
        let said = wait::until(&what, LIMIT, async || {
            process.alive()?;
            let answer = client::get(metrics, "/ready").await?;
            let found = answer.status == status && answer.body.contains(text);
            ensure!(found, "{} {}", answer.status, answer.body);
            Ok::<_, anyhow::Error>(())
        });
        said.await.with_context(|| process.tail())
    }

    /// A page of its administration.
    async fn page(&self, path: &str) -> anyhow::Result<Value> {
        let answer = client::get(self.admin, path).await?;
        serde_json::from_str(&answer.body).context(answer.body)
    }

    /// The sum of a metric's series that have all of `parts`.
    async fn count(&self, metric: &str, parts: &[&str]) -> anyhow::Result<u64> {
        let text = client::get(self.metrics, "/metrics").await?.body;
        let wanted =
            |line: &&str| line.starts_with(metric) && parts.iter().all(|part| line.contains(part));
        let values = text.lines().filter(wanted);
        let values = values.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        Ok(values.sum())
    }

    /// Redirects this namespace's connections to virtual addresses, but for root's: the proxy's and the test's own.
    async fn redirect(&self) -> anyhow::Result<()> {
        let (outbound, mesh) = (self.outbound.port(), self.mesh.port());
        let arguments = format!(
            "--mode host --proxy-uid 0 --outbound-port {outbound} --mesh-port {mesh} --ipv6 off"
        );
        let arguments: Vec<_> = arguments.split(' ').collect();
        let done = process::run(&Binaries::get().init(), &arguments, LIMIT).await?;
        ensure!(
            done.code == Some(0),
            "maille-init: {}{}",
            done.out,
            done.err
        );
        Ok(())
    }
}

/// What a program of this user gets: the answer's status and body, 0 where there is none.
async fn call_as(user: u32, address: IpAddr) -> anyhow::Result<(u16, String)> {
    let url = format!("http://{address}:80/");
    let id = user.to_string();
    let arguments = [
        "--reuid",
        &id,
        "--regid",
        &id,
        "--clear-groups",
        "curl",
        "--silent",
        "--max-time",
        "10",
        "--write-out",
        "\n%{http_code}",
        &url,
    ];
    let Finished { out, .. } = process::run(Path::new("setpriv"), &arguments, LIMIT).await?;
    let (body, status) = out.rsplit_once('\n').context(out.clone())?;
    Ok((status.parse()?, body.to_owned()))
}

/// Waits until a program of this user is answered so, and the answer holds `text`.
async fn answered(user: u32, address: IpAddr, status: u16, text: &str) -> anyhow::Result<()> {
    let what = format!("user {user} is answered with {status} {text} at {address}");
    wait::until(&what, LIMIT, async || {
        let (found, body) = call_as(user, address).await?;
        ensure!(found == status && body.contains(text), "{found} {body}");
        Ok::<_, anyhow::Error>(())
    })
    .await
}

fn identity(account: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{account}")
}

/// The host, a server `db` elsewhere, a Service for each of the three, and the caller's listeners for `web` and `api`.
struct World {
    mesh: Mesh,
    host: Host,
    web: SocketAddr,
    api: SocketAddr,
    db: IpAddr,
}

impl World {
    async fn new() -> anyhow::Result<World> {
        let mut mesh = Mesh::start("http", &["db"]).await?;
        let tokens = mesh.cluster.path().to_owned();
        for name in ["web", "api"] {
            let token = mesh.cluster.token(NAMESPACE, name).await?;
            std::fs::write(tokens.join(name), token)?;
        }
        let mut host = Host::start(&mesh.cluster, |name| tokens.join(name)).await?;
        host.says(200, "ready").await?;
        let services = [("db", "db"), ("web", "web"), ("api", "api")];
        let [_, web, api] = mesh.services("http", &services).await?[..] else {
            anyhow::bail!("three listeners");
        };
        // `api` has another port on its host than the Service.
        let port = json!({"name": "main", "port": 80, "targetPort": "main", "appProtocol": "http"});
        let spec = json!({"selector": {"app": "api"}, "ports": [port]});
        mesh.apply(&object("Service", "api", &spec)).await?;
        host.redirect().await?;
        let resolver = Resolver::new(host.dns).await?;
        let db = wait::until("the host's DNS knows db", LIMIT, async || {
            resolver.v4(&format!("db.{NAMESPACE}.mesh")).await
        });
        let (db, _) = db.await?;
        Ok(World {
            mesh,
            host,
            web,
            api,
            db,
        })
    }

    /// A caller elsewhere is answered by the right application, under the right identity.
    async fn each_answers(&self) -> anyhow::Result<()> {
        for (name, listen) in [("web", self.web), ("api", self.api)] {
            answers(listen).await?;
            let seen = ask(listen, "GET /").await?.seen()?;
            ensure!(
                seen.field("server") == name,
                "{name}: {}",
                seen.field("server")
            );
            let forwarded = seen.header("x-forwarded-client-cert");
            let expected = format!("By={};URI={}", identity(name), identity("caller"));
            ensure!(forwarded == expected, "{name}: {forwarded}");
        }
        Ok(())
    }

    /// A server elsewhere sees another identity by each user.
    async fn each_calls(&self) -> anyhow::Result<()> {
        for (user, name) in [(WEB, "web"), (API, "api"), (70_001, "api")] {
            answered(user, self.db, 200, &format!("URI={}", identity(name))).await?;
        }
        Ok(())
    }
}

#[test]
fn two_workloads_of_a_host_are_two_members() {
    let test = "shared_host::two_workloads_of_a_host_are_two_members";
    in_a_namespace(test, async {
        let world = World::new().await?;
        world.each_answers().await?;
        world.each_calls().await?;
        let host = &world.host;
        for name in ["web", "api"] {
            let workload = format!("workload=\"{NAMESPACE}/{name}\"");
            for direction in ["inbound", "outbound"] {
                let parts = [workload.as_str(), direction, "2xx"];
                let counted = host.count("maille_requests_total", &parts).await?;
                ensure!(counted > 0, "{parts:?}");
            }
        }

        // Policies tell them apart.
        let rules = json!([{"from": [{"identities": [identity("web")]}]}]);
        let selector = json!({"matchLabels": {"app": "db"}});
        let spec = json!({"selector": selector, "action": "Allow", "rules": rules});
        let policy = object("AuthorizationPolicy", "only-web", &spec);
        world.mesh.apply(&policy).await?;
        answered(API, world.db, 403, "").await?;
        answered(WEB, world.db, 200, "").await?;

        // Whoever is nobody's goes nowhere, is counted each time and named once.
        for _ in 0..3 {
            let (status, body) = call_as(NOBODYS, world.db).await?;
            ensure!(status == 0, "{status} {body}");
        }
        let refused = host
            .count("maille_errors_total", &["unclaimed_user"])
            .await?;
        ensure!(refused == 3, "{refused} refusals were counted");
        let log = world.host.process.as_ref().context("it runs")?.log();
        let named = log
            .lines()
            .filter(|line| line.contains("no workload names"));
        let named: Vec<_> = named.filter(|line| line.contains("61003")).collect();
        ensure!(named.len() == 1, "{named:?}");
        Ok(())
    });
}

#[test]
fn what_becomes_of_one_workload_leaves_the_other() {
    let test = "shared_host::what_becomes_of_one_workload_leaves_the_other";
    in_a_namespace(test, async {
        let mut world = World::new().await?;
        world.each_answers().await?;
        let leaves = async |host: &Host| -> anyhow::Result<Vec<Value>> {
            let page = host.page("/certificates").await?;
            let leaf = |name| page["workloads"][name]["chain"][0]["sha256"].clone();
            Ok(vec![leaf("shop/web"), leaf("shop/api")])
        };
        let before = leaves(&world.host).await?;
        ensure!(
            before[0] != before[1] && before[0].is_string(),
            "{before:?}"
        );

        // One application is gone: only its endpoint is unhealthy.
        let at = world.host.applications["web"].address();
        world.host.applications.remove("web");
        let health = |config: &Value, service: &str| {
            let name = format!("{NAMESPACE}/{service}:80");
            config["endpoints"][name][0]["health"].clone()
        };
        let caller = world.mesh.caller.admin;
        wait::until("web's endpoint is unhealthy", LIMIT, async || {
            let config: Value = serde_json::from_str(&client::get(caller, "/config").await?.body)?;
            let [web, api] = ["web", "api"].map(|service| health(&config, service));
            ensure!(
                web == "unhealthy" && api == "healthy",
                "{web} {api}: {config:#}"
            );
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        ensure!(ask(world.api, "GET /").await?.status == 200);
        let again = Application::start_at("web", at).await?;
        world.host.applications.insert("web", again);
        world.each_answers().await?;

        // A restart needs no token and keeps both.
        for name in ["web", "api"] {
            std::fs::remove_file(world.mesh.cluster.path().join(name))?;
        }
        let process = world.host.process.take().context("it runs")?;
        let ended = process.stop(STOP_LIMIT).await?;
        ensure!(ended.success(), "{ended}");
        world.host.restart()?;
        world.host.says(200, "ready").await?;
        ensure!(leaves(&world.host).await? == before, "other certificates");
        world.each_answers().await?;
        world.each_calls().await
    });
}

#[tokio::test]
async fn a_used_up_token_of_one_workload_leaves_the_other() -> anyhow::Result<()> {
    let mut mesh = Mesh::start("http", &[]).await?;
    let tokens = mesh.cluster.path().to_owned();
    // Somebody else has used `api`'s.
    Sidecar::start(&mesh.cluster, Plan::caller(NAMESPACE, "api")).await?;
    let used = tokens.join(format!("proxy-{NAMESPACE}-api")).join("token");
    std::fs::copy(used, tokens.join("api"))?;
    std::fs::write(
        tokens.join("web"),
        mesh.cluster.token(NAMESPACE, "web").await?,
    )?;
    let mut host = Host::start(&mesh.cluster, |name| tokens.join(name)).await?;
    host.says(503, "a certificate of shop/api (").await?;
    host.says(503, "refused the join token").await?;
    let listen = mesh.service("web", "web").await?;
    ensure!(ask(listen, "GET /").await?.status == 200);
    let status = host.page("/status").await?;
    ensure!(status["workloads"]["shop/web"]["identity"] == identity("web").as_str());
    let trouble = status["workloads"]["shop/api"]["trouble"].to_string();
    ensure!(trouble.contains("maille token create"), "{trouble}");
    // The token that it says it needs is enough.
    std::fs::write(
        tokens.join("api"),
        mesh.cluster.token(NAMESPACE, "api").await?,
    )?;
    host.says(200, "ready").await
}

/// An Envoy or a gRPC program is one workload: neither its agent nor what is told to it takes a host's configuration.
#[tokio::test]
async fn an_agent_does_not_stand_beside_several() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let file = home.path().join("host.yaml");
    let workload = json!({"namespace": NAMESPACE, "name": "web", "addresses": ["127.0.0.1"]});
    let config = json!({"controllers": ["127.0.0.1:1"], "workloads": [workload]});
    std::fs::write(&file, config.to_string())?;
    let file: OsString = file.into();
    let binaries = Binaries::get();
    for (program, words) in [
        (binaries.proxy(), "agent --config"),
        (binaries.cli(), "envoy bootstrap --config"),
        (binaries.cli(), "grpc bootstrap --config"),
    ] {
        let mut arguments: Vec<OsString> = words.split(' ').map(Into::into).collect();
        arguments.push(file.clone());
        let ended = process::run(&program, &arguments, LIMIT).await?;
        ensure!(ended.code != Some(0), "{words}: {ended:?}");
        let expected = "workloads: only a sidecar stands beside several";
        ensure!(ended.err.contains(expected), "{words}: {}", ended.err);
    }
    Ok(())
}

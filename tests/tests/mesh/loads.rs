//! What `maille stat` says is what was called: by a native sidecar, an Envoy and a gRPC program, before and after the death of a controller.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use maille_tests::application::Application;
use maille_tests::binaries::{Binaries, Grpc};
use maille_tests::client;
use maille_tests::cluster::Cluster;
use maille_tests::mesh::{NAMESPACE, answers, ask, object, service};
use maille_tests::ports;
use maille_tests::process::run;
use maille_tests::sidecar::{Kind, Plan, Sidecar};
use maille_tests::wait;
use serde_json::{Value, json};

use crate::grpc::programs::{self, Call, Server, Tally, target, until};

/// Reports come once a second; an Envoy whose stream has ended opens the next after five.
const LIMIT: Duration = Duration::from_secs(40);
/// The services that answer by HTTP. By the first it is seen that a client counts; the others are called so many times exactly.
const SERVICES: [&str; 3] = ["first", "before", "after"];

/// `maille stat` with these arguments, for programs.
async fn stat(cluster: &Cluster, admin: &str, arguments: &[&str]) -> anyhow::Result<Value> {
    let directory = cluster.path().join(admin).to_string_lossy().into_owned();
    let mut all = vec!["--admin", &directory, "-o", "json", "stat", "-t", "300"];
    all.extend(arguments);
    let done = run(&Binaries::get().cli(), &all, LIMIT).await?;
    ensure!(done.code == Some(0), "{done:?}");
    Ok(serde_json::from_str(&done.out)?)
}

/// The counts of these names of one client's calls to a service; 0 where there is no line.
async fn counts<const N: usize>(
    cluster: &Cluster,
    (client, service): (&str, &str),
    names: [&str; N],
) -> anyhow::Result<[u64; N]> {
    let arguments = ["-n", NAMESPACE, "--from", client, "--to", service];
    let answer = stat(cluster, "admin", &arguments).await?;
    let lines = answer["loads"].as_array().context("there are lines")?;
    ensure!(lines.len() < 2, "{answer:#}");
    let count = |name| {
        lines
            .first()
            .map_or(0, |one: &Value| one[name].as_u64().unwrap())
    };
    Ok(names.map(count))
}

/// An application behind a native sidecar, all services, and who calls them.
struct Stage {
    cluster: Cluster,
    application: Application,
    callers: Vec<(Sidecar, Vec<SocketAddr>)>,
    _server: Sidecar,
}

impl Stage {
    async fn start(controllers: usize) -> anyhow::Result<Stage> {
        let often = |config: &mut Value| config["loadReportSeconds"] = json!(1);
        let cluster = Cluster::found_with(controllers, often).await?;
        let at = ports::free();
        let application = Application::start_at("web", at).await?;
        let server = Sidecar::start(&cluster, Plan::server(NAMESPACE, "web", "http", at)).await?;
        let services = SERVICES.map(|name| format!("{:#}", service(name, "web", "http")));
        cluster.apply(&services.join("\n---\n")).await?;
        let mut callers = Vec::new();
        for kind in [Kind::Native, Kind::Envoy] {
            callers.push(caller(&cluster, kind).await?);
        }
        Ok(Stage {
            cluster,
            application,
            callers,
            _server: server,
        })
    }

    /// Every caller has been heard of. What an Envoy calls before it has reported once is not counted by it.
    async fn heard(&self) -> anyhow::Result<()> {
        for (sidecar, listeners) in &self.callers {
            let name = &sidecar.plan.name;
            answers(listeners[0]).await?;
            wait::until("its first calls are reported", LIMIT, async || {
                ask(listeners[0], "GET /").await?;
                let pair = (name.as_str(), SERVICES[0]);
                let [issued] = counts(&self.cluster, pair, ["issued"]).await?;
                ensure!(issued > 0, "{name} has reported nothing");
                Ok::<_, anyhow::Error>(())
            })
            .await?;
        }
        Ok(())
    }

    /// Calls a service exactly so often, good and failing, and waits until that is what is reported.
    async fn called(&self, place: usize, good: u64, failing: u64) -> anyhow::Result<()> {
        for (sidecar, listeners) in &self.callers {
            let key = format!("{}-{place}", sidecar.plan.name);
            for (count, line) in [
                (good, format!("GET / x-key={key}")),
                (failing, format!("GET / x-key={key} x-reply-status=500")),
            ] {
                for _ in 0..count {
                    ask(listeners[place], &line).await?;
                }
            }
            let reached = self.application.attempts(&key);
            ensure!(reached == good + failing, "{key}: {reached} came");
        }
        for (sidecar, _) in &self.callers {
            let pair = (sidecar.plan.name.as_str(), SERVICES[place]);
            let names = ["issued", "succeeded", "failed", "inProgress"];
            let wanted = [good + failing, good, failing, 0];
            wait::until(&format!("{pair:?} are counted"), LIMIT, async || {
                let found = counts(&self.cluster, pair, names).await?;
                ensure!(found == wanted, "{found:?} instead of {wanted:?}");
                Ok::<_, anyhow::Error>(())
            })
            .await?;
        }
        Ok(())
    }

    /// The first controller that clients report to.
    async fn reported_to(&self) -> anyhow::Result<usize> {
        for (index, controller) in self.cluster.controllers.iter().enumerate() {
            let metrics = client::get(controller.address("health"), "/metrics").await?;
            let mut lines = metrics.body.lines();
            let streams = lines.find_map(|line| line.split_once("load_streams "));
            let (_, streams) = streams.context("streams of reports are counted")?;
            if streams.trim() != "0" {
                return Ok(index);
            }
        }
        anyhow::bail!("nobody reports to any controller")
    }
}

/// A caller with a listener for each service.
async fn caller(cluster: &Cluster, kind: Kind) -> anyhow::Result<(Sidecar, Vec<SocketAddr>)> {
    let name = format!("caller-{kind:?}").to_lowercase();
    let sidecar = Sidecar::start(cluster, Plan::caller(NAMESPACE, &name).of(kind)).await?;
    let listeners = SERVICES.map(|_| ports::free());
    let upstreams: Vec<Value> = SERVICES
        .iter()
        .zip(listeners)
        .map(|(name, listen)| json!({"listen": listen, "service": {"name": name, "port": 80}}))
        .collect();
    let spec = json!({"serviceAccount": name, "upstreams": upstreams});
    let index = cluster.apply(&object("Workload", &name, &spec)).await?;
    sidecar.clean(cluster, index).await?;
    Ok((sidecar, listeners.to_vec()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sidecars_report_is_what_was_called_and_goes_on_at_another_controller()
-> anyhow::Result<()> {
    let mut stage = Stage::start(3).await?;
    stage.heard().await?;
    stage.called(1, 20, 5).await?;

    let timed = ["meanAnswerSeconds", "requestsPerSecond", "successRate"];
    for (caller, knows) in [("caller-native", true), ("caller-envoy", false)] {
        let arguments = ["-n", NAMESPACE, "--from", caller, "--to", SERVICES[1]];
        let answer = stat(&stage.cluster, "admin", &arguments).await?;
        let line = &answer["loads"][0];
        let [mean, rate, success] = timed.map(|name| line[name].as_f64());
        ensure!(mean.is_some_and(|mean| mean > 0.0) == knows, "{line:#}");
        ensure!(success == Some(0.8), "{line:#}");
        ensure!(rate.is_some_and(|rate| rate > 25.0 / 300.0), "{line:#}");
    }

    let dead = stage.reported_to().await?;
    stage.cluster.kill(dead).await?;
    stage.called(2, 8, 3).await?;
    let answer = stat(&stage.cluster, "admin", &["-n", NAMESPACE]).await?;
    let name = &stage.cluster.controllers[dead].name;
    ensure!(answer["silentControllers"] == json!([name]), "{answer:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_program_reports_what_it_called() -> anyhow::Result<()> {
    let often = |config: &mut Value| config["loadReportSeconds"] = json!(1);
    let cluster = Cluster::found_with(1, often).await?;
    let agent = Sidecar::start(&cluster, Plan::caller(NAMESPACE, "program").of(Kind::Grpc)).await?;
    let plan = programs::plan("greeter", Kind::Native);
    let server = Server::start(&cluster, plan, Grpc::C).await?;
    let call = Call::of(Grpc::C, &agent, &target("greeter"));
    until(&call, "is answered", |tally| tally.ok == 1).await?;
    let good = ["--count 20 --stay 4", "succeeded"];
    reported(&cluster, &call, good, |tally| tally.ok).await?;
    server.deny(&cluster, &agent.identity()).await?;
    until(&call, "is denied", |tally| tally.refused == 1).await?;
    let denied = ["--count 5 --stay 4", "failed"];
    reported(&cluster, &call, denied, |tally| tally.refused).await
}

/// Makes calls, and waits until as many of that outcome are reported. A program that ends at once reports nothing, so this one stays.
async fn reported(
    cluster: &Cluster,
    call: &Call,
    [line, outcome]: [&str; 2],
    of: impl Fn(&Tally) -> u64,
) -> anyhow::Result<()> {
    let pair = ("program", "greeter");
    let names = ["issued", "succeeded", "failed"];
    let before = counts(cluster, pair, names).await?;
    let tally = call.clone().with(line).make().await?;
    ensure!(of(&tally) == tally.sent, "{tally:?}");
    let more = |name: &str| match name == "issued" || name == outcome {
        true => tally.sent,
        false => 0,
    };
    wait::until("its calls are counted", LIMIT, async || {
        let found = counts(cluster, pair, names).await?;
        for ((name, before), found) in names.iter().zip(before).zip(found) {
            ensure!(
                found == before + more(name),
                "{name}: {before}, then {found}"
            );
        }
        Ok::<_, anyhow::Error>(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_not_reported_is_named_and_a_viewer_sees_its_namespaces() -> anyhow::Result<()>
{
    let stage = Stage::start(1).await?;
    stage.heard().await?;
    let agent = Plan::caller(NAMESPACE, "mute").of(Kind::Grpc);
    let _agent = Sidecar::start(&stage.cluster, agent).await?;
    let reporters = async |admin: &str| {
        let answer = stat(&stage.cluster, admin, &["-A"]).await?;
        let lines = answer["loads"].as_array().context("lines")?.len();
        let all = answer["reporters"].as_array().context("reporters")?.clone();
        let of = |one: Value| (one["client"].to_string(), one["reports"] == true);
        Ok::<_, anyhow::Error>((lines, all.into_iter().map(of).collect::<Vec<_>>()))
    };
    let (lines, told) = reporters("admin").await?;
    let quoted = |name: &str| format!("\"{NAMESPACE}/{name}\"");
    ensure!(lines == 2, "{lines}");
    for (name, reports) in [("caller-native", true), ("caller-envoy", true)] {
        ensure!(told.contains(&(quoted(name), reports)), "{told:?}");
    }
    for (namespace, seen) in [(NAMESPACE, 2), ("other", 0)] {
        let admin = crate::told::viewer(&stage.cluster, namespace).await?;
        let (lines, told) = reporters(&admin).await?;
        ensure!(lines == seen && told.is_empty() == (seen == 0), "{told:?}");
    }
    let wrong = ["--admin", "nowhere", "stat", "-t", "9"];
    let done = run(&Binaries::get().cli(), &wrong, LIMIT).await?;
    ensure!(done.code == Some(2) && done.err.contains("9"), "{done:?}");
    Ok(())
}

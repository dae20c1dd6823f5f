//! The running demo: controllers, sidecars, applications, and the trickle of traffic.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use xds_api::generated::maille::v1 as api;

use crate::args::dev::{Family, Protocol};
use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::printer::say;

use super::app::tally::Tally;
use super::controllers::Controllers;
use super::demo::{self, Kind, Set, Target, Workload};
use super::layout::{CONTROLLERS, Layout};
use super::namespaces::{HUB, Namespaces};
use super::process::App;
use super::sidecars::{Ground, Sidecar};

/// From the last sidecar's readiness until all its callers know: a few exchanges with the controllers.
const SETTLE_LIMIT: Duration = Duration::from_secs(45);
/// The trickle that keeps the picture alive, in pages a second: each is three calls behind the front.
const TRICKLE: u32 = 10;

/// For a limited number of calls: ten seconds for each that hangs, and a machine that is busy.
const COUNT_LIMIT: Duration = Duration::from_secs(180);

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) sets: &'static [Set],
    pub(crate) ground: Ground,
    pub(crate) controllers: Controllers,
    pub(crate) sidecars: BTreeMap<&'static str, Sidecar>,
    pub(crate) apps: BTreeMap<&'static str, App>,
    clients: u32,
    /// One writer for as long as the demo runs: a controller that stood still may pass an old write on, and a later one stays.
    writer: String,
    sequence: u64,
}

/// Who makes load.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caller {
    /// A workload, through its sidecar.
    Workload(Workload),
    /// Somebody on the same network without a sidecar.
    Outsider,
}

/// The load that a client is to make.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) protocol: Protocol,
    pub(crate) target: String,
    pub(crate) family: Option<Family>,
    pub(crate) path: String,
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
    pub(crate) rate: u32,
    pub(crate) count: Option<u64>,
    pub(crate) connections: u32,
    pub(crate) reconnect: bool,
}

impl Load {
    /// `count` calls as fast as answers come.
    pub(crate) fn of(protocol: Protocol, target: impl Into<String>, count: u64) -> Load {
        Load {
            count: Some(count),
            ..Load::steady(protocol, target, 0)
        }
    }

    /// Calls at a rate until stopped.
    pub(crate) fn steady(protocol: Protocol, target: impl Into<String>, rate: u32) -> Load {
        Load {
            protocol,
            target: target.into(),
            family: None,
            path: "/".into(),
            headers: Vec::new(),
            body: "hello".into(),
            rate,
            count: None,
            connections: 4,
            reconnect: false,
        }
    }

    fn arguments(&self) -> Vec<String> {
        use clap::ValueEnum;
        let word = |value: Option<clap::builder::PossibleValue>| {
            value
                .map(|value| value.get_name().to_string())
                .unwrap_or_default()
        };
        let mut arguments = vec!["client".to_string(), "--progress".into()];
        let mut flag = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        flag("protocol", word(self.protocol.to_possible_value()));
        flag("target", self.target.clone());
        flag("path", self.path.clone());
        flag("body", self.body.clone());
        flag("rate", self.rate.to_string());
        flag("connections", self.connections.to_string());
        if let Some(family) = self.family {
            flag("family", word(family.to_possible_value()));
        }
        if let Some(count) = self.count {
            flag("count", count.to_string());
        }
        self.headers
            .iter()
            .for_each(|header| flag("header", header.clone()));
        if self.reconnect {
            arguments.push("--reconnect".into());
        }
        arguments
    }
}

impl Mesh {
    /// Builds everything. `spares`: also what only the checks need.
    pub(crate) async fn start(ground: Ground, sets: &'static [Set], spares: bool) -> Outcome<Mesh> {
        let begun = Instant::now();
        let mut workloads = demo::workloads(sets);
        workloads.retain(|workload| spares || !workload.spare);
        if ground.layout.namespaces() {
            let namespaces = Namespaces::of(ground.run.id());
            say(&format!(
                "making {} network namespaces",
                workloads.len() + 1
            ));
            namespaces
                .make_hub(&CONTROLLERS.map(|(_, host)| host))
                .await?;
            for workload in &workloads {
                namespaces.make_host(workload.name, workload.host).await?;
            }
        }
        say("founding a cluster of three controllers");
        let controllers = Controllers::found(&ground.run, &ground.layout, &ground.launcher).await?;
        let mut mesh = Mesh {
            sets,
            ground,
            writer: controllers.cluster().writer().to_string(),
            controllers,
            sidecars: BTreeMap::new(),
            apps: BTreeMap::new(),
            clients: 0,
            sequence: 0,
        };
        let mut objects = demo::objects(sets);
        objects.push(demo::settings(false));
        objects.extend(
            workloads
                .iter()
                .map(|workload| (workload, mesh.ground.layout.listeners(workload)))
                .filter(|(_, listeners)| !listeners.is_empty())
                .map(|(workload, listeners)| demo::upstreams(workload, &listeners)),
        );
        mesh.apply(&objects).await?;
        say(&format!(
            "starting {} workloads, each with its sidecar",
            workloads.len()
        ));
        for workload in &workloads {
            mesh.open(workload).await?;
        }
        for workload in workloads
            .iter()
            .filter(|workload| workload.name != demo::API_V1_SPARE.name)
        {
            mesh.run_workload(workload).await?;
        }
        for workload in workloads
            .iter()
            .filter(|workload| workload.name != demo::API_V1_SPARE.name)
        {
            mesh.await_ready(workload).await?;
        }
        for set in sets {
            mesh.settle(&set.web).await?;
        }
        say(&format!(
            "the mesh is up after {:.1} s",
            begun.elapsed().as_secs_f64()
        ));
        Ok(mesh)
    }

    async fn open(&mut self, workload: &Workload) -> Outcome {
        self.ground.redirect(workload).await
    }

    /// Starts a workload's application and sidecar.
    pub(crate) async fn run_workload(&mut self, workload: &Workload) -> Outcome {
        if workload.kind == Kind::Grpc {
            // A program is told by the agent's configuration.
            self.run_sidecar(workload).await?;
            return self.run_application(workload).await;
        }
        self.run_application(workload).await?;
        self.run_sidecar(workload).await
    }

    async fn run_application(&mut self, workload: &Workload) -> Outcome {
        if let Some(app) = self.ground.application(workload).await? {
            self.apps.insert(workload.name, app);
        }
        Ok(())
    }

    async fn run_sidecar(&mut self, workload: &Workload) -> Outcome {
        if let Some(known) = self.sidecars.get_mut(workload.name) {
            return known.start(&self.ground.launcher);
        }
        let cluster = self.controllers.cluster();
        let sidecar = self.ground.sidecar(workload, &cluster).await?;
        self.sidecars.insert(workload.name, sidecar);
        Ok(())
    }

    /// Waits until a workload's sidecar is ready.
    pub(crate) async fn await_ready(&mut self, workload: &Workload) -> Outcome {
        match self.sidecars.get_mut(workload.name) {
            Some(sidecar) => self.ground.ready(sidecar).await,
            None => Err(Failure::failed(format!("{} has no sidecar", workload.name))),
        }
    }

    /// Has a workload drain and end: first the sidecar, which says so to all callers, then the application.
    pub(crate) async fn end_workload(&mut self, workload: &Workload) -> Outcome {
        if let Some(sidecar) = self.sidecars.get_mut(workload.name) {
            sidecar.drain().await?;
        }
        match self.apps.remove(workload.name) {
            Some(app) => app.stop().await.map(drop),
            None => Ok(()),
        }
    }

    /// Waits until the front's pages are whole: every part of the mesh has done its work then.
    async fn settle(&mut self, front: &Workload) -> Outcome {
        let deadline = Instant::now() + SETTLE_LIMIT;
        loop {
            let load = Load {
                connections: 1,
                ..Load::of(Protocol::Http1, self.front(front), 3)
            };
            let tally = self.count(Caller::Outsider, load).await?;
            if tally.failed == 0 && tally.refused == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(
                    Failure::failed(format!("the demo's pages fail: {:?}", tally.errors))
                        .next("`--keep` keeps the logs"),
                );
            }
        }
    }

    /// Where a front is visited: in namespaces through its sidecar's redirection, on loopback at the application itself.
    fn front(&self, web: &Workload) -> String {
        match self.ground.layout {
            Layout::Namespaces => self.ground.layout.outside(web, 8080),
            Layout::Loopback(_) => self.ground.layout.application(web, 8080).to_string(),
        }
    }

    /// Starts the trickle of visits to a front.
    pub(crate) fn trickle(&mut self, web: &Workload) -> Outcome<App> {
        let load = Load {
            connections: 2,
            ..Load::steady(Protocol::Http1, self.front(web), TRICKLE)
        };
        self.client(Caller::Outsider, &load)
    }

    /// What a workload's application calls to reach a destination.
    pub(crate) fn target(&self, client: &Workload, target: Target, family: Family) -> String {
        self.ground.layout.target(client, target, family)
    }

    /// Starts a client.
    pub(crate) fn client(&mut self, caller: Caller, load: &Load) -> Outcome<App> {
        self.clients += 1;
        let host = match caller {
            Caller::Workload(workload) => workload.name,
            Caller::Outsider => HUB,
        };
        let mut arguments = load.arguments();
        if load.protocol == Protocol::Tls {
            let certificate = self.ground.certificate.display().to_string();
            arguments.extend(["--trust".into(), certificate]);
        }
        self.ground
            .launcher
            .app(host, &format!("client-{}", self.clients), &arguments)
    }

    /// Makes a limited number of calls and gives their count.
    pub(crate) async fn count(&mut self, caller: Caller, load: Load) -> Outcome<Tally> {
        self.client(caller, &load)?.done(COUNT_LIMIT).await
    }

    /// The same by a program with gRPC's xDS in it.
    pub(crate) async fn count_grpc(
        &mut self,
        caller: &Workload,
        target: Target,
        load: Load,
    ) -> Outcome<Tally> {
        self.client_grpc(caller, target, &load)?
            .done(COUNT_LIMIT)
            .await
    }

    /// Starts such a program.
    pub(crate) fn client_grpc(
        &mut self,
        caller: &Workload,
        target: Target,
        load: &Load,
    ) -> Outcome<App> {
        self.clients += 1;
        let name = format!("client-{}", self.clients);
        self.ground.call_grpc(caller, target, (&name, load))
    }

    /// Applies objects through any controller.
    pub(crate) async fn apply(&mut self, objects: &[Value]) -> Outcome {
        self.sequence += 1;
        let write = (self.writer.as_str(), self.sequence);
        apply(&self.controllers.cluster(), write, objects)
            .await
            .map(drop)
    }
}

/// Applies objects and gives the mesh index.
async fn apply(
    cluster: &Cluster,
    (writer, sequence): (&str, u64),
    objects: &[Value],
) -> Outcome<u64> {
    let documents = vec![api::Document {
        file: "demo".into(),
        text: demo::document(objects),
    }];
    let request = api::ApplyRequest {
        documents,
        dry_run: false,
        client: writer.to_string(),
        sequence,
    };
    let answer = cluster
        .call(async |mut client| Ok(client.apply(request.clone()).await?.into_inner()))
        .await;
    Ok(answer
        .map_err(|status| {
            Failure::from_status("apply the demo's objects", &status, &request.documents)
        })?
        .index)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;
    use crate::args::dev::App as Application;
    use crate::args::{Arguments, Command};

    #[test]
    fn a_load_is_what_the_client_reads() {
        let load = Load {
            family: Some(Family::V6),
            headers: vec!["a: b".into()],
            reconnect: true,
            ..Load::of(Protocol::GrpcStream, "x:1", 7)
        };
        let line = ["maille", "dev-app"]
            .map(String::from)
            .into_iter()
            .chain(load.arguments());
        let Command::DevApp(app) = Arguments::try_parse_from(line).unwrap().command else {
            panic!("not an application")
        };
        let Application::Client(client) = app.app else {
            panic!("not a client")
        };
        assert_eq!(
            (client.protocol, client.family),
            (Protocol::GrpcStream, Some(Family::V6))
        );
        assert_eq!(
            (client.count, client.rate, client.reconnect),
            (Some(7), 0, true)
        );
        assert_eq!(
            (client.target, client.header),
            ("x:1".to_string(), vec!["a: b".to_string()])
        );
    }
}

//! The demo's three controllers: their secrets and configuration, and starting, killing and finding the leader among them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;
use xds_api::generated::maille::v1 as api;

use crate::cluster::{Cluster, Endpoint};
use crate::failure::{Failure, Outcome};
use crate::sibling;

use super::demo::TRUST_DOMAIN;
use super::layout::{CONTROLLERS, Layout, Use};
use super::namespaces::HUB;
use super::process::{Launch, Launcher, Process};
use super::run_directory::RunDirectory;

/// Founding a cluster takes a second; a busy machine may need longer.
const FOUNDING_LIMIT: Duration = Duration::from_secs(60);
/// Handing leadership over, ending streams, flushing.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// How long a call may try in the ordinary course of the demo.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long one controller is given to answer when all are asked for their view. Each hashes all that it serves: seconds in a debug build on a busy
/// machine, and whoever asks again before it has answered only makes it slower.
const GLANCE: Duration = Duration::from_secs(8);
/// Between two looks at whether something has come about.
const LOOK: Duration = Duration::from_millis(50);

/// Entries by which views differ under steady writes, because they are of different moments.
const LAG: u64 = 500;

/// One controller.
#[derive(Debug)]
pub(crate) struct Controller {
    pub(crate) name: &'static str,
    socket: PathBuf,
    launch: Launch,
    process: Option<Process>,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Controllers {
    pub(crate) members: Vec<Controller>,
    launcher: Launcher,
}

impl Controllers {
    /// Makes secrets and configuration, starts all three and waits until they have founded a cluster.
    pub(crate) async fn found(
        run: &RunDirectory,
        layout: &Layout,
        launcher: &Launcher,
    ) -> Outcome<Controllers> {
        let binary = sibling::binary("maille-controller")?;
        let secrets = run.path().join("secrets");
        let admin = run.path().join("admin");
        let mut arguments = vec![
            "init".into(),
            "--secrets".into(),
            secrets.into(),
            "--trust-domain".into(),
            TRUST_DOMAIN.into(),
        ];
        arguments.extend([OsString::from("--admin-dir"), admin.into()]);
        for member in CONTROLLERS {
            arguments.extend([
                OsString::from("--endpoint"),
                layout
                    .controller(member, Use::ControllerAdmin)
                    .to_string()
                    .into(),
            ]);
        }
        let init = Launch {
            name: "init".into(),
            host: HUB.into(),
            uid: None,
            program: binary.clone(),
            arguments,
        };
        launcher.run(&init).await?;
        let members = CONTROLLERS
            .iter()
            .map(|member| controller(run, layout, &binary, *member))
            .collect::<Outcome<Vec<_>>>()?;
        let mut controllers = Controllers {
            members,
            launcher: launcher.clone(),
        };
        for index in 0..controllers.members.len() {
            controllers.start(index)?;
        }
        controllers.ready().await?;
        Ok(controllers)
    }

    /// Starts one.
    pub(crate) fn start(&mut self, index: usize) -> Outcome {
        let member = &mut self.members[index];
        member.process = Some(self.launcher.daemon(&member.launch)?);
        Ok(())
    }

    /// Kills one as `kill -9` does.
    pub(crate) async fn kill(&mut self, index: usize) -> Outcome {
        match self.members[index].process.take() {
            Some(mut process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Restarts one as an operator does: it hands leadership over and ends, and is started again. Returns once all are ready.
    pub(crate) async fn restart(&mut self, index: usize) -> Outcome {
        if let Some(mut process) = self.members[index].process.take() {
            process.stop(STOP_LIMIT).await?;
        }
        self.start(index)?;
        self.ready().await
    }

    /// The cluster, by the sockets of all its controllers.
    pub(crate) fn cluster(&self) -> Cluster {
        self.cluster_with(PATIENCE)
    }

    /// The same with another patience.
    pub(crate) fn cluster_with(&self, patience: Duration) -> Cluster {
        Cluster::at(
            self.members
                .iter()
                .map(|member| Endpoint::Socket(member.socket.clone()))
                .collect(),
            patience,
        )
    }

    /// One controller alone.
    pub(crate) fn only(&self, index: usize, patience: Duration) -> Cluster {
        Cluster::at(
            vec![Endpoint::Socket(self.members[index].socket.clone())],
            patience,
        )
    }

    /// The sockets of all.
    pub(crate) fn sockets(&self) -> Vec<PathBuf> {
        self.members
            .iter()
            .map(|member| member.socket.clone())
            .collect()
    }

    /// What every controller that runs says of itself.
    pub(crate) async fn views(&self) -> Vec<Result<api::StatusResponse, Status>> {
        let running =
            (0..self.members.len()).filter(|index| self.members[*index].process.is_some());
        let asking = running.map(|index| {
            let cluster = self.only(index, GLANCE);
            async move {
                cluster
                    .call_once(async |mut client| {
                        Ok(client.status(api::StatusRequest {}).await?.into_inner())
                    })
                    .await
            }
        });
        futures_util::future::join_all(asking).await
    }

    /// The leader that all running controllers name, once they agree.
    pub(crate) async fn leader(&self) -> Outcome<usize> {
        let deadline = Instant::now() + FOUNDING_LIMIT;
        loop {
            let views = self.views().await;
            let names = views
                .iter()
                .map(|view| {
                    view.as_ref()
                        .map(|view| view.leader.clone())
                        .unwrap_or_default()
                })
                .collect::<Vec<_>>();
            let agreed = names
                .first()
                .filter(|first| !first.is_empty() && names.iter().all(|name| name == *first));
            if let Some(index) =
                agreed.and_then(|name| self.members.iter().position(|member| member.name == name))
            {
                return Ok(index);
            }
            if Instant::now() > deadline {
                return Err(Failure::failed(format!(
                    "the controllers agree on no leader: {views:?}"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until every controller runs, follows the same leader and has applied what the leader has committed.
    pub(crate) async fn ready(&mut self) -> Outcome {
        let deadline = Instant::now() + FOUNDING_LIMIT;
        loop {
            for member in &mut self.members {
                if member
                    .process
                    .as_mut()
                    .is_some_and(|process| process.ended().is_some())
                {
                    let process = member.process.take();
                    return Err(process.map_or_else(
                        || Failure::failed("a controller ended"),
                        |process| process.failure("ended"),
                    ));
                }
            }
            let views = self.views().await;
            if settled(&views) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.unready(&views));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn unready(&self, views: &[Result<api::StatusResponse, Status>]) -> Failure {
        let what = format!("is not ready; the controllers say {views:?}");
        let silent = self
            .members
            .iter()
            .zip(views)
            .find(|(_, view)| view.is_err())
            .map_or(&self.members[0], |(member, _)| member);
        silent.process.as_ref().map_or_else(
            || Failure::failed(what.clone()),
            |process| process.failure(&what),
        )
    }
}

/// Whether all answer, name one leader and stand at one index.
fn settled(views: &[Result<api::StatusResponse, Status>]) -> bool {
    let Ok(views) = views
        .iter()
        .map(Result::as_ref)
        .collect::<Result<Vec<_>, _>>()
    else {
        return false;
    };
    let committed = views
        .iter()
        .map(|view| view.committed)
        .max()
        .unwrap_or_default();
    let one_leader = views
        .windows(2)
        .all(|pair| pair[0].leader == pair[1].leader)
        && views.iter().all(|view| !view.leader.is_empty());
    one_leader
        && committed > 0
        && views
            .iter()
            .all(|view| view.applied + LAG >= committed && !view.sealed)
}

fn controller(
    run: &RunDirectory,
    layout: &Layout,
    binary: &std::path::Path,
    member: (&'static str, super::namespaces::Host),
) -> Outcome<Controller> {
    let name = member.0;
    let address = |usage| layout.controller(member, usage);
    let socket = run.path().join(name).join("admin.sock");
    let peers = CONTROLLERS.map(|other| layout.controller(other, Use::Peers).to_string());
    let config = serde_json::json!({
        "name": name,
        "dataDir": run.path().join(name).join("data"),
        "secrets": run.path().join("secrets"),
        "trustDomain": TRUST_DOMAIN,
        "listen": {
            "xds": address(Use::Xds).to_string(), "peers": address(Use::Peers).to_string(),
            "admin": address(Use::ControllerAdmin).to_string(), "health": address(Use::Health).to_string(),
        },
        "adminSocket": socket,
        "peers": peers,
        "bootstrapExpect": CONTROLLERS.len(),
    });
    // JSON is YAML too.
    let config = run.write(&format!("{name}/controller.yaml"), &format!("{config:#}\n"))?;
    let arguments = ["run".into(), "--config".into(), config.into()].to_vec();
    let launch = Launch {
        name: name.to_string(),
        host: HUB.into(),
        uid: None,
        program: binary.to_path_buf(),
        arguments,
    };
    Ok(Controller {
        name,
        socket,
        launch,
        process: None,
    })
}

//! Three controllers as processes, with their directories; started, killed, replaced.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use maille_controller::peer_ca::{AdminCertificate, Grant, init};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tonic::Code;
use xds_api::maille::v1 as api;

use crate::admin::{self, Client};
use crate::variant::{self, Variant};

const TRUST_DOMAIN: &str = "mesh.test";
/// Founding takes about a second, an election less; other tests may hold both cores.
pub const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at what is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What a controller logs for each snapshot that it took from a peer.
const INSTALLED: &str = "installed a peer's snapshot";
/// Of a log, what stands in an error.
const QUOTED_LINES: usize = 20;

/// What the controllers are given.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub variant: Variant,
    /// The first controller's disk takes so much longer.
    pub delay: Duration,
    pub snapshot_every: u64,
    pub keep_log: u64,
}

/// One controller, running or not.
#[derive(Debug)]
pub struct Controller {
    pub name: String,
    pub client: Client,
    /// For answers that take their time.
    pub patient: Client,
    data: PathBuf,
    config: Value,
    delay: Duration,
    process: Option<Child>,
}

/// All of them. What runs ends with it, and every file goes.
#[derive(Debug)]
pub struct Cluster {
    pub controllers: Vec<Controller>,
    plan: Plan,
    home: TempDir,
}

impl Cluster {
    /// Founds a cluster of three.
    pub async fn found(plan: Plan) -> anyhow::Result<Self> {
        let home = tempfile::Builder::new().prefix("maille-kills-").tempdir()?;
        let administrator = AdminCertificate {
            grant: Grant::everything(),
            name: "ada".to_owned(),
            directory: home.path().join("admin"),
            endpoints: vec!["localhost:4702".to_owned()],
        };
        init(
            &home.path().join("secrets"),
            TRUST_DOMAIN,
            &administrator,
            None,
        )?;
        let connector = admin::connector(&administrator.directory)?;
        // Addresses of our own: no other process takes a port there while its controller is down.
        let net = format!(
            "127.{}.{}",
            rand::random_range(16..=254),
            rand::random_range(1..=254)
        );
        let peers: Vec<String> = (1..=3).map(|host| format!("{net}.{host}:4701")).collect();
        let mut controllers = Vec::new();
        for host in 1..=3 {
            let name = format!("c{host}");
            let at = |port: u16| format!("{net}.{host}:{port}");
            let data = home.path().join(&name);
            let config = json!({
                "name": name,
                "dataDir": data,
                "secrets": home.path().join("secrets"),
                "trustDomain": TRUST_DOMAIN,
                "listen": {"xds": at(4700), "peers": at(4701), "admin": at(4702), "health": at(4704)},
                "peers": peers,
                "bootstrapExpect": 3,
                "snapshotEvery": plan.snapshot_every,
                "keepLog": plan.keep_log,
                "log": {"level": "info"},
            });
            controllers.push(Controller {
                client: admin::client(&connector, &at(4702), admin::CALL_LIMIT)?,
                patient: admin::client(&connector, &at(4702), admin::PATIENT_LIMIT)?,
                delay: if host == 1 {
                    plan.delay
                } else {
                    Duration::ZERO
                },
                process: None,
                name,
                data,
                config,
            });
        }
        let mut cluster = Self {
            controllers,
            plan,
            home,
        };
        for index in 0..3 {
            cluster.start(index)?;
        }
        cluster.leader().await?;
        Ok(cluster)
    }

    /// Starts one that does not run.
    pub fn start(&mut self, index: usize) -> anyhow::Result<()> {
        let (file, log) = (self.file(index, "yaml"), self.file(index, "log"));
        let one = &mut self.controllers[index];
        fs::write(&file, format!("{:#}\n", one.config))?;
        let log = fs::File::options().create(true).append(true).open(log)?;
        let process = Command::new(std::env::current_exe()?)
            .args(variant::arguments(&file, self.plan.variant, one.delay))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        one.process = Some(process);
        Ok(())
    }

    /// `kill -9`.
    pub async fn kill(&mut self, index: usize) -> anyhow::Result<()> {
        self.check_alive()?;
        let process = self.controllers[index].process.take();
        Ok(process.context("it runs")?.kill().await?)
    }

    /// `kill -9` of all at once: each signal is sent before any end is waited for.
    pub async fn kill_all(&mut self) -> anyhow::Result<()> {
        self.check_alive()?;
        for one in &mut self.controllers {
            one.process.as_mut().context("it runs")?.start_kill()?;
        }
        for one in &mut self.controllers {
            one.process.take().context("it runs")?.wait().await?;
        }
        Ok(())
    }

    /// Nothing may end but by our hand.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        for index in 0..self.controllers.len() {
            let process = self.controllers[index].process.as_mut();
            if let Some(status) = process.map(Child::try_wait).transpose()?.flatten() {
                bail!(
                    "{} ended by itself: {status}\n{}",
                    self.controllers[index].name,
                    self.tail(index)
                );
            }
        }
        Ok(())
    }

    /// Kills one, removes it as an operator does whose disk has died, and has a new one with an empty directory join in its place.
    pub async fn replace(&mut self, index: usize) -> anyhow::Result<()> {
        self.kill(index).await?;
        let name = self.controllers[index].name.clone();
        let removal = api::RemoveMemberRequest {
            member: name.clone(),
        };
        let what = format!("{name} is removed");
        self.ask_others(index, &what, async |mut client| {
            match client.remove_member(removal.clone()).await {
                // It was done when it was asked before, and the answer was lost.
                Err(status) if status.code() == Code::NotFound => {
                    Ok(tonic::Response::new(api::RemoveMemberResponse::default()))
                }
                answer => answer,
            }
        })
        .await?;
        let request = api::CreateTokenRequest {
            purpose: api::create_token_request::Purpose::Controller.into(),
            client: format!("replacing {name}"),
            sequence: 1,
            ..Default::default()
        };
        let made = self
            .ask_others(index, "a controller token is made", async |mut client| {
                client.create_token(request.clone()).await
            })
            .await?;
        let token = self.file(index, "token");
        fs::write(&token, made.token)?;
        let one = &mut self.controllers[index];
        fs::remove_dir_all(&one.data)?;
        one.config["joinTokenFile"] = json!(token);
        one.config["bootstrapExpect"] = json!(0);
        self.start(index)?;
        let what = format!("the new {name} votes");
        self.ask_others(index, &what, async |mut client| {
            let members = client
                .members(api::MembersRequest {})
                .await?
                .into_inner()
                .members;
            let is_there = members
                .iter()
                .any(|one| one.name == name && one.voter && one.reachable);
            match is_there {
                true => Ok(tonic::Response::new(())),
                false => Err(tonic::Status::unavailable(format!("{members:?}"))),
            }
        })
        .await
    }

    /// Asks the others in turn until one says yes.
    async fn ask_others<T>(
        &mut self,
        but: usize,
        what: &str,
        ask: impl AsyncFn(Client) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let mut last = Vec::new();
            for index in (0..self.controllers.len()).filter(|index| *index != but) {
                match ask(self.controllers[index].client.clone()).await {
                    Ok(answer) => return Ok(answer.into_inner()),
                    Err(status) => last.push(status.message().to_owned()),
                }
            }
            self.check_alive()?;
            ensure!(
                Instant::now() < deadline,
                "{what}: not within {LIMIT:?}; last heard: {last:?}"
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits for a leader that all who run know; answers its index.
    pub async fn leader(&mut self) -> anyhow::Result<usize> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let mut leaders = Vec::new();
            for one in self
                .controllers
                .iter_mut()
                .filter(|one| one.process.is_some())
            {
                let answer = one.client.members(api::MembersRequest {}).await;
                let members = answer
                    .map(|answer| answer.into_inner().members)
                    .unwrap_or_default();
                let leader = members.into_iter().find(|member| member.leader);
                leaders.push(leader.map(|member| member.name));
            }
            // A member that has not described itself yet has no name of ours.
            let of_ours = |name: &Option<String>| {
                self.controllers
                    .iter()
                    .position(|one| Some(&one.name) == name.as_ref())
            };
            if let Some(index) = leaders.first().and_then(of_ours)
                && leaders.iter().all(|leader| of_ours(leader) == Some(index))
            {
                return Ok(index);
            }
            self.check_alive()?;
            ensure!(
                Instant::now() < deadline,
                "no common leader within {LIMIT:?}: {leaders:?}"
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Has one lead.
    pub async fn hand_over_to(&mut self, index: usize) -> anyhow::Result<()> {
        let request = api::TransferLeadershipRequest {
            member: self.controllers[index].name.clone(),
        };
        let deadline = Instant::now() + LIMIT;
        while self.leader().await? != index {
            // It may be refused while the one is behind; then it is asked again.
            let answer = self.controllers[index]
                .client
                .transfer_leadership(request.clone())
                .await;
            ensure!(
                Instant::now() < deadline,
                "{} does not come to lead: {answer:?}",
                request.member
            );
        }
        Ok(())
    }

    /// Snapshots that controllers took from each other.
    pub fn snapshots_installed(&self) -> anyhow::Result<usize> {
        let mut count = 0;
        for index in 0..self.controllers.len() {
            let log = fs::read_to_string(self.file(index, "log"))?;
            count += log.matches(INSTALLED).count();
        }
        Ok(count)
    }

    /// The last lines of a log.
    pub fn tail(&self, index: usize) -> String {
        let log =
            fs::read_to_string(self.file(index, "log")).unwrap_or_else(|error| error.to_string());
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
    }

    fn file(&self, index: usize, extension: &str) -> PathBuf {
        self.home
            .path()
            .join(format!("{}.{extension}", self.controllers[index].name))
    }
}

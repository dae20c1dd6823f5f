//! The Envoy of a workload, which is started once the agent beside it has a certificate.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::agent::settings::{self, Settings};
use crate::dev::demo::{Kind, Workload};
use crate::dev::process::{Launch, Launcher, Process};
use crate::envoy::arguments::arguments;
use crate::envoy::bootstrap::bootstrap;
use crate::failure::{Exit, Failure, Outcome};

use super::{Ground, PROXY_UID};

/// How long a connection lives on after what it rests on has changed.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// Worker threads: a machine's few cores are shared by a dozen sidecars.
const CONCURRENCY: u32 = 1;
/// It ends in milliseconds once it is told to.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// An Envoy, running or not.
#[derive(Debug)]
pub(super) struct Envoy {
    launch: Launch,
    process: Option<Process>,
}

/// The program: `given`, else the one that the tests fetch for a checkout, else the one on the search path.
///
/// # Errors
/// It is not there.
pub(crate) fn program(given: Option<&Path>) -> Outcome<PathBuf> {
    let places = match given {
        Some(given) => vec![given.to_path_buf()],
        None => fetched().into_iter().chain(on_search_path()).collect(),
    };
    let found = places.iter().find(|place| place.is_file());
    let found = found.map(std::path::absolute);
    match found {
        Some(Ok(program)) => Ok(program),
        _ => {
            let message = match given {
                Some(given) => format!("there is no Envoy at {}", given.display()),
                None => "there is no Envoy in target/peers or on the search path".into(),
            };
            Err(Failure::new(Exit::NotFound, message)
                .next("`tests/peers/fetch envoy` in a checkout fetches it"))
        }
    }
}

pub(super) fn fetched() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let mut above = own.ancestors();
    let target = above.find(|folder| folder.file_name().is_some_and(|name| name == "target"))?;
    Some(target.join("peers/envoy"))
}

fn on_search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path);
    folders.map(|folder| folder.join("envoy")).collect()
}

impl Ground {
    /// The Envoy that stands beside a workload's agent.
    pub(super) async fn beside(&self, workload: &Workload, config: &Path) -> Outcome<Envoy> {
        let program = self
            .envoy
            .clone()
            .ok_or_else(|| Failure::failed(format!("{} has no Envoy to run", workload.name)))?;
        let settings = Settings::load(config, settings::Kind::Envoy).await?;
        let admin = self.layout.envoy_admin(workload).port();
        let bootstrap = bootstrap(&settings, workload.account, admin).to_string();
        let launch = Launch {
            name: format!("{}-envoy", workload.name),
            host: workload.name.into(),
            uid: self.layout.namespaces().then_some(PROXY_UID),
            program,
            arguments: arguments(&bootstrap, DRAIN_TIME, CONCURRENCY, &[]),
        };
        Ok(Envoy {
            launch,
            process: None,
        })
    }

    /// The sum of those counters of an Envoy whose names end so, an expression. Zero where the sidecar is none.
    pub(crate) async fn envoy_counted(&self, workload: &Workload, ending: &str) -> Outcome<u64> {
        if workload.kind != Kind::Envoy {
            return Ok(0);
        }
        let address = self.layout.envoy_admin(workload);
        let path = format!("/stats?filter={ending}$");
        let stats = self.page(workload.name, address, &path, Duration::ZERO);
        Ok(sum(&stats.await?))
    }
}

/// The sum of `name: number` lines.
fn sum(stats: &str) -> u64 {
    let numbers = stats.lines().filter_map(|line| line.rsplit_once(": "));
    numbers
        .filter_map(|(_, number)| number.trim().parse::<u64>().ok())
        .sum()
}

impl Envoy {
    /// Starts it where it does not run.
    pub(super) fn start(&mut self, launcher: &Launcher) -> Outcome {
        if self.process.is_none() {
            self.process = Some(launcher.daemon(&self.launch)?);
        }
        Ok(())
    }

    /// Kills it as `kill -9` does.
    pub(super) async fn kill(&mut self) -> Outcome {
        match self.process.take() {
            Some(mut process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Has it end.
    pub(super) async fn stop(&mut self) -> Outcome {
        match self.process.take() {
            Some(mut process) => process.stop(STOP_LIMIT).await,
            None => Ok(()),
        }
    }

    pub(super) fn failure(&self, what: &str) -> Failure {
        self.process
            .as_ref()
            .map_or_else(|| Failure::failed(what), |process| process.failure(what))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn counters_are_added_up() {
        assert_eq!(sum("a.rbac.denied: 3\nb.rbac.denied: 4\n"), 7);
        assert_eq!(sum(""), 0);
    }

    #[test]
    fn a_missing_envoy_is_told_with_the_way_to_it() {
        let missing = program(Some(Path::new("/no/envoy"))).unwrap_err();
        let text = missing.to_string();
        assert!(text.starts_with("there is no Envoy at /no/envoy"), "{text}");
        assert!(text.contains("tests/peers/fetch envoy"), "{text}");
        assert_eq!(missing.exit(), Exit::NotFound);
        let own = std::env::current_exe().unwrap();
        assert_eq!(program(Some(&own)).unwrap(), own);
    }
}

//! A program with gRPC's xDS in it: Python's, which is the C core. It is told by its agent's configuration, and serves or calls by itself.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::agent::settings::{self, Settings};
use crate::dev::demo::{Target, Workload};
use crate::dev::mesh::Load;
use crate::dev::process::{App, Launch};
use crate::dev::run_directory::RunDirectory;
use crate::failure::{Exit, Failure, Outcome};
use crate::grpc::bootstrap::bootstrap;

use super::{Ground, NAMESPACE, envoy};

/// What it does.
const SOURCE: &str = include_str!("../../../../tests/peers/grpc/peer.py");

/// A Python with gRPC, and what it is to run.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    python: PathBuf,
    source: PathBuf,
}

impl Program {
    /// Puts the source into the run's directory.
    pub(super) fn place(python: &Path, run: &RunDirectory) -> Outcome<Program> {
        Ok(Program {
            python: python.to_owned(),
            source: run.write("program.py", SOURCE)?,
        })
    }
}

/// The Python: `given`, else the one that the tests fetch for a checkout.
///
/// # Errors
/// It is not there.
pub(crate) fn python(given: Option<&Path>) -> Outcome<PathBuf> {
    let fetched = || Some(envoy::fetched()?.with_file_name("grpc-venv/bin/python"));
    let place = given.map(Path::to_owned).or_else(fetched);
    match place {
        Some(place) if place.is_file() => std::path::absolute(&place)
            .map_err(|error| Failure::failed(format!("find {}", place.display())).caused_by(error)),
        place => {
            let place = place.map(|place| format!(" at {}", place.display()));
            let message = format!("there is no Python with gRPC{}", place.unwrap_or_default());
            Err(Failure::new(Exit::NotFound, message).next(
                "`tests/peers/fetch grpc` in a checkout fetches it; --grpc=PATH names another",
            ))
        }
    }
}

impl Ground {
    fn grpc_bootstrap(&self, workload: &Workload) -> String {
        format!("{}/grpc.json", workload.name)
    }

    /// Writes what the programs of a workload are told.
    pub(super) async fn tell(&self, workload: &Workload, config: &Path) -> Outcome {
        let settings = Settings::load(config, settings::Kind::Grpc).await?;
        let files = settings.agent.files.clone();
        let files =
            files.ok_or_else(|| Failure::failed("find agent.files in the configuration"))?;
        let text = format!("{:#}\n", bootstrap(&settings, &files, workload.account));
        self.run
            .write(&self.grpc_bootstrap(workload), &text)
            .map(drop)
    }

    /// The program that serves a workload's port.
    pub(super) async fn serve_grpc(&self, workload: &Workload) -> Outcome<Option<App>> {
        let Some(port) = workload.ports.first() else {
            return Ok(None);
        };
        let listen = self.layout.application(workload, port.number).to_string();
        let role = ["serve", "--listen", &listen, "--name", workload.name];
        let role = role.map(OsString::from).to_vec();
        let mut app = self.program(workload, workload.name, role)?;
        app.ready().await?;
        Ok(Some(app))
    }

    /// A program that calls as a load says, but for its own target.
    pub(crate) fn call_grpc(
        &self,
        workload: &Workload,
        target: Target,
        (name, load): (&str, &Load),
    ) -> Outcome<App> {
        let target = format!("xds:///{}.{NAMESPACE}.mesh:{}", target.service, target.port);
        let mut role = vec!["call".to_owned(), "--target".into(), target];
        let mut flag = |name: &str, value: String| role.extend([format!("--{name}"), value]);
        match load.count {
            Some(count) => flag("count", count.to_string()),
            None => flag("rate", load.rate.to_string()),
        }
        flag("connections", load.connections.to_string());
        flag("body", load.body.clone());
        load.headers
            .iter()
            .for_each(|header| flag("header", header.clone()));
        let role = role.into_iter().map(OsString::from).collect();
        self.program(workload, name, role)
    }

    fn program(&self, workload: &Workload, name: &str, role: Vec<OsString>) -> Outcome<App> {
        let program = self.program.as_ref();
        let program = program
            .ok_or_else(|| Failure::failed(format!("{} has no Python to run", workload.name)))?;
        let bootstrap = self.run.path().join(self.grpc_bootstrap(workload));
        let mut arguments = vec![
            program.source.clone().into(),
            "--bootstrap".into(),
            bootstrap.into(),
        ];
        arguments.extend(role);
        self.launcher.talking(&Launch {
            name: name.to_owned(),
            host: workload.name.into(),
            uid: None,
            program: program.python.clone(),
            arguments,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_missing_python_is_told_with_the_way_to_it() {
        let missing = python(Some(Path::new("/no/python"))).unwrap_err();
        let text = missing.to_string();
        assert!(text.contains("at /no/python"), "{text}");
        assert!(text.contains("tests/peers/fetch grpc"), "{text}");
        assert_eq!(missing.exit(), Exit::NotFound);
    }
}

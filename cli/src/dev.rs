//! `maille dev`: the whole mesh on one machine, to look at or to prove.
//!
//! The demo's applications (`app`) know nothing of the mesh. Absent: anything that the product's own binaries do; they are started as users start them.

pub mod app;
mod check;
mod controllers;
mod demo;
pub mod janitor;
mod layout;
mod mesh;
mod namespaces;
mod picture;
mod process;
mod run_directory;
mod sidecars;

use std::path::Path;
use std::time::Duration;

use rustix::process::geteuid;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::dev::Dev;
use crate::failure::{Exit, Failure, Outcome};
use crate::printer::{Printer, say};

use layout::Layout;
use mesh::Mesh;
use namespaces::Namespaces;
use process::Launcher;
use run_directory::RunDirectory;
use sidecars::Ground;

/// Runs the demo until Ctrl-C, or the checks to their end. Whatever happens, everything it made is taken away.
///
/// # Errors
/// Something could not be started, a check failed, or something could not be taken away.
pub async fn run(args: &Dev, printer: Printer) -> Outcome {
    let namespaces = !args.no_netns && geteuid().is_root();
    if !args.no_netns && !namespaces {
        say("not root: running on loopback with explicit listeners (as with --no-netns)");
    }
    let missing = if namespaces {
        namespaces::missing_programs()
    } else {
        Vec::new()
    };
    if !missing.is_empty() {
        let next = format!("`apt-get install {}`, or use --no-netns", missing.join(" "));
        return Err(Failure::new(
            Exit::NotFound,
            "network namespaces need programs that are not installed",
        )
        .next(next));
    }
    let root = run_directory::root(args.directory.as_deref())?;
    janitor::clean_abandoned(&root).await?;
    let sets = demo::sets(args.envoy.is_some());
    let envoy = args.envoy.as_ref();
    let envoy = envoy
        .map(|given| sidecars::envoy::program(given.as_deref()))
        .transpose()?;
    // Whoever has Envoys has gRPC programs too, so that every pair of kinds is there.
    let python = envoy
        .as_ref()
        .map(|_| sidecars::program::python(args.grpc.as_deref()))
        .transpose()?;
    let layout = if namespaces {
        Layout::Namespaces
    } else {
        Layout::loopback(sets)?
    };
    let run = RunDirectory::create(&root)?;
    let mut janitor = janitor::start(&run)?;
    let result = tokio::select! {
        result = drive(args, printer, (&run, &layout), (envoy.as_deref(), python.as_deref())) => result,
        result = interrupted(args.check) => result,
    };
    say("removing everything");
    let cleaned = janitor::clean(&run, args.keep).await;
    if args.keep {
        say(&format!(
            "logs and configuration are in {}",
            run.path().display()
        ));
    }
    // Its input ends, it finds nothing left, and ends too.
    drop(janitor.stdin.take());
    let ended = janitor
        .wait()
        .await
        .map_err(|error| Failure::failed("wait for the janitor").caused_by(error));
    result.and(cleaned).and(ended.map(drop))
}

async fn drive(
    args: &Dev,
    printer: Printer,
    (run, layout): (&RunDirectory, &Layout),
    programs: (Option<&Path>, Option<&Path>),
) -> Outcome {
    let namespaces = layout.namespaces().then(|| Namespaces::of(run.id()));
    let launcher = Launcher::new(run, namespaces)?;
    let ground = Ground::new(run, layout, &launcher, programs)?;
    let mut mesh = Mesh::start(ground, demo::sets(args.envoy.is_some()), args.check).await?;
    if args.check {
        return check::run(args, &mut mesh, printer).await;
    }
    picture::show(&mut mesh, args.seconds.map(Duration::from_secs)).await
}

/// Waits for Ctrl-C or SIGTERM. They end the demo, which is what it is ended by; they interrupt the checks.
async fn interrupted(checking: bool) -> Outcome {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::failed("listen for signals").caused_by(error));
    let (mut interrupt, mut terminate, mut hangup) = (
        listen(SignalKind::interrupt())?,
        listen(SignalKind::terminate())?,
        listen(SignalKind::hangup())?,
    );
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    if checking {
        Err(Failure::new(
            Exit::Interrupted,
            "interrupted before the checks were done",
        ))
    } else {
        Ok(())
    }
}

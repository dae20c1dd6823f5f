//! What each command does.

use std::io::Write;
use std::path::Path;

use super::arguments::{self, Command, RoleName, SnapshotCommand};
use super::{Engine, Failure};
use super::{controller, inspect, restore};
use crate::config::Config;
use crate::peer_ca::{self, AdminCertificate, Grant, Role};

pub(super) fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(arguments) => run(&arguments.config, Engine::default()),
        Command::Restore(arguments) => {
            restore::restore(&Config::load(&arguments.config)?, &arguments.snapshot)
        }
        Command::Init(arguments) => init(arguments),
        Command::AdminCertificate(arguments) => admin_certificate(arguments),
        Command::Snapshot {
            command: SnapshotCommand::Inspect { file, output },
        } => print(&inspect::inspect(&file, output)?),
        Command::CheckConfig(arguments) => print(&Config::load(&arguments.config)?.to_yaml()),
        Command::Version => print(&format!(
            "maille-controller {}\n",
            env!("CARGO_PKG_VERSION")
        )),
    }
}

pub(super) fn run(config: &Path, engine: Engine) -> Result<(), Failure> {
    controller::run(Config::load(config)?, engine)
}

fn init(arguments: arguments::Init) -> Result<(), Failure> {
    let admin = admin_of(arguments.admin, Grant::everything());
    let made = peer_ca::init(
        &arguments.secrets,
        &arguments.trust_domain,
        &admin,
        arguments.keep_kek_of.as_deref(),
    )?;
    eprintln!(
        "made the secrets of cluster {} in {}",
        made.cluster_id,
        arguments.secrets.display()
    );
    wrote_admin(&made.admin_id, &admin.directory);
    eprintln!(
        "next: copy the secrets to each controller's host, and start `maille-controller run` there"
    );
    Ok(())
}

fn admin_certificate(arguments: arguments::AdminCertificate) -> Result<(), Failure> {
    let grant = Grant {
        role: match arguments.role {
            RoleName::Viewer => Role::Viewer,
            RoleName::Editor => Role::Editor,
            RoleName::Admin => Role::Admin,
        },
        namespaces: arguments.namespace,
    };
    let admin = admin_of(arguments.admin, grant);
    let id = peer_ca::write_admin_certificate(&arguments.secrets, &admin)?;
    wrote_admin(&id, &admin.directory);
    Ok(())
}

fn wrote_admin(id: &str, directory: &Path) {
    eprintln!(
        "made the certificate of {id} in {} (use it with `maille --admin {0}`)",
        directory.display()
    );
}

fn admin_of(arguments: arguments::Admin, grant: Grant) -> AdminCertificate {
    AdminCertificate {
        name: arguments.admin_name,
        grant,
        directory: arguments.admin_dir,
        endpoints: arguments.endpoint,
    }
}

fn print(text: &str) -> Result<(), Failure> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::Output)
}

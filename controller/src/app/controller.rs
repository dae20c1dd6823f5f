//! A controller's life: ports, disk, cluster, authority, services; and back in reverse.

use std::sync::Arc;
use std::time::Duration;

use tonic::service::Routes;
use tracing::{error, info};

use super::clients::AllClients;
use super::consensus::{self, Consensus};
use super::gauges::Gauges;
use super::ports::Ports;
use super::reads::RaftReads;
use super::{Engine, Failure, hardening, mesh_port, newcomer, readiness, signals, spread};
use crate::admin::{
    self, AdminService, ClientStatusService, Cluster, Families, Listening, MeshObjects, Services,
};
use crate::agreement::Agreement;
use crate::audit::Audit;
use crate::config::Config;
use crate::health::{self, Readiness};
use crate::identity::{
    Accounts, Authority, AuthoritySettings, IdentityService, Keyring, ServerTls,
};
use crate::k8s::{self, Observer, ObserverMetrics, Reviewer};
use crate::peer_ca::{self, Secrets};
use crate::registration::{Leases, RegistrationService};
use crate::supervise::Supervisor;
use crate::telemetry::{self, Metrics};
use crate::xds::{LoadReports, Xds};

/// Runs a controller until it is told to stop.
pub(super) fn run(config: Config, engine: Engine) -> Result<(), Failure> {
    telemetry::start_log(&config.log.level, config.log.format)?;
    hardening::apply();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("controller")
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    let secrets = runtime.block_on(newcomer::secrets(&config))?;
    check_trust_domain(&config, &secrets)?;
    runtime.block_on(live(config, engine, secrets))
}

pub(super) fn check_trust_domain(config: &Config, secrets: &Secrets) -> Result<(), Failure> {
    if config.trust_domain == secrets.trust_domain() {
        return Ok(());
    }
    Err(Failure::TrustDomain {
        configured: config.trust_domain.clone(),
        made: secrets.trust_domain().to_owned(),
        secrets: config.secrets.clone(),
    })
}

async fn live(config: Config, engine: Engine, secrets: Secrets) -> Result<(), Failure> {
    let mut supervisor = Supervisor::new();
    let started = start(&mut supervisor, config, engine, secrets).await;
    let ended = match &started {
        Ok(_) => signals::wait(&mut supervisor).await,
        Err(_) => Ok(()),
    };
    if let Err(failure) = &ended {
        error!(%failure, "stopping");
    }
    let stopping = stop(supervisor, started.as_ref().ok());
    tokio::select! {
        () = stopping => info!("stopped"),
        () = signals::again() => info!("told to stop again: ending at once"),
    }
    started.map(drop).and(ended)
}

/// Leadership first, so that no write waits for an election; then every stage, the latest first; then the log.
async fn stop(supervisor: Supervisor, consensus: Option<&Consensus>) {
    if let Some(consensus) = consensus {
        consensus.hand_over().await;
    }
    supervisor.stop().await;
    if let Some(consensus) = consensus {
        consensus.raft.stop(true).await;
    }
}

async fn start(
    supervisor: &mut Supervisor,
    config: Config,
    engine: Engine,
    secrets: Secrets,
) -> Result<Consensus, Failure> {
    let ports = Ports::take(&config.listen)?;
    let (metrics, ready) = (Metrics::new(), Readiness::default());
    let starting = ready.wait_for("it is starting");
    health::serve(
        &supervisor.stage("health"),
        ports.health,
        ready.clone(),
        metrics.clone(),
    );

    let consensus = consensus::start(supervisor, &config, engine, &secrets, ports.peers).await?;
    let agreement: Arc<dyn Agreement> = Arc::new(consensus.raft.clone());

    metrics.register(|registry| {
        registry.register_collector(Box::new(Gauges(consensus.raft.clone())));
    });

    let kubernetes = match &config.kubernetes {
        Some(settings) => Some(k8s::connect(settings.kubeconfig.as_deref()).await?),
        None => None,
    };
    let stage = supervisor.stage("identity");
    let server_tls = ServerTls::new();
    let authority = Authority::start(
        &stage,
        authority_settings(&config, kubernetes.clone()),
        Keyring::new(secrets.into_kek()),
        Arc::clone(&agreement),
        server_tls.clone(),
    );
    readiness::watch(&stage, &ready, &consensus.raft, &authority, &config.name);

    let stage = supervisor.stage("registration");
    let leases = Leases::new(&metrics);
    leases.start(&stage, Arc::clone(&agreement), &config.name);
    let registration = RegistrationService::server(&stage, Arc::clone(&agreement));

    if let Some(client) = kubernetes {
        let log = Arc::new(consensus.raft.clone());
        let observed = ObserverMetrics::new(&metrics);
        Observer::new(client, log, &config.name, observed).start(&supervisor.stage("kubernetes"));
    }

    let audit = Audit::new(&metrics);
    let stage = supervisor.stage("xds");
    let xds = Xds::start(&stage, Arc::clone(&agreement), &config.name, &metrics);
    let loads = LoadReports::new(
        &stage,
        agreement.state(),
        &config.name,
        Duration::from_secs(config.load_report_seconds),
        &metrics,
    );
    consensus.answer_peers(leases, xds.clone(), loads.clone());
    spread::watch(
        &stage,
        xds.clone(),
        consensus.raft.clone(),
        config.move_streams_above,
    );
    let routes = xds
        .add_to(Routes::default())
        .add_service(loads.server())
        .add_service(IdentityService::server(
            authority.clone(),
            config.secrets.clone(),
        ))
        .add_service(registration);
    mesh_port::serve(
        &stage,
        ports.xds,
        server_tls.config(),
        &config,
        &audit,
        routes,
    );

    let stage = supervisor.stage("admin");
    let families = Families {
        objects: Arc::new(MeshObjects::new(
            Arc::clone(&agreement),
            Arc::new(RaftReads(consensus.raft.clone())),
            config.name.clone(),
        )),
        cluster: Arc::new(Cluster::new(consensus.raft.clone(), &config.name)),
        clients: Arc::new(AllClients::new(
            xds,
            loads,
            consensus.raft.clone(),
            agreement,
        )),
        authority,
    };
    let clients = Arc::clone(&families.clients);
    let status = ClientStatusService::server(&stage, &config.trust_domain, clients);
    let service = AdminService::server(&stage, &config.trust_domain, families);
    let services = Services {
        admin: audit.watch("admin", service),
        client_status: audit.watch("admin", status),
    };
    let listening = Listening {
        port: ports.admin,
        tls: peer_ca::admin_server_config(&consensus.peer_tls),
        socket: config.admin_socket.clone(),
    };
    let served = admin::serve(&stage, listening, services).await;
    served.map_err(|source| Failure::Refused {
        part: "the local admin socket",
        source,
    })?;
    info!(
        name = config.name,
        version = env!("CARGO_PKG_VERSION"),
        "started"
    );
    drop(starting);
    Ok(consensus)
}

fn authority_settings(config: &Config, kubernetes: Option<kube::Client>) -> AuthoritySettings {
    let accounts = kubernetes.map(|client| Arc::new(Reviewer(client)) as Arc<dyn Accounts>);
    AuthoritySettings {
        controller: config.name.clone(),
        leaf_lifetime: Duration::from_secs(config.leaf_lifetime_seconds),
        root: config.root.clone(),
        accounts,
    }
}

//! Whether the application serves: each port is asked again and again, and a few answers in a row decide.

mod damping;
mod probe;

use crate::config::{Port, Probe};
use crate::supervise::Tasks;
use damping::Damping;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::sync::watch;
use tracing::{info, warn};

/// How long an application that does not serve is left alone at most: asking costs little, and it is wanted back.
const LONGEST_PAUSE_WHILE_DOWN: Duration = Duration::from_secs(1);

/// A port's health as others are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Not known yet: not sent traffic.
    Unknown,
    /// It serves.
    Healthy,
    /// It does not.
    Unhealthy,
}

/// Every port's health, by the port's number.
pub type PortHealth = BTreeMap<u16, Health>;

/// Starts a check for each port that has one. The others are taken as healthy.
pub fn start(ports: &[Port], tasks: &Tasks) -> watch::Receiver<PortHealth> {
    let initial = |port: &Port| match &port.health {
        Some(_) => (port.port, Health::Unknown),
        None => (port.port, Health::Healthy),
    };
    let (health, receiver) = watch::channel(ports.iter().map(initial).collect());
    for port in ports.iter().filter(|port| port.health.is_some()) {
        tasks.vital(
            "health",
            check(port.clone(), health.clone(), tasks.stopping()),
        );
    }
    receiver
}

/// Where a port's application listens, as far as the proxy itself asks.
pub fn application(port: &Port) -> SocketAddr {
    let default = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port.port);
    port.application.unwrap_or(default)
}

async fn check(
    port: Port,
    health: watch::Sender<PortHealth>,
    stopping: tokio_util::sync::CancellationToken,
) {
    let Some(settings) = &port.health else { return };
    let address = application(&port);
    let mut damping = Damping::new(settings.healthy_after, settings.unhealthy_after);
    loop {
        let asked = async {
            match &settings.probe {
                Probe::Tcp {} => probe::tcp(address).await,
                Probe::Http { path } => probe::http(address, path).await,
            }
        };
        let asked = tokio::time::timeout(settings.timeout, asked).await;
        let found = asked.unwrap_or(Err(probe::Failure::Timeout(settings.timeout)));
        let pause = match found {
            Ok(()) => settings.interval,
            Err(_) => settings.interval.min(LONGEST_PAUSE_WHILE_DOWN),
        };
        if let Some(now) = damping.note(found.is_ok()) {
            match found {
                Ok(()) => info!(port = port.port, "the application serves"),
                Err(error) => {
                    warn!(port = port.port, %address, %error, "the application does not serve");
                }
            }
            health.send_modify(|all| {
                all.insert(port.port, now);
            });
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

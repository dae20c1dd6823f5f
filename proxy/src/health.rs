//! Whether the application serves: each port is asked again and again, and a few answers in a row decide.

mod damping;
mod exec;
mod grpc;
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
                Probe::Grpc { service } => grpc::check(address, service).await,
                Probe::Exec { command } => exec::run(command).await,
            }
        };
        let asked = tokio::select! {
            () = stopping.cancelled() => return,
            asked = tokio::time::timeout(settings.timeout, asked) => asked,
        };
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::HealthCheck;
    use crate::supervise::tasks;

    /// A port whose health a command tells.
    fn port(command: &[String], timeout: Duration) -> Port {
        Port {
            name: String::new(),
            port: 80,
            protocol: crate::config::Protocol::Detect,
            application: None,
            health: Some(HealthCheck {
                probe: Probe::Exec {
                    command: command.to_vec(),
                },
                interval: Duration::from_millis(20),
                timeout,
                healthy_after: 1,
                unhealthy_after: 2,
            }),
        }
    }

    /// Waits until this is said of it.
    async fn until(seen: &mut watch::Receiver<PortHealth>, expected: Health) {
        let limit = Duration::from_secs(20);
        let told = seen.wait_for(|all| all[&80] == expected);
        let told = tokio::time::timeout(limit, told).await;
        assert!(told.is_ok(), "never {expected:?}");
    }

    #[tokio::test]
    async fn a_command_is_asked_again_and_again() {
        let directory = tempfile::tempdir().unwrap();
        let sign = directory.path().join("up");
        let command = ["test", "-e", sign.to_str().unwrap()].map(str::to_owned);
        let port = port(&command, Duration::from_secs(5));
        let (tasks, _endings) = tasks();
        let mut seen = start(&[port], &tasks);
        assert_eq!(seen.borrow()[&80], Health::Unknown);
        until(&mut seen, Health::Unhealthy).await;
        std::fs::write(&sign, "").unwrap();
        until(&mut seen, Health::Healthy).await;
        std::fs::remove_file(&sign).unwrap();
        until(&mut seen, Health::Unhealthy).await;
        tasks.stop().await;
    }

    #[tokio::test]
    async fn a_command_that_does_not_end_is_not_healthy() {
        let command = ["sleep", "1000"].map(str::to_owned);
        let port = port(&command, Duration::from_millis(50));
        let (tasks, _endings) = tasks();
        until(&mut start(&[port], &tasks), Health::Unhealthy).await;
        tasks.stop().await;
    }
}

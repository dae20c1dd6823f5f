//! The pages. Each is a function of what the proxy knows.

use super::certificates::certificates;
use super::dump::dump;
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::snapshot::Directory;
use crate::supervise::Readiness;
use crate::telemetry::LogLevel;
use crate::xds::Xds;
use ::http::request::Parts;
use ::http::{Method, Response, header};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;

/// Which of the pages a port serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    Loopback,
    /// `/ready`, `/live` and `/metrics`.
    Everywhere,
}

/// What the pages show and change.
#[derive(Debug)]
pub struct Admin {
    /// What the process waits for.
    pub readiness: Readiness,
    /// What is counted.
    pub metrics: Metrics,
    /// The log's level.
    pub log: LogLevel,
    /// Whom it stands beside.
    pub workloads: Workloads,
    /// The resolved configuration, as YAML.
    pub configuration: String,
    /// Begins the drain, as SIGTERM does.
    pub drain: Arc<Notify>,
}

/// A workload as the pages show it.
#[derive(Debug)]
pub struct Workload {
    /// The certificate.
    pub identity: Identity,
    /// What the control plane told.
    pub xds: Xds,
}

/// Whom the proxy stands beside.
#[derive(Debug)]
pub enum Workloads {
    /// One: the pages are its own.
    One(Workload),
    /// Several, by name: each page has one after the other under `workloads`.
    Several(BTreeMap<String, Workload>),
}

impl Workloads {
    fn show(&self, show: impl Fn(&Workload) -> Value) -> Value {
        match self {
            Self::One(one) => show(one),
            Self::Several(all) => {
                let shown = all.iter().map(|(name, one)| (name.clone(), show(one)));
                json!({ "workloads": shown.collect::<Map<_, _>>() })
            }
        }
    }
}

type Page = Response<Full<Bytes>>;

/// A page of plain text.
pub(super) fn text(status: u16, text: impl Into<Bytes>) -> Page {
    page(status, "text/plain; charset=utf-8", text.into())
}

fn page(status: u16, kind: &'static str, body: Bytes) -> Page {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, kind)
        .body(Full::new(body))
        .expect("a status and a type that stand in the code make a response")
}

fn json_page(value: &Value) -> Page {
    page(200, "application/json", format!("{value:#}\n").into())
}

impl Admin {
    /// The answer to a request.
    pub(super) fn answer(&self, scope: Scope, head: &Parts, body: &[u8]) -> Page {
        // A page in a browser must not change anything here; no tool sends this header.
        if head.headers.contains_key(header::ORIGIN) {
            return text(403, "requests from web pages are refused\n");
        }
        let path = head.uri.path();
        let get = matches!(head.method, Method::GET | Method::HEAD);
        match (path, get) {
            ("/ready", true) => return self.ready(),
            ("/live", true) => return text(200, "live\n"),
            ("/metrics", true) => return self.metrics(),
            _ => {}
        }
        if scope == Scope::Everywhere {
            return text(404, "here are /ready, /live and /metrics\n");
        }
        match (path, &head.method) {
            ("/config", _) if get => {
                json_page(&self.workloads.show(|one| dump(&one.xds.current())))
            }
            ("/status", _) if get => json_page(&self.status()),
            ("/settings", _) if get => {
                page(200, "application/yaml", self.configuration.clone().into())
            }
            ("/certificates", _) if get => {
                let show = |one: &Workload| certificates(one.identity.current().as_deref());
                json_page(&self.workloads.show(show))
            }
            ("/log-level", &Method::PUT) => self.set_log_level(body),
            ("/log-level", _) if get => match self.log.get() {
                Ok(level) => text(200, format!("{level}\n")),
                Err(error) => text(500, format!("{error}\n")),
            },
            ("/drain", &Method::POST) => {
                self.drain.notify_one();
                text(202, "draining\n")
            }
            ("/ready" | "/live" | "/metrics" | "/config" | "/status" | "/settings", _)
            | ("/certificates" | "/log-level" | "/drain", _) => text(405, "not by this method\n"),
            _ => text(
                404,
                "here are /config, /status, /settings, /certificates, /metrics, /log-level (GET, PUT), /drain (POST), /ready and /live\n",
            ),
        }
    }

    fn ready(&self) -> Page {
        let missing = self.readiness.missing();
        match missing.is_empty() {
            true => text(200, "ready\n"),
            false => text(503, format!("waiting for: {}\n", missing.join(", "))),
        }
    }

    fn metrics(&self) -> Page {
        const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        match self.metrics.encode() {
            Ok(metrics) => page(200, KIND, metrics.into()),
            Err(error) => text(500, format!("the metrics cannot be written: {error}\n")),
        }
    }

    fn status(&self) -> Value {
        let mut status = self.workloads.show(Workload::status);
        if let Some(fields) = status.as_object_mut() {
            fields.insert("version".into(), env!("CARGO_PKG_VERSION").into());
            fields.insert("waitingFor".into(), self.readiness.missing().into());
        }
        status
    }

    fn set_log_level(&self, body: &[u8]) -> Page {
        let Ok(level) = str::from_utf8(body) else {
            return text(400, "the level is not text\n");
        };
        match self.log.set(level.trim()) {
            Ok(()) => text(200, format!("{}\n", level.trim())),
            Err(error) => text(400, format!("{error}\n")),
        }
    }
}

impl Workload {
    fn status(&self) -> Value {
        let snapshot = self.xds.current();
        json!({
            "identity": self.identity.current().map(|current| current.identity.to_string()),
            "trouble": *self.identity.trouble().borrow(),
            "controlPlane": *self.xds.status().borrow(),
            "incarnation": snapshot.incarnation,
            "index": snapshot.index,
            "names": self.xds.names(),
        })
    }
}

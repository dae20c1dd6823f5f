//! `maille proxy`: asks one sidecar on this machine, over its admin port.

use http::{Method, StatusCode};
use serde_json::Value;

use crate::args::operate::{Proxy, ProxyAction};
use crate::failure::{Exit, Failure, Outcome};
use crate::http_get::exchange;
use crate::printer::{Printer, data, say};

pub(super) async fn run(args: &Proxy, printer: Printer) -> Outcome {
    match &args.action {
        ProxyAction::Config => json(&args.address, "/config", printer).await,
        ProxyAction::Status => json(&args.address, "/status", printer).await,
        ProxyAction::Metrics => {
            data(&ask(&args.address, Method::GET, "/metrics", String::new()).await?)
        }
        ProxyAction::LogLevel { filter: None } => data(
            &(ask(&args.address, Method::GET, "/log-level", String::new())
                .await?
                .trim_end()
                .to_string()
                + "\n"),
        ),
        ProxyAction::LogLevel {
            filter: Some(filter),
        } => {
            ask(&args.address, Method::PUT, "/log-level", filter.clone()).await?;
            say(&format!(
                "the log filter is {filter} until the sidecar restarts"
            ));
            Ok(())
        }
    }
}

async fn json(address: &str, path: &str, printer: Printer) -> Outcome {
    let text = ask(address, Method::GET, path, String::new()).await?;
    let value = serde_json::from_str::<Value>(&text)
        .map_err(|error| Failure::failed("read the sidecar's answer").caused_by(error))?;
    printer.text(&value, || text.trim_end().to_string() + "\n")
}

async fn ask(address: &str, method: Method, path: &str, body: String) -> Outcome<String> {
    let doing = format!("ask the sidecar at {address}");
    let (status, text) = exchange(address, method, path, body).await.map_err(|error| {
        let next = "the admin port is on the sidecar's own loopback: run this on its host, or pass --address";
        Failure::new(Exit::Unreachable, doing.clone()).caused_by(error).next(next)
    })?;
    if status.is_success() {
        return Ok(text);
    }
    let exit = if status == StatusCode::NOT_FOUND {
        Exit::NotFound
    } else {
        Exit::Refused
    };
    Err(
        Failure::new(exit, format!("{doing}: {status}: {}", text.trim()))
            .next("is the sidecar of the same version as this program?"),
    )
}

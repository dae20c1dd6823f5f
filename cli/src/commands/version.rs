//! `maille version`: this program's version, and the controllers'.

use serde::Serialize;

use crate::args::operate::Version;
use crate::cluster::Cluster;
use crate::failure::Outcome;
use crate::printer::{Printer, Rows, say};

use super::status;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    client: &'static str,
    controllers: Vec<Controller>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Controller {
    name: String,
    version: String,
    feature_level: u32,
}

pub(super) async fn run(
    args: &Version,
    open: impl Fn() -> Outcome<Cluster>,
    printer: Printer,
) -> Outcome {
    let mut versions = Versions {
        client: env!("CARGO_PKG_VERSION"),
        controllers: Vec::new(),
    };
    if !args.client {
        // Without a cluster the own version is still an answer.
        match open() {
            Ok(cluster) => versions.controllers = controllers(&cluster).await,
            Err(failure) => say(&format!("no controller was asked: {failure}")),
        }
    }
    printer.result(&versions, || {
        let mut rows = Rows::new(["part", "version", "feature level"]);
        rows.push(["maille", versions.client, "-"]);
        for controller in &versions.controllers {
            rows.push([
                controller.name.clone(),
                controller.version.clone(),
                controller.feature_level.to_string(),
            ]);
        }
        rows
    })
}

async fn controllers(cluster: &Cluster) -> Vec<Controller> {
    let mut found = Vec::new();
    for answer in status::each(cluster).await {
        match answer {
            Ok(status) => {
                let name = status.state.unwrap_or_default().controller;
                found.push(Controller {
                    name,
                    version: status.version,
                    feature_level: status.feature_level,
                });
            }
            Err(status) => say(&format!("no answer: {}", status.message())),
        }
    }
    found
}

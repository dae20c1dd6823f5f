//! `maille snapshot`: saves the whole mesh to a file; the controller's binary, whose format it is, inspects and restores it.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde::Serialize;
use tokio::process::Command;
use tokio_stream::StreamExt;
use xds_api::generated::maille::v1 as api;

use crate::args::operate::{Snapshot, SnapshotAction};
use crate::cluster::Cluster;
use crate::failure::{Exit, Failure, Outcome};
use crate::printer::{Format, Printer, data};
use crate::sibling;

#[derive(Serialize)]
struct Saved {
    file: String,
    bytes: u64,
}

pub(super) async fn run(
    args: &Snapshot,
    open: impl Fn() -> Outcome<Cluster>,
    printer: Printer,
) -> Outcome {
    match &args.action {
        SnapshotAction::Save { file } => save(file, &open()?, printer).await,
        SnapshotAction::Inspect { file } => {
            let form = if printer.format() == Format::Table || printer.format() == Format::Wide {
                "table"
            } else {
                "json"
            };
            controller(&[
                Path::new("snapshot"),
                Path::new("inspect"),
                file,
                Path::new("--output"),
                Path::new(form),
            ])
            .await
        }
        SnapshotAction::Restore { file, config } => {
            controller(&[
                Path::new("restore"),
                Path::new("--config"),
                config,
                Path::new("--snapshot"),
                file,
            ])
            .await
        }
    }
}

/// Writes beside the file and renames at the end, so that a snapshot that exists is whole.
async fn save(file: &Path, cluster: &Cluster, printer: Printer) -> Outcome {
    if file.exists() {
        let message = format!("{} exists", file.display());
        return Err(Failure::new(Exit::Refused, message)
            .next("name a new file: a snapshot is never overwritten"));
    }
    let answer = cluster.call_once(async |mut client| {
        let mut stream = client
            .save_snapshot(api::SaveSnapshotRequest {})
            .await?
            .into_inner();
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk?.data);
        }
        Ok(bytes)
    });
    let bytes = answer
        .await
        .map_err(|status| Failure::from_status("save a snapshot", &status, &[]))?;
    write(file, &bytes)
        .map_err(|error| Failure::failed(format!("write {}", file.display())).caused_by(error))?;
    let saved = Saved {
        file: file.display().to_string(),
        bytes: bytes.len() as u64,
    };
    printer.text(&saved, || {
        format!("saved {} ({} bytes)\n", saved.file, saved.bytes)
    })
}

fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut partial = file.as_os_str().to_owned();
    partial.push(".partial");
    let mut output = std::fs::File::create_new(&partial)?;
    let written = output
        .write_all(bytes)
        .and_then(|()| output.sync_all())
        .and_then(|()| std::fs::rename(&partial, file));
    if written.is_err() {
        std::fs::remove_file(&partial)?;
    }
    written
}

async fn controller(arguments: &[&Path]) -> Outcome {
    let binary = sibling::binary("maille-controller")?;
    let output = Command::new(&binary)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .await
        .map_err(|error| Failure::failed(format!("start {}", binary.display())).caused_by(error))?;
    data(&String::from_utf8_lossy(&output.stdout))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(Failure::failed(format!(
            "maille-controller ended with {}",
            output.status
        )))
    }
}

//! `apply --wait`: it ends when the change is live at everybody, native and Envoy, and else says at whom it hangs or what was refused.

use std::process::{Output, Stdio};

use anyhow::{Context, ensure};
use maille_tests::binaries::Binaries;
use maille_tests::mesh::{Mesh, ask, route};
use maille_tests::sidecar::Kind;
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// `maille apply --wait=<limit>` of a document.
fn command(mesh: &Mesh, document: &str, limit: &str) -> anyhow::Result<Command> {
    let file = mesh.cluster.path().join("live.yaml");
    std::fs::write(&file, document)?;
    let mut command = Command::new(Binaries::get().cli());
    command
        .arg("--admin")
        .arg(mesh.cluster.path().join("admin"));
    command.arg("apply").arg(format!("--wait={limit}"));
    command.arg("--filename").arg(file).kill_on_drop(true);
    Ok(command)
}

/// Runs it to its end.
async fn apply(mesh: &Mesh, document: &str, limit: &str) -> anyhow::Result<Output> {
    Ok(command(mesh, document, limit)?.output().await?)
}

/// A route that answers by a header of its own.
fn marked(mark: &str) -> String {
    let modifier = json!({"set": [{"name": "x-mark", "value": mark}]});
    let filters = json!([{"type": "ResponseHeaderModifier", "responseHeaderModifier": modifier}]);
    let backends = json!([{"name": "waited", "port": 80}]);
    route(
        "waited",
        &json!([{"filters": filters, "backendRefs": backends}]),
    )
}

for_each_kind!(a_wait_ends_once_everybody_has_the_change_and_names_who_has_not);

async fn a_wait_ends_once_everybody_has_the_change_and_names_who_has_not(
    [calls, _]: [Kind; 2],
) -> anyhow::Result<()> {
    let mut mesh = Mesh::of([calls, Kind::Native], "http", &["one"]).await?;
    let listen = mesh.service("waited", "one").await?;
    let done = apply(&mesh, &marked("first"), "30s").await?;
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(
        done.status.success() && told.contains("live at all"),
        "{told}"
    );
    // It is live: no look before the next request could be too early.
    let answer = ask(listen, "GET /").await?;
    ensure!(answer.header("x-mark") == "first", "{answer:?}");

    let caller = match calls {
        Kind::Native | Kind::Grpc => mesh.caller.process.as_ref(),
        Kind::Envoy => mesh.caller.envoy.as_ref(),
    };
    let caller = caller.context("the caller runs")?;
    caller.signal(Signal::STOP)?;
    let late = apply(&mesh, &marked("second"), "3s").await?;
    let told = String::from_utf8_lossy(&late.stderr).into_owned();
    ensure!(
        late.status.code() == Some(1) && told.contains("shop/caller") && !told.contains("shop/one"),
        "{told}"
    );
    let mut waiting = command(&mesh, &marked("third"), "60s")?
        .stderr(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(waiting.stderr.take().context("it is piped")?).lines();
    while let Some(line) = lines.next_line().await? {
        if line.starts_with("waiting for") && line.contains("shop/caller") {
            break;
        }
    }
    ensure!(waiting.try_wait()?.is_none(), "it ended without the caller");
    caller.signal(Signal::CONT)?;
    while lines.next_line().await?.is_some() {}
    ensure!(waiting.wait().await?.success(), "the wait failed");
    let answer = ask(listen, "GET /").await?;
    ensure!(answer.header("x-mark") == "third", "{answer:?}");
    Ok(())
}

/// Envoy compiles no pattern whose program is larger than 100 instructions, unless it is told otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_envoy_refuses_fails_the_wait_with_its_own_words() -> anyhow::Result<()> {
    let mut mesh = Mesh::of([Kind::Envoy, Kind::Native], "http", &["one"]).await?;
    let listen = mesh.service("waited", "one").await?;
    let kept = apply(&mesh, &marked("kept"), "30s").await?;
    ensure!(
        kept.status.success(),
        "{}",
        String::from_utf8_lossy(&kept.stderr)
    );
    let long = json!([{"path": {"type": "RegularExpression", "value": "/(a|bc){200}"}}]);
    let rules = json!([{"matches": long, "backendRefs": [{"name": "waited", "port": 80}]}]);
    let refused = apply(&mesh, &route("waited", &rules), "30s").await?;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        refused.status.code() == Some(1)
            && told.contains("shop/caller refuses the change")
            && told.contains("program size"),
        "{told}"
    );
    // What it had stays in force there.
    let answer = ask(listen, "GET /").await?;
    ensure!(answer.header("x-mark") == "kept", "{answer:?}");
    // Mended, it is live.
    let mended = apply(&mesh, &marked("mended"), "30s").await?;
    ensure!(
        mended.status.success(),
        "{}",
        String::from_utf8_lossy(&mended.stderr)
    );
    let answer = ask(listen, "GET /").await?;
    ensure!(answer.header("x-mark") == "mended", "{answer:?}");
    Ok(())
}

//! Wrong input: each is refused with a message that names the thing and the remedy; nothing is lost, nothing is half done.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use maille_tests::binaries::Binaries;
use maille_tests::cluster::{self, Cluster, TRUST_DOMAIN, writer};
use maille_tests::mesh::{NAMESPACE, object, route, service};
use maille_tests::process::{self, Finished};
use maille_tests::sidecar::{Kind, Plan, Sidecar};
use maille_tests::wait;
use serde_json::{Value, json};
use xds_api::generated::maille::v1 as api;
use xds_api::join_token::JoinToken;

/// A process that refuses ends soon.
const REFUSAL_LIMIT: Duration = Duration::from_secs(20);

/// Applies a file by the CLI; it must fail, say all of `expected`, and leave no object.
async fn refused(cluster: &Cluster, text: &str, expected: &[&str]) -> anyhow::Result<()> {
    let file = cluster.path().join("wrong.yaml");
    std::fs::write(&file, text)?;
    let before = cluster.status(0).await?.objects;
    let done = cluster
        .cli(&["apply", "-f", &file.to_string_lossy()])
        .await?;
    says(&done, expected).with_context(|| text.to_owned())?;
    ensure!(
        cluster.status(0).await?.objects == before,
        "something was written of\n{text}"
    );
    Ok(())
}

fn says(done: &Finished, expected: &[&str]) -> anyhow::Result<()> {
    ensure!(done.code != Some(0), "it was accepted: {done:?}");
    for expected in expected {
        ensure!(
            done.err.contains(expected),
            "`{expected}` is not in:\n{}",
            done.err
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_cannot_be_meant_are_refused_where_they_were_entered() -> anyhow::Result<()> {
    let cluster = Cluster::found(1).await?;
    let good = service("good", "a", "http").to_string();
    let weights = json!([{"backendRefs": [{"name": "good", "port": 80, "weight": 0}, {"name": "good", "port": 80, "weight": 0}]}]);
    let cases: Vec<(String, &[&str])> = vec![
        (
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  selector: {app: web}\n  prots: []\n".into(),
            &["wrong.yaml:7:", "prots", "ports"],
        ),
        ("apiVersion: v1\nkind: Sevrice\nmetadata: {name: web}\n".into(), &["wrong.yaml:2", "Sevrice", "Service"]),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: []}\n".into(), &["wrong.yaml:4", "ports"]),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ports: [{port: 99999}]\n".into(), &["wrong.yaml:5", "99999"]),
        ("apiVersion: v1\nkind: Service\n  metadata: {name: web}\n".into(), &["wrong.yaml:3"]),
        (format!("{good}\n---\n{}", route("good", &weights)), &["wrong.yaml", "weight"]),
        (route("nobody", &json!([{"backendRefs": [{"name": "nobody", "port": 80}]}])), &["nobody"]),
        // One of two is wrong: neither is written.
        (format!("{good}\n---\n{}", object("Service", "bad", &json!({"ports": []}))), &["ports"]),
        (
            object("AuthorizationPolicy", "p", &json!({"rules": [{"from": [{"identities": ["not-a-spiffe-id"]}]}]})),
            &["not-a-spiffe-id"],
        ),
        (object("TrafficPolicy", "p", &json!({"targetRef": {"name": "good"}, "retries": {"attempts": 1, "budget": {"percent": 101}}})), &["percent", "100"]),
        (object("TrafficPolicy", "p", &json!({"targetRef": {"name": "good"}, "timeout": "soon"})), &["timeout", "soon"]),
        (
            object("HTTPRoute", "r", &json!({"parentRefs": [{"kind": "Service", "name": "good"}], "rules": [{"matches": [{"path": {"type": "RegularExpression", "value": "("}}]}]})),
            &["regular expression"],
        ),
    ];
    for (text, expected) in &cases {
        refused(&cluster, text, expected).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_identities_that_do_not_fit_are_refused() -> anyhow::Result<()> {
    let cluster = Cluster::found(1).await?;
    let client = |token: &str| {
        let (namespace, name) = (NAMESPACE.to_owned(), format!("w-{token}"));
        Plan {
            kind: Kind::Native,
            namespace,
            name,
            ports: Vec::new(),
            labels: Default::default(),
        }
    };
    let with_token = async |name: &str, token: &str, expected: &[&str]| {
        let mut sidecar = Sidecar::prepare(&cluster, client(name), |_| ()).await?;
        std::fs::write(sidecar.file().with_file_name("token"), token)?;
        sidecar.restart().await?;
        let what = format!("the proxy says {expected:?}");
        wait::until(&what, REFUSAL_LIMIT, async || {
            let process = sidecar.process.as_ref().context("it was started")?;
            let missing = expected
                .iter()
                .find(|expected| !process.log().contains(**expected));
            ensure!(
                missing.is_none(),
                "`{missing:?}` is missing; {}",
                process.tail()
            );
            Ok::<_, anyhow::Error>(())
        })
        .await
    };
    // Used: the first that comes with it gets the certificate.
    let first = Sidecar::start(&cluster, client("first")).await?;
    let used = std::fs::read_to_string(first.file().with_file_name("token"))?;
    with_token("used", &used, &["used", "maille token create"]).await?;

    // Expired.
    let request = api::CreateTokenRequest {
        purpose: api::create_token_request::Purpose::Workload.into(),
        namespace: NAMESPACE.into(),
        service_account: "w-expired".into(),
        lifetime_seconds: 1,
        client: writer(),
        sequence: 1,
    };
    let answer = cluster
        .any()
        .await?
        .create_token(request)
        .await?
        .into_inner();
    wait::until("the token expires", REFUSAL_LIMIT, async || {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_err(|error| error.to_string())?;
        wait::ensure(
            i64::try_from(now.as_secs()).is_ok_and(|now| now > answer.expires_at),
            "not yet",
        )
    })
    .await?;
    with_token(
        "expired",
        &answer.token,
        &["expired", "maille token create"],
    )
    .await?;

    // Another mesh's roots.
    let mut token: JoinToken = cluster
        .token(NAMESPACE, "w-roots")
        .await?
        .trim()
        .parse()
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    token.roots_sha256 = vec![[7; 32]];
    with_token("roots", &token.to_string(), &["root"]).await?;

    // Cut.
    with_token("cut", "maille1.abc", &["cut or changed"]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_the_callers_is_refused() -> anyhow::Result<()> {
    let cluster = Cluster::found(1).await?;
    // The token is for another identity than the configured workload's namespace.
    let mut sidecar = Sidecar::prepare(&cluster, Plan::caller("other", "thief"), |_| ()).await?;
    let token = cluster.token(NAMESPACE, "thief").await?;
    std::fs::write(sidecar.file().with_file_name("token"), token)?;
    sidecar.restart().await?;
    wait::until(
        "the proxy says what does not fit",
        REFUSAL_LIMIT,
        async || {
            let process = sidecar.process.as_ref().context("it was started")?;
            let log = process.log();
            ensure!(
                log.contains(&format!(
                    "the join token is for spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/thief"
                )) && log.contains("/ns/other/"),
                "{}",
                process.tail()
            );
            Ok::<_, anyhow::Error>(())
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_a_configuration_are_reported_all_at_once() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let cases: [(PathBuf, Value, &[&str]); 2] = [
        (
            Binaries::get().controller(),
            json!({"name": "C 1", "nmae": "c1", "bootstrapExpect": 2, "listen": {"xds": "nowhere"}}),
            &["nmae", "C 1", "dataDir", "bootstrapExpect", "listen.xds"],
        ),
        (
            Binaries::get().proxy(),
            json!({"workload": {"namespace": "Shop", "name": "web", "addresses": []}, "workers": 0, "listn": {}}),
            &["controllers", "Shop", "addresses", "workers", "listn"],
        ),
    ];
    for (binary, config, expected) in cases {
        let file = directory.path().join("wrong.yaml");
        std::fs::write(&file, format!("{config:#}"))?;
        let arguments = ["run".into(), "--config".into(), file];
        says(
            &process::run(&binary, &arguments, REFUSAL_LIMIT).await?,
            expected,
        )?;
    }
    // `init` never overwrites.
    cluster::init(directory.path(), &[], &[]).await?;
    let again = cluster::init(directory.path(), &[], &[])
        .await
        .unwrap_err()
        .to_string();
    ensure!(again.contains("never overwrites"), "{again}");
    Ok(())
}

/// A small file system of its own; unmounted when dropped.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// `None` without the right to mount; that is a failure where CI=true.
    fn mount(path: PathBuf) -> anyhow::Result<Option<SmallDisk>> {
        std::fs::create_dir_all(&path)?;
        // Room for the reserve that is kept (48 MiB), the log's segments and the database.
        let arguments = ["-t", "tmpfs", "-o", "size=160m,mode=0700", "tmpfs"];
        let output = std::process::Command::new("mount")
            .args(arguments)
            .arg(&path)
            .output()?;
        if output.status.success() {
            return Ok(Some(SmallDisk { path }));
        }
        let reason = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            std::env::var("CI").as_deref() != Ok("true"),
            "needed in CI: {reason}"
        );
        eprintln!("SKIPPED: a small file system cannot be mounted: {reason}");
        Ok(None)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a controller that is being killed may still have files open.
        let done = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.path)
            .status();
        if !done.as_ref().is_ok_and(std::process::ExitStatus::success) {
            eprintln!("{} could not be unmounted: {done:?}", self.path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_keeps_serving_and_recovers() -> anyhow::Result<()> {
    let mut cluster = Cluster::prepare(1, |_| ()).await?;
    let Some(disk) = SmallDisk::mount(cluster.controllers[0].data())? else {
        return Ok(());
    };
    cluster.start(0)?;
    cluster.ready().await?;
    cluster
        .apply(&service("before", "a", "http").to_string())
        .await?;
    let filler = disk.path.join("filler");
    fill(&filler)?;
    let refusal = wait::until("a write is refused", REFUSAL_LIMIT, async || {
        let written = cluster
            .apply(&service(&format!("w-{:08x}", rand::random::<u32>()), "a", "http").to_string())
            .await;
        written.err().context("a write was taken")
    })
    .await?;
    let text = format!("{refusal:#}");
    ensure!(
        text.contains("full") || text.contains("room") || text.contains("space"),
        "{text}"
    );
    let get = api::GetRequest {
        kind: "Service".into(),
        namespace: NAMESPACE.into(),
        name: "before".into(),
        ..Default::default()
    };
    ensure!(
        cluster
            .any()
            .await?
            .get(get)
            .await?
            .into_inner()
            .objects
            .len()
            == 1
    );
    std::fs::remove_file(&filler)?;
    wait::until("writes are taken again", REFUSAL_LIMIT, async || {
        cluster
            .apply(&service("after", "a", "http").to_string())
            .await
    })
    .await?;
    cluster.kill(0).await?;
    cluster.start(0)?;
    cluster.ready().await?;
    ensure!(cluster.status(0).await?.objects.values().sum::<u64>() >= 2);
    cluster.kill(0).await?;
    Ok(())
}

/// Writes until there is no room left.
fn fill(path: &Path) -> anyhow::Result<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(path)?;
    let block = vec![1u8; 1 << 16];
    loop {
        match file.write_all(&block) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

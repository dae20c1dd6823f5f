//! The same on a real disk: a controller's whole data directory, log, tables and snapshots, and a backup of it.

use std::path::Path;

use super::sealed::{found, secrets, unsealed};
use super::*;
use crate::model::command::SetTrust;
use crate::peer_ca::{AdminCertificate, Grant, PeerTls, Secrets};
use crate::raft::{Addresses, OpenLog, Raft, Settings, Timing};
use crate::store::directory::Directory;
use crate::store::log::OnFailure;
use crate::store::media::Disk;

/// Everything under a directory, in one piece.
fn everything(under: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(under).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => bytes.extend(everything(&path)),
            false => bytes.extend(std::fs::read(&path).unwrap()),
        }
    }
    bytes
}

fn settings_of(cluster: &str) -> Settings {
    Settings {
        name: "c1".to_owned(),
        cluster: cluster.to_owned(),
        trust_domain: "mesh.local".to_owned(),
        advertise: Addresses {
            peers: "127.0.0.1:1".to_owned(),
            xds: "127.0.0.1:2".to_owned(),
            admin: "127.0.0.1:3".to_owned(),
        },
        peers: Vec::new(),
        bootstrap_expect: 1,
        join_token: None,
        snapshot_every: 50,
        keep_log: 10,
        reserve: Some(0),
        segment_bytes: 1 << 20,
        timing: Timing::default(),
        open_log: OpenLog::segments(),
        on_failure: OnFailure(Arc::new(|failure| panic!("{failure}"))),
    }
}

/// A controller with a root, on a disk.
async fn controller(here: &Path, supervisor: &mut Supervisor) -> (Raft, Authority) {
    let admin = AdminCertificate {
        name: "ada".to_owned(),
        grant: Grant::everything(),
        directory: here.join("admin"),
        endpoints: Vec::new(),
    };
    let directory = here.join("secrets");
    crate::peer_ca::init(&directory, "mesh.local", &admin, None).unwrap();
    let secrets = Secrets::load(&directory).unwrap();
    let data = Arc::new(Directory::open(&here.join("data"), Arc::new(Disk)).unwrap());
    let tls = PeerTls::new(&secrets, &directory, "c1", &data.id().to_string()).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = settings_of(secrets.cluster_id());
    let raft = Raft::start(settings, data, listener, &tls, supervisor.stage("raft"))
        .await
        .unwrap();
    let keyring = Keyring::new(secrets.into_kek());
    let agreement: Arc<dyn Agreement> = Arc::new(raft.clone());
    let stage = supervisor.stage("identity");
    let authority = Authority::start(
        &stage,
        super::settings(),
        keyring,
        agreement,
        ServerTls::new(),
    );
    let mut standing = authority.standing();
    let issuing = standing.wait_for(|standing| *standing == Standing::Issuing);
    tokio::time::timeout(LIMIT, issuing).await.unwrap().unwrap();
    (raft, authority)
}

async fn write(raft: &Raft, command: Command) {
    let proposal = Proposal {
        author: "test".to_owned(),
        client: String::new(),
        sequence: 0,
        time_millis: 0,
        command,
    };
    raft.propose(proposal).await.unwrap().accepted().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_is_on_the_disk_or_in_a_backup_and_the_scan_finds_them_once_the_seal_is_taken_out() {
    let here = tempfile::tempdir().unwrap();
    let mut supervisor = Supervisor::new();
    let (raft, _authority) = controller(here.path(), &mut supervisor).await;
    for _ in 0..120 {
        write(&raft, Command::Tick).await;
    }
    let backup = raft.save_snapshot().await.unwrap();
    let state = raft.state().borrow().clone();
    let keyring = Keyring::new(
        Secrets::load(&here.path().join("secrets"))
            .unwrap()
            .into_kek(),
    );
    let [root, data_key] = secrets(&state, &keyring);
    let disk = everything(&here.path().join("data"));
    assert!(
        found(&disk, &state.mesh().roots()[0].certificate),
        "the scan does not see the log"
    );
    assert!(!found(&disk, &root) && !found(&disk, &data_key));
    let backup = std::fs::read(backup.path()).unwrap();
    assert!(!found(&backup, &root) && !found(&backup, &data_key));

    let sealed = vec![unsealed("data-key", &data_key), unsealed("root", &root)];
    let roots = state.mesh().roots().to_vec();
    write(
        &raft,
        Command::SetTrust(SetTrust {
            expected_revision: state.trust_revision(),
            roots,
            sealed,
        }),
    )
    .await;
    let disk = everything(&here.path().join("data"));
    assert!(found(&disk, &root) && found(&disk, &data_key));
    raft.stop(true).await;
    supervisor.stop().await;
}

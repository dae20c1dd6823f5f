//! The whole way to a certificate against a fake controller, and what a restart keeps.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::controllers::Controllers;
use crate::fakes::{Authority, Caller, Controller, TRUST_DOMAIN, eventually, serve, spiffe};
use crate::snapshot::{Roots, Snapshot};
use crate::supervise::{Endings, Tasks, tasks};
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use xds_api::join_token::JoinToken;
use xds_api::maille::v1::identity_server::{Identity as Service, IdentityServer};
use xds_api::maille::v1::{
    BundleRequest, BundleResponse, CertifyRequest, CertifyResponse, SecretsRequest, SecretsResponse,
};

/// Issues to whoever shows the unused token or a certificate.
struct Fake {
    authority: Arc<Authority>,
    id: String,
    used: Mutex<Vec<String>>,
    issued: AtomicUsize,
    renew_in: AtomicI64,
}

#[tonic::async_trait]
impl Service for Fake {
    async fn bundle(
        &self,
        _request: Request<BundleRequest>,
    ) -> Result<Response<BundleResponse>, Status> {
        Ok(Response::new(BundleResponse {
            trust_domain: TRUST_DOMAIN.into(),
            roots: vec![Bytes::copy_from_slice(&self.authority.root)],
        }))
    }

    /// A controller's business: no sidecar asks for it.
    async fn secrets(
        &self,
        _request: Request<SecretsRequest>,
    ) -> Result<Response<SecretsResponse>, Status> {
        Err(Status::permission_denied("not for sidecars"))
    }

    async fn certify(
        &self,
        request: Request<CertifyRequest>,
    ) -> Result<Response<CertifyResponse>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let caller = caller.and_then(|caller| caller.0);
        let request = request.into_inner();
        if request.join_token.is_empty() {
            let known = caller.as_deref() == Some(&self.id);
            known
                .then_some(())
                .ok_or(Status::unauthenticated("who are you?"))?;
        } else {
            let mut used = self.used.lock().unwrap();
            if used.contains(&request.join_token) {
                return Err(Status::permission_denied("the token was used"));
            }
            used.push(request.join_token);
        }
        self.issued.fetch_add(1, Ordering::SeqCst);
        let now = seconds();
        let lifetime = Duration::from_secs(3600);
        Ok(Response::new(CertifyResponse {
            spiffe_id: self.id.clone(),
            chain: vec![self.authority.sign(&request.csr, &self.id, lifetime)],
            roots: vec![Bytes::copy_from_slice(&self.authority.root)],
            not_before: now - 300,
            not_after: now + 3600,
            renew_at: now + self.renew_in.load(Ordering::SeqCst),
            server_time_millis: now * 1000,
        }))
    }
}

fn seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// One controller, and one data directory that outlives identities.
struct World {
    fake: Arc<Fake>,
    controller: Controller,
    directory: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let authority = Arc::new(Authority::new());
        let fake = Arc::new(Fake {
            authority: authority.clone(),
            id: spiffe("shop", "web"),
            used: Mutex::default(),
            issued: AtomicUsize::new(0),
            renew_in: AtomicI64::new(3000),
        });
        let routes = Routes::new(IdentityServer::from_arc(fake.clone()));
        Self {
            controller: serve(authority.controller(), routes).await,
            fake,
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn token(&self) -> JoinToken {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &self.fake.authority.root).as_ref());
        JoinToken {
            id: "t1".into(),
            secret: vec![1; 32],
            spiffe_id: self.fake.id.clone(),
            controllers: vec![self.controller.address.to_string()],
            roots_sha256: vec![hash],
        }
    }

    fn settings(&self, join_token: Option<JoinToken>) -> Settings {
        Settings {
            controllers: Controllers::new(vec![self.controller.host_port()]),
            joining: Joining::Once(join_token),
            trust_domain: None,
            namespace: "shop".into(),
            service_account: None,
            workload: "shop/web-1".into(),
            directory: self.directory.path().to_owned(),
        }
    }

    fn start(&self, join_token: Option<JoinToken>) -> Started {
        self.start_by(self.settings(join_token))
    }

    fn start_by(&self, settings: Settings) -> Started {
        let (snapshots, receiver) = watch::channel(Arc::new(Snapshot::default()));
        let (tasks, endings) = tasks();
        let identity = start(settings, receiver, &tasks).unwrap();
        Started {
            identity,
            snapshots,
            tasks,
            endings,
        }
    }

    fn issued(&self) -> usize {
        self.fake.issued.load(Ordering::SeqCst)
    }
}

struct Started {
    identity: Identity,
    snapshots: watch::Sender<Arc<Snapshot>>,
    tasks: Tasks,
    endings: Endings,
}

impl Started {
    /// The error with which the identity's task ended.
    async fn failure(mut self) -> String {
        let ended = self.endings.next().await;
        ended.source.unwrap().to_string()
    }
}

#[tokio::test]
async fn a_token_gives_the_first_certificate_and_a_restart_asks_for_none() {
    let world = World::new().await;
    let mut started = world.start(Some(world.token()));
    let first = started.identity.first().await;
    assert_eq!(&*first.identity, world.fake.id);
    assert_eq!(first.roots.first(), Some(&world.fake.authority.root));
    started.tasks.stop().await;

    let again = world.start(None);
    let stored = again.identity.current().unwrap();
    assert_eq!(stored.chain, first.chain);
    assert_eq!(world.issued(), 1);
}

#[tokio::test]
async fn a_used_token_ends_the_proxy_with_the_controllers_words() {
    let world = World::new().await;
    world
        .fake
        .used
        .lock()
        .unwrap()
        .push(world.token().to_string());
    let failure = world.start(Some(world.token())).failure().await;
    assert!(
        failure.contains("refused the join token `t1`: the token was used"),
        "{failure}"
    );
}

/// What lies where the token is looked for; the error's text where it cannot be read.
#[derive(Debug, Clone)]
struct Lying(Arc<Mutex<Result<Option<JoinToken>, String>>>);

impl Tokens for Lying {
    fn read(&self) -> Result<Option<JoinToken>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.0.lock().unwrap().clone()?)
    }
}

#[tokio::test]
async fn one_of_several_says_what_it_needs_and_takes_the_token_that_comes() {
    let world = World::new().await;
    let used = JoinToken {
        secret: vec![9; 32],
        ..world.token()
    };
    world.fake.used.lock().unwrap().push(used.to_string());
    let lying = Lying(Arc::new(Mutex::new(Err("no right to read it".into()))));
    let started = world.start_by(Settings {
        joining: Joining::Again(Box::new(lying.clone())),
        ..world.settings(None)
    });
    let mut trouble = started.identity.trouble();
    let mut wait = async |text: &str| {
        let told = trouble.wait_for(|told| told.as_ref().is_some_and(|told| told.contains(text)));
        let told = tokio::time::timeout(Duration::from_secs(20), told).await;
        assert!(told.is_ok(), "never told of {text:?}");
    };
    wait("no right to read it").await;
    *lying.0.lock().unwrap() = Ok(None);
    wait("no join token; make one with").await;
    *lying.0.lock().unwrap() = Ok(Some(used));
    wait("the token was used").await;
    let other = JoinToken {
        spiffe_id: spiffe("bank", "web"),
        ..world.token()
    };
    *lying.0.lock().unwrap() = Ok(Some(other));
    wait("the join token is for spiffe://mesh.test/ns/bank/sa/web").await;
    *lying.0.lock().unwrap() = Ok(Some(world.token()));
    let mut identity = started.identity.clone();
    assert_eq!(&*identity.first().await.identity, world.fake.id);
    assert_eq!(*identity.trouble().borrow(), None);
}

#[tokio::test]
async fn roots_with_another_hash_end_the_proxy() {
    let world = World::new().await;
    let mut token = world.token();
    token.roots_sha256 = vec![[0; 32]];
    let failure = world.start(Some(token)).failure().await;
    assert!(
        failure.contains("has the hash in the join token"),
        "{failure}"
    );
    assert_eq!(world.issued(), 0);
}

#[tokio::test]
async fn a_due_certificate_is_renewed_by_itself_with_a_new_key() {
    let world = World::new().await;
    world.fake.renew_in.store(0, Ordering::SeqCst);
    let mut started = world.start(Some(world.token()));
    let first = started.identity.first().await;
    world.fake.renew_in.store(3000, Ordering::SeqCst);
    let renewed = eventually("a renewal", || {
        let current = started.identity.current()?;
        (current.renew_at > seconds() + 1000).then_some(current)
    });
    let renewed = renewed.await;
    assert_ne!(renewed.chain, first.chain);
    assert!(world.issued() >= 2);
    assert_eq!(world.fake.used.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn changed_roots_are_put_in_force_and_stored() {
    let world = World::new().await;
    let mut started = world.start(Some(world.token()));
    started.identity.first().await;
    let old = world.fake.authority.root.clone();
    let new = Authority::new().root;
    let mut snapshot = Snapshot::default();
    let roots = Roots {
        trust_domain: TRUST_DOMAIN.into(),
        certificates: vec![new.to_vec(), old.to_vec()],
    };
    snapshot.roots.insert(TRUST_DOMAIN.into(), roots.into());
    started.snapshots.send_replace(snapshot.into());
    let changed = eventually("the new roots", || {
        started
            .identity
            .current()
            .filter(|current| current.roots.len() == 2)
    });
    assert_eq!(changed.await.roots, [new.clone(), old.clone()]);
    started.tasks.stop().await;
    assert_eq!(
        world.start(None).identity.current().unwrap().roots,
        [new, old]
    );
}

#[tokio::test]
async fn what_cannot_work_is_refused_at_the_start() {
    let world = World::new().await;
    let check = |settings: Settings, expected: &str| {
        let (_sender, receiver) = watch::channel(Arc::new(Snapshot::default()));
        let refused = start(settings, receiver, &tasks().0)
            .unwrap_err()
            .to_string();
        assert!(refused.contains(expected), "{refused}");
    };
    check(world.settings(None), "no join token; make one with");
    let other_namespace = Settings {
        namespace: "bank".into(),
        ..world.settings(Some(world.token()))
    };
    check(
        other_namespace,
        "the join token is for spiffe://mesh.test/ns/shop/sa/web",
    );
    let other_account = Settings {
        service_account: Some("api".into()),
        ..world.settings(Some(world.token()))
    };
    check(
        other_account,
        "the configuration says spiffe://<trust domain>/ns/shop/sa/api",
    );
    let other_domain = Settings {
        trust_domain: Some("else.test".into()),
        ..world.settings(Some(world.token()))
    };
    check(
        other_domain,
        "the configuration says trust domain else.test",
    );
}

#[test]
fn the_key_is_never_printed() {
    let key = PrivateKey::generate().unwrap();
    assert_eq!(format!("{key:?}"), "PrivateKey(…)");
    let credentials = Authority::new().credentials(&spiffe("shop", "web"));
    assert!(format!("{credentials:?}").starts_with("Credentials { identity: "));
    assert!(!format!("{credentials:?}").contains("key"));
}

/// A file that version 1 wrote. It must be readable for as long as version 1 is.
#[test]
fn the_stored_identity_of_a_released_version_can_be_read() {
    let golden = include_bytes!("golden/identity.v1");
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("identity"), golden).unwrap();
    let loaded = Stored::new(directory.path()).load().unwrap().unwrap();
    assert_eq!(&*loaded.identity, spiffe("shop", "web"));
    assert_eq!((loaded.chain.len(), loaded.roots.len()), (1, 1));
    let again = tempfile::tempdir().unwrap();
    Stored::new(again.path()).save(&loaded).unwrap();
    let written = std::fs::read(again.path().join("identity")).unwrap();
    assert_eq!(written, golden, "the format changed; give it a new version");
}

//! The authority over a cluster of one: who gets a certificate, who is refused with which words, and what stays sealed.
#![allow(clippy::unwrap_used)]

mod disk;
mod sealed;
mod tls;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use rcgen::CertificateParams;
use rustls_pki_types::CertificateDer;

use super::*;
use crate::agreement::alone::Alone;
use crate::agreement::{Agreement, AgreementError};
use crate::model::{Command, Proposal, TokenPurpose};
use crate::peer_ca::Kek;
use crate::pki::{self, Facts, P256Key};
use crate::supervise::Supervisor;
use xds_api::join_token::JoinToken;

const KEK: [u8; 32] = [0x5A; 32];
const LIMIT: Duration = Duration::from_secs(20);

struct Site {
    alone: Arc<Alone>,
    authority: Authority,
    server_tls: ServerTls,
    supervisor: Supervisor,
}

fn settings() -> AuthoritySettings {
    AuthoritySettings {
        controller: "c1".to_owned(),
        leaf_lifetime: Duration::from_secs(24 * 3600),
        root: None,
        accounts: None,
    }
}

fn start(alone: &Arc<Alone>, kek: [u8; 32], settings: AuthoritySettings) -> Site {
    let mut supervisor = Supervisor::new();
    let stage = supervisor.stage("identity");
    let server_tls = ServerTls::new();
    let agreement: Arc<dyn Agreement> = Arc::clone(alone) as _;
    let keyring = Keyring::new(Kek::new(kek));
    let authority = Authority::start(&stage, settings, keyring, agreement, server_tls.clone());
    Site {
        alone: Arc::clone(alone),
        authority,
        server_tls,
        supervisor,
    }
}

impl Site {
    async fn issuing() -> Self {
        let site = start(&Alone::new(), KEK, settings());
        site.stands(|standing| *standing == Standing::Issuing).await;
        let until = tokio::time::Instant::now() + LIMIT;
        while !site.server_tls.is_ready() {
            assert!(tokio::time::Instant::now() < until, "no server certificate");
            tokio::task::yield_now().await;
        }
        site
    }

    async fn stands(&self, fits: impl FnMut(&Standing) -> bool) -> Standing {
        let mut standing = self.authority.standing();
        let waited = tokio::time::timeout(LIMIT, standing.wait_for(fits)).await;
        match waited {
            Ok(standing) => standing.unwrap().clone(),
            Err(_) => panic!(
                "last seen: {:?}",
                self.authority.standing().borrow().clone()
            ),
        }
    }

    fn token(&self, change: impl FnOnce(&mut NewToken)) -> JoinToken {
        let mut wanted = NewToken {
            purpose: TokenPurpose::Workload,
            namespace: "shop".to_owned(),
            service_account: "web".to_owned(),
            lifetime_seconds: 0,
        };
        change(&mut wanted);
        let (token, shown) = new_token(&self.alone.now(), &wanted).unwrap();
        self.write(Command::CreateToken(token));
        shown
    }

    fn write(&self, command: Command) {
        let time_millis = crate::agreement::alone::now_millis();
        let proposal = Proposal {
            author: "test".to_owned(),
            client: String::new(),
            sequence: 0,
            time_millis,
            command,
        };
        self.alone.apply(&proposal).accepted().unwrap();
    }

    async fn certify(&self, token: &JoinToken) -> Result<Certified, IssueError> {
        let text = token.to_string();
        let request = request(&P256Key::generate().unwrap());
        self.authority
            .certify(Asking {
                request: &request,
                token: &text,
                account_token: "",
                leaf: None,
                workload: "shop/web-1",
            })
            .await
    }

    async fn renew(&self, leaf: Option<&Facts>) -> Result<Certified, IssueError> {
        let request = request(&P256Key::generate().unwrap());
        self.authority
            .certify(Asking {
                request: &request,
                token: "",
                account_token: "",
                leaf,
                workload: "shop/web-1",
            })
            .await
    }
}

fn request(key: &P256Key) -> Vec<u8> {
    CertificateParams::default()
        .serialize_request(key)
        .unwrap()
        .der()
        .to_vec()
}

fn roots(site: &Site) -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    for root in site.alone.now().mesh().roots() {
        roots
            .add(CertificateDer::from(root.certificate.to_vec()))
            .unwrap();
    }
    roots
}

#[tokio::test]
async fn a_token_becomes_a_leaf_that_chains_to_the_root_and_stands_on_the_record() {
    let site = Site::issuing().await;
    let certified = site.certify(&site.token(|_| {})).await.unwrap();
    let facts = pki::parse(&certified.chain[0]).unwrap();
    assert_eq!(
        Some("spiffe://mesh.local/ns/shop/sa/web"),
        facts.spiffe_id()
    );
    let life = certified.not_after - certified.not_before - 300;
    assert!((86_400 - 5..=86_400).contains(&life), "{life}");
    let renew_in = certified.renew_at - (certified.not_before + 300);
    assert!(
        (life * 4 / 10 - 2..=life * 6 / 10 + 2).contains(&renew_in),
        "{renew_in} of {life}"
    );

    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots(&site)),
        crate::tls::provider(),
    )
    .build()
    .unwrap();
    let now = rustls::pki_types::UnixTime::now();
    verifier
        .verify_client_cert(&certified.chain[0], &certified.chain[1..], now)
        .unwrap();

    let state = site.alone.now();
    let record = state.issuance().records_from(1).last().unwrap();
    assert_eq!(facts.serial, record.serial);
    assert_eq!(facts.sha256[..], record.leaf_sha256[..]);
    assert!(
        record.reason.starts_with("token ") && record.workload == "shop/web-1",
        "{record:?}"
    );
    assert_eq!(state.issuance().head()[..], record.hash[..]);
    site.supervisor.stop().await;
}

#[tokio::test]
async fn a_leaf_never_outlives_its_issuer() {
    let mut settings = settings();
    settings.leaf_lifetime = Duration::from_secs(100 * 3600);
    let site = start(&Alone::new(), KEK, settings);
    site.stands(|standing| *standing == Standing::Issuing).await;
    let certified = site.certify(&site.token(|_| {})).await.unwrap();
    let issuer = pki::parse(&certified.chain[1]).unwrap();
    assert_eq!(issuer.term.not_after, certified.not_after);
    site.supervisor.stop().await;
}

#[tokio::test]
async fn a_current_certificate_renews_and_others_do_not() {
    let site = Site::issuing().await;
    let first = site.certify(&site.token(|_| {})).await.unwrap();
    let leaf = pki::parse(&first.chain[0]).unwrap();
    let second = site.renew(Some(&leaf)).await.unwrap();
    assert_eq!(first.spiffe_id, second.spiffe_id);
    let record = site
        .alone
        .now()
        .issuance()
        .records_from(1)
        .last()
        .unwrap()
        .clone();
    assert_eq!(format!("renewal of {}", leaf.serial), record.reason);

    let refused = |leaf: Option<Facts>, words: &'static str| {
        let site = &site;
        async move {
            let text = site.renew(leaf.as_ref()).await.unwrap_err().to_string();
            assert!(text.contains(words), "`{words}` is not in `{text}`");
        }
    };
    refused(None, "send a join token").await;
    let mut expired = leaf.clone();
    expired.term.not_after = now() - 1;
    refused(Some(expired), "it has expired").await;
    let named = |uri: &str| {
        Some(Facts {
            uris: vec![uri.to_owned()],
            ..leaf.clone()
        })
    };
    refused(
        named("spiffe://other/ns/shop/sa/web"),
        "no workload of this mesh",
    )
    .await;
    refused(
        named("spiffe://mesh.local/admin/ada"),
        "no workload of this mesh",
    )
    .await;
    refused(
        named(&controller_identity("mesh.local")),
        "a controller makes its own",
    )
    .await;
    site.supervisor.stop().await;
}

#[tokio::test]
async fn leaves_that_wait_together_share_one_entry() {
    let site = Site::issuing().await;
    let tokens: Vec<JoinToken> = (0..40).map(|_| site.token(|_| {})).collect();
    let before = site.alone.writes().len();
    let all = futures_util::future::join_all(tokens.iter().map(|token| site.certify(token))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    let entries = site.alone.writes().len() - before;
    assert!(entries < 20, "{entries} entries for 40 leaves");
    site.supervisor.stop().await;
}

#[tokio::test]
async fn one_token_sent_twice_at_once_pays_once_and_spoils_nobody_elses() {
    let site = Site::issuing().await;
    let (token, other) = (site.token(|_| {}), site.token(|_| {}));
    let (first, second, third) = tokio::join!(
        site.certify(&token),
        site.certify(&token),
        site.certify(&other)
    );
    let refused = [&first, &second]
        .iter()
        .filter(|result| result.is_err())
        .count();
    assert_eq!(1, refused, "{first:?} {second:?}");
    third.unwrap();
    site.supervisor.stop().await;
}

#[tokio::test]
async fn no_leaf_leaves_without_its_record() {
    let site = Site::issuing().await;
    let token = site.token(|_| {});
    let issued = site.alone.now().issuance().count();
    site.alone.refuse(Some(AgreementError::Unavailable(
        "there is no leader".to_owned(),
    )));
    let mut certifying = Box::pin(site.certify(&token));
    let waited = tokio::time::timeout(Duration::from_millis(300), &mut certifying).await;
    assert!(waited.is_err(), "a leaf without a record: {waited:?}");
    site.alone.refuse(None);
    certifying.as_mut().await.unwrap();
    drop(certifying);
    assert_eq!(issued + 1, site.alone.now().issuance().count());
    site.supervisor.stop().await;
}

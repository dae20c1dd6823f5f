//! The admin service over a cluster of one: who may call, tokens from making to revoking, and the issuance log's chain.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tonic::{Code, Request, Status, async_trait};
use xds_api::envoy::service::status::v3::ClientConfig;
use xds_api::issuance::Chain;
use xds_api::join_token::JoinToken;
use xds_api::maille::v1::admin_server::Admin;
use xds_api::maille::v1::create_token_request::Purpose;
use xds_api::maille::v1::*;

use super::*;
use crate::agreement::Agreement;
use crate::agreement::alone::Alone;
use crate::identity::{Asking, Authority, AuthoritySettings, Keyring, ServerTls, Standing};
use crate::model::{Command, State};
use crate::peer_ca::Kek;
use crate::pki::{Facts, P256Key, Term};
use crate::supervise::Supervisor;
use crate::tls::Caller;

/// Parts that nobody calls in these tests.
#[derive(Debug)]
struct Absent;

fn absent<T>() -> Result<T, Status> {
    Err(Status::unimplemented("not in this test"))
}

#[async_trait]
impl Objects for Absent {
    async fn apply(
        &self,
        author: &Author,
        _request: ApplyRequest,
    ) -> Result<ApplyResponse, Status> {
        Ok(ApplyResponse {
            warnings: vec![author.to_string()],
            ..ApplyResponse::default()
        })
    }
    async fn get(&self, _request: GetRequest) -> Result<GetResponse, Status> {
        absent()
    }
    async fn delete(
        &self,
        _author: &Author,
        _request: DeleteRequest,
    ) -> Result<DeleteResponse, Status> {
        absent()
    }
}

#[async_trait]
impl ClusterCalls for Absent {
    async fn status(&self) -> Result<(StatusResponse, Arc<State>), Status> {
        Ok((StatusResponse::default(), Arc::default()))
    }
    async fn members(&self) -> Result<MembersResponse, Status> {
        absent()
    }
    async fn remove_member(
        &self,
        _: &Author,
        _: RemoveMemberRequest,
    ) -> Result<RemoveMemberResponse, Status> {
        absent()
    }
    async fn transfer_leadership(
        &self,
        _: &Author,
        _: TransferLeadershipRequest,
    ) -> Result<TransferLeadershipResponse, Status> {
        absent()
    }
    async fn save_snapshot(&self) -> Result<ChunkStream, Status> {
        absent()
    }
}

#[async_trait]
impl Clients for Absent {
    async fn proxies(&self) -> Result<ProxiesResponse, Status> {
        absent()
    }
    async fn await_live(
        &self,
        _: u64,
        _: Duration,
        sees: Choice,
    ) -> Result<AwaitLiveResponse, Status> {
        let nodes = ["bank/db-1", "shop/web-1"];
        let unseen = nodes.iter().filter(|node| !sees(node)).count();
        Ok(AwaitLiveResponse {
            unseen: u32::try_from(unseen).unwrap(),
            ..Default::default()
        })
    }
    async fn preview(&self, _: Command, _: u64) -> Result<Preview, Status> {
        absent()
    }
    async fn client_status(&self, _: Choice, _: bool) -> Result<(Vec<ClientConfig>, u32), Status> {
        absent()
    }
    async fn loads(&self, _: LoadsRequest, _: Sight) -> Result<LoadsResponse, Status> {
        absent()
    }
    fn streams(&self) -> u32 {
        7
    }
    async fn resource_hashes(&self, _: &Arc<State>) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
}

struct Site {
    alone: Arc<Alone>,
    authority: Authority,
    service: AdminService,
    supervisor: Supervisor,
}

async fn site() -> Site {
    let (alone, mut supervisor) = (Alone::new(), Supervisor::new());
    let stage = supervisor.stage("admin");
    let settings = AuthoritySettings {
        controller: "c1".to_owned(),
        leaf_lifetime: Duration::from_secs(3600),
        root: None,
        accounts: None,
    };
    let keyring = Keyring::new(Kek::new([3; 32]));
    let agreement: Arc<dyn Agreement> = Arc::clone(&alone) as _;
    let authority = Authority::start(&stage, settings, keyring, agreement, ServerTls::new());
    let mut standing = authority.standing();
    let issuing = standing.wait_for(|standing| *standing == Standing::Issuing);
    tokio::time::timeout(Duration::from_secs(20), issuing)
        .await
        .unwrap()
        .unwrap();
    let families = Families {
        objects: Arc::new(Absent),
        cluster: Arc::new(Absent),
        clients: Arc::new(Absent),
        authority: authority.clone(),
    };
    let service = AdminService::new(&stage, "mesh.local", families);
    Site {
        alone,
        authority,
        service,
        supervisor,
    }
}

fn from<T>(message: T, caller: Caller) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(caller);
    request
}

fn root<T>(message: T) -> Request<T> {
    from(message, Caller::local(0))
}

fn holder(uri: &str) -> Caller {
    granted(uri, "maille:admin", "")
}

fn granted(uri: &str, organization: &str, unit: &str) -> Caller {
    let facts = Facts {
        subject: String::new(),
        organization: organization.to_owned(),
        unit: unit.to_owned(),
        uris: vec![uri.to_owned()],
        serial: "1".to_owned(),
        term: Term {
            not_before: 0,
            not_after: i64::MAX,
        },
        is_ca: false,
        key_sha256: [0; 32],
        sha256: [0; 32],
    };
    Caller {
        remote: None,
        chain: Arc::from([]),
        leaf: Some(Arc::new(facts)),
        local_user: None,
    }
}

#[tokio::test]
async fn only_administrators_of_this_mesh_and_root_may_call_and_are_recorded() {
    let site = site().await;
    let check = |caller: Caller, expected: Result<&'static str, Code>| {
        let service = site.service.clone();
        async move {
            let answer = service.apply(from(ApplyRequest::default(), caller)).await;
            let seen = answer
                .map(|answer| answer.into_inner().warnings[0].clone())
                .map_err(|refused| refused.code());
            assert_eq!(expected.map(str::to_owned), seen);
        }
    };
    check(
        holder("spiffe://mesh.local/admin/ada"),
        Ok("spiffe://mesh.local/admin/ada"),
    )
    .await;
    check(Caller::local(0), Ok("local user 0")).await;
    for other in [
        "spiffe://other/admin/ada",
        "spiffe://mesh.local/ns/a/sa/b",
        "maille-peer://c/n/d",
    ] {
        check(holder(other), Err(Code::PermissionDenied)).await;
    }
    let nobody = Caller {
        remote: None,
        chain: Arc::from([]),
        leaf: None,
        local_user: None,
    };
    check(nobody, Err(Code::PermissionDenied)).await;
    site.supervisor.stop().await;
}

#[tokio::test]
async fn a_token_is_made_used_listed_and_revoked() {
    let site = site().await;
    let request = CreateTokenRequest {
        purpose: Purpose::Workload.into(),
        namespace: "shop".to_owned(),
        service_account: "web".to_owned(),
        ..CreateTokenRequest::default()
    };
    let made = site
        .service
        .create_token(root(request.clone()))
        .await
        .unwrap()
        .into_inner();
    let token: JoinToken = made.token.parse().unwrap();
    assert_eq!(
        ("spiffe://mesh.local/ns/shop/sa/web", &made.id),
        (token.spiffe_id.as_str(), &token.id)
    );

    let key = P256Key::generate().unwrap();
    let csr = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .unwrap()
        .der()
        .to_vec();
    let asking = Asking {
        request: &csr,
        token: &made.token,
        account_token: "",
        leaf: None,
        workload: "shop/web-1",
    };
    site.authority.certify(asking).await.unwrap();
    let listed = site
        .service
        .list_tokens(root(ListTokensRequest {}))
        .await
        .unwrap()
        .into_inner()
        .tokens;
    assert!(
        listed[0].used_at > 0 && listed[0].author == "local user 0",
        "{listed:?}"
    );

    let second = site
        .service
        .create_token(root(request))
        .await
        .unwrap()
        .into_inner();
    let revoking = RevokeTokenRequest {
        id: second.id.clone(),
        client: "cli".to_owned(),
        sequence: 1,
    };
    for _ in 0..2 {
        let revoked = site.service.revoke_token(root(revoking.clone())).await;
        revoked.expect("asked again, it says the same again");
    }
    let refused = site
        .authority
        .certify(Asking {
            token: &second.token,
            ..asking
        })
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("it was revoked"), "{refused}");
    let anew = RevokeTokenRequest {
        sequence: 2,
        ..revoking
    };
    assert_eq!(
        Code::NotFound,
        site.service
            .revoke_token(root(anew))
            .await
            .unwrap_err()
            .code()
    );
    site.supervisor.stop().await;
}

#[tokio::test]
async fn the_issuance_log_verifies_against_the_head_that_the_authority_shows() {
    let site = site().await;
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while site.alone.now().issuance().count() == 0 {
        assert!(
            tokio::time::Instant::now() < until,
            "the controller's own leaf is not on record"
        );
        tokio::task::yield_now().await;
    }
    let described = site
        .service
        .authority(root(AuthorityRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert!(
        !described.sealed && described.roots.len() == 1 && described.issuers.len() == 1,
        "{described:?}"
    );
    let records = site
        .service
        .issuance_log(root(IssuanceLogRequest::default()))
        .await
        .unwrap()
        .into_inner();
    let records: Vec<_> = records.map(Result::unwrap).collect().await;
    let mut chain = Chain::new();
    records
        .iter()
        .for_each(|record| chain.check(record).unwrap());
    chain
        .finish(
            described.issued,
            &hex::decode(&described.chain_head).unwrap(),
        )
        .unwrap();
    assert_eq!(Some((1, described.issued)), chain.range());

    let status = site
        .service
        .status(root(StatusRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert!(
        !status.sealed && status.streams == 7 && status.objects.contains_key("Service"),
        "{status:?}"
    );
    site.supervisor.stop().await;
}

/// What calls of some kinds come to by a certificate's role and namespaces.
#[tokio::test]
async fn a_role_and_its_namespaces_bound_what_may_be_asked() {
    let site = site().await;
    let ada = "spiffe://mesh.local/admin/ada";
    let service = &site.service;
    let caller = |role: &str, namespaces: &str| granted(ada, &format!("maille:{role}"), namespaces);
    let get = async |role: &str, namespaces: &str, namespace: &str| {
        let request = GetRequest {
            namespace: namespace.to_owned(),
            all_namespaces: namespace.is_empty(),
            ..Default::default()
        };
        let answer = service.get(from(request, caller(role, namespaces))).await;
        answer
            .map(drop)
            .map_err(|refused| refused.message().to_owned())
    };
    let apply = async |role: &str| {
        let request = from(ApplyRequest::default(), caller(role, ""));
        let answer = service.apply(request).await;
        answer
            .map(drop)
            .map_err(|refused| refused.message().to_owned())
    };
    let save = async |role: &str| {
        let request = from(SaveSnapshotRequest::default(), caller(role, ""));
        let answer = service.save_snapshot(request).await;
        answer
            .map(drop)
            .map_err(|refused| refused.message().to_owned())
    };
    let says = |answer: Result<(), String>, words: &str| {
        let text = answer.expect_err(words);
        assert!(text.contains(words), "{text}");
    };
    // Who is let in comes to what the test does not have.
    const LET_IN: &str = "not in this test";
    says(get("viewer", "", "").await, LET_IN);
    says(get("viewer", "shop,bench", "bench").await, LET_IN);
    says(
        get("viewer", "shop,bench", "other").await,
        "reaches shop, bench, not the namespace other",
    );
    says(
        get("viewer", "shop", "").await,
        "not all namespaces at once",
    );
    says(
        apply("viewer").await,
        "has the role viewer; this takes editor",
    );
    assert_eq!(apply("editor").await, Ok(()));
    says(save("editor").await, "this takes admin");
    says(save("admin").await, LET_IN);
    says(get("owner", "", "").await, "names no role");
    says(get("admin", "shop", "shop").await, "names no role");

    let unseen = async |namespaces: &str| {
        let request = from(AwaitLiveRequest::default(), caller("viewer", namespaces));
        let answer = service.await_live(request).await.unwrap();
        answer.into_inner().unseen
    };
    for (namespaces, expected) in [("", 0), ("shop", 1), ("shop,bank", 0), ("bench", 2)] {
        assert_eq!(unseen(namespaces).await, expected, "{namespaces}");
    }
}

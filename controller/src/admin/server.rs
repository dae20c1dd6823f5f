//! The service: every call is an administrator's, and goes to its family.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status, async_trait};
use xds_api::maille::v1::admin_server::{Admin, AdminServer};
use xds_api::maille::v1::create_token_request::Purpose;
use xds_api::maille::v1::{
    ApplyRequest, ApplyResponse, AuthorityRequest, AuthorityResponse, AwaitLiveRequest,
    AwaitLiveResponse, CreateTokenRequest, CreateTokenResponse, DeleteRequest, DeleteResponse,
    GetRequest, GetResponse, IssuanceLogRequest, ListTokensRequest, ListTokensResponse,
    LoadsRequest, LoadsResponse, MembersRequest, MembersResponse, MoveRolloutRequest,
    MoveRolloutResponse, PreviewRequest, PreviewResponse, ProxiesRequest, ProxiesResponse,
    RemoveMemberRequest, RemoveMemberResponse, RevokeTokenRequest, RevokeTokenResponse,
    SaveSnapshotRequest, StageRequest, StageResponse, StatusRequest, StatusResponse,
    TransferLeadershipRequest, TransferLeadershipResponse,
};

use super::Author;
use super::authority::{AuthorityCalls, RecordStream};
use super::families::{ChunkStream, Clients, ClusterCalls, Objects};
use super::rollouts::{self, Rollouts};
use super::tokens::Tokens;
use crate::identity::Authority;
use crate::model::kinds::metadata::DEFAULT_NAMESPACE;
use crate::model::{Kind, State};
use crate::peer_ca::Role;
use crate::supervise::Stage;

/// The largest apply: a whole mesh in one file. Far above what a person writes, far below what would hurt.
const MAX_REQUEST: usize = 32 << 20;
/// The longest wait of one call: a caller that went away is noticed by then.
const AWAIT_LIMIT: Duration = Duration::from_secs(30);

/// The parts that answer.
#[derive(Debug, Clone)]
pub struct Families {
    /// The mesh's objects.
    pub objects: Arc<dyn Objects>,
    /// The Raft cluster.
    pub cluster: Arc<dyn ClusterCalls>,
    /// xDS clients.
    pub clients: Arc<dyn Clients>,
    /// The certificate authority, and through it the agreed state.
    pub authority: Authority,
}

/// Answers `maille.v1.Admin`.
#[derive(Debug, Clone)]
pub struct AdminService {
    objects: Arc<dyn Objects>,
    cluster: Arc<dyn ClusterCalls>,
    clients: Arc<dyn Clients>,
    tokens: Tokens,
    rollouts: Rollouts,
    authority: AuthorityCalls,
    trust_domain: Arc<str>,
}

impl AdminService {
    /// The tonic service for administrators of `trust_domain`. `tls::Caller` must stand in each request's extensions.
    pub fn server(stage: &Stage, trust_domain: &str, families: Families) -> AdminServer<Self> {
        AdminServer::new(Self::new(stage, trust_domain, families))
            .max_decoding_message_size(MAX_REQUEST)
    }

    pub(super) fn new(stage: &Stage, trust_domain: &str, families: Families) -> Self {
        let agreement = families.authority.agreement();
        Self {
            objects: families.objects,
            cluster: families.cluster,
            tokens: Tokens::new(Arc::clone(agreement)),
            rollouts: Rollouts::new(Arc::clone(agreement), Arc::clone(&families.clients)),
            clients: families.clients,
            authority: AuthorityCalls::new(families.authority, stage.clone()),
            trust_domain: Arc::from(trust_domain),
        }
    }

    /// Who calls, of this role at least.
    fn author<T>(&self, request: &Request<T>, role: Role) -> Result<Author, Status> {
        let author = Author::of(request, &self.trust_domain)?;
        author.must_be(role)?;
        Ok(author)
    }
}

/// How many there are of each kind, and of registered instances.
fn objects<M: FromIterator<(String, u64)>>(state: &State) -> M {
    let kinds = Kind::ALL
        .iter()
        .map(|kind| (kind.name().to_owned(), state.mesh().count(*kind) as u64));
    let instances = ("Instance".to_owned(), state.mesh().instances().len() as u64);
    kinds.chain([instances]).collect()
}

#[async_trait]
impl Admin for AdminService {
    async fn apply(
        &self,
        request: Request<ApplyRequest>,
    ) -> Result<Response<ApplyResponse>, Status> {
        let author = self.author(&request, Role::Editor)?;
        self.objects
            .apply(&author, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let author = self.author(&request, Role::Viewer)?;
        let asked = request.get_ref();
        author.must_reach(match (asked.all_namespaces, asked.namespace.as_str()) {
            (true, _) => "",
            (false, "") => DEFAULT_NAMESPACE,
            (false, namespace) => namespace,
        })?;
        self.objects
            .get(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn delete(
        &self,
        request: Request<DeleteRequest>,
    ) -> Result<Response<DeleteResponse>, Status> {
        let author = self.author(&request, Role::Editor)?;
        self.objects
            .delete(&author, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn preview(
        &self,
        request: Request<PreviewRequest>,
    ) -> Result<Response<PreviewResponse>, Status> {
        let author = self.author(&request, Role::Editor)?;
        let answer = self.rollouts.preview(&author, request.get_ref()).await;
        answer.map(Response::new)
    }

    async fn stage(
        &self,
        request: Request<StageRequest>,
    ) -> Result<Response<StageResponse>, Status> {
        let author = self.author(&request, Role::Editor)?;
        let answer = self.rollouts.stage(&author, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn move_rollout(
        &self,
        request: Request<MoveRolloutRequest>,
    ) -> Result<Response<MoveRolloutResponse>, Status> {
        let author = self.author(&request, Role::Editor)?;
        let answer = self.rollouts.advance(&author, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        self.author(&request, Role::Viewer)?;
        let (mut status, state) = self.cluster.status().await?;
        status.sealed = self.authority.is_sealed();
        status.streams = self.clients.streams();
        status.objects = objects(&state);
        status.rollout = rollouts::describe(&state);
        status.resource_hashes = self
            .clients
            .resource_hashes(&state)
            .await
            .into_iter()
            .collect();
        Ok(Response::new(status))
    }

    async fn members(
        &self,
        request: Request<MembersRequest>,
    ) -> Result<Response<MembersResponse>, Status> {
        self.author(&request, Role::Viewer)?;
        self.cluster.members().await.map(Response::new)
    }

    async fn remove_member(
        &self,
        request: Request<RemoveMemberRequest>,
    ) -> Result<Response<RemoveMemberResponse>, Status> {
        let author = self.author(&request, Role::Admin)?;
        self.cluster
            .remove_member(&author, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn transfer_leadership(
        &self,
        request: Request<TransferLeadershipRequest>,
    ) -> Result<Response<TransferLeadershipResponse>, Status> {
        let author = self.author(&request, Role::Admin)?;
        self.cluster
            .transfer_leadership(&author, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let author = self.author(&request, Role::Editor)?;
        match request.get_ref().purpose() {
            Purpose::Workload => author.must_reach(&request.get_ref().namespace)?,
            _ => author.must_be(Role::Admin)?,
        }
        self.tokens
            .create(&author, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_tokens(
        &self,
        request: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensResponse>, Status> {
        self.author(&request, Role::Viewer)?.must_reach("")?;
        self.tokens.list().await.map(Response::new)
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        let author = self.author(&request, Role::Admin)?;
        self.tokens
            .revoke(&author, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn authority(
        &self,
        request: Request<AuthorityRequest>,
    ) -> Result<Response<AuthorityResponse>, Status> {
        self.author(&request, Role::Viewer)?;
        self.authority.describe().map(Response::new)
    }

    type IssuanceLogStream = RecordStream;

    async fn issuance_log(
        &self,
        request: Request<IssuanceLogRequest>,
    ) -> Result<Response<RecordStream>, Status> {
        self.author(&request, Role::Viewer)?.must_reach("")?;
        self.authority
            .log(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn proxies(
        &self,
        request: Request<ProxiesRequest>,
    ) -> Result<Response<ProxiesResponse>, Status> {
        let author = self.author(&request, Role::Viewer)?;
        let mut answer = self.clients.proxies().await?;
        answer.proxies.retain(|proxy| author.sees_node(&proxy.node));
        Ok(Response::new(answer))
    }

    async fn await_live(
        &self,
        request: Request<AwaitLiveRequest>,
    ) -> Result<Response<AwaitLiveResponse>, Status> {
        let author = self.author(&request, Role::Viewer)?;
        let request = request.into_inner();
        let limit = Duration::from_millis(u64::from(request.limit_millis)).min(AWAIT_LIMIT);
        let sees = Box::new(move |node: &str| author.sees_node(node));
        let answer = self.clients.await_live(request.index, limit, sees).await;
        answer.map(Response::new)
    }

    async fn loads(
        &self,
        request: Request<LoadsRequest>,
    ) -> Result<Response<LoadsResponse>, Status> {
        let author = self.author(&request, Role::Viewer)?;
        let sees = Box::new(move |namespace: &str| author.sees(namespace));
        let answer = self.clients.loads(request.into_inner(), sees).await;
        answer.map(Response::new)
    }

    type SaveSnapshotStream = ChunkStream;

    async fn save_snapshot(
        &self,
        request: Request<SaveSnapshotRequest>,
    ) -> Result<Response<ChunkStream>, Status> {
        self.author(&request, Role::Admin)?;
        self.cluster.save_snapshot().await.map(Response::new)
    }
}

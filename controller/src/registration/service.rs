//! The `Registration` service: the certificate says who speaks, and bounds what may be registered.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use tracing::info;
use xds_api::maille::v1 as wire;
use xds_api::maille::v1::registration_server::{Registration, RegistrationServer};
use xds_api::maille::v1::{
    RegisterRequest, RegisterResponse, RenewRequest, RenewResponse, WithdrawRequest,
    WithdrawResponse,
};
use xds_api::spiffe::SpiffeId;

use super::LEASE;
use super::renewals::Renewals;
use crate::agreement::{Agreement, refusal_status};
use crate::model::command::{EndInstances, InstanceEnd};
use crate::model::{
    Applied, Command, EnvoyListeners, Health, Instance, InstancePort, MeshMode, Name, Proposal,
    Protocol, State,
};
use crate::supervise::Stage;
use crate::tls::Caller;

/// An instance with 256 ports and 64 labels stays far below it.
const MAX_REQUEST: usize = 256 * 1024;

/// Answers `maille.v1.Registration`.
#[derive(Debug, Clone)]
pub struct RegistrationService {
    agreement: Arc<dyn Agreement>,
    renewals: Renewals,
}

impl RegistrationService {
    /// The tonic service. `tls::Caller` must stand in each request's extensions.
    pub fn server(stage: &Stage, agreement: Arc<dyn Agreement>) -> RegistrationServer<Self> {
        RegistrationServer::new(Self::new(stage, agreement)).max_decoding_message_size(MAX_REQUEST)
    }

    pub(super) fn new(stage: &Stage, agreement: Arc<dyn Agreement>) -> Self {
        Self {
            renewals: Renewals::start(stage, Arc::clone(&agreement)),
            agreement,
        }
    }

    fn state(&self) -> Arc<State> {
        self.agreement.state().borrow().clone()
    }

    async fn propose(&self, call: Call<'_>, command: Command) -> Result<Applied, Status> {
        let proposal = Proposal {
            author: call.caller.to_string(),
            client: call.writer(),
            sequence: call.sequence,
            time_millis: 0,
            command,
        };
        let applied = self.agreement.propose(proposal).await?;
        applied
            .accepted()
            .map_err(|refusal| refusal_status(&refusal))
    }

    /// Whether the agreed mesh has this instance by this process. A state that lags is read anew before the answer is no.
    async fn is_registered(&self, name: &Name, generation: u64) -> Result<bool, Status> {
        let has = |state: &State| {
            state
                .mesh()
                .instances()
                .get(name)
                .is_some_and(|entry| entry.instance.generation == generation)
        };
        Ok(has(&self.state()) || has(&*self.agreement.read().await?))
    }

    fn keep(&self, name: &Name, generation: u64) -> Result<(), Status> {
        if self.renewals.add(&name.namespace, &name.name, generation) {
            return Ok(());
        }
        Err(Status::resource_exhausted(
            "too many leases are renewed at this controller; use another one",
        ))
    }
}

/// Whose word is written, and which of that process's words it is.
#[derive(Clone, Copy)]
struct Call<'a> {
    caller: &'a SpiffeId,
    name: &'a Name,
    generation: u64,
    sequence: u64,
}

impl Call<'_> {
    /// A process is a writer of its own, so that its calls are applied in its own order. The identity is part of it: nobody else can be ahead of
    /// the process. Empty where calls are not numbered.
    fn writer(&self) -> String {
        let Self {
            caller,
            name,
            generation,
            sequence,
        } = self;
        match sequence {
            0 => String::new(),
            _ => format!("{caller} {name} {generation}"),
        }
    }
}

#[tonic::async_trait]
impl Registration for RegistrationService {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        let caller = caller(&request, &self.state())?;
        let RegisterRequest {
            instance,
            generation,
            sequence,
        } = request.into_inner();
        let instance = instance.ok_or_else(|| Status::invalid_argument("`instance` is missing"))?;
        check_bounds(&caller, &instance.namespace, &instance.name, generation)?;
        let instance = instance_of(instance, &caller, generation)?;
        let name = instance.name.clone();
        let call = Call {
            caller: &caller,
            name: &name,
            generation,
            sequence,
        };
        // Written even where it is what this controller has applied: that may be old, and an older call may still be on its way.
        let applied = self.propose(call, Command::Register(instance)).await?;
        info!(instance = %name, identity = %caller, generation, index = applied.index, "registered");
        self.keep(&name, generation)?;
        Ok(Response::new(RegisterResponse {
            lease_seconds: lease_seconds(),
            index: applied.index,
        }))
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<RenewResponse>, Status> {
        let caller = caller(&request, &self.state())?;
        let RenewRequest {
            namespace,
            name,
            generation,
        } = request.into_inner();
        check_bounds(&caller, &namespace, &name, generation)?;
        let name = Name { namespace, name };
        if !self.is_registered(&name, generation).await? {
            return Err(Status::not_found(format!(
                "the lease of {name} has ended; register again"
            )));
        }
        self.keep(&name, generation)?;
        Ok(Response::new(RenewResponse {
            lease_seconds: lease_seconds(),
        }))
    }

    async fn withdraw(
        &self,
        request: Request<WithdrawRequest>,
    ) -> Result<Response<WithdrawResponse>, Status> {
        let caller = caller(&request, &self.state())?;
        let WithdrawRequest {
            namespace,
            name,
            generation,
            sequence,
        } = request.into_inner();
        check_bounds(&caller, &namespace, &name, generation)?;
        let name = Name { namespace, name };
        let call = Call {
            caller: &caller,
            name: &name,
            generation,
            sequence,
        };
        // Written even where nothing is there: a registration may still be on its way.
        let ends = vec![InstanceEnd {
            name: name.clone(),
            generation,
        }];
        let applied = self
            .propose(call, Command::EndInstances(EndInstances { ends }))
            .await?;
        info!(instance = %name, identity = %caller, generation, index = applied.index, "withdrawn");
        Ok(Response::new(WithdrawResponse {
            index: applied.index,
        }))
    }
}

fn lease_seconds() -> u32 {
    u32::try_from(LEASE.as_secs()).expect("a lease is a matter of seconds")
}

fn caller<T>(request: &Request<T>, state: &State) -> Result<SpiffeId, Status> {
    let nobody = || {
        Status::unauthenticated(
            "registering needs the workload's certificate; get one with a join token first",
        )
    };
    let id = request
        .extensions()
        .get::<Caller>()
        .and_then(Caller::spiffe_id)
        .ok_or_else(nobody)?;
    let id: SpiffeId = id.parse().map_err(|_| nobody())?;
    if id.service_account().is_none() || id.trust_domain() != state.mesh().trust_domain() {
        return Err(Status::permission_denied(format!(
            "{id} is no workload of this mesh"
        )));
    }
    Ok(id)
}

/// The certificate's namespace bounds what its holder may speak of.
fn check_bounds(
    caller: &SpiffeId,
    namespace: &str,
    name: &str,
    generation: u64,
) -> Result<(), Status> {
    if caller.namespace() != Some(namespace) {
        return Err(Status::permission_denied(format!(
            "{caller} may not speak for the workload {namespace}/{name}: its certificate is for the namespace {}; set `workload.namespace` to that, or get a token for {namespace}",
            caller.namespace().unwrap_or_default()
        )));
    }
    if generation == 0 {
        return Err(Status::invalid_argument(
            "`generation` is 0; draw one at the process's start that only grows",
        ));
    }
    Ok(())
}

fn instance_of(
    instance: wire::Instance,
    caller: &SpiffeId,
    generation: u64,
) -> Result<Instance, Status> {
    let unknown = |what: &str, number: i32| {
        Status::invalid_argument(format!("{number} is no {what} known here"))
    };
    MeshMode::try_from(instance.mesh).map_err(|_| unknown("mesh mode", instance.mesh))?;
    let ports: Result<Vec<InstancePort>, Status> = instance
        .ports
        .into_iter()
        .map(|port| {
            Protocol::try_from(port.protocol).map_err(|_| unknown("protocol", port.protocol))?;
            Health::try_from(port.health).map_err(|_| unknown("health", port.health))?;
            Ok(InstancePort {
                name: port.name,
                port: port.port,
                protocol: port.protocol,
                health: port.health,
                application: port.application,
            })
        })
        .collect();
    Ok(Instance {
        name: Name {
            namespace: instance.namespace,
            name: instance.name,
        },
        addresses: instance.addresses,
        labels: instance.labels.into_iter().collect(),
        ports: ports?,
        mesh: instance.mesh,
        mesh_port: instance.mesh_port,
        locality: instance.locality,
        identity: caller.to_string(),
        generation,
        envoy: instance.envoy.map(|listeners| EnvoyListeners {
            mesh: listeners.mesh,
            outbound: listeners.outbound,
        }),
        other_ports: None,
        source: None,
    })
}

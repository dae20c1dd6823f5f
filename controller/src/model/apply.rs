//! Applying a proposal: the one place where the state changes. Pure; every branch depends on the log alone.

mod cluster;
mod instances;
mod issuance;
mod objects;
mod observe;
mod rollout;
mod tokens;

use std::sync::Arc;

use super::{
    Applied, Command, Proposal, Refusal, RefusalCode, State,
    limits::{CLIENT_ENTRIES, CLIENTS, EXPIRIES_PER_ENTRY},
    state::Client,
};

impl State {
    /// Applies one proposal of the log entry `log_index`; an entry may hold several.
    ///
    /// A refused proposal changes nothing but the clock and the memory of its answer.
    pub fn apply(&mut self, log_index: u64, proposal: &Proposal) -> Applied {
        self.log_index = log_index;
        self.time_millis = self.time_millis.max(proposal.time_millis);
        self.expire();
        if let Some(answer) = self.repeated(proposal) {
            return answer;
        }
        let answer = self
            .execute(proposal)
            .unwrap_or_else(|refusal| Applied::refused(0, refusal));
        self.follow_base();
        let applied = Applied {
            index: self.mesh.index,
            ..answer
        };
        self.remember(proposal, &applied);
        applied
    }

    /// The state that a command would lead to, and its answer. Nobody has proposed it.
    pub fn tried(&self, author: &str, command: Command) -> (Self, Applied) {
        let proposal = Proposal {
            author: author.to_owned(),
            client: String::new(),
            sequence: 0,
            time_millis: self.time_millis,
            command,
        };
        let mut next = self.clone();
        let applied = next.apply(self.log_index + 1, &proposal);
        (next, applied)
    }

    /// Moves past a log entry that holds no proposal.
    pub const fn skip(&mut self, log_index: u64) {
        self.log_index = log_index;
    }

    fn execute(&mut self, proposal: &Proposal) -> Result<Applied, Refusal> {
        let author: Arc<str> = proposal.author.as_str().into();
        match &proposal.command {
            Command::Initialize(command) => self.initialize(command),
            Command::WriteObjects(command) => self.write_objects(command, &author),
            Command::Register(instance) => self.register(instance),
            Command::ReportHealth(command) => Ok(self.report_health(command)),
            Command::EndInstances(command) => Ok(self.end_instances(command)),
            Command::CreateToken(token) => self.create_token(token, &author),
            Command::UseToken(command) => self.use_token_once(command),
            Command::RevokeToken(command) => self.revoke_token(command),
            Command::Issue(command) => self.issue(command),
            Command::SetTrust(command) => self.set_trust(command),
            Command::PutIssuer(issuer) => self.put_issuer(issuer),
            Command::PutMember(member) => self.put_member(member),
            Command::RemoveMember(command) => self.remove_member(command),
            Command::SetLevel(command) => self.set_level(command),
            Command::StageObjects(command) => self.stage(command, &author),
            Command::MoveRollout(command) => self.move_rollout(command),
            Command::Observe(command) => self.observe(command, &author),
            Command::Tick => Ok(Applied::default()),
        }
    }

    /// Configuration has changed in this entry.
    const fn touch_mesh(&mut self) {
        self.mesh.index = self.log_index;
    }

    fn repeated(&self, proposal: &Proposal) -> Option<Applied> {
        let client = self.clients.get(&proposal.client)?;
        if proposal.sequence > client.sequence {
            return None;
        }
        if proposal.sequence == client.sequence {
            return Some(client.applied.clone());
        }
        let message = format!(
            "this writer's write {} was applied before and its answer is forgotten, since write {} came after it",
            proposal.sequence, client.sequence
        );
        Some(Applied::refused(
            self.mesh.index,
            Refusal::new(RefusalCode::OutOfSequence, message),
        ))
    }

    fn remember(&mut self, proposal: &Proposal, applied: &Applied) {
        if proposal.client.is_empty() {
            return;
        }
        let client = Client {
            sequence: proposal.sequence,
            log_index: self.log_index,
            applied: applied.clone(),
        };
        if let Some(previous) = self
            .clients
            .insert(proposal.client.clone(), Arc::new(client))
        {
            self.clients_by_index
                .remove(&(previous.log_index, proposal.client.clone()));
        }
        self.clients_by_index
            .insert((self.log_index, proposal.client.clone()));
        if self.clients.len() > CLIENTS {
            self.forget_oldest_client();
        }
    }

    fn forget_oldest_client(&mut self) {
        if let Some((log_index, client)) = self.clients_by_index.get_min().cloned() {
            self.clients_by_index.remove(&(log_index, client.clone()));
            self.clients.remove(&client);
        }
    }

    /// Forgets what time or the log has passed by, a bounded number of each.
    fn expire(&mut self) {
        let now = self.time_seconds();
        self.vip_pool.expire(self.log_index);
        self.issuance.expire(now, EXPIRIES_PER_ENTRY);
        self.expire_tokens(now);
        self.expire_issuers(now);
        for _ in 0..EXPIRIES_PER_ENTRY {
            match self.clients_by_index.get_min() {
                Some((log_index, _)) if log_index + CLIENT_ENTRIES <= self.log_index => {
                    self.forget_oldest_client()
                }
                _ => break,
            }
        }
    }
}

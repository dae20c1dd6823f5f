//! What can be agreed on, and its bytes in the log.
//!
//! `Proposal` = `[u16 format][u32 length][header][u16 command][u16 version][payload]`, big-endian; header and payload are
//! protobuf. A command or version that is unknown is an error that must stop the process.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::{
    Health, Instance, Issuer, Kind, LEVELS, Member, MeshMode, Name, ObjectKey, Observe, Protocol,
    Root, RootPhase, Sealed, Token, TokenPurpose,
    codec::{DecodeError, expect_version, known, message, take, take_u16, take_u32},
};

/// A command with who wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// Recorded with what it writes: a SPIFFE id, or `controller <name>`.
    pub author: String,
    /// With `sequence`: applied once, however often it is proposed. Empty: not remembered.
    pub client: String,
    /// Grows with every new write of the client.
    pub sequence: u64,
    /// Unix milliseconds, stamped by the leader. `apply` takes the highest that it has seen.
    pub time_millis: u64,
    /// What is wanted.
    pub command: Command,
}

/// What can be agreed on. The numbers are part of the log's format.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Names the cluster; the first command of its log.
    Initialize(Initialize),
    /// Puts and deletes objects, all or none.
    WriteObjects(WriteObjects),
    /// Puts a sidecar's instance.
    Register(Instance),
    /// Changes the health of instances' ports.
    ReportHealth(ReportHealth),
    /// Takes instances out.
    EndInstances(EndInstances),
    /// Adds a join token.
    CreateToken(Token),
    /// Uses a token up that stands for no certificate.
    UseToken(UseToken),
    /// Takes a token back.
    RevokeToken(RevokeToken),
    /// Records certificates, and uses up the tokens that paid for them.
    Issue(Issue),
    /// Replaces the roots and the sealed secrets.
    SetTrust(SetTrust),
    /// Records a controller's issuing certificate.
    PutIssuer(Issuer),
    /// Adds a member or changes what is known of it.
    PutMember(Member),
    /// Forgets a member.
    RemoveMember(RemoveMember),
    /// Raises the feature level.
    SetLevel(SetLevel),
    /// Moves the clock, so that what has expired goes.
    Tick,
    /// Puts and deletes objects for a part of the clients.
    StageObjects(StageObjects),
    /// Brings what is staged to more clients, to all, or to none.
    MoveRollout(MoveRollout),
    /// Takes over what Kubernetes has.
    Observe(Observe),
}

/// Names the cluster.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Initialize {
    /// Drawn at bootstrap.
    #[prost(string, tag = "1")]
    pub cluster_id: String,
    /// In every SPIFFE id; never changes.
    #[prost(string, tag = "2")]
    pub trust_domain: String,
    /// Drawn at bootstrap and higher after every restore: native clients start afresh when it changes.
    #[prost(uint64, tag = "3")]
    pub incarnation: u64,
}

/// Puts and deletes objects, all or none.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct WriteObjects {
    /// Put first.
    #[prost(message, repeated, tag = "1")]
    pub puts: Vec<PutObject>,
    /// Deleted after.
    #[prost(message, repeated, tag = "2")]
    pub deletes: Vec<DeleteObject>,
}

/// Puts an object.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PutObject {
    /// Which.
    #[prost(message, required, tag = "1")]
    pub key: ObjectKey,
    /// Its canonical JSON.
    #[prost(string, tag = "2")]
    pub json: String,
    /// Refused unless the object's `changed_at` is this; 0: unless it does not exist.
    #[prost(uint64, optional, tag = "3")]
    pub expected: Option<u64>,
}

/// Deletes an object.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeleteObject {
    /// Which.
    #[prost(message, required, tag = "1")]
    pub key: ObjectKey,
    /// Refused unless the object's `changed_at` is this.
    #[prost(uint64, optional, tag = "2")]
    pub expected: Option<u64>,
}

/// Puts and deletes objects, all or none, for a part of the clients.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StageObjects {
    /// What.
    #[prost(message, required, tag = "1")]
    pub write: WriteObjects,
    /// What makes the places of the clients, see [`super::rollout::place`].
    #[prost(uint64, tag = "2")]
    pub salt: u64,
    /// The last place that sees it.
    #[prost(uint32, tag = "3")]
    pub through: u32,
    /// Percent of the clients that it concerns, as people are told.
    #[prost(uint32, tag = "4")]
    pub share: u32,
}

/// Moves a rollout on.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MoveRollout {
    /// Which: the mesh index at which it began.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Where to.
    #[prost(enumeration = "RolloutStep", tag = "2")]
    pub step: i32,
    /// To widen it: the last place that sees it.
    #[prost(uint32, tag = "3")]
    pub through: u32,
    /// To widen it: percent of the clients that it concerns.
    #[prost(uint32, tag = "4")]
    pub share: u32,
}

/// Where a rollout goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum RolloutStep {
    /// To more clients.
    Widen = 0,
    /// To all of them: what was staged is written.
    Finish = 1,
    /// To none: it never was.
    Abort = 2,
}

/// Changes the health of instances' ports. What is not there any more is skipped and counted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ReportHealth {
    /// In order.
    #[prost(message, repeated, tag = "1")]
    pub changes: Vec<HealthChange>,
}

/// The health of one port.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HealthChange {
    /// The instance.
    #[prost(message, required, tag = "1")]
    pub name: Name,
    /// Of this generation only.
    #[prost(uint64, tag = "2")]
    pub generation: u64,
    /// The port.
    #[prost(uint32, tag = "3")]
    pub port: u32,
    /// What it is now.
    #[prost(enumeration = "Health", tag = "4")]
    pub health: i32,
}

/// Takes instances out. What is not there any more is skipped and counted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EndInstances {
    /// In order.
    #[prost(message, repeated, tag = "1")]
    pub ends: Vec<InstanceEnd>,
}

/// The end of one instance.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InstanceEnd {
    /// The instance.
    #[prost(message, required, tag = "1")]
    pub name: Name,
    /// Of this generation only.
    #[prost(uint64, tag = "2")]
    pub generation: u64,
}

/// Uses a token up.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UseToken {
    /// Which.
    #[prost(string, tag = "1")]
    pub id: String,
    /// What for: the joining controller's name.
    #[prost(string, tag = "2")]
    pub used_by: String,
}

/// Takes a token back.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RevokeToken {
    /// Which.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// Records certificates, all or none.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Issue {
    /// In order.
    #[prost(message, repeated, tag = "1")]
    pub certificates: Vec<IssueCertificate>,
}

/// One certificate to record.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct IssueCertificate {
    /// An encoded `maille.v1.IssuanceRecord`; `number`, `previous` and `hash` are given by `apply`.
    #[prost(bytes = "bytes", tag = "1")]
    pub record: Bytes,
    /// The token that pays for it; empty: a renewal.
    #[prost(string, tag = "2")]
    pub token: String,
}

/// Replaces the roots and the sealed secrets.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SetTrust {
    /// Refused unless trust is at this revision; 0: there is none yet.
    #[prost(uint64, tag = "1")]
    pub expected_revision: u64,
    /// The active one first.
    #[prost(message, repeated, tag = "2")]
    pub roots: Vec<Root>,
    /// All of them.
    #[prost(message, repeated, tag = "3")]
    pub sealed: Vec<Sealed>,
}

/// Forgets a member.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RemoveMember {
    /// Its node id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
}

/// Raises the feature level.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SetLevel {
    /// The new one.
    #[prost(uint32, tag = "1")]
    pub level: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(string, tag = "1")]
    author: String,
    #[prost(string, tag = "2")]
    client: String,
    #[prost(uint64, tag = "3")]
    sequence: u64,
    #[prost(uint64, tag = "4")]
    time_millis: u64,
}

/// The format of proposals.
const PROPOSAL_FORMAT: u16 = 1;
/// The version of every command's payload so far.
const COMMAND_VERSION: u16 = 1;

impl Proposal {
    /// Its bytes in the log.
    pub fn encode(&self) -> Bytes {
        let header = Header {
            author: self.author.clone(),
            client: self.client.clone(),
            sequence: self.sequence,
            time_millis: self.time_millis,
        };
        let mut bytes = BytesMut::new();
        bytes.put_u16(PROPOSAL_FORMAT);
        bytes.put_u32(
            u32::try_from(header.encoded_len())
                .expect("a header is far below 4 GiB, its texts are bounded"),
        );
        bytes.put_slice(&header.encode_to_vec());
        bytes.put_slice(&self.command.encode());
        bytes.freeze()
    }

    /// Reads a log entry's proposal.
    ///
    /// # Errors
    /// The bytes are not of a format, a command and a version that this binary knows.
    pub fn decode(mut bytes: Bytes) -> Result<Self, DecodeError> {
        expect_version(
            take_u16(&mut bytes, "a proposal")?,
            PROPOSAL_FORMAT,
            "proposal format",
        )?;
        let length = take_u32(&mut bytes, "a proposal")? as usize;
        let header: Header = message(
            take(&mut bytes, length, "a proposal's header")?,
            "a proposal's header",
        )?;
        Ok(Self {
            author: header.author,
            client: header.client,
            sequence: header.sequence,
            time_millis: header.time_millis,
            command: Command::decode(bytes)?,
        })
    }
}

impl Command {
    /// `[u16 command][u16 version][payload]`.
    pub fn encode(&self) -> Bytes {
        let (number, payload) = match self {
            Self::Initialize(payload) => (1, payload.encode_to_vec()),
            Self::WriteObjects(payload) => (2, payload.encode_to_vec()),
            Self::Register(payload) => (3, payload.encode_to_vec()),
            Self::ReportHealth(payload) => (4, payload.encode_to_vec()),
            Self::EndInstances(payload) => (5, payload.encode_to_vec()),
            Self::CreateToken(payload) => (6, payload.encode_to_vec()),
            Self::UseToken(payload) => (7, payload.encode_to_vec()),
            Self::RevokeToken(payload) => (8, payload.encode_to_vec()),
            Self::Issue(payload) => (9, payload.encode_to_vec()),
            Self::SetTrust(payload) => (10, payload.encode_to_vec()),
            Self::PutIssuer(payload) => (11, payload.encode_to_vec()),
            Self::PutMember(payload) => (12, payload.encode_to_vec()),
            Self::RemoveMember(payload) => (13, payload.encode_to_vec()),
            Self::SetLevel(payload) => (14, payload.encode_to_vec()),
            Self::Tick => (15, Vec::new()),
            Self::StageObjects(payload) => (16, payload.encode_to_vec()),
            Self::MoveRollout(payload) => (17, payload.encode_to_vec()),
            Self::Observe(payload) => (18, payload.encode_to_vec()),
        };
        let mut bytes = BytesMut::with_capacity(payload.len() + 4);
        bytes.put_u16(number);
        bytes.put_u16(COMMAND_VERSION);
        bytes.put_slice(&payload);
        bytes.freeze()
    }

    /// Reads a command.
    ///
    /// # Errors
    /// The command or its version is unknown, or the payload is not one.
    pub fn decode(mut bytes: Bytes) -> Result<Self, DecodeError> {
        let number = take_u16(&mut bytes, "a command")?;
        if !(1..=18).contains(&number) {
            return Err(DecodeError::Unknown {
                what: "command",
                number: number.into(),
            });
        }
        expect_version(
            take_u16(&mut bytes, "a command")?,
            COMMAND_VERSION,
            "command version",
        )?;
        let command = match number {
            1 => Self::Initialize(message(bytes, "Initialize")?),
            2 => Self::WriteObjects(message(bytes, "WriteObjects")?),
            3 => Self::Register(message(bytes, "Register")?),
            4 => Self::ReportHealth(message(bytes, "ReportHealth")?),
            5 => Self::EndInstances(message(bytes, "EndInstances")?),
            6 => Self::CreateToken(message(bytes, "CreateToken")?),
            7 => Self::UseToken(message(bytes, "UseToken")?),
            8 => Self::RevokeToken(message(bytes, "RevokeToken")?),
            9 => Self::Issue(message(bytes, "Issue")?),
            10 => Self::SetTrust(message(bytes, "SetTrust")?),
            11 => Self::PutIssuer(message(bytes, "PutIssuer")?),
            12 => Self::PutMember(message(bytes, "PutMember")?),
            13 => Self::RemoveMember(message(bytes, "RemoveMember")?),
            14 => Self::SetLevel(message(bytes, "SetLevel")?),
            16 => Self::StageObjects(message(bytes, "StageObjects")?),
            17 => Self::MoveRollout(message(bytes, "MoveRollout")?),
            18 => Self::Observe(message(bytes, "Observe")?),
            _ => Self::Tick,
        };
        command.check_numbers()?;
        Ok(command)
    }

    /// Refuses enumerations with numbers that this binary does not know: they would read as defaults.
    fn check_numbers(&self) -> Result<(), DecodeError> {
        match self {
            Self::WriteObjects(write) => check_write(write),
            Self::StageObjects(stage) => check_write(&stage.write),
            Self::MoveRollout(step) => known::<RolloutStep>(step.step, "step of a rollout"),
            Self::Register(instance) => check_instance(instance),
            Self::Observe(observe) => check_observe(observe),
            Self::ReportHealth(report) => {
                let mut changes = report.changes.iter();
                changes.try_for_each(|change| known::<Health>(change.health, "health"))
            }
            Self::CreateToken(token) => known::<TokenPurpose>(token.purpose, "token purpose"),
            Self::SetTrust(trust) => {
                let mut roots = trust.roots.iter();
                roots.try_for_each(|root| known::<RootPhase>(root.phase, "root phase"))
            }
            Self::SetLevel(set) if !LEVELS.contains(&set.level) => Err(DecodeError::Unknown {
                what: "feature level",
                number: set.level.into(),
            }),
            _ => Ok(()),
        }
    }
}

fn check_write(write: &WriteObjects) -> Result<(), DecodeError> {
    let puts = write.puts.iter().map(|put| &put.key);
    let mut keys = puts.chain(write.deletes.iter().map(|delete| &delete.key));
    keys.try_for_each(|key| known::<Kind>(key.kind, "kind"))
}

fn check_observe(observe: &Observe) -> Result<(), DecodeError> {
    let objects = observe.objects.iter().map(|object| &object.key);
    let mut keys = objects.chain(&observe.gone_objects);
    keys.try_for_each(|key| known::<Kind>(key.kind, "kind"))?;
    observe.pods.iter().try_for_each(check_instance)
}

/// Refuses enumerations of an instance that this binary does not know.
pub(super) fn check_instance(instance: &Instance) -> Result<(), DecodeError> {
    known::<MeshMode>(instance.mesh, "mesh mode")?;
    known::<Health>(instance.other_ports.unwrap_or(0), "health")?;
    for port in &instance.ports {
        known::<Protocol>(port.protocol, "protocol")?;
        known::<Health>(port.health, "health")?;
    }
    Ok(())
}

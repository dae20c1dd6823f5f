//! What a command did, or why it was refused. Remembered, so that a repeated write gets the same answer.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::{
    Kind, ObjectKey,
    codec::{DecodeError, expect_version, known, message, take_u16},
};

/// What a command did.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Applied {
    /// The mesh index after it.
    #[prost(uint64, tag = "1")]
    pub index: u64,
    /// For objects: what became of each, in the order of the command.
    #[prost(message, repeated, tag = "2")]
    pub objects: Vec<ObjectOutcome>,
    /// For certificates: the number of the first record.
    #[prost(uint64, tag = "3")]
    pub first_record: u64,
    /// Parts that named an instance that was not there any more.
    #[prost(uint32, tag = "4")]
    pub skipped: u32,
    /// Set: nothing was done.
    #[prost(message, optional, tag = "5")]
    pub refusal: Option<Refusal>,
}

/// What became of one object.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ObjectOutcome {
    /// Which.
    #[prost(message, required, tag = "1")]
    pub key: ObjectKey,
    /// What became of it.
    #[prost(enumeration = "Outcome", tag = "2")]
    pub outcome: i32,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
#[expect(missing_docs, reason = "said by their names")]
pub enum Outcome {
    Unchanged = 0,
    Created = 1,
    Configured = 2,
    Deleted = 3,
}

/// Why nothing was done.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Refusal {
    /// For programs.
    #[prost(enumeration = "RefusalCode", tag = "1")]
    pub code: i32,
    /// What is wrong and what to do.
    #[prost(string, tag = "2")]
    pub message: String,
    /// For objects: everything that is wrong with each.
    #[prost(message, repeated, tag = "3")]
    pub problems: Vec<ObjectProblem>,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self {
            code: code as i32,
            message: message.into(),
            problems: Vec::new(),
        }
    }
}

/// Why nothing was done, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum RefusalCode {
    /// The input is wrong whatever the state.
    Invalid = 0,
    /// What it names does not exist.
    NotFound = 1,
    /// What it expected has changed, or the name is taken.
    Conflict = 2,
    /// The objects do not fit together, see `problems`.
    Relations = 3,
    /// A limit is reached.
    Exhausted = 4,
    /// The token was used.
    TokenUsed = 5,
    /// The token has expired.
    TokenExpired = 6,
    /// A newer process has taken the instance's name over.
    Superseded = 7,
    /// The client has written with a higher sequence since.
    OutOfSequence = 8,
}

/// What is wrong with an object beside the others.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub struct ObjectProblem {
    /// The object.
    #[prost(message, required, tag = "1")]
    pub key: ObjectKey,
    /// The field's path, for example `spec.rules[0].backendRefs[1].name`.
    #[prost(string, tag = "2")]
    pub path: String,
    /// What is wrong and what to do.
    #[prost(string, tag = "3")]
    pub message: String,
}

/// The format of answers.
const APPLIED_FORMAT: u16 = 1;

impl Applied {
    /// Nothing but the index.
    pub fn done(index: u64) -> Self {
        Self {
            index,
            ..Self::default()
        }
    }

    /// A refusal.
    pub fn refused(index: u64, refusal: Refusal) -> Self {
        Self {
            index,
            refusal: Some(refusal),
            ..Self::default()
        }
    }

    /// Itself, or why nothing was done.
    ///
    /// # Errors
    /// The refusal, where there is one.
    pub fn accepted(mut self) -> Result<Self, Refusal> {
        match self.refusal.take() {
            Some(refusal) => Err(refusal),
            None => Ok(self),
        }
    }

    /// Its bytes between controllers and in snapshots.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.encoded_len() + 2);
        bytes.put_u16(APPLIED_FORMAT);
        bytes.put_slice(&self.encode_to_vec());
        bytes.freeze()
    }

    /// Reads what another controller answered.
    ///
    /// # Errors
    /// The bytes are not of a format that this binary knows.
    pub fn decode(mut bytes: Bytes) -> Result<Self, DecodeError> {
        expect_version(
            take_u16(&mut bytes, "an answer")?,
            APPLIED_FORMAT,
            "answer format",
        )?;
        let applied: Self = message(bytes, "an answer")?;
        for object in &applied.objects {
            known::<Kind>(object.key.kind, "kind")?;
            known::<Outcome>(object.outcome, "outcome")?;
        }
        if let Some(refusal) = &applied.refusal {
            known::<RefusalCode>(refusal.code, "refusal code")?;
        }
        Ok(applied)
    }
}

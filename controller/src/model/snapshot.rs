//! The state as bytes: rows `[u16 table][u16 version][u32 length][payload]`, tables in a fixed order, sorted by key.
//!
//! The last row counts the others, so that a cut is seen. Storage adds its own checksums around it.

use std::{
    io::Read,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use bytes::{BufMut, Bytes};
use prost::Message;

use super::{
    AnyObject, Applied, Instance, IssuanceRecord, Issuer, Kind, LEVELS, Member, Mesh, Name,
    ObjectKey, Root, RootPhase, Sealed, Source, State, Token, TokenPurpose,
    codec::{DecodeError, expect_version, known, message},
    command::check_instance,
    mesh::InstanceEntry,
    rollout::Rollout,
    state::Client,
    vip::Vip,
};

/// The version of every table's rows so far.
const ROW_VERSION: u16 = 1;
/// A row's payload; an object, the largest, is far below it. What is above is damage.
const ROW_BYTES: u32 = 16 * 1024 * 1024;
/// What one chunk holds, about: one write of a file, one message between peers.
const CHUNK_BYTES: usize = 64 * 1024;

/// The tables, by the numbers that they have in snapshots.
mod table {
    pub(super) const MESH: u16 = 1;
    pub(super) const OBJECT: u16 = 2;
    pub(super) const VIP: u16 = 3;
    pub(super) const INSTANCE: u16 = 4;
    pub(super) const STATE: u16 = 5;
    pub(super) const RESTING_VIP: u16 = 6;
    pub(super) const TOKEN: u16 = 7;
    pub(super) const SEALED: u16 = 8;
    pub(super) const ISSUER: u16 = 9;
    pub(super) const ISSUANCE_RECORD: u16 = 10;
    pub(super) const MEMBER: u16 = 11;
    pub(super) const CLIENT: u16 = 12;
    pub(super) const ROLLOUT: u16 = 13;
    pub(super) const OBSERVED: u16 = 14;
    pub(super) const END: u16 = 0xffff;
}

#[derive(Clone, PartialEq, prost::Message)]
struct MeshRow {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    incarnation: u64,
    #[prost(uint32, tag = "3")]
    level: u32,
    #[prost(string, tag = "4")]
    trust_domain: String,
    #[prost(message, repeated, tag = "5")]
    roots: Vec<Root>,
    #[prost(uint64, tag = "6")]
    roots_changed_at: u64,
    #[prost(string, repeated, tag = "7")]
    kubernetes: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ObjectRow {
    #[prost(message, required, tag = "1")]
    key: ObjectKey,
    #[prost(string, tag = "2")]
    json: String,
    #[prost(uint64, tag = "3")]
    changed_at: u64,
    #[prost(string, tag = "4")]
    author: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct VipRow {
    #[prost(message, required, tag = "1")]
    service: Name,
    #[prost(fixed32, tag = "2")]
    v4: u32,
    #[prost(bytes = "bytes", tag = "3")]
    v6: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct InstanceRow {
    #[prost(message, required, tag = "1")]
    instance: Instance,
    #[prost(uint64, tag = "2")]
    changed_at: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StateRow {
    #[prost(uint64, tag = "1")]
    log_index: u64,
    #[prost(uint64, tag = "2")]
    time_millis: u64,
    #[prost(string, tag = "3")]
    cluster_id: String,
    #[prost(uint64, tag = "4")]
    trust_revision: u64,
    #[prost(uint64, tag = "5")]
    issued: u64,
    #[prost(bytes = "bytes", tag = "6")]
    chain_head: Bytes,
    #[prost(uint64, tag = "7")]
    next_vip_v4: u64,
    #[prost(uint64, tag = "8")]
    next_vip_v6: u64,
    #[prost(uint64, tag = "9")]
    observed_term: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ObservedRow {
    #[prost(message, required, tag = "1")]
    key: ObjectKey,
    #[prost(message, required, tag = "2")]
    source: Source,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RestingVipRow {
    #[prost(string, tag = "1")]
    address: String,
    #[prost(uint64, tag = "2")]
    released: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ClientRow {
    #[prost(string, tag = "1")]
    client: String,
    #[prost(uint64, tag = "2")]
    sequence: u64,
    #[prost(uint64, tag = "3")]
    log_index: u64,
    #[prost(bytes = "bytes", tag = "4")]
    applied: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct EndRow {
    #[prost(uint64, tag = "1")]
    rows: u64,
}

struct Row {
    table: u16,
    payload: Vec<u8>,
}

fn row(table: u16, payload: &impl Message) -> Row {
    Row {
        table,
        payload: payload.encode_to_vec(),
    }
}

/// SHA-256 over the mesh's rows.
pub(super) fn mesh_hash(mesh: &Mesh) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut bytes = Vec::new();
    for row in mesh_rows(mesh) {
        bytes.clear();
        put_row(&mut bytes, &row);
        context.update(&bytes);
    }
    context
        .finish()
        .as_ref()
        .try_into()
        .expect("SHA-256 is 32 bytes long by definition")
}

impl State {
    /// The body of a snapshot, in chunks of about 64 KiB.
    pub fn encode(&self) -> impl Iterator<Item = Bytes> + '_ {
        let mut rows = state_rows(self);
        let mut count = 0u64;
        let mut ended = false;
        std::iter::from_fn(move || {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            while chunk.len() < CHUNK_BYTES && !ended {
                let next = rows.next();
                ended = next.is_none();
                let next = next.unwrap_or_else(|| row(table::END, &EndRow { rows: count }));
                count += 1;
                put_row(&mut chunk, &next);
            }
            (!chunk.is_empty()).then(|| Bytes::from(chunk))
        })
    }

    /// Reads the body of a snapshot.
    ///
    /// # Errors
    /// It is cut short, has tables or versions that this binary does not know, or its parts do not fit together.
    pub fn decode(mut reader: impl Read) -> Result<Self, DecodeError> {
        let mut state = Self::default();
        let mut rows = 0;
        loop {
            let (table, payload) = read_row(&mut reader)?;
            if table == table::END {
                let end: EndRow = message(payload, "the snapshot's end")?;
                if end.rows != rows {
                    let message = format!("it should have {} rows, and has {rows}", end.rows);
                    return Err(DecodeError::Inconsistent(message));
                }
                break;
            }
            rows += 1;
            state.load_row(table, payload)?;
        }
        if reader.read(&mut [0])? != 0 {
            return Err(DecodeError::Inconsistent(
                "there are bytes after its end".to_owned(),
            ));
        }
        Ok(state)
    }

    fn load_row(&mut self, table: u16, payload: Bytes) -> Result<(), DecodeError> {
        match table {
            table::MESH => self.load_mesh(message(payload, "the mesh's header")?),
            table::OBJECT => self.load_object(message(payload, "an object")?),
            table::VIP => self.load_vip(&message(payload, "a virtual address")?),
            table::INSTANCE => self.load_instance(message(payload, "an instance")?),
            table::STATE => {
                self.load_state(message(payload, "the state's header")?);
                Ok(())
            }
            table::RESTING_VIP => {
                let row: RestingVipRow = message(payload, "a resting address")?;
                let address = row
                    .address
                    .parse()
                    .map_err(|error| DecodeError::malformed("a resting address", error))?;
                self.vip_pool.rest(address, row.released);
                Ok(())
            }
            table::TOKEN => self.load_token(message(payload, "a token")?),
            table::SEALED => {
                let sealed: Sealed = message(payload, "a sealed secret")?;
                self.sealed.insert(sealed.name.clone(), Arc::new(sealed));
                Ok(())
            }
            table::ISSUER => {
                let issuer: Issuer = message(payload, "an issuer")?;
                self.issuers.insert(issuer.serial.clone(), Arc::new(issuer));
                Ok(())
            }
            table::ISSUANCE_RECORD => {
                let record: IssuanceRecord = message(payload, "an issuance record")?;
                self.issuance
                    .records
                    .insert(record.number, Arc::new(record));
                Ok(())
            }
            table::MEMBER => {
                let member: Member = message(payload, "a member")?;
                self.members.insert(member.id, Arc::new(member));
                Ok(())
            }
            table::CLIENT => self.load_client(message(payload, "a writer")?),
            table::OBSERVED => {
                let row: ObservedRow = message(payload, "what was observed")?;
                known::<Kind>(row.key.kind, "kind")?;
                self.observed.insert(row.key, row.source);
                Ok(())
            }
            table::ROLLOUT => {
                let rollout = Rollout::new(message(payload, "a rollout")?, &self.mesh)?;
                self.mesh.rollout = Some(Arc::new(rollout));
                Ok(())
            }
            other => Err(DecodeError::Unknown {
                what: "snapshot table",
                number: other.into(),
            }),
        }
    }

    fn load_mesh(&mut self, row: MeshRow) -> Result<(), DecodeError> {
        if !LEVELS.contains(&row.level) {
            return Err(DecodeError::Unknown {
                what: "feature level",
                number: row.level.into(),
            });
        }
        for root in &row.roots {
            known::<RootPhase>(root.phase, "root phase")?;
        }
        self.mesh.index = row.index;
        self.mesh.incarnation = row.incarnation;
        self.mesh.level = row.level;
        self.mesh.trust_domain = row.trust_domain.into();
        self.mesh.roots = Arc::new(row.roots);
        self.mesh.roots_changed_at = row.roots_changed_at;
        self.mesh.kubernetes = row.kubernetes.into_iter().collect();
        Ok(())
    }

    fn load_object(&mut self, row: ObjectRow) -> Result<(), DecodeError> {
        known::<Kind>(row.key.kind, "kind")?;
        let object = AnyObject::from_json(row.key.kind(), &row.json)
            .map_err(|error| DecodeError::malformed("an object", error))?;
        self.mesh
            .put(object, &row.json, row.changed_at, &row.author.into());
        Ok(())
    }

    fn load_vip(&mut self, row: &VipRow) -> Result<(), DecodeError> {
        let v6: [u8; 16] = row.v6[..]
            .try_into()
            .map_err(|error| DecodeError::malformed("a virtual address", error))?;
        let vip = Vip {
            v4: Ipv4Addr::from_bits(row.v4),
            v6: Ipv6Addr::from(v6),
        };
        self.mesh.vips.insert(row.service.clone(), vip);
        for address in vip.addresses() {
            self.mesh.vip_owners.insert(address, row.service.clone());
        }
        Ok(())
    }

    fn load_instance(&mut self, row: InstanceRow) -> Result<(), DecodeError> {
        check_instance(&row.instance)?;
        self.mesh.put_instance(row.instance, row.changed_at);
        Ok(())
    }

    fn load_state(&mut self, row: StateRow) {
        self.log_index = row.log_index;
        self.time_millis = row.time_millis;
        self.cluster_id = row.cluster_id.into();
        self.trust_revision = row.trust_revision;
        self.issuance.count = row.issued;
        self.issuance.head = row.chain_head;
        self.vip_pool.next_v4 = row.next_vip_v4;
        self.vip_pool.next_v6 = row.next_vip_v6;
        self.observed_term = row.observed_term;
    }

    fn load_token(&mut self, token: Token) -> Result<(), DecodeError> {
        known::<TokenPurpose>(token.purpose, "token purpose")?;
        self.tokens_by_end
            .insert((token.forgotten_at(), token.id.clone()));
        self.tokens.insert(token.id.clone(), Arc::new(token));
        Ok(())
    }

    fn load_client(&mut self, row: ClientRow) -> Result<(), DecodeError> {
        let applied = Applied::decode(row.applied)?;
        self.clients_by_index
            .insert((row.log_index, row.client.clone()));
        let client = Client {
            sequence: row.sequence,
            log_index: row.log_index,
            applied,
        };
        self.clients.insert(row.client, Arc::new(client));
        Ok(())
    }
}

fn put_row(bytes: &mut Vec<u8>, row: &Row) {
    bytes.put_u16(row.table);
    bytes.put_u16(ROW_VERSION);
    bytes.put_u32(
        u32::try_from(row.payload.len())
            .expect("a row is an object or less, which has a limit far below 4 GiB"),
    );
    bytes.put_slice(&row.payload);
}

fn read_row(reader: &mut impl Read) -> Result<(u16, Bytes), DecodeError> {
    let mut header = [0u8; 8];
    reader.read_exact(&mut header)?;
    let [t0, t1, v0, v1, l0, l1, l2, l3] = header;
    let table = u16::from_be_bytes([t0, t1]);
    expect_version(
        u16::from_be_bytes([v0, v1]),
        ROW_VERSION,
        "snapshot row version",
    )?;
    let length = u32::from_be_bytes([l0, l1, l2, l3]);
    if length > ROW_BYTES {
        return Err(DecodeError::Inconsistent(format!(
            "a row of {length} bytes"
        )));
    }
    let mut payload = vec![0; length as usize];
    reader.read_exact(&mut payload)?;
    Ok((table, payload.into()))
}

/// The rows that the hash covers.
fn mesh_rows(mesh: &Mesh) -> impl Iterator<Item = Row> + '_ {
    let header = MeshRow {
        index: mesh.index,
        incarnation: mesh.incarnation,
        level: mesh.level,
        trust_domain: mesh.trust_domain.to_string(),
        roots: mesh.roots.to_vec(),
        roots_changed_at: mesh.roots_changed_at,
        kubernetes: mesh.kubernetes.iter().cloned().collect(),
    };
    let objects = Kind::ALL.into_iter().flat_map(|kind| {
        mesh.stored_of(kind).into_iter().map(move |(name, stored)| {
            let key = ObjectKey::new(kind, name.clone());
            let (json, author) = (stored.json.to_string(), stored.author.to_string());
            row(
                table::OBJECT,
                &ObjectRow {
                    key,
                    json,
                    changed_at: stored.changed_at,
                    author,
                },
            )
        })
    });
    let vips = mesh.vips.iter().map(|(service, vip)| {
        let v6 = Bytes::copy_from_slice(&vip.v6.octets());
        row(
            table::VIP,
            &VipRow {
                service: service.clone(),
                v4: vip.v4.to_bits(),
                v6,
            },
        )
    });
    let instances = mesh.instances.values().map(|entry| {
        let InstanceEntry {
            instance,
            changed_at,
        } = &**entry;
        row(
            table::INSTANCE,
            &InstanceRow {
                instance: instance.clone(),
                changed_at: *changed_at,
            },
        )
    });
    // The last: it is read over all the others.
    let rollout = mesh.rollout.iter();
    let rollout = rollout.map(|rollout| row(table::ROLLOUT, &rollout.row));
    std::iter::once(row(table::MESH, &header))
        .chain(objects)
        .chain(vips)
        .chain(instances)
        .chain(rollout)
}

fn state_rows(state: &State) -> impl Iterator<Item = Row> + '_ {
    let header = StateRow {
        log_index: state.log_index,
        time_millis: state.time_millis,
        cluster_id: state.cluster_id.to_string(),
        trust_revision: state.trust_revision,
        issued: state.issuance.count,
        chain_head: state.issuance.head.clone(),
        next_vip_v4: state.vip_pool.next_v4,
        next_vip_v6: state.vip_pool.next_v6,
        observed_term: state.observed_term,
    };
    let resting = state.vip_pool.resting.iter().map(|(address, released)| {
        row(
            table::RESTING_VIP,
            &RestingVipRow {
                address: address.to_string(),
                released: *released,
            },
        )
    });
    let tokens = state
        .tokens
        .values()
        .map(|token| row(table::TOKEN, &**token));
    let sealed = state
        .sealed
        .values()
        .map(|sealed| row(table::SEALED, &**sealed));
    let issuers = state
        .issuers
        .values()
        .map(|issuer| row(table::ISSUER, &**issuer));
    let records = state
        .issuance
        .records
        .values()
        .map(|record| row(table::ISSUANCE_RECORD, &**record));
    let members = state
        .members
        .values()
        .map(|member| row(table::MEMBER, &**member));
    let clients = state.clients.iter().map(|(client, answer)| {
        let (sequence, log_index, applied) =
            (answer.sequence, answer.log_index, answer.applied.encode());
        row(
            table::CLIENT,
            &ClientRow {
                client: client.clone(),
                sequence,
                log_index,
                applied,
            },
        )
    });
    let observed = state.observed.iter().map(|(key, source)| {
        let (key, source) = (key.clone(), source.clone());
        row(table::OBSERVED, &ObservedRow { key, source })
    });
    mesh_rows(&state.mesh)
        .chain(std::iter::once(row(table::STATE, &header)))
        .chain(observed)
        .chain(resting)
        .chain(tokens)
        .chain(sealed)
        .chain(issuers)
        .chain(records)
        .chain(members)
        .chain(clients)
}

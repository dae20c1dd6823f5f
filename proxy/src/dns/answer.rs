//! Questions and answers as bytes. Pure.

use crate::snapshot::Host;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use std::net::IpAddr;

/// The zone of the mesh.
const ZONE: &str = "mesh";
/// How long a resolver may remember that a name has no answer. A service that is made is found soon after.
const NEGATIVE_TTL: u32 = 5;
/// What fits into a UDP answer where the asker does not say (RFC 1035).
const PLAIN_UDP: usize = 512;
/// What we take over UDP where we say (DNS flag day 2020).
const OUR_UDP: u16 = 1_232;

/// A question that can be answered.
#[derive(Debug)]
pub(super) struct Question {
    message: Message,
    name: Name,
    kind: RecordType,
}

/// Where the answer is to be found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// `<service>.<namespace>` of the mesh.
    Service(String),
    /// The mesh's zone itself or a namespace: the name exists and holds nothing.
    Node,
    /// In the mesh's zone, and no name of a service.
    Nothing,
    /// Not ours.
    Elsewhere,
}

/// What is known about a name in the zone.
#[derive(Debug)]
pub(super) enum Known<'a> {
    Host(&'a Host),
    Nothing,
    Missing,
    Unavailable,
}

/// Reads a packet. The error is the answer to give, if one can be given at all.
pub(super) fn read(packet: &[u8]) -> Result<Question, Option<Vec<u8>>> {
    let message = match Message::from_vec(packet) {
        Ok(message) => message,
        Err(_) => return Err(unreadable(packet)),
    };
    let meta = &message.metadata;
    if meta.message_type != MessageType::Query {
        // Never answer an answer: two servers could go on for ever.
        return Err(None);
    }
    if meta.op_code != OpCode::Query {
        return Err(error(&message, ResponseCode::NotImp));
    }
    let [query] = message.queries.as_slice() else {
        return Err(error(&message, ResponseCode::FormErr));
    };
    if query.query_class != DNSClass::IN {
        return Err(error(&message, ResponseCode::Refused));
    }
    let (name, kind) = (query.name.clone(), query.query_type);
    Ok(Question {
        message,
        name,
        kind,
    })
}

/// The header of a query alone is enough to say that the rest was not understood.
fn unreadable(packet: &[u8]) -> Option<Vec<u8>> {
    let id = u16::from_be_bytes([*packet.first()?, *packet.get(1)?]);
    let is_answer = packet.get(2)? & 0x80 != 0;
    let complete = packet.len() >= 12;
    let form_error = || Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
    (complete && !is_answer).then(|| form_error().to_vec().ok())?
}

fn error(request: &Message, code: ResponseCode) -> Option<Vec<u8>> {
    let mut message = Message::error_msg(request.metadata.id, request.metadata.op_code, code);
    message.queries.clone_from(&request.queries);
    message.to_vec().ok()
}

impl Question {
    /// Where the answer is to be found.
    pub(super) fn target(&self) -> Target {
        let labels: Vec<_> = self.name.iter().collect();
        let text = |label: &[u8]| String::from_utf8_lossy(label).to_ascii_lowercase();
        match labels.as_slice() {
            [rest @ .., zone] if text(zone) == ZONE => match rest {
                [service, namespace] => {
                    Target::Service(format!("{}.{}", text(service), text(namespace)))
                }
                [_] | [] => Target::Node,
                _ => Target::Nothing,
            },
            _ => Target::Elsewhere,
        }
    }

    /// The answer's bytes; over UDP cut to what the asker takes.
    pub(super) fn answer(&self, known: Known<'_>, udp: bool) -> Option<Vec<u8>> {
        let mut message = self.response();
        match known {
            Known::Host(host) => self.add_addresses(&mut message, host),
            Known::Nothing => add_soa(&mut message),
            Known::Missing => {
                message.metadata.response_code = ResponseCode::NXDomain;
                add_soa(&mut message);
            }
            Known::Unavailable => {
                message.metadata.authoritative = false;
                message.metadata.response_code = ResponseCode::ServFail;
            }
        }
        let bytes = message.to_vec().ok()?;
        if udp && bytes.len() > self.udp_limit() {
            return message.truncate().to_vec().ok();
        }
        Some(bytes)
    }

    fn response(&self) -> Message {
        let asked = &self.message.metadata;
        let mut message = Message::response(asked.id, asked.op_code);
        message.metadata.authoritative = true;
        message.metadata.recursion_desired = asked.recursion_desired;
        message.metadata.recursion_available = true;
        message.queries.clone_from(&self.message.queries);
        if self.message.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(OUR_UDP);
            message.edns = Some(edns);
        }
        message
    }

    fn add_addresses(&self, message: &mut Message, host: &Host) {
        for address in &host.addresses {
            let data = match (address, self.kind) {
                (IpAddr::V4(v4), RecordType::A) => RData::A(A(*v4)),
                (IpAddr::V6(v6), RecordType::AAAA) => RData::AAAA(AAAA(*v6)),
                _ => continue,
            };
            let record = Record::from_rdata(self.name.clone(), host.ttl_seconds, data);
            message.answers.push(record);
        }
        if message.answers.is_empty() {
            add_soa(message);
        }
    }

    fn udp_limit(&self) -> usize {
        let asked = self.message.edns.as_ref().map(Edns::max_payload);
        asked.map_or(PLAIN_UDP, usize::from).max(PLAIN_UDP)
    }
}

/// Says how long "there is none" may be remembered (RFC 2308).
fn add_soa(message: &mut Message) {
    let zone = Name::from_ascii("mesh.").expect("a label of four letters is a name");
    let server = Name::from_ascii("maille.mesh.").expect("two short labels are a name");
    let ttl = i32::try_from(NEGATIVE_TTL).unwrap_or(i32::MAX);
    let soa = SOA::new(server.clone(), server, 1, ttl, ttl, ttl, NEGATIVE_TTL);
    let record = Record::from_rdata(zone, NEGATIVE_TTL, RData::SOA(soa));
    message.authorities.push(record);
}

//! Reads a packet capture: Ethernet, IPv4 and IPv6, TCP; puts each direction of each connection together again.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const PCAP_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
const ETHERNET: usize = 14;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const SYN: u8 = 0x02;

/// One direction of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Direction {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
}

/// What went in one direction.
#[derive(Clone, Debug, Default)]
pub(super) struct Flow {
    /// Sequence number of the first byte, once a SYN was seen.
    start: Option<u32>,
    segments: BTreeMap<u32, Vec<u8>>,
}

impl Flow {
    /// The bytes from the start of the connection to the first that was not captured; empty where its start was not captured.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let Some(start) = self.start else {
            return Vec::new();
        };
        // Sequence numbers wrap: they are ordered by their distance from the start.
        let mut ordered = self
            .segments
            .iter()
            .map(|(sequence, bytes)| (sequence.wrapping_sub(start) as usize, bytes))
            .collect::<Vec<_>>();
        ordered.sort();
        let mut whole = Vec::new();
        for (offset, bytes) in ordered {
            if offset > whole.len() {
                break;
            }
            // A segment that was sent again, or captured on several interfaces, adds only what is new.
            whole.extend(bytes.iter().skip(whole.len() - offset));
        }
        whole
    }

    /// Whether any captured segment, or what they are put together, holds these bytes.
    pub(super) fn holds(&self, wanted: &[u8]) -> bool {
        let within = |bytes: &[u8]| bytes.windows(wanted.len()).any(|window| window == wanted);
        self.segments.values().any(|segment| within(segment)) || within(&self.bytes())
    }
}

/// All flows of a capture file.
pub(super) fn flows(pcap: &[u8]) -> BTreeMap<Direction, Flow> {
    let mut flows = BTreeMap::<Direction, Flow>::new();
    let mut rest = pcap.get(PCAP_HEADER..).unwrap_or_default();
    while let Some(record) = rest.get(..RECORD_HEADER) {
        let length = u32::from_ne_bytes([record[8], record[9], record[10], record[11]]) as usize;
        let Some(packet) = rest.get(RECORD_HEADER..RECORD_HEADER + length) else {
            break;
        };
        rest = &rest[RECORD_HEADER + length..];
        if let Some(segment) = tcp(packet) {
            let flow = flows.entry(segment.direction).or_default();
            if segment.flags & SYN != 0 {
                flow.start = Some(segment.sequence.wrapping_add(1));
            } else if !segment.payload.is_empty() {
                let known = flow.segments.entry(segment.sequence).or_default();
                if known.len() < segment.payload.len() {
                    *known = segment.payload.to_vec();
                }
            }
        }
    }
    flows
}

struct Segment<'a> {
    direction: Direction,
    sequence: u32,
    flags: u8,
    payload: &'a [u8],
}

fn tcp(packet: &[u8]) -> Option<Segment<'_>> {
    let kind = u16::from_be_bytes([*packet.get(12)?, *packet.get(13)?]);
    let packet = packet.get(ETHERNET..)?;
    let (from, to, segment) = match kind {
        IPV4 => ipv4(packet)?,
        IPV6 => ipv6(packet)?,
        _ => return None,
    };
    let port = |at: usize| {
        Some(u16::from_be_bytes([
            *segment.get(at)?,
            *segment.get(at + 1)?,
        ]))
    };
    let direction = Direction {
        from: SocketAddr::new(from, port(0)?),
        to: SocketAddr::new(to, port(2)?),
    };
    let sequence = u32::from_be_bytes(segment.get(4..8)?.try_into().ok()?);
    let header = usize::from(*segment.get(12)? >> 4) * 4;
    Some(Segment {
        direction,
        sequence,
        flags: *segment.get(13)?,
        payload: segment.get(header..)?,
    })
}

fn ipv4(packet: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    // What the frame was padded with is not the packet's.
    let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    let total = if total == 0 { packet.len() } else { total };
    let address = |at: usize| {
        Some(IpAddr::V4(Ipv4Addr::from(
            <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?,
        )))
    };
    (packet.get(9) == Some(&TCP)).then_some(())?;
    Some((address(12)?, address(16)?, packet.get(header..total)?))
}

fn ipv6(packet: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    /// RFC 8200 §3. The demo's packets have no extension headers.
    const HEADER: usize = 40;
    let address = |at: usize| {
        Some(IpAddr::V6(Ipv6Addr::from(
            <[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?,
        )))
    };
    (packet.get(6) == Some(&TCP)).then_some(())?;
    Some((address(8)?, address(24)?, packet.get(HEADER..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut tcp = vec![0x12, 0x87, 0x20, 0x00];
        tcp.extend(sequence.to_be_bytes());
        tcp.extend([0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        tcp.extend(payload);
        let mut packet = vec![0u8; 12];
        packet.extend(IPV4.to_be_bytes());
        packet.extend([0x45, 0]);
        packet.extend((20 + tcp.len() as u16).to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, TCP, 0, 0, 10, 47, 0, 21, 10, 47, 0, 22]);
        packet.extend(tcp);
        packet
    }

    fn capture(packets: &[Vec<u8>]) -> Vec<u8> {
        let mut pcap = vec![0u8; PCAP_HEADER];
        for packet in packets {
            let length = (packet.len() as u32).to_ne_bytes();
            pcap.extend([[0; 4], [0; 4], length, length].concat());
            pcap.extend(packet);
        }
        pcap
    }

    fn check(packets: &[Vec<u8>], expected: &[u8]) {
        let flows = flows(&capture(packets));
        assert_eq!(flows.len(), 1);
        let flow = flows.values().next().map(Flow::bytes).unwrap_or_default();
        assert_eq!(flow, expected);
    }

    #[test]
    fn segments_are_put_in_order_and_copies_are_dropped() {
        let syn = packet(u32::MAX - 2, SYN, b"");
        let parts = [
            packet(u32::MAX - 1, 0x10, b"ab"),
            packet(0, 0x10, b"cd"),
            packet(2, 0x10, b"ef"),
        ];
        check(
            &[
                syn.clone(),
                parts[1].clone(),
                parts[0].clone(),
                parts[1].clone(),
                parts[2].clone(),
            ],
            b"abcdef",
        );
        // A gap ends what is known.
        check(&[syn.clone(), parts[0].clone(), parts[2].clone()], b"ab");
        // Padding of short frames is not data.
        let padded = [parts[0].clone(), vec![0; 6]].concat();
        check(&[syn, padded], b"ab");
    }

    #[test]
    fn a_marker_is_found_across_segments() {
        let packets = [
            packet(9, SYN, b""),
            packet(10, 0x10, b"mar"),
            packet(13, 0x10, b"ker"),
        ];
        let flows = flows(&capture(&packets));
        let flow = flows.values().next().cloned().unwrap_or_default();
        assert!(flow.holds(b"marker"));
        assert!(!flow.holds(b"other"));
    }
}

//! Affinity: a ring of hashes, and Maglev's table (Eisenbud et al., NSDI 2016, §3.4).

use super::EndpointState;
use std::sync::Arc;

/// Places on the ring for an endpoint of mean weight: with 160 the load differs by some 8 %.
const RING_PLACES: u64 = 160;
/// Places on the whole ring: 16 bytes each, for every cluster that hashes.
const RING_LIMIT: u64 = 65_536;
/// Slots of Maglev's table: a prime, a hundred times the endpoints of a large service.
const MAGLEV_SLOTS: u64 = 65_537;
/// A key whose endpoint cannot be used goes to the next; so many are asked before any is taken.
const STEPS: usize = 1_024;

/// Where keys go.
#[derive(Debug)]
pub(super) enum Table {
    /// Hashes in order, each with its endpoint's place.
    Ring(Vec<(u64, u32)>),
    /// Endpoints' places.
    Maglev(Vec<u32>),
}

/// A hash that is the same in every process: all proxies must agree where a key goes (FNV-1a, mixed).
pub fn hash(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// Spreads a number over all 64 bits (the finaliser of SplitMix64).
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The address alone is not enough: several workloads of one host may serve the same port, each behind its own proxy.
fn name<T>(endpoint: &EndpointState<T>) -> u64 {
    let endpoint = &endpoint.endpoint;
    let (address, namespace, workload) =
        (endpoint.address, &endpoint.namespace, &endpoint.workload);
    hash(format!("{address} {namespace}/{workload}").as_bytes())
}

fn weight<T>(endpoint: &EndpointState<T>) -> u64 {
    u64::from(endpoint.endpoint.weight.max(1))
}

fn place(index: usize) -> u32 {
    u32::try_from(index)
        .expect("a cluster has fewer endpoints than fit the memory that four billion would take")
}

impl Table {
    pub(super) fn ring<T>(endpoints: &[Arc<EndpointState<T>>]) -> Self {
        let count = (endpoints.len() as u64).max(1);
        let total: u64 = endpoints.iter().map(|endpoint| weight(endpoint)).sum();
        let places = (RING_PLACES * count).min(RING_LIMIT.max(count));
        let mut ring = Vec::new();
        for (index, endpoint) in endpoints.iter().enumerate() {
            let own = (places * weight(endpoint) / total.max(1)).max(1);
            let name = name(endpoint);
            ring.extend((0..own).map(|number| (mix(name ^ mix(number + 1)), place(index))));
        }
        ring.sort_unstable();
        Self::Ring(ring)
    }

    pub(super) fn maglev<T>(endpoints: &[Arc<EndpointState<T>>]) -> Self {
        if endpoints.is_empty() {
            return Self::Maglev(Vec::new());
        }
        let heaviest = endpoints
            .iter()
            .map(|endpoint| weight(endpoint))
            .max()
            .unwrap_or(1);
        // Each endpoint walks the slots in an order of its own; an endpoint of less weight is passed over in some rounds.
        let mut walkers: Vec<_> = endpoints
            .iter()
            .map(|endpoint| Walker::new(endpoint))
            .collect();
        let mut slots = vec![u32::MAX; usize::try_from(MAGLEV_SLOTS).unwrap_or(0)];
        let mut free = slots.len();
        while free > 0 {
            for (index, walker) in walkers.iter_mut().enumerate() {
                if free > 0 && walker.turn(heaviest) {
                    walker.take(&mut slots, place(index));
                    free -= 1;
                }
            }
        }
        Self::Maglev(slots)
    }

    /// The endpoint of a key, or the next that can be used.
    pub(super) fn pick(&self, key: u64, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let (start, length) = match self {
            Self::Ring(ring) => (ring.partition_point(|(hash, _)| *hash < key), ring.len()),
            Self::Maglev(slots) => (
                usize::try_from(key % MAGLEV_SLOTS).unwrap_or(0),
                slots.len(),
            ),
        };
        let at = |step: usize| match self {
            Self::Ring(ring) => ring[(start + step) % length].1 as usize,
            Self::Maglev(slots) => slots[(start + step) % length] as usize,
        };
        (0..length.min(STEPS)).map(at).find(|index| usable(*index))
    }
}

/// One endpoint's walk over Maglev's slots.
struct Walker {
    next: u64,
    step: u64,
    weight: u64,
    credit: u64,
}

impl Walker {
    fn new<T>(endpoint: &EndpointState<T>) -> Self {
        let name = name(endpoint);
        let weight = weight(endpoint);
        Self {
            next: name % MAGLEV_SLOTS,
            step: mix(name.wrapping_add(1)) % (MAGLEV_SLOTS - 1) + 1,
            weight,
            credit: 0,
        }
    }

    fn turn(&mut self, heaviest: u64) -> bool {
        self.credit += self.weight;
        let turn = self.credit >= heaviest;
        if turn {
            self.credit -= heaviest;
        }
        turn
    }

    fn take(&mut self, slots: &mut [u32], place: u32) {
        loop {
            let slot = usize::try_from(self.next).unwrap_or(0);
            self.next = (self.next + self.step) % MAGLEV_SLOTS;
            if slots[slot] == u32::MAX {
                slots[slot] = place;
                return;
            }
        }
    }
}

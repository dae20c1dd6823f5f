//! Locality: the own zone first, then the own region, then everywhere, spilling over as endpoints go missing.

use crate::snapshot::Locality;

/// A tier takes all its traffic while so much more than this part of it is usable (Envoy's overprovisioning factor,
/// 1.4): down to 71 % usable nothing spills, below that the missing part goes one tier on.
const OVERPROVISIONING_PERCENT: u64 = 140;

/// Places of endpoints, nearest tier first, and all of them.
#[derive(Debug)]
pub(super) struct Tiers {
    tiers: Vec<Vec<usize>>,
    all: Vec<usize>,
}

impl Tiers {
    pub(super) fn new<'a>(localities: impl Iterator<Item = &'a Locality>, here: &Locality) -> Self {
        let mut tiers = [Vec::new(), Vec::new(), Vec::new()];
        let mut all = Vec::new();
        for (index, locality) in localities.enumerate() {
            tiers[distance(here, locality)].push(index);
            all.push(index);
        }
        let tiers = tiers.into_iter().filter(|tier| !tier.is_empty()).collect();
        Self { tiers, all }
    }

    /// All places.
    pub(super) fn all(&self) -> &[usize] {
        &self.all
    }

    /// The tier that this pick goes to. None: nothing anywhere is usable.
    pub(super) fn choose(&self, random: u64, usable: impl Fn(usize) -> bool) -> Option<&[usize]> {
        if let [only] = self.tiers.as_slice() {
            return only.iter().any(|index| usable(*index)).then_some(only);
        }
        let mut draw = random % 100;
        let mut nearest = None;
        for tier in &self.tiers {
            let count = tier.iter().filter(|index| usable(**index)).count();
            if count == 0 {
                continue;
            }
            nearest = nearest.or(Some(tier.as_slice()));
            let share = (count as u64) * OVERPROVISIONING_PERCENT / (tier.len() as u64);
            if draw < share {
                return Some(tier);
            }
            draw -= share;
        }
        // Less than 100 % is left of all tiers together: the nearest that has anything takes the rest.
        nearest
    }
}

/// 0: the same zone; 1: the same region; 2: elsewhere. Who does not know where it stands is near to all.
fn distance(here: &Locality, there: &Locality) -> usize {
    if here.region.is_empty() || *here == *there {
        return 0;
    }
    if here.region == there.region { 1 } else { 2 }
}

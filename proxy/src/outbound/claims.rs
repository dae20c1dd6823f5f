//! Which workload of a host a user's connections belong to. Pure.

use std::ops::RangeInclusive;

/// Users by number, each of one workload.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    /// The lowest first; no two meet.
    ranges: Vec<(RangeInclusive<u32>, usize)>,
}

impl Claims {
    /// The users of each workload, by its place. No two have users in common: the configuration has seen to that.
    pub fn new<'a>(workloads: impl Iterator<Item = &'a [RangeInclusive<u32>]>) -> Self {
        let claimed = workloads
            .enumerate()
            .flat_map(|(place, ranges)| ranges.iter().map(move |range| (range.clone(), place)));
        let mut ranges: Vec<_> = claimed.collect();
        ranges.sort_by_key(|(range, _)| *range.start());
        Self { ranges }
    }

    /// The workload whose user it is.
    pub fn of(&self, uid: u32) -> Option<usize> {
        let after = self
            .ranges
            .partition_point(|(range, _)| *range.start() <= uid);
        let (range, place) = &self.ranges[..after].last()?;
        range.contains(&uid).then_some(*place)
    }

    /// Whether any user is claimed.
    pub fn any(&self) -> bool {
        !self.ranges.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_one_workloads_or_nobodys() {
        let workloads = [
            vec![1001..=1001, 3000..=3999],
            vec![],
            vec![0..=0, 2000..=2999],
        ];
        let claims = Claims::new(workloads.iter().map(Vec::as_slice));
        let check = |uid, expected| assert_eq!(claims.of(uid), expected, "{uid}");
        check(0, Some(2));
        check(1, None);
        check(1000, None);
        check(1001, Some(0));
        check(1002, None);
        check(1999, None);
        check(2000, Some(2));
        check(2999, Some(2));
        check(3000, Some(0));
        check(3999, Some(0));
        check(4000, None);
        check(u32::MAX, None);
        assert_eq!(Claims::default().of(0), None);
    }
}

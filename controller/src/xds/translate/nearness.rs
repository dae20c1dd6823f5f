//! How near endpoints are to a client, for clients that know it from priorities alone: the own zone first, then the own region, then everywhere. It
//! depends on where the client is, so these endpoints are the same only for clients of one locality.

use std::collections::{BTreeMap, BTreeSet};

use xds_api::envoy::config::endpoint::v3::{LbEndpoint, LocalityLbEndpoints};

use super::any::locality;
use super::policy::policy;
use crate::model::Mesh;
use crate::xds::names::ServicePort;

/// Where the clients of a port are, as far as that matters: a balancer that hashes takes the same endpoint for everybody.
pub(super) fn matters<'a>(mesh: &Mesh, port: &ServicePort, here: &'a str) -> &'a str {
    match policy(mesh, port).balancer.algorithm.hashes() {
        true => "",
        false => here,
    }
}

/// Endpoints, each with its locality, by locality. Priorities are counted from 0 without gaps, as they must be: of what is near to `here` nothing may be
/// there.
pub(super) fn groups(
    here: &str,
    endpoints: impl IntoIterator<Item = (String, LbEndpoint)>,
) -> Vec<LocalityLbEndpoints> {
    let mut localities: BTreeMap<String, Vec<LbEndpoint>> = BTreeMap::new();
    for (there, endpoint) in endpoints {
        localities.entry(there).or_default().push(endpoint);
    }
    let distances = localities.keys().map(|there| distance(here, there));
    let nearest_first: BTreeSet<Distance> = distances.collect();
    let group = |(there, lb_endpoints): (String, Vec<LbEndpoint>)| {
        let nearer = nearest_first.range(..distance(here, &there));
        LocalityLbEndpoints {
            locality: locality(&there),
            lb_endpoints,
            priority: nearer.map(|_| 1).sum(),
            ..Default::default()
        }
    };
    localities.into_iter().map(group).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Distance {
    Zone,
    Region,
    Elsewhere,
}

/// Who does not know where it stands is near to all.
fn distance(here: &str, there: &str) -> Distance {
    fn region(locality: &str) -> &str {
        locality.split('/').next().unwrap_or_default()
    }
    if here.is_empty() || here == there {
        Distance::Zone
    } else if region(here) == region(there) {
        Distance::Region
    } else {
        Distance::Elsewhere
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_first_and_no_priority_is_left_out() {
        let check = |here: &str, there: &[(&str, u32)]| {
            let endpoints = there
                .iter()
                .map(|(there, _)| ((*there).to_owned(), LbEndpoint::default()));
            let found: Vec<_> = groups(here, endpoints)
                .into_iter()
                .map(|group| (group.locality, group.priority))
                .collect();
            let expected: Vec<_> = there
                .iter()
                .map(|(there, priority)| (locality(there), *priority))
                .collect();
            assert_eq!(found, expected, "{here:?}");
        };
        let all = ["", "eu", "eu/a", "eu/b", "eux/a", "us/a"];
        let at = |priorities: [u32; 6]| all.into_iter().zip(priorities).collect::<Vec<_>>();
        check("", &at([0; 6]));
        check("eu/a", &at([2, 1, 0, 1, 2, 2]));
        check("eu/c", &at([1, 0, 0, 0, 1, 1]));
        check("eu", &at([2, 0, 1, 1, 2, 2]));
        check("asia/a", &at([0; 6]));
        check("eu/a", &[("eu/a", 0), ("us/a", 1)]);
        check("eu/a", &[("us/a", 0)]);
        check("eu/a", &[]);
    }
}

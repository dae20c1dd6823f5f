//! Virtual IPs: one v4 and one v6 for every service, given out in order and not given again for a while.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use imbl::{OrdMap, OrdSet};
use ipnet::{Ipv4Net, Ipv6Net};

use super::{
    Mesh, Name,
    kinds::mesh_settings::VipRange,
    limits::{EXPIRIES_PER_ENTRY, VIP_QUARANTINE_ENTRIES},
};

/// A service's virtual addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "said by their names")]
pub struct Vip {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

impl Vip {
    /// v4 before v6.
    pub const fn addresses(&self) -> [IpAddr; 2] {
        [IpAddr::V4(self.v4), IpAddr::V6(self.v6)]
    }
}

/// Where v4 addresses come from by default: reserved since 1989, routed nowhere.
pub const DEFAULT_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(240, 0, 0, 0), 4);
/// Where v6 addresses come from by default: a ULA whose prefix spells the product's name.
pub const DEFAULT_V6: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd4d, 0x6169, 0x6c6c, 0x65, 0, 0, 0, 0), 64);

/// The ranges in force.
pub fn ranges(settings: &VipRange) -> (Ipv4Net, Ipv6Net) {
    (
        settings.v4.unwrap_or(DEFAULT_V4).trunc(),
        settings.v6.unwrap_or(DEFAULT_V6).trunc(),
    )
}

/// Which addresses come next, and which rest after they were given back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VipPool {
    pub(super) next_v4: u64,
    pub(super) next_v6: u64,
    /// Address → the log index at which it was given back.
    pub(super) resting: OrdMap<IpAddr, u64>,
    /// Derived from `resting`: the first to be free again first.
    pub(super) by_release: OrdSet<(u64, IpAddr)>,
}

/// A range has no free address.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RangeFull(pub(super) &'static str);

impl VipPool {
    /// Gives every service without addresses in the present ranges new ones, and takes back those that are not needed.
    pub(super) fn settle(
        &mut self,
        mesh: &mut Mesh,
        touched: &[Name],
        ranges_changed: bool,
        log_index: u64,
    ) -> Result<(), RangeFull> {
        let settings = mesh
            .settings()
            .map(|entry| entry.object.spec.vip_range.clone())
            .unwrap_or_default();
        let ranges = ranges(&settings);
        let all: Vec<Name>;
        let names = if ranges_changed {
            all = mesh.services.keys().chain(touched).cloned().collect();
            all.as_slice()
        } else {
            touched
        };
        for name in names {
            let wanted = mesh.services.contains_key(name);
            let held = mesh.vips.get(name).copied();
            let fits =
                held.is_some_and(|vip| ranges.0.contains(&vip.v4) && ranges.1.contains(&vip.v6));
            if wanted == held.is_some() && (fits || !wanted) {
                continue;
            }
            if let Some(vip) = held {
                self.release(mesh, name, vip, log_index);
            }
            if wanted {
                self.assign(mesh, name, ranges)?;
            }
        }
        Ok(())
    }

    /// Lets addresses go that have rested long enough.
    pub(super) fn expire(&mut self, log_index: u64) {
        for _ in 0..EXPIRIES_PER_ENTRY {
            match self.by_release.get_min().copied() {
                Some((released, address)) if released + VIP_QUARANTINE_ENTRIES <= log_index => {
                    self.by_release.remove(&(released, address));
                    self.resting.remove(&address);
                }
                _ => return,
            }
        }
    }

    pub(super) fn rest(&mut self, address: IpAddr, released: u64) {
        self.resting.insert(address, released);
        self.by_release.insert((released, address));
    }

    fn release(&mut self, mesh: &mut Mesh, name: &Name, vip: Vip, log_index: u64) {
        mesh.vips.remove(name);
        for address in vip.addresses() {
            mesh.vip_owners.remove(&address);
            self.rest(address, log_index);
        }
    }

    fn assign(
        &mut self,
        mesh: &mut Mesh,
        name: &Name,
        ranges: (Ipv4Net, Ipv6Net),
    ) -> Result<(), RangeFull> {
        let (v4, v6) = ranges;
        let taken = |address: IpAddr| {
            mesh.vip_owners.contains_key(&address) || self.resting.contains_key(&address)
        };
        let occupied = mesh.vip_owners.len() + self.resting.len();

        // Network and broadcast addresses are left out, for whoever treats the range as a subnet.
        let hosts = (1u64 << (32 - v4.prefix_len())) - 2;
        let at = |offset: u64| {
            Ipv4Addr::from_bits(v4.addr().to_bits() + u32::try_from(offset + 1).unwrap_or(1))
        };
        let offset = first_free(self.next_v4, hosts, occupied, |offset| {
            taken(at(offset).into())
        })
        .ok_or(RangeFull("vipRange.v4"))?;
        let v4_address = at(offset);
        self.next_v4 = (offset + 1) % hosts;

        let hosts = u64::MAX
            >> 64u32
                .saturating_sub(128 - u32::from(v6.prefix_len()))
                .min(63);
        let at = |offset: u64| Ipv6Addr::from_bits(v6.addr().to_bits() + u128::from(offset) + 1);
        let offset = first_free(self.next_v6, hosts - 1, occupied, |offset| {
            taken(at(offset).into())
        })
        .ok_or(RangeFull("vipRange.v6"))?;
        let v6_address = at(offset);
        self.next_v6 = (offset + 1) % (hosts - 1);

        let vip = Vip {
            v4: v4_address,
            v6: v6_address,
        };
        mesh.vips.insert(name.clone(), vip);
        for address in vip.addresses() {
            mesh.vip_owners.insert(address, name.clone());
        }
        Ok(())
    }
}

/// The first offset from `start` on, around the end, that is not taken. Gives up after more tries than can be taken.
fn first_free(start: u64, hosts: u64, occupied: usize, taken: impl Fn(u64) -> bool) -> Option<u64> {
    let tries = hosts.min(occupied as u64 + 1);
    (0..tries)
        .map(|step| (start % hosts + step) % hosts)
        .find(|offset| !taken(*offset))
}

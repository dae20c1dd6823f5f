//! Programs with gRPC's xDS in them, which are in the mesh without a sidecar.

use super::{GREETER, GRPC, Kind, STRANGER, Set, Target, Workload};
use crate::dev::namespaces::Host;

/// What there is of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Programs {
    /// Calls. Serves nothing.
    pub(crate) caller: Workload,
    /// The gRPC service.
    pub(crate) greeter: Workload,
    /// Calls, and may call nothing.
    pub(crate) stranger: Workload,
}

static PROGRAMS: Programs = Programs {
    caller: program(STRANGER, "caller-grpc", &[("app", "caller-grpc")], 41),
    greeter: program(GREETER, "greeter-grpc", &[("app", "greeter-grpc")], 42),
    stranger: program(STRANGER, "stranger-grpc", &[("app", "stranger-grpc")], 43),
};

/// The service whose calls are split between the native greeter and the program, 90 to 10.
pub(crate) const SPLIT: Target = Target {
    service: "greeting",
    port: GRPC.number,
};

const fn program(
    like: Workload,
    name: &'static str,
    labels: &'static [(&'static str, &'static str)],
    host: u8,
) -> Workload {
    Workload {
        name,
        account: name,
        kind: Kind::Grpc,
        labels,
        host: Host(host),
        spare: true,
        ..like
    }
}

/// They are there where more than native sidecars are.
pub(crate) fn programs(sets: &[Set]) -> Option<&'static Programs> {
    (sets.len() > 1).then_some(&PROGRAMS)
}

impl Programs {
    /// All of them.
    pub(crate) fn workloads(&self) -> [Workload; 3] {
        [self.caller, self.greeter, self.stranger]
    }

    /// The gRPC service.
    pub(crate) fn greeter_grpc(&self) -> Target {
        Target::of(&self.greeter, GRPC)
    }
}

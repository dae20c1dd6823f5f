//! The steady load of the checks that disturb the control plane: through every kind of sidecar that there is, and by a gRPC program without one.

use serde_json::{Map, Value};

use crate::args::dev::{Dev, Family, Protocol};
use crate::dev::app::tally::Tally;
use crate::dev::demo::{self, Kind, SPLIT, Set};
use crate::dev::mesh::{Caller, Load, Mesh};
use crate::dev::process::App;
use crate::failure::Outcome;

use super::failover::{counts, total};

/// Enough that the rate is kept while single calls are slow.
const CONNECTIONS: u32 = 16;

/// Clients that call the API until they are stopped.
pub(super) struct Steady(Vec<(Kind, App)>);

impl Steady {
    /// One through each kind, each at the whole rate.
    pub(super) fn start(args: &Dev, mesh: &mut Mesh) -> Outcome<Steady> {
        let sets = mesh.sets;
        let one = |set: &Set| {
            let target = mesh.target(&set.web, demo::API, Family::V4);
            let load = Load {
                connections: CONNECTIONS,
                ..Load::steady(Protocol::Http1, target, args.rate)
            };
            Ok((set.kind, mesh.client(Caller::Workload(set.web), &load)?))
        };
        let mut clients = sets.iter().map(one).collect::<Outcome<Vec<_>>>()?;
        if let Some(programs) = demo::programs(sets) {
            let load = Load {
                connections: CONNECTIONS,
                ..Load::steady(Protocol::Grpc, "", args.rate)
            };
            // Its servers are a sidecar's and a program's.
            let client = mesh.client_grpc(&programs.caller, SPLIT, &load)?;
            clients.push((Kind::Grpc, client));
        }
        Ok(Steady(clients))
    }

    /// Waits until each has counted.
    pub(super) async fn counting(&mut self) -> Outcome {
        for (_, app) in &mut self.0 {
            app.next_tally().await?;
        }
        Ok(())
    }

    /// All calls, and those of each kind in short.
    pub(super) async fn stop(self) -> Outcome<(Tally, Value)> {
        let (mut tallies, mut detail) = (Vec::new(), Map::new());
        for (kind, app) in self.0 {
            let tally = app.stop().await?;
            detail.insert(kind.name().to_owned(), counts(&tally));
            tallies.push(tally);
        }
        let sum = total(&tallies.iter().collect::<Vec<_>>());
        Ok((sum, Value::Object(detail)))
    }
}

//! Does what the command line says: sets, prints, checks or removes. Both families are tested before either is committed.

use std::fmt::Write;

use crate::{
    args::{Args, Ipv6},
    check::{self, Difference},
    failure::{EXIT_DIFFERS, EXIT_DONE, Failure},
    plan::{Family, Plan, Settings, plan},
    render::{self, Table},
    system::{self, Iptables, Ipv6State, Route},
};

/// What a run leaves for the terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The exit code.
    pub code: u8,
    /// For stdout.
    pub data: String,
    /// For stderr, a line each.
    pub notes: Vec<String>,
}

/// One family with the programs that serve it and the table that they show.
#[derive(Debug)]
struct Side {
    family: Family,
    iptables: Iptables,
    table: Table,
}

/// Runs the one action that `args` asks for.
pub fn run(args: &Args) -> Result<Outcome, Failure> {
    if args.remove {
        return remove(args);
    }
    let settings = args.settings()?;
    if args.simulate {
        return Ok(simulate(&settings, args));
    }
    let mut outcome = Outcome {
        notes: args.warnings(),
        ..Outcome::default()
    };
    let sides = sides(args, &mut outcome.notes)?;
    if args.check {
        compare(&settings, &sides, outcome)
    } else {
        set(&settings, &sides, outcome)
    }
}

fn simulate(settings: &Settings, args: &Args) -> Outcome {
    let families = [Family::V4, Family::V6]
        .into_iter()
        .filter(|family| *family == Family::V4 || args.ipv6 != Ipv6::Off);
    let mut data = String::new();
    for family in families {
        let plan = plan(settings, family);
        let routes: String = plan
            .routes
            .iter()
            .map(|net| {
                format!(
                    "# ip {}\n",
                    system::route_arguments(family, &net.to_string()).join(" ")
                )
            })
            .collect();
        write!(
            data,
            "# {family}\n{routes}{}",
            render::transaction(&plan, &Table::default())
        )
        .expect("writing to a string cannot fail");
    }
    Outcome {
        code: EXIT_DONE,
        data,
        notes: args.warnings(),
    }
}

/// The families that are to be handled here. Rights are looked at first: without them every program gives a worse error.
fn sides(args: &Args, notes: &mut Vec<String>) -> Result<Vec<Side>, Failure> {
    if !system::may_change_the_network()? {
        return Err(Failure::NotPermitted);
    }
    let side = |family| {
        Iptables::find(args.iptables, family).map(|(iptables, table)| Side {
            family,
            iptables,
            table,
        })
    };
    let mut sides = vec![side(Family::V4)?];
    match args.ipv6 {
        Ipv6::Off => {}
        Ipv6::On => sides.push(side(Family::V6)?),
        Ipv6::Auto => match (system::ipv6_state()?, side(Family::V6)) {
            (Ipv6State::Absent, _) => {
                notes.push("IPv6 is off here: only IPv4 is handled".to_owned())
            }
            (_, Ok(side)) => sides.push(side),
            (Ipv6State::LoopbackOnly, Err(failure)) => notes.push(format!(
                "IPv6 is left out, only lo has an address of it: {failure}"
            )),
            (Ipv6State::InUse, Err(failure)) => {
                return Err(Failure::Ipv6 {
                    source: Box::new(failure),
                });
            }
        },
    }
    Ok(sides)
}

fn compare(settings: &Settings, sides: &[Side], mut outcome: Outcome) -> Result<Outcome, Failure> {
    for side in sides {
        for difference in differences(&plan(settings, side.family), &side.table)? {
            writeln!(outcome.data, "{}: {difference}", side.family)
                .expect("writing to a string cannot fail");
            outcome.code = EXIT_DIFFERS;
        }
    }
    if outcome.code == EXIT_DIFFERS {
        outcome.notes.push(
            "run maille-init with the same options and without --check to put it right".to_owned(),
        );
    }
    Ok(outcome)
}

fn differences(plan: &Plan, table: &Table) -> Result<Vec<Difference>, Failure> {
    let mut differences = check::rules(plan, table);
    let wanted: Vec<String> = plan.routes.iter().map(ToString::to_string).collect();
    for network in &wanted {
        let found = system::routes(plan.family, Some(network))?;
        differences.extend(check::route(plan.family, network, &found));
    }
    let stale = own_routes(plan.family)?
        .into_iter()
        .filter(|route| !wanted.contains(&route.dst));
    differences.extend(stale.map(|route| Difference::ExtraRoute(route.dst)));
    Ok(differences)
}

/// Routes first: with a route and no rule a connect waits, with a rule and no route it fails at once for good.
fn set(settings: &Settings, sides: &[Side], mut outcome: Outcome) -> Result<Outcome, Failure> {
    if settings.routes && !system::loopback_is_up()? {
        return Err(Failure::LoopbackDown);
    }
    let mut pending = Vec::new();
    for side in sides {
        let plan = plan(settings, side.family);
        if differences(&plan, &side.table)?.is_empty() {
            outcome
                .notes
                .push(format!("{}: already as it should be", side.family));
            continue;
        }
        let transaction = render::transaction(&plan, &side.table);
        side.iptables.test(&transaction)?;
        refuse_foreign_routes(&plan)?;
        pending.push((side, plan, transaction));
    }
    let mut done: Option<Family> = None;
    for (side, plan, transaction) in pending {
        commit(side, &plan, &transaction).map_err(|failure| match done {
            None => failure,
            Some(done) => Failure::HalfDone {
                done,
                failed: side.family,
                source: Box::new(failure),
            },
        })?;
        done = Some(side.family);
        outcome
            .notes
            .push(format!("{}: redirection is set", side.family));
    }
    Ok(outcome)
}

fn commit(side: &Side, plan: &Plan, transaction: &str) -> Result<(), Failure> {
    let wanted: Vec<String> = plan.routes.iter().map(ToString::to_string).collect();
    for network in &wanted {
        system::set_route(side.family, network)?;
    }
    side.iptables.commit(transaction)?;
    for route in own_routes(side.family)?
        .iter()
        .filter(|route| !wanted.contains(&route.dst))
    {
        system::delete_route(side.family, &route.dst)?;
    }
    Ok(())
}

fn refuse_foreign_routes(plan: &Plan) -> Result<(), Failure> {
    for range in plan.routes.iter().map(ToString::to_string) {
        if let Some(route) = system::routes(plan.family, Some(&range))?
            .into_iter()
            .find(|route| !route.is_ours())
        {
            let found = format!("{} dev {} proto {}", route.dst, route.dev, route.protocol);
            return Err(Failure::ForeignRoute { range, found });
        }
    }
    Ok(())
}

/// The routes that are ours, of this run's ranges or another's. A machine without `ip` has none.
fn own_routes(family: Family) -> Result<Vec<Route>, Failure> {
    match system::routes(family, None) {
        Err(Failure::ToolMissing { .. }) => Ok(Vec::new()),
        routes => routes,
    }
}

/// Takes away what is ours.
fn remove(args: &Args) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    for side in sides(args, &mut outcome.notes)? {
        let transaction = render::removal(&side.table);
        if let Some(transaction) = &transaction {
            side.iptables.commit(transaction)?;
        }
        let routes = own_routes(side.family)?;
        for route in &routes {
            system::delete_route(side.family, &route.dst)?;
        }
        let what = if transaction.is_none() && routes.is_empty() {
            "nothing of ours was there"
        } else {
            "redirection is removed"
        };
        outcome.notes.push(format!("{}: {what}", side.family));
    }
    Ok(outcome)
}

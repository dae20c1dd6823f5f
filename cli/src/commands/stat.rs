//! `maille stat`: what clients counted of their calls, by service or by client.

use std::collections::BTreeMap;

use serde::Serialize;
use xds_api::generated::maille::v1 as api;

use crate::args::stat::{End, Stat};
use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::printer::{Format, Printer, Rows, say};

/// So many of those that report nothing are named.
const NAMED: usize = 5;

/// For programs: what was counted, of each client apart.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    window_seconds: u32,
    loads: Vec<Load>,
    reporters: Vec<Reporter>,
    /// Controllers that did not answer.
    silent_controllers: Vec<String>,
    /// Controllers that had no room for some of what was reported.
    full_controllers: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Load {
    service: String,
    port: u32,
    /// Empty: several, which one may not see.
    client: String,
    kind: String,
    issued: u64,
    succeeded: u64,
    failed: u64,
    dropped: u64,
    in_progress: u64,
    connections_opened: u64,
    connections_failed: u64,
    connections_open: u64,
    measured_seconds: f64,
    #[serde(flatten)]
    rates: Rates,
}

/// What follows from the counts; `null` where nothing was told that it could follow from.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rates {
    success_rate: Option<f64>,
    requests_per_second: Option<f64>,
    mean_answer_seconds: Option<f64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reporter {
    client: String,
    kind: String,
    reports: bool,
    /// Since the last report.
    age_seconds: Option<f64>,
}

/// What one line of the table is about: some calls together.
#[derive(Default)]
struct Sum {
    issued: u64,
    succeeded: u64,
    failed: u64,
    dropped: u64,
    in_progress: u64,
    timed: u64,
    seconds: f64,
    opened: u64,
    unopened: u64,
    open: u64,
    /// The sum of what each client had a second. `None`: of none is known how long it was measured.
    per_second: Option<f64>,
}

impl Sum {
    fn add(&mut self, load: &api::Load) {
        self.issued += load.issued;
        self.succeeded += load.succeeded;
        self.failed += load.failed;
        self.dropped += load.dropped;
        self.in_progress += load.in_progress;
        self.timed += load.timed;
        self.seconds += load.total_seconds;
        self.opened += load.connections_opened;
        self.unopened += load.connections_failed;
        self.open += load.connections_open;
        if load.measured_millis > 0 {
            let rate = load.issued as f64 * 1_000.0 / load.measured_millis as f64;
            *self.per_second.get_or_insert_default() += rate;
        }
    }

    fn has_requests(&self) -> bool {
        self.issued + self.succeeded + self.failed + self.dropped + self.in_progress > 0
    }

    fn has_connections(&self) -> bool {
        self.opened + self.unopened + self.open > 0
    }

    fn rates(&self) -> Rates {
        let ended = self.succeeded + self.failed;
        Rates {
            success_rate: (ended > 0).then(|| self.succeeded as f64 / ended as f64),
            requests_per_second: self.per_second.filter(|_| self.has_requests()),
            mean_answer_seconds: (self.timed > 0).then(|| self.seconds / self.timed as f64),
        }
    }
}

pub(super) async fn run(args: &Stat, cluster: &Cluster, printer: Printer) -> Outcome {
    let request = request(args);
    let answer = cluster
        .call(async |mut client| Ok(client.loads(request.clone()).await?.into_inner()))
        .await;
    let answer =
        answer.map_err(|status| Failure::from_status("read what clients report", &status, &[]))?;
    if printer.for_programs() {
        return printer.result(&for_programs(answer), Rows::default);
    }
    remarks(&answer).iter().for_each(|remark| say(remark));
    let apart = printer.format() == Format::Wide;
    printer.result(&(), || table(args.what.end, apart, &answer.loads))
}

/// `<namespace>/<name>`, or a name of the namespace that is meant.
fn request(args: &Stat) -> api::LoadsRequest {
    let own = match args.scope.all_namespaces {
        true => String::new(),
        false => args.scope.namespace.clone(),
    };
    let named = |text: &Option<String>| match text.as_deref() {
        None => (String::new(), String::new()),
        Some(text) => match text.split_once('/') {
            Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
            None => (own.clone(), text.to_owned()),
        },
    };
    let ((mut client_namespace, mut client), (mut service_namespace, mut service)) =
        (named(&args.from), named(&args.to));
    let name = args.what.name.clone();
    match args.what.end {
        End::Service => {
            (service_namespace, service) = subject(&own, name, (service_namespace, service));
        }
        End::Workload => {
            (client_namespace, client) = subject(&own, name, (client_namespace, client));
        }
    }
    api::LoadsRequest {
        window_seconds: args.time_window,
        service_namespace,
        service,
        client_namespace,
        client,
    }
}

/// What the lines are about, unless `--from` or `--to` names the same end.
fn subject(own: &str, name: Option<String>, flag: (String, String)) -> (String, String) {
    match name {
        Some(name) => (own.to_owned(), name),
        None if flag.1.is_empty() => (own.to_owned(), String::new()),
        None => flag,
    }
}

fn for_programs(answer: api::LoadsResponse) -> Answer {
    let load = |load: api::Load| {
        let mut sum = Sum::default();
        sum.add(&load);
        Load {
            rates: sum.rates(),
            service: load.service,
            port: load.port,
            client: load.client,
            kind: load.kind,
            issued: load.issued,
            succeeded: load.succeeded,
            failed: load.failed,
            dropped: load.dropped,
            in_progress: load.in_progress,
            connections_opened: load.connections_opened,
            connections_failed: load.connections_failed,
            connections_open: load.connections_open,
            measured_seconds: seconds(load.measured_millis),
        }
    };
    let reporter = |one: api::Reporter| Reporter {
        age_seconds: one.reports.then(|| seconds(one.age_millis)),
        client: one.client,
        kind: one.kind,
        reports: one.reports,
    };
    Answer {
        window_seconds: answer.window_seconds,
        loads: answer.loads.into_iter().map(load).collect(),
        reporters: answer.reporters.into_iter().map(reporter).collect(),
        silent_controllers: answer.silent_controllers,
        full_controllers: answer.full_controllers,
    }
}

fn seconds(millis: u64) -> f64 {
    millis as f64 / 1_000.0
}

/// Whose word the table is, and what is missing in it.
fn remarks(answer: &api::LoadsResponse) -> Vec<String> {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let mut mute = Vec::new();
    for reporter in &answer.reporters {
        match reporter.reports {
            true => *kinds.entry(&reporter.kind).or_default() += 1,
            false => mute.push(format!("{} ({})", reporter.client, reporter.kind)),
        }
    }
    let counts = kinds.iter().map(|(kind, count)| format!("{count} {kind}"));
    let counts: Vec<String> = counts.collect();
    let window = answer.window_seconds;
    let mut remarks = vec![match counts.is_empty() {
        true => format!("nobody has reported anything within {window} s"),
        false => format!("the last {window} s, as reported by {}", counts.join(", ")),
    }];
    if !mute.is_empty() {
        let more = match mute.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        mute.truncate(NAMED);
        remarks.push(format!(
            "connected, but without a report: {}{more}",
            mute.join(", ")
        ));
    }
    for controller in &answer.silent_controllers {
        remarks.push(format!(
            "{controller} does not answer: what was reported to it is missing"
        ));
    }
    for controller in &answer.full_controllers {
        remarks.push(format!(
            "{controller} had no room for all that was reported to it: something is missing"
        ));
    }
    remarks
}

/// A line a service's port, or a client; each pair of them apart where that is asked for.
fn table(end: End, apart: bool, loads: &[api::Load]) -> Rows {
    let mut lines: BTreeMap<(String, String), Sum> = BTreeMap::new();
    for load in loads {
        let service = format!("{}:{}", load.service, load.port);
        let client = match load.client.as_str() {
            "" => "(other namespaces)".to_owned(),
            name => name.to_owned(),
        };
        let key = match (end, apart) {
            (End::Service, false) => (service, String::new()),
            (End::Service, true) => (service, client),
            (End::Workload, false) => (client, String::new()),
            (End::Workload, true) => (client, service),
        };
        lines.entry(key).or_default().add(load);
    }
    let (own, other) = match end {
        End::Service => ("service", "from"),
        End::Workload => ("workload", "to"),
    };
    let columns = [own, "success", "rps", "mean", "in progress", "tcp_conn"];
    let mut rows =
        Rows::new(columns).wide([other, "ok", "failed", "dropped", "tcp opened", "tcp failed"]);
    for ((name, other), sum) in &lines {
        rows.push(cells(name, other, sum));
    }
    rows
}

fn cells(name: &str, other: &str, sum: &Sum) -> [String; 12] {
    let rates = sum.rates();
    let shown = |value: Option<f64>, show: &dyn Fn(f64) -> String| {
        value.map_or_else(|| "-".to_owned(), show)
    };
    let request = |count: u64| match sum.has_requests() {
        true => count.to_string(),
        false => "-".to_owned(),
    };
    let connection = |count: u64| match sum.has_connections() {
        true => count.to_string(),
        false => "-".to_owned(),
    };
    [
        name.to_owned(),
        shown(rates.success_rate, &|rate| format!("{:.2}%", rate * 100.0)),
        shown(rates.requests_per_second, &|rate| format!("{rate:.1}")),
        shown(rates.mean_answer_seconds, &|time| {
            format!("{:.1}ms", time * 1_000.0)
        }),
        request(sum.in_progress),
        connection(sum.open),
        other.to_owned(),
        request(sum.succeeded),
        request(sum.failed),
        request(sum.dropped),
        connection(sum.opened),
        connection(sum.unopened),
    ]
}

#[cfg(test)]
mod tests;

//! How the health of a port is asked for.

use super::fields::Fields;
use super::values::span;
use serde::Serialize;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Shorter would be load, longer would not notice.
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
/// More checks than these would damp a failure away.
const CHECKS: RangeInclusive<u64> = 1..=20;
/// What goes further belongs into a script.
const WORDS: usize = 64;
/// Longer than any name of a service in a `.proto`.
const SERVICE: usize = 256;
/// The forms of a question, in the order in which they are named when several stand together.
const FORMS: [&str; 4] = ["http", "grpc", "exec", "tcp"];

/// How a port's health is found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// What is asked.
    #[serde(flatten)]
    pub probe: Probe,
    /// From the end of one check to the next; at most a second while the application does not serve.
    #[serde(serialize_with = "span")]
    pub interval: Duration,
    /// How long one check may take.
    #[serde(serialize_with = "span")]
    pub timeout: Duration,
    /// Successes in a row until it counts as healthy.
    pub healthy_after: u32,
    /// Failures in a row until it counts as unhealthy.
    pub unhealthy_after: u32,
}

/// One health question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// A connection is accepted.
    Tcp {},
    /// `GET path` is answered with 200 to 399.
    Http {
        /// Begins with `/`.
        path: String,
    },
    /// `grpc.health.v1.Health/Check` over plain HTTP/2 is answered with `SERVING`.
    Grpc {
        /// Whose health is asked for. Empty: the server's as a whole.
        service: String,
    },
    /// A command ends with exit code 0.
    Exec {
        /// The program and its arguments; there is no shell between.
        command: Vec<String>,
    },
}

impl HealthCheck {
    /// Reads an absent mapping as a TCP check with defaults; the caller drops that.
    pub(super) fn read(mut fields: Fields<'_>) -> Option<Self> {
        let probe = Probe::read(&mut fields);
        let interval = fields.duration("interval", INTERVAL);
        let interval = interval.unwrap_or(Duration::from_secs(5));
        let timeout = fields.duration("timeout", TIMEOUT);
        let timeout = timeout.unwrap_or(interval.min(Duration::from_secs(1)));
        let healthy_after = fields.number("healthyAfter", CHECKS).unwrap_or(1);
        let unhealthy_after = fields.number("unhealthyAfter", CHECKS).unwrap_or(3);
        fields.finish();
        Some(Self {
            probe,
            interval,
            timeout,
            healthy_after: u32::try_from(healthy_after).ok()?,
            unhealthy_after: u32::try_from(unhealthy_after).ok()?,
        })
    }
}

impl Probe {
    /// All forms are read, so that every mistake in them is found; a TCP check where none is named.
    fn read(fields: &mut Fields<'_>) -> Self {
        let named: Vec<&str> = FORMS.into_iter().filter(|form| fields.has(form)).collect();
        if let [first, others @ ..] = named.as_slice()
            && !others.is_empty()
        {
            let text = format!("cannot stand beside {}; keep one", others.join(" and "));
            fields.problem(first, text);
        }
        let http = read_http(fields.mapping("http"));
        let grpc = read_grpc(fields.mapping("grpc"));
        let exec = read_exec(fields.mapping("exec"), named.contains(&"exec"));
        fields.mapping("tcp").finish();
        match named.first() {
            Some(&"http") => http,
            Some(&"grpc") => grpc,
            Some(&"exec") => exec,
            _ => Self::Tcp {},
        }
    }
}

fn read_http(mut fields: Fields<'_>) -> Probe {
    let path = fields.text::<String>("path").unwrap_or_else(|| "/".into());
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        let text = format!("{path:?}: must begin with / and be plain ASCII");
        fields.problem("path", text);
    }
    fields.finish();
    Probe::Http { path }
}

fn read_grpc(mut fields: Fields<'_>) -> Probe {
    let service = fields.text::<String>("service").unwrap_or_default();
    if service.len() > SERVICE || !service.bytes().all(|byte| byte.is_ascii_graphic()) {
        let text = format!("{service:?}: must be plain ASCII of at most {SERVICE} bytes");
        fields.problem("service", text);
    }
    fields.finish();
    Probe::Grpc { service }
}

fn read_exec(mut fields: Fields<'_>, named: bool) -> Probe {
    let command: Vec<String> = fields.texts("command").unwrap_or_default();
    for text in wrong_command(&command).filter(|_| named) {
        fields.problem("command", text);
    }
    fields.finish();
    Probe::Exec { command }
}

fn wrong_command(command: &[String]) -> impl Iterator<Item = String> {
    let program = command.first().map_or("", String::as_str);
    let relative = program.contains('/') && !program.starts_with('/');
    let wrong = [
        program
            .is_empty()
            .then(|| "must name a program, and then its arguments".to_owned()),
        relative.then(|| {
            format!("{program:?}: must be an absolute path, or a name that is looked for in PATH")
        }),
        (command.len() == 1 && program.contains(' ')).then(|| {
            format!("{program:?}: must be a list of words; there is no shell that takes it apart")
        }),
        (command.len() > WORDS).then(|| format!("has {} words, at most {WORDS}", command.len())),
        command
            .iter()
            .any(|word| word.contains('\0'))
            .then(|| "must not hold a zero byte".to_owned()),
    ];
    wrong.into_iter().flatten()
}

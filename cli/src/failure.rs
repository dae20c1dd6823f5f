//! What can go wrong, as the user sees it: one message, what to do next, and one documented exit code.

use std::fmt;

use prost::Message;
use tonic::{Code, Status};
use xds_api::generated::google::rpc;
use xds_api::generated::maille::v1 as api;

/// The exit codes of `maille`, all of them. They are part of the interface: scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The command could not do what it was asked, or a check failed.
    Failed = 1,
    /// The command line itself is wrong.
    Usage = 2,
    /// The named object, member, token or file does not exist.
    NotFound = 3,
    /// The input was read and refused: the message says where and why.
    Refused = 4,
    /// No controller could be reached, or those reached have no quorum.
    Unreachable = 5,
    /// The caller is not known or not allowed.
    Denied = 6,
    /// Ended by a signal.
    Interrupted = 130,
}

/// The text that `maille --help` shows about exit codes.
pub const EXIT_CODES: &str = "Exit codes: 0 done; 1 failed, or a check did not pass; 2 wrong command line; 3 not found; 4 input refused; \
                              5 no controller reachable or no quorum; 6 not allowed; 130 interrupted. `maille envoy run` ends with Envoy's own code.";

/// A failed command: what was attempted, why it failed, what to do next.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    places: Vec<Place>,
    next: Option<String>,
    source: Option<anyhow::Error>,
    code: Option<u8>,
}

/// One mistake in an input file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `file:line:column`, as far as known.
    pub position: String,
    /// The line it stands on, where the input is at hand, and the column from 1.
    pub line: Option<(String, usize)>,
    /// The field's path, may be empty.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// What commands return.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure with a message that starts with what was attempted.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure {
            exit,
            message: message.into(),
            places: Vec::new(),
            next: None,
            source: None,
            code: None,
        }
    }

    /// The usual failure: exit code 1.
    pub fn failed(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Failed, message)
    }

    /// Adds what the user can do about it; printed last.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Failure {
        self.next = Some(next.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<anyhow::Error>) -> Failure {
        self.source = Some(source.into());
        self
    }

    /// Adds mistakes found in input files.
    #[must_use]
    pub fn at(mut self, places: Vec<Place>) -> Failure {
        self.places = places;
        self
    }

    /// Ends the process with a code that is not ours: that of a program which was run.
    #[must_use]
    pub fn with_code(mut self, code: u8) -> Failure {
        self.code = Some(code);
        self
    }

    /// What kind of failure it is.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The code the process ends with.
    pub fn code(&self) -> u8 {
        self.code.unwrap_or(self.exit as u8)
    }

    /// Turns a controller's refusal into words. `doing` says what was attempted; `documents` are the inputs, for quoting lines.
    pub fn from_status(doing: &str, status: &Status, documents: &[api::Document]) -> Failure {
        let (exit, next) = meaning(status.code());
        let places = problems(status)
            .into_iter()
            .map(|problem| Place::of(problem, documents))
            .collect::<Vec<_>>();
        let failure = Failure::new(exit, format!("{doing}: {}", status.message()));
        let failure = match next {
            Some(next) if places.is_empty() => failure.next(next),
            _ => failure,
        };
        failure.at(places)
    }
}

/// The one place that maps a controller's status to an exit code and a remedy.
fn meaning(code: Code) -> (Exit, Option<&'static str>) {
    match code {
        Code::NotFound => (
            Exit::NotFound,
            Some("`maille get KIND -A` lists what there is"),
        ),
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::AlreadyExists
        | Code::OutOfRange => (Exit::Refused, None),
        Code::Unavailable | Code::DeadlineExceeded | Code::Aborted => (
            Exit::Unreachable,
            Some(
                "`maille status` shows which controllers answer and who leads; a quorum of voters must be up",
            ),
        ),
        Code::PermissionDenied | Code::Unauthenticated => (
            Exit::Denied,
            Some("check that --admin names a directory whose client.crt is valid for this cluster"),
        ),
        _ => (Exit::Failed, Some("the controller's log says more")),
    }
}

fn problems(status: &Status) -> Vec<api::Problem> {
    let Ok(details) = rpc::Status::decode(status.details()) else {
        return Vec::new();
    };
    details
        .details
        .iter()
        .filter(|any| any.type_url.ends_with("maille.v1.Problems"))
        .filter_map(|any| api::Problems::decode(any.value.clone()).ok())
        .flat_map(|list| list.problems)
        .collect()
}

impl Place {
    fn of(problem: api::Problem, documents: &[api::Document]) -> Place {
        let line = documents
            .iter()
            .find(|document| document.file == problem.file)
            .filter(|_| problem.line > 0)
            .and_then(|document| document.text.lines().nth(problem.line as usize - 1))
            .map(|text| (text.to_string(), problem.column as usize));
        Place {
            position: position(&problem),
            line,
            path: problem.path,
            message: problem.message,
        }
    }
}

fn position(problem: &api::Problem) -> String {
    match (problem.line, problem.column) {
        (0, _) => problem.file.clone(),
        (line, 0) => format!("{}:{line}", problem.file),
        (line, column) => format!("{}:{line}:{column}", problem.file),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.position)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}", self.message)?;
        if let Some((text, column)) = &self.line {
            write!(f, "\n  | {text}")?;
            if *column > 0 {
                write!(f, "\n  | {:>width$}", "^", width = *column)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        for cause in self.source.iter().flat_map(|source| source.chain()) {
            write!(f, ": {cause}")?;
        }
        for place in &self.places {
            write!(f, "\n{place}")?;
        }
        if let Some(next) = &self.next {
            write!(f, "\n{next}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use xds_api::generated::google::protobuf;

    use super::*;

    fn refused(problems: Vec<api::Problem>) -> Status {
        let value = api::Problems { problems }.encode_to_vec();
        let details = vec![protobuf::Any {
            type_url: "type.googleapis.com/maille.v1.Problems".into(),
            value: value.into(),
        }];
        let body = rpc::Status {
            code: 3,
            message: "1 problem".into(),
            details,
        }
        .encode_to_vec();
        Status::with_details(Code::InvalidArgument, "1 problem", body.into())
    }

    #[test]
    fn a_refusal_quotes_the_line_and_points_at_the_column() {
        let text = "kind: Service\nspec:\n  portz: []\n";
        let documents = [api::Document {
            file: "a.yaml".into(),
            text: text.into(),
        }];
        let problem = api::Problem {
            file: "a.yaml".into(),
            line: 3,
            column: 3,
            path: "spec.portz".into(),
            message: "unknown field; did you mean `ports`?".into(),
        };
        let failure = Failure::from_status("apply", &refused(vec![problem]), &documents);
        assert_eq!(failure.exit(), Exit::Refused);
        assert_eq!(
            failure.to_string(),
            "apply: 1 problem\na.yaml:3:3: spec.portz: unknown field; did you mean `ports`?\n  |   portz: []\n  |   ^"
        );
    }

    #[test]
    fn a_position_outside_the_file_is_told_without_a_quotation() {
        let documents = [api::Document {
            file: "a.yaml".into(),
            text: "kind: x\n".into(),
        }];
        let problem = api::Problem {
            file: "a.yaml".into(),
            line: 99,
            column: 1,
            path: String::new(),
            message: "ended early".into(),
        };
        let failure = Failure::from_status("apply", &refused(vec![problem]), &documents);
        assert_eq!(
            failure.to_string(),
            "apply: 1 problem\na.yaml:99:1: ended early"
        );
    }

    #[test]
    fn every_status_has_an_exit_code() {
        let check = |code: Code, exit: Exit| {
            assert_eq!(
                Failure::from_status("x", &Status::new(code, "y"), &[]).exit(),
                exit,
                "{code:?}"
            );
        };
        check(Code::NotFound, Exit::NotFound);
        check(Code::InvalidArgument, Exit::Refused);
        check(Code::FailedPrecondition, Exit::Refused);
        check(Code::Unavailable, Exit::Unreachable);
        check(Code::DeadlineExceeded, Exit::Unreachable);
        check(Code::PermissionDenied, Exit::Denied);
        check(Code::Unauthenticated, Exit::Denied);
        check(Code::Internal, Exit::Failed);
    }
}

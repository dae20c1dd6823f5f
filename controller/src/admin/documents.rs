//! From documents to a command, and from a refusal back to the lines that it is about. Pure.

use bytes::Bytes;
use prost::{Message, Name as _};
use tonic::{Code, Status};
use xds_api::generated::{
    google::{protobuf::Any, rpc},
    maille::v1 as api,
};

use super::Author;
use crate::{
    agreement::refusal_status,
    language::{self, Problem, Written, kind},
    model::{
        Applied, Command, Kind, Mesh, Name, ObjectKey, Refusal, RefusalCode, State,
        command::{DeleteObject, PutObject, WriteObjects},
        kinds::metadata::DEFAULT_NAMESPACE,
        mesh::settings_name,
    },
    xds::capabilities,
};

/// Text of one request: what a person writes is far below it, and reading is linear in it.
const TEXT_BYTES: usize = 16 * 1024 * 1024;
/// Problems in one answer: more are not read, and an answer has to fit into a header block.
const PROBLEMS: usize = 100;

/// What a request would write, and where each part of it was written down.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) write: WriteObjects,
    pub(super) warnings: Vec<String>,
    written: Vec<Written>,
}

/// Documents to put.
pub(super) fn puts(documents: &[api::Document]) -> Result<Plan, Status> {
    let (written, warnings) = read(documents)?;
    let put = |written: &Written| PutObject {
        key: written.key.clone(),
        json: written.object.to_json(),
        expected: None,
    };
    let write = WriteObjects {
        puts: written.iter().map(put).collect(),
        deletes: Vec::new(),
    };
    Ok(Plan {
        write,
        warnings,
        written,
    })
}

/// A reference, or documents, to delete.
pub(super) fn deletes(request: &api::DeleteRequest) -> Result<Plan, Status> {
    if request.documents.is_empty() {
        let kind = one_kind(&request.kind)?;
        if request.name.is_empty() {
            return Err(Status::invalid_argument(
                "which one? Give a name beside the kind",
            ));
        }
        let key = ObjectKey::new(kind, place(kind, &request.namespace, &request.name));
        return Ok(deletion([key].into(), Vec::new()));
    }
    // What a document says is of no matter here, but one that is wrong may name something else than is meant.
    let (written, _) = read(&request.documents)?;
    let keys = written.iter().map(|written| written.key.clone()).collect();
    Ok(deletion(keys, written))
}

fn deletion(keys: Vec<ObjectKey>, written: Vec<Written>) -> Plan {
    let deletes = keys
        .into_iter()
        .map(|key| DeleteObject {
            key,
            expected: None,
        })
        .collect();
    let write = WriteObjects {
        puts: Vec::new(),
        deletes,
    };
    Plan {
        write,
        warnings: Vec::new(),
        written,
    }
}

fn read(documents: &[api::Document]) -> Result<(Vec<Written>, Vec<String>), Status> {
    let bytes: usize = documents.iter().map(|document| document.text.len()).sum();
    if bytes > TEXT_BYTES {
        let message = format!(
            "the documents have {bytes} bytes; apply them in parts of at most {TEXT_BYTES}"
        );
        return Err(Status::resource_exhausted(message));
    }
    let reading = language::read(
        documents
            .iter()
            .map(|document| (document.file.as_str(), document.text.as_str())),
    );
    if !reading.problems.is_empty() {
        return Err(refused(reading.problems));
    }
    if reading.objects.is_empty() {
        return Err(Status::invalid_argument(
            "there is no object in what was given; check the file",
        ));
    }
    Ok((
        reading.objects,
        reading.warnings.iter().map(ToString::to_string).collect(),
    ))
}

impl Plan {
    /// Demands that all of it is within an author's reach.
    pub(super) fn check(&self, author: &Author) -> Result<(), Status> {
        let puts = self.write.puts.iter().map(|put| &put.key);
        let deletes = self.write.deletes.iter().map(|delete| &delete.key);
        puts.chain(deletes)
            .try_for_each(|key| author.must_reach(&key.name.namespace))
    }

    /// Its command.
    pub(super) fn command(&self) -> Command {
        Command::WriteObjects(self.write.clone())
    }

    /// What clients of this mesh do otherwise than it is written.
    pub(super) fn differences(&self, mesh: &Mesh) -> Vec<String> {
        let of = |written: &Written| {
            let found = capabilities::warnings(mesh, &written.object).into_iter();
            let problems = found.map(|(path, text)| written.problem(&path, text).to_string());
            problems.collect::<Vec<_>>()
        };
        self.written.iter().flat_map(of).collect()
    }

    /// What the state would answer. `apply` itself says so, on a copy that is thrown away.
    pub(super) fn try_on(&self, state: &State, author: &str) -> Applied {
        state.tried(author, self.command()).1
    }

    /// A refusal as the caller sees it: with the places in the documents that it is about.
    pub(super) fn status(&self, refusal: &Refusal) -> Status {
        if refusal.code() != RefusalCode::Relations {
            return refusal_status(refusal);
        }
        let problems = refusal.problems.iter().map(|problem| {
            match self
                .written
                .iter()
                .find(|written| written.key == problem.key)
            {
                Some(written) => written.problem(&problem.path, problem.message.as_str()),
                None => Problem {
                    file: problem.key.to_string(),
                    position: language::node::Position::default(),
                    path: problem.path.clone(),
                    message: problem.message.clone(),
                },
            }
        });
        refused(problems.collect())
    }
}

/// INVALID_ARGUMENT with everything that is wrong in its details, as `maille.v1.Problems`.
fn refused(mut problems: Vec<Problem>) -> Status {
    problems.sort();
    let count = problems.len();
    let message = match problems.as_slice() {
        [only] => only.to_string(),
        [first, ..] => format!("{count} problems; the first: {first}"),
        [] => "nothing was written".to_owned(),
    };
    let problems = problems
        .into_iter()
        .take(PROBLEMS)
        .map(|problem| api::Problem {
            file: problem.file,
            line: problem.position.line,
            column: problem.position.column,
            path: problem.path,
            message: problem.message,
        });
    let details = Any {
        type_url: api::Problems::type_url(),
        value: api::Problems {
            problems: problems.collect(),
        }
        .encode_to_vec()
        .into(),
    };
    let status = rpc::Status {
        code: Code::InvalidArgument as i32,
        message: message.clone(),
        details: vec![details],
    };
    Status::with_details(
        Code::InvalidArgument,
        message,
        Bytes::from(status.encode_to_vec()),
    )
}

/// One kind by any usual form of its name.
pub(super) fn one_kind(name: &str) -> Result<Kind, Status> {
    kind::by_alias(name).ok_or_else(|| Status::invalid_argument(kind::unknown_alias(name)))
}

/// Where an object lives: the one `MeshSettings` has a namespace of its own, and others are in `default` unless told.
pub(super) fn place(kind: Kind, namespace: &str, name: &str) -> Name {
    if kind == Kind::MeshSettings {
        return Name::new(settings_name().namespace, name);
    }
    Name::new(
        if namespace.is_empty() {
            DEFAULT_NAMESPACE
        } else {
            namespace
        },
        name,
    )
}

/// What became of each object.
pub(super) fn results(applied: &Applied) -> Vec<api::ObjectResult> {
    let result = |outcome: &crate::model::ObjectOutcome| api::ObjectResult {
        kind: outcome.key.kind().name().to_owned(),
        namespace: outcome.key.name.namespace.clone(),
        name: outcome.key.name.name.clone(),
        outcome: outcome.outcome,
    };
    applied.objects.iter().map(result).collect()
}

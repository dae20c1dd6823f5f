//! What is wrong, where, and what to do.

use std::fmt;

use super::node::Position;

/// Something that is wrong, or (as a warning) probably not meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file's name as the user gave it.
    pub file: String,
    /// Where in it; line 0: nowhere in particular.
    pub position: Position,
    /// The field's path, for example `spec.rules[0].backendRefs[1].weight`; may be empty.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.position.line > 0 {
            write!(f, ":{}:{}", self.position.line, self.position.column)?;
        }
        if self.path.is_empty() {
            write!(f, ": {}", self.message)
        } else {
            write!(f, ": {}: {}", self.path, self.message)
        }
    }
}

/// Finds in one document, before they are given the file's name.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<Finding>,
    pub(super) warnings: Vec<Finding>,
}

/// A problem in one document.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) position: Position,
    pub(super) path: String,
    pub(super) message: String,
}

impl Finding {
    pub(super) fn in_file(self, file: &str) -> Problem {
        Problem {
            file: file.to_owned(),
            position: self.position,
            path: self.path,
            message: self.message,
        }
    }
}

impl Findings {
    pub(super) fn error(
        &mut self,
        position: Position,
        path: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.errors.push(Finding {
            position,
            path: path.into(),
            message: message.into(),
        });
    }

    pub(super) fn warning(
        &mut self,
        position: Position,
        path: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.warnings.push(Finding {
            position,
            path: path.into(),
            message: message.into(),
        });
    }
}

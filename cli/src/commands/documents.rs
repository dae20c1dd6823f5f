//! Reads what `-f` names: files, folders, standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use xds_api::generated::maille::v1 as api;

use crate::failure::{Exit, Failure, Outcome};

/// The largest sum of all inputs: far above any mesh written by hand, and below what one message to a controller may be.
const INPUT_LIMIT: usize = 32 << 20;

/// Reads every named input, in the order given; a folder's files in the order of their names.
///
/// # Errors
/// An input is missing, empty as a whole, too large, or not text.
pub(super) fn read(names: &[PathBuf]) -> Outcome<Vec<api::Document>> {
    let mut documents = Vec::new();
    for name in names {
        if name == Path::new("-") {
            documents.push(standard_input()?);
        } else if name.is_dir() {
            documents.extend(folder(name)?);
        } else {
            documents.push(file(name)?);
        }
    }
    let size = documents
        .iter()
        .map(|document| document.text.len())
        .sum::<usize>();
    if size > INPUT_LIMIT {
        let message =
            format!("the input has {size} bytes; at most {INPUT_LIMIT} can be written at once");
        return Err(Failure::new(Exit::Refused, message).next("apply it in parts"));
    }
    Ok(documents)
}

fn standard_input() -> Outcome<api::Document> {
    let mut text = String::new();
    // One byte more than allowed, so that too much is seen and not cut.
    std::io::stdin()
        .lock()
        .take(INPUT_LIMIT as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| Failure::failed("read standard input").caused_by(error))?;
    Ok(api::Document {
        file: "-".into(),
        text,
    })
}

fn folder(name: &Path) -> Outcome<Vec<api::Document>> {
    let entries = std::fs::read_dir(name).map_err(|error| unreadable(name, error))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unreadable(name, error))?;
    paths.retain(|path| is_text(path));
    paths.sort();
    if paths.is_empty() {
        let message = format!("{} holds no *.yaml, *.yml or *.json file", name.display());
        return Err(
            Failure::new(Exit::NotFound, message).next("sub-folders are not searched; name each")
        );
    }
    paths.iter().map(|path| file(path)).collect()
}

fn is_text(path: &Path) -> bool {
    let known = |extension| matches!(extension, "yaml" | "yml" | "json");
    path.is_file()
        && path
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(known)
}

fn file(name: &Path) -> Outcome<api::Document> {
    let text = std::fs::read_to_string(name).map_err(|error| unreadable(name, error))?;
    Ok(api::Document {
        file: name.display().to_string(),
        text,
    })
}

fn unreadable(name: &Path, error: std::io::Error) -> Failure {
    let exit = if error.kind() == std::io::ErrorKind::NotFound {
        Exit::NotFound
    } else {
        Exit::Failed
    };
    Failure::new(exit, format!("read {}", name.display())).caused_by(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_is_read_by_name_and_only_its_objects() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.json", "c.txt", "d.yml"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let documents = read(&[folder.path().to_path_buf()]).unwrap();
        let texts = documents
            .iter()
            .map(|document| document.text.as_str())
            .collect::<Vec<_>>();
        assert_eq!(texts, ["a.json", "b.yaml", "d.yml"]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let check = |name: PathBuf, exit: Exit| {
            let failure = read(std::slice::from_ref(&name)).unwrap_err();
            assert_eq!(failure.exit(), exit);
            assert!(
                failure.to_string().contains(&name.display().to_string()),
                "{failure}"
            );
        };
        check(PathBuf::from("/nonexistent/a.yaml"), Exit::NotFound);
        let folder = tempfile::tempdir().unwrap();
        check(folder.path().to_path_buf(), Exit::NotFound);
    }
}

//! Finds the other binaries of Maille: they are installed beside this one.

use std::path::PathBuf;

use crate::failure::{Exit, Failure, Outcome};

/// The path of another binary of the same installation.
///
/// # Errors
/// It is not there: the installation is incomplete.
pub fn binary(name: &str) -> Outcome<PathBuf> {
    let own = std::env::current_exe()
        .map_err(|error| Failure::failed("find the path of this binary").caused_by(error))?;
    let path = own.with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    let message = format!("{name} is not beside {}", own.display());
    let next = "install all four binaries (maille, maille-controller, maille-proxy, maille-init) in one folder; `make dev` builds them";
    Err(Failure::new(Exit::NotFound, message).next(next))
}

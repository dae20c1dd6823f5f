//! Keeping what the process holds to itself: no core files, no reading of its memory, no files that others can read.

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask,
};
use tracing::warn;

/// Neither is worth refusing to start for: where the kernel says no, the log says so.
pub(super) fn apply() {
    // The log holds hashes of tokens and ciphertexts of keys: for the controller's user only.
    umask(Mode::RWXG | Mode::RWXO);
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(failure) = setrlimit(Resource::Core, none) {
        warn!(%failure, "could not switch core files off; one would hold keys");
    }
    if let Err(failure) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        warn!(%failure, "could not make the process undumpable; others of its user could read keys in its memory");
    }
}

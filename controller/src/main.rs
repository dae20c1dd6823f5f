//! `maille-controller`: the command line over `maille_controller::app`.

use std::process::ExitCode;

/// A write makes and drops many small values on several threads, in which the system's allocator spent a quarter of a busy controller's
/// time. Its settings stand in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    maille_controller::app::main()
}

//! `maille-controller`: the command line over `maille_controller::app`.

use std::process::ExitCode;

fn main() -> ExitCode {
    maille_controller::app::main()
}

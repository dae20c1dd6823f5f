//! `maille completions`: the shell's completion script.

use clap::CommandFactory;

use crate::args::Arguments;
use crate::args::operate::Completions;
use crate::failure::Outcome;
use crate::printer::data;

pub(super) fn run(args: &Completions) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Arguments::command(), "maille", &mut script);
    data(&String::from_utf8_lossy(&script))
}

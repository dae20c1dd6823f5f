//! Prints the manual of the command line: `cargo run -p maille --example reference > docs/cli.md`.

fn main() {
    print!("{}", maille::reference::markdown());
}

//! Writes `src/generated/` anew from `proto/`: `cargo run -p xds-api --example generate`.

mod code;

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = root.join("src/generated");
    std::fs::remove_dir_all(&target)?;
    std::fs::create_dir_all(&target)?;
    code::generate(&root.join("proto"), &target)
}

//! The checked-in code is what the protos say.

#![allow(clippy::unwrap_used)]

#[path = "../examples/generate/code.rs"]
mod code;

use std::collections::BTreeMap;
use std::path::Path;

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(&path).unwrap())
        })
        .collect()
}

#[test]
fn generating_anew_changes_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("generated");
    if target.exists() {
        std::fs::remove_dir_all(&target).unwrap();
    }
    std::fs::create_dir_all(&target).unwrap();
    code::generate(&root.join("proto"), &target).unwrap();
    let fresh = contents(&target);
    let kept = contents(&root.join("src/generated"));
    let remedy = "run `cargo run -p xds-api --example generate`";
    assert_eq!(
        fresh.keys().collect::<Vec<_>>(),
        kept.keys().collect::<Vec<_>>(),
        "files differ: {remedy}"
    );
    for (name, bytes) in &fresh {
        assert!(
            kept[name] == *bytes,
            "src/generated/{name} is stale: {remedy}"
        );
    }
}

//! How the Rust code of `proto/` is made; shared by the example that writes it and the test that compares it.

use std::error::Error;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use prost::Message;

/// The file that nests the packages' files in modules; `src/generated.rs` includes it.
const TREE: &str = "tree.rs";

/// What the messages are, for whoever reads them without their types: an encoded `FileDescriptorSet`.
const DESCRIPTORS: &str = "descriptors.bin";

/// Compiles every `.proto` below `protos` to one Rust file per package in `target`, which must exist, and to descriptors.
///
/// Maps are `BTreeMap` and byte fields `Bytes`: one value has one encoding, and a payload is shared, not copied.
/// Google's own types come from `protos` too, so that `Any.value` is `Bytes` like everything else.
pub(crate) fn generate(protos: &Path, target: &Path) -> Result<(), Box<dyn Error>> {
    let mut files = Vec::new();
    collect(protos, &mut files)?;
    files.sort();
    let descriptors = protox::compile(&files, [protos])?;
    let mut bare = descriptors.clone();
    bare.file
        .iter_mut()
        .for_each(|file| file.source_code_info = None);
    std::fs::write(target.join(DESCRIPTORS), bare.encode_to_vec())?;
    let mut config = tonic_prost_build::Config::new();
    config
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com");
    tonic_prost_build::configure()
        .out_dir(target)
        .include_file(TREE)
        .btree_map(".")
        .bytes(".")
        .compile_well_known_types(true)
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}

/// Every `.proto` file below `folder`.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension() == Some(OsStr::new("proto")) {
            files.push(path);
        }
    }
    Ok(())
}

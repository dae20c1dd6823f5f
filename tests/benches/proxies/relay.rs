//! The bare relay as a pair: an HTTP/1 pair and an HTTP/2 pair, since it does not look at what it carries.

use std::net::SocketAddr;
use std::path::Path;

use maille_tests::ports;

use crate::pair::Pair;

/// Starts both pairs in front of `backend`.
pub(crate) fn start(directory: &Path, backend: SocketAddr) -> anyhow::Result<Pair> {
    let program = Path::new(env!("CARGO_BIN_EXE_bare-relay"));
    let certificates = directory.to_string_lossy();
    let (http1, grpc) = (ports::free(), ports::free());
    let mut pair = Pair::new("bare relay", http1, grpc);
    for (protocol, entry) in [("http1", http1), ("http2", grpc)] {
        let mesh = ports::free().to_string();
        let (backend, entry) = (backend.to_string(), entry.to_string());
        pair.spawn(
            program,
            &["server", protocol, &mesh, &backend, &certificates],
        )?;
        pair.spawn(program, &["client", protocol, &entry, &mesh, &certificates])?;
    }
    Ok(pair)
}

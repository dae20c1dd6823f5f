//! The Unix socket: for its own user alone, put in the place of one that a dead process left, taken away at the end.

use rustix::fs::{FileType, Mode, Stat};
use socket2::{Domain, SockAddr, SockRef, Type};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;
use tracing::warn;

/// Connections that wait to be accepted. A program opens one or two.
const BACKLOG: i32 = 64;

/// There can be no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Something else has the path.
    #[error("{path} is there and is no socket; set agent.socket to another path")]
    Other {
        /// The path.
        path: PathBuf,
    },
    /// Another agent serves there.
    #[error("another process serves {path}; set agent.socket to another path, or end that one")]
    Taken {
        /// The path.
        path: PathBuf,
    },
    /// The system said no.
    #[error("cannot {doing} the socket {path}")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A listening socket. Its path is gone when this is dropped, unless another process has put its own there.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of what was bound.
    bound: (u64, u64),
}

impl Socket {
    /// Binds the path, with mode 0600 from the first moment on.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |doing| {
            move |source| SocketError::Io {
                doing,
                path: path.to_owned(),
                source,
            }
        };
        clear(path)?;
        let address = SockAddr::unix(path).map_err(failed("name"))?;
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None);
        let socket = socket.map_err(failed("make"))?;
        socket.set_nonblocking(true).map_err(failed("make"))?;
        socket.bind(&address).map_err(failed("bind"))?;
        // Nobody can connect before `listen`, so nobody comes in before this.
        let private = Mode::RUSR | Mode::WUSR;
        rustix::fs::chmod(path, private)
            .map_err(|error| failed("close to others")(error.into()))?;
        let found = status(path).map_err(failed("look at"))?;
        SockRef::from(&socket)
            .listen(BACKLOG)
            .map_err(failed("listen on"))?;
        let listener = UnixListener::from_std(socket.into()).map_err(failed("watch"))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            bound: identity(&found),
        })
    }

    /// Where connections come from.
    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let own = status(&self.path).is_ok_and(|found| identity(&found) == self.bound);
        if own && let Err(error) = fs::remove_file(&self.path) {
            warn!(path = %self.path.display(), %error, "the socket is left behind");
        }
    }
}

/// Removes what a process that is gone has left.
fn clear(path: &Path) -> Result<(), SocketError> {
    let failed = |doing| {
        move |source| SocketError::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    };
    let found = match status(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at")(error)),
    };
    let path = path.to_owned();
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        return Err(SocketError::Other { path });
    }
    match UnixStream::connect(&path) {
        Ok(_) => Err(SocketError::Taken { path }),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(&path).map_err(failed("remove"))
        }
        Err(error) => Err(failed("try")(error)),
    }
}

fn status(path: &Path) -> io::Result<Stat> {
    Ok(rustix::fs::lstat(path)?)
}

fn identity(status: &Stat) -> (u64, u64) {
    (status.st_dev, status.st_ino)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    #[tokio::test]
    async fn a_socket_is_private_and_gone_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        let socket = Socket::bind(&path).unwrap();
        let found = fs::metadata(&path).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(found.mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        // Closed without being removed, as `kill -9` leaves it.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let living = Socket::bind(&path).unwrap();
        assert!(matches!(
            Socket::bind(&path),
            Err(SocketError::Taken { .. })
        ));
        drop(living);
        fs::write(&path, "a file").unwrap();
        assert!(matches!(
            Socket::bind(&path),
            Err(SocketError::Other { .. })
        ));
    }

    #[tokio::test]
    async fn a_socket_that_another_process_has_put_there_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        let old = Socket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _new = Socket::bind(&path).unwrap();
        drop(old);
        assert!(path.exists());
    }
}

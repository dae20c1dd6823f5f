//! The Unix socket: for its own user alone. One in the file system is put in the place of one that a dead process left, and taken away at the end;
//! an abstract one is a name in the network namespace, without a mode, so that who calls is asked of the kernel.

use crate::net;
use rustix::fs::{FileType, Mode, Stat};
use socket2::{Domain, SockAddr, SockRef, Type};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream as Stream};
use tracing::{debug, warn};

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
    /// Another agent has the name.
    #[error(
        "the abstract socket {name} is in use in this network namespace: another agent has this workload and dataDir, or this agent.socket; end that one, or set agent.socket to another name"
    )]
    InUse {
        /// The name.
        name: String,
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
    /// Device and inode of what was bound; nothing of an abstract one.
    bound: Option<(u64, u64)>,
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
            bound: Some(identity(&found)),
        })
    }

    /// Binds an abstract name; the kernel forgets it with the socket.
    pub fn bind_abstract(name: &str) -> Result<Self, SocketError> {
        let path = PathBuf::from(format!("@{name}"));
        let failed = |doing| {
            let path = path.clone();
            move |source| SocketError::Io {
                doing,
                path,
                source,
            }
        };
        let address = SockAddr::unix(format!("\0{name}")).map_err(failed("name"))?;
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None);
        let socket = socket.map_err(failed("make"))?;
        socket.set_nonblocking(true).map_err(failed("make"))?;
        socket.bind(&address).map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => SocketError::InUse {
                name: name.to_owned(),
            },
            _ => failed("bind")(error),
        })?;
        SockRef::from(&socket)
            .listen(BACKLOG)
            .map_err(failed("listen on"))?;
        let listener = UnixListener::from_std(socket.into()).map_err(failed("watch"))?;
        Ok(Self {
            listener,
            path,
            bound: None,
        })
    }

    /// The next connection of one who may come: a path's mode keeps others off, an abstract name has none.
    pub(super) async fn accept(&self) -> Stream {
        let own = rustix::process::geteuid().as_raw();
        loop {
            let stream = net::accept_local(&self.listener).await;
            match stream.peer_cred().map(|peer| peer.uid()) {
                Ok(uid) if is_welcome(uid, own) => return stream,
                Ok(uid) => {
                    warn!(
                        uid,
                        own, "a caller of another user is refused at the agent's socket"
                    );
                }
                Err(error) => debug!(%error, "a caller was gone before it was known"),
            }
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let Some(bound) = self.bound else {
            return;
        };
        let own = status(&self.path).is_ok_and(|found| identity(&found) == bound);
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

/// Root may read this process's memory, and with it the key.
fn is_welcome(uid: u32, own: u32) -> bool {
    uid == own || uid == 0
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

    #[tokio::test]
    async fn an_abstract_name_is_taken_once_and_free_again_at_the_end() {
        let name = format!("maille-test-{}", std::process::id());
        let socket = Socket::bind_abstract(&name).unwrap();
        let taken = Socket::bind_abstract(&name).unwrap_err();
        assert!(taken.to_string().contains("is in use"), "{taken}");
        drop(socket);
        Socket::bind_abstract(&name).unwrap();
    }

    #[test]
    fn the_own_user_and_root_are_welcome_and_nobody_else() {
        let found = [0, 1000, 1001].map(|uid| is_welcome(uid, 1000));
        assert_eq!(found, [true, true, false]);
    }
}

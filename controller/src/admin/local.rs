//! The local socket: only root and the controller's own user get in, by the kernel's word and not by the file's mode alone.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tracing::warn;

use crate::supervise::Stage;
use crate::tls::Caller;

/// Connections that wait for the server to take them: people at a console.
const READY: usize = 4;
/// After a failed accept: without a pause it would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The socket cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum LocalError {
    /// A process answers there.
    #[error("another process listens at {path}; give each controller its own adminSocket")]
    Taken {
        /// Where.
        path: PathBuf,
    },
    /// Something that is no socket stands there, or the directory refuses.
    #[error("cannot listen at {path}")]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A socket file that goes with its listener.
#[derive(Debug)]
pub(super) struct LocalListener {
    listener: UnixListener,
    path: PathBuf,
}

impl LocalListener {
    /// Binds, in place of a socket that nobody listens at any more.
    pub(super) async fn bind(path: &Path) -> Result<Self, LocalError> {
        let failed = |source: io::Error| LocalError::Listen {
            path: path.to_owned(),
            source,
        };
        if path.exists() {
            if UnixStream::connect(path).await.is_ok() {
                return Err(LocalError::Taken {
                    path: path.to_owned(),
                });
            }
            remove_socket(path).map_err(failed)?;
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Accepts until the stage stops.
    pub(super) fn accept(self, stage: &Stage) -> ReceiverStream<io::Result<LocalConnection>> {
        let (ready, connections) = mpsc::channel(READY);
        let stopping = stage.stopping();
        stage.vital("local admin accept", async move {
            loop {
                let accepted = tokio::select! {
                    () = stopping.cancelled() => return,
                    accepted = self.listener.accept() => accepted,
                };
                match accepted.and_then(|(socket, _)| admit(socket)) {
                    Ok(Some(connection)) => {
                        if ready.send(Ok(connection)).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => {}
                    Err(failure) => {
                        warn!(%failure, "could not accept at the local admin socket");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        });
        ReceiverStream::new(connections)
    }
}

impl Drop for LocalListener {
    fn drop(&mut self) {
        if let Err(failure) = remove_socket(&self.path) {
            warn!(path = %self.path.display(), %failure, "could not remove the local admin socket");
        }
    }
}

fn remove_socket(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "what stands there is no socket",
        ));
    }
    std::fs::remove_file(path)
}

fn admit(socket: UnixStream) -> io::Result<Option<LocalConnection>> {
    let user = socket.peer_cred()?.uid();
    if user != 0 && user != rustix::process::geteuid().as_raw() {
        warn!(
            user,
            "refused a user at the local admin socket; only root may use it"
        );
        return Ok(None);
    }
    Ok(Some(LocalConnection {
        socket,
        caller: Caller::local(user),
    }))
}

/// One connection of a local user.
#[derive(Debug)]
pub(super) struct LocalConnection {
    socket: UnixStream,
    caller: Caller,
}

impl Connected for LocalConnection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for LocalConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for LocalConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

//! The applications of the demo. They know nothing of the mesh: they listen, resolve names as the system says, connect, and count.

mod banner;
pub mod capture;
mod client;
mod connection;
mod fetch;
mod greeter;
mod reply;
pub mod secure;
mod server;
pub mod tally;
mod web;
mod websocket;

pub use banner::GREETED;

use std::os::unix::process::CommandExt;

use crate::args::dev::{App, As};
use crate::failure::{Failure, Outcome};

/// Runs one application until its work is done or its standard input ends: whoever started it holds the other end,
/// so that no application outlives the demo.
///
/// # Errors
/// It could not listen, or the runtime failed.
pub async fn run(app: &App) -> Outcome {
    match app {
        App::Web(args) => web::run(args).await,
        App::Api(args) => server::run(args).await,
        App::Greeter(args) => greeter::run(args).await,
        App::Banner(args) => banner::run(args).await,
        App::Client(args) => client::run(args).await,
        App::Capture(args) => capture::run(args).await,
        App::Fetch(args) => fetch::run(args).await,
        App::As(args) => Err(become_user(args)),
    }
}

/// Replaces this process by another program under another user. Returns only if that failed.
fn become_user(args: &As) -> Failure {
    let mut command = std::process::Command::new(&args.command[0]);
    let error = command
        .args(&args.command[1..])
        .uid(args.uid)
        .gid(args.uid)
        .exec();
    Failure::failed(format!(
        "become user {} and run {}",
        args.uid, args.command[0]
    ))
    .caused_by(error)
}

/// Waits until whoever started this application is gone or has said that it is enough.
async fn released() {
    let (ended, end) = tokio::sync::oneshot::channel();
    // A thread, because a blocking read cannot be given up: it must not hold up the end of the runtime.
    let reading = std::thread::Builder::new()
        .name("stdin".into())
        .spawn(move || {
            // An error is an end too, and a receiver that is gone has ended before.
            let _ended = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            let _gone = ended.send(());
        });
    // Without the thread nobody could stop this application: then it stops at once.
    if reading.is_ok() {
        let _ended = end.await;
    }
}

/// Serves until released. Says `ready` on standard output once it listens, which is what the demo waits for.
async fn serve(
    args: &crate::args::dev::Server,
    each: impl AsyncFn(tokio::net::TcpStream),
) -> Outcome {
    let mut accepting = Vec::new();
    for address in &args.listen {
        let listener = tokio::net::TcpListener::bind(address).await;
        let listener = listener
            .map_err(|error| Failure::failed(format!("listen on {address}")).caused_by(error))?;
        accepting.push(Box::pin(accept(listener, &each)));
    }
    crate::printer::data("ready\n")?;
    tokio::select! {
        () = released() => Ok(()),
        _ = futures_util::future::join_all(accepting) => Ok(()),
    }
}

/// Accepts for ever; every connection is a future of this task, so that all end with it.
async fn accept(listener: tokio::net::TcpListener, each: &impl AsyncFn(tokio::net::TcpStream)) {
    use futures_util::StreamExt;
    use futures_util::stream::FuturesUnordered;

    let mut open = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if open.len() < CONNECTION_LIMIT => {
                // Out of descriptors: the connection stays in the backlog and is tried again when one has ended.
                if let Ok((stream, _)) = accepted {
                    open.push(each(stream));
                }
            }
            Some(()) = open.next() => {}
        }
    }
}

/// More than any check opens; bounds what a mistake can take of the machine.
const CONNECTION_LIMIT: usize = 16_384;

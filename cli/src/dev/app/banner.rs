//! The server-first TCP service: greets as soon as it is called, then gives back every line.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::args::dev::Server;
use crate::failure::Outcome;

use super::serve;

/// What stands before a server's name in its greeting.
pub(super) const GREETING: &str = "220 ";
/// What a client says that was greeted and then turned away.
pub const GREETED: &str = "closed after the greeting";
/// The longest line taken.
const LINE_LIMIT: u64 = 64 << 10;

pub(super) async fn run(args: &Server) -> Outcome {
    let name = args.name.clone();
    serve(args, async move |stream: TcpStream| {
        // A client that went away is its own business.
        let _gone = talk(stream, &name).await;
    })
    .await
}

async fn talk(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream
        .write_all(format!("{GREETING}{name}\r\n").as_bytes())
        .await?;
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    while (&mut reader).take(LINE_LIMIT).read_line(&mut line).await? > 0 {
        writer.write_all(line.as_bytes()).await?;
        line.clear();
    }
    writer.shutdown().await
}

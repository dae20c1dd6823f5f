//! Just enough WebSocket (RFC 6455) for the demo: the handshake's key, and text frames in both directions.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// RFC 6455 §1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// A whole text message in one frame.
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const MASKED: u8 = 0x80;
/// The demo's messages are short; a longer one is a broken stream.
const FRAME_LIMIT: usize = 64 << 10;

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`.
pub(super) fn accept_key(key: &str) -> String {
    STANDARD.encode(digest(
        &SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}{GUID}").as_bytes(),
    ))
}

/// Writes one text frame. A client masks, a server does not (§5.1).
pub(super) async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    text: &str,
    mask: Option<[u8; 4]>,
) -> std::io::Result<()> {
    let flag = if mask.is_some() { MASKED } else { 0 };
    let mut frame = vec![TEXT];
    match text.len() {
        length @ 0..=125 => frame.push(flag | length as u8),
        length @ 126..=FRAME_LIMIT if length < 1 << 16 => {
            frame.push(flag | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => return Err(broken(&format!("a frame of {length} bytes"))),
    }
    let key = mask.unwrap_or_default();
    frame.extend(mask.into_iter().flatten());
    frame.extend(
        text.bytes()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    stream.write_all(&frame).await?;
    stream.flush().await
}

/// Reads one text frame; `None` at a close frame or the end.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<String>> {
    let mut head = [0u8; 2];
    if stream.read(&mut head[..1]).await? == 0 || head[0] == CLOSE {
        return Ok(None);
    }
    if head[0] != TEXT {
        return Err(broken(&format!("opcode {:#x}", head[0])));
    }
    stream.read_exact(&mut head[1..]).await?;
    let length = match head[1] & !MASKED {
        126 => usize::from(stream.read_u16().await?),
        127 => return Err(broken("a frame of more than 64 KiB")),
        length => usize::from(length),
    };
    let mut key = [0u8; 4];
    if head[1] & MASKED != 0 {
        stream.read_exact(&mut key).await?;
    }
    let mut text = vec![0u8; length];
    stream.read_exact(&mut text).await?;
    text.iter_mut()
        .zip(key.iter().cycle())
        .for_each(|(byte, key)| *byte ^= key);
    String::from_utf8(text)
        .map(Some)
        .map_err(|_| broken("a text frame that is no text"))
}

fn broken(what: &str) -> std::io::Error {
    std::io::Error::new(
        std::io::ErrorKind::InvalidData,
        format!("WebSocket: {what}"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_key_of_the_rfc() {
        assert_eq!(
            accept_key("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[tokio::test]
    async fn what_is_written_is_read() {
        for length in [0, 1, 125, 126, 300, 65_535] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let text = "x".repeat(length);
                let mut wire = Vec::new();
                write(&mut wire, &text, mask).await.unwrap();
                assert_eq!(read(&mut wire.as_slice()).await.unwrap().unwrap(), text);
            }
        }
        assert_eq!(read(&mut [].as_slice()).await.unwrap(), None);
    }
}

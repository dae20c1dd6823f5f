//! Which version of TLS a server chose: read from its ServerHello (RFC 8446 §4.1.3 and §4.2.1).

/// TLS 1.3 in `supported_versions`.
pub(super) const TLS13: u16 = 0x0304;

const HANDSHAKE: u8 = 22;
const SERVER_HELLO: u8 = 2;
const SUPPORTED_VERSIONS: u16 = 43;

/// The version that the ServerHello at the start of these bytes selects; `None` where there is no ServerHello.
pub(super) fn selected_version(bytes: &[u8]) -> Option<u16> {
    let mut reader = Reader(&messages(bytes)?[..]);
    (reader.byte()? == SERVER_HELLO).then_some(())?;
    let length = reader.number(3)?;
    let mut hello = Reader(reader.take(length)?);
    let legacy_version = hello.number(2)? as u16;
    hello.take(32)?;
    let session = hello.byte()?;
    hello.take(usize::from(session))?;
    // Cipher suite and compression method.
    hello.take(3)?;
    let length = hello.number(2)?;
    let mut extensions = Reader(hello.take(length)?);
    while let Some(kind) = extensions.number(2) {
        let length = extensions.number(2)?;
        let mut value = Reader(extensions.take(length)?);
        if kind as u16 == SUPPORTED_VERSIONS {
            return value.number(2).map(|version| version as u16);
        }
    }
    // Without the extension it is TLS 1.2 or older.
    Some(legacy_version)
}

/// The handshake bytes of the first records: a ServerHello with a post-quantum key share may fill more than one.
fn messages(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader(bytes);
    let mut messages = Vec::new();
    while reader.0.first() == Some(&HANDSHAKE) {
        reader.take(3)?;
        let length = reader.number(2)?;
        let Some(fragment) = reader.take(length) else {
            break;
        };
        messages.extend(fragment);
    }
    (!messages.is_empty()).then_some(messages)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        self.take(bytes).map(|bytes| {
            bytes
                .iter()
                .fold(0, |number, byte| number << 8 | usize::from(*byte))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(extensions: &[u8], fragment: usize) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend([0x13, 0x01, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let mut message = vec![SERVER_HELLO, 0];
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(body);
        let record = |part: &[u8]| {
            [
                &[HANDSHAKE, 3, 3][..],
                &(part.len() as u16).to_be_bytes(),
                part,
            ]
            .concat()
        };
        message.chunks(fragment).flat_map(record).collect()
    }

    #[test]
    fn the_version_is_the_extension_s_where_there_is_one() {
        let check =
            |bytes: &[u8], expected: Option<u16>| assert_eq!(selected_version(bytes), expected);
        let key_share = [0, 51, 0, 2, 9, 9];
        let versions = [0, 43, 0, 2, 3, 4];
        check(&hello(&[key_share, versions].concat(), 1000), Some(TLS13));
        check(&hello(&[key_share, versions].concat(), 10), Some(TLS13));
        check(&hello(&key_share, 1000), Some(0x0303));
        check(b"HTTP/1.1 200 OK\r\n", None);
        check(&[], None);
        check(&hello(&versions, 1000)[..20], None);
    }
}

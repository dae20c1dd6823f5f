//! Free ports of 127.0.0.1 for processes that a test starts, apart from those of other tests and other test processes.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below Linux's ephemeral range (32768 and up), where any outgoing connection could take a port between its choice and its use.
const FIRST: u16 = 12_000;
const LAST: u16 = 31_999;
/// Where a port is claimed while its process may still be down: never used for anything else.
const CLAIMS: [u8; 4] = [127, 255, 255, 254];

static NEXT: AtomicU16 = AtomicU16::new(0);
/// Claims last as long as this process: a killed controller gets its old port again.
static CLAIMED: Mutex<Vec<TcpListener>> = Mutex::new(Vec::new());

/// Claims a port of 127.0.0.1 until this process ends.
///
/// # Panics
/// Where every port of the range is taken.
pub fn free() -> SocketAddr {
    let span = LAST - FIRST + 1;
    let start = *START;
    for _ in 0..span {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % span;
        let port = FIRST + (start + step) % span;
        let Ok(claim) = TcpListener::bind(SocketAddr::from((CLAIMS, port))) else {
            continue;
        };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            CLAIMED
                .lock()
                .expect("no holder of the claims panics")
                .push(claim);
            return address;
        }
    }
    panic!("no port between {FIRST} and {LAST} is free");
}

/// Test processes that run side by side begin at different places, only to collide less.
static START: std::sync::LazyLock<u16> =
    std::sync::LazyLock::new(|| rand::random_range(0..LAST - FIRST));

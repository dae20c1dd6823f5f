//! Copies every packet of a network namespace into a file, in pcap form, so that any tool can read what the check has read.

use std::io::{BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::args::dev::Capture;
use crate::failure::{Exit, Failure, Outcome};
use crate::printer::data;

use super::released;

/// Every protocol (`ETH_P_ALL`, linux/if_ether.h).
const EVERY_PROTOCOL: u16 = 0x0003;
/// Segments that the network card would cut later arrive whole: up to 64 KiB and headers.
const PACKET_LIMIT: usize = 128 << 10;
/// What the kernel holds while the file is written: on a busy machine this process may not run for a while, and a lost packet is a lost proof.
const KERNEL_BUFFER: usize = 32 << 20;
/// How long the loop may be deaf to its end.
const TURN: Duration = Duration::from_millis(100);

/// pcap's file header: microseconds, version 2.4, Ethernet.
const HEADER: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, PACKET_LIMIT as u32, 1];

static STOP: AtomicBool = AtomicBool::new(false);

pub(super) async fn run(args: &Capture) -> Outcome {
    let socket = open().map_err(|error| {
        Failure::new(Exit::Denied, "open a packet socket")
            .caused_by(error)
            .next("capturing needs root (CAP_NET_RAW)")
    })?;
    let file = args.file.clone();
    let copying = std::thread::Builder::new()
        .name("capture".into())
        .spawn(move || copy(socket, &file));
    let copying = copying.map_err(|error| Failure::failed("start the capture").caused_by(error))?;
    data("ready\n")?;
    released().await;
    STOP.store(true, Ordering::Relaxed);
    match copying.join() {
        Ok(written) => written.map_err(|error| {
            Failure::failed(format!("write {}", args.file.display())).caused_by(error)
        }),
        Err(_) => Err(Failure::failed("the capture's thread panicked")),
    }
}

fn open() -> std::io::Result<Socket> {
    let protocol = Protocol::from(i32::from(EVERY_PROTOCOL.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, KERNEL_BUFFER)?;
    socket.set_read_timeout(Some(TURN))?;
    Ok(socket)
}

fn copy(mut socket: Socket, file: &Path) -> std::io::Result<()> {
    let mut output = BufWriter::new(std::fs::File::create(file)?);
    for word in HEADER {
        output.write_all(&word.to_ne_bytes())?;
    }
    let mut packet = vec![0u8; PACKET_LIMIT];
    while !STOP.load(Ordering::Relaxed) {
        match socket.read(&mut packet) {
            Ok(length) => record(&mut output, &packet[..length])?,
            Err(error)
                if error.kind() == std::io::ErrorKind::WouldBlock
                    || error.kind() == std::io::ErrorKind::Interrupted => {}
            // An interface of the namespace went down: the others go on.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NETDOWN) => {}
            Err(error) => return Err(error),
        }
    }
    output.flush()?;
    rustix::fs::fdatasync(output.get_ref().as_fd())?;
    Ok(())
}

fn record(output: &mut impl Write, packet: &[u8]) -> std::io::Result<()> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let length = packet.len() as u32;
    for word in [now.as_secs() as u32, now.subsec_micros(), length, length] {
        output.write_all(&word.to_ne_bytes())?;
    }
    output.write_all(packet)
}

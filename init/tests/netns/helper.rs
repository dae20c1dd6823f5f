//! The programs that stand inside a namespace: this test binary again, told by an environment variable what to be.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    time::Duration,
};

use socket2::{Domain, SockRef, Socket, Type};

/// What the helper shall be: `listen <address>…` or `connect <tcp|udp> <address> [<source ip>]`.
pub(crate) const ROLE: &str = "MAILLE_INIT_TEST_ROLE";
/// How long a connect may take; a redirected one takes less than a millisecond.
const PATIENCE: Duration = Duration::from_secs(1);

/// Run by the namespaces' programs only; without a role it has nothing to do.
#[test]
fn helper_program() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let words: Vec<&str> = role.split(' ').collect();
    match words.as_slice() {
        ["listen", addresses @ ..] => listen(addresses),
        ["connect", transport, to, source @ ..] => {
            let source = source.first().map(|ip| ip.parse().unwrap());
            println!(
                "\nANSWER {}",
                ask(transport, to.parse().unwrap(), source)
                    .unwrap_or_else(|e| format!("failed: {e}"))
            );
        }
        _ => panic!("no such role: {role}"),
    }
}

/// Listens with TCP and UDP on every address and tells whoever comes where it came out and where it was meant to go. Ends with stdin.
fn listen(addresses: &[&str]) {
    for address in addresses {
        let address: SocketAddr = address.parse().unwrap();
        let tcp: TcpListener = bound(address, Type::STREAM).into();
        let udp: UdpSocket = bound(address, Type::DGRAM).into();
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                let text = format!("at {} meant for {}\n", address.port(), original(&stream));
                // The other side may have gone already.
                stream.write_all(text.as_bytes()).unwrap_or_default();
            }
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 16];
            while let Ok((_, from)) = udp.recv_from(&mut buffer) {
                udp.send_to(format!("at {}\n", address.port()).as_bytes(), from)
                    .unwrap();
            }
        });
    }
    println!("\nANSWER listening");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// v6 sockets take v6 only, so that both families can have the same port.
fn bound(address: SocketAddr, kind: Type) -> Socket {
    let socket = Socket::new(Domain::for_address(address), kind, None).unwrap();
    if address.is_ipv6() {
        socket.set_only_v6(true).unwrap();
    }
    socket.bind(&address.into()).unwrap();
    if kind == Type::STREAM {
        socket.listen(16).unwrap();
    }
    socket
}

fn original(stream: &std::net::TcpStream) -> SocketAddr {
    let socket = SockRef::from(stream);
    let address = if stream.local_addr().unwrap().is_ipv4() {
        socket.original_dst_v4()
    } else {
        socket.original_dst_v6()
    };
    // Without redirection v4 has none; then it was meant for where it is.
    address
        .ok()
        .and_then(|address| address.as_socket())
        .unwrap_or_else(|| stream.local_addr().unwrap())
}

fn ask(transport: &str, to: SocketAddr, source: Option<IpAddr>) -> std::io::Result<String> {
    let (kind, any) = (
        if transport == "udp" {
            Type::DGRAM
        } else {
            Type::STREAM
        },
        to.is_ipv4(),
    );
    let socket = Socket::new(Domain::for_address(to), kind, None)?;
    if let Some(source) = source {
        assert_eq!(
            source.is_ipv4(),
            any,
            "source and destination are of one family"
        );
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    if transport == "udp" {
        socket.send(b"?")?;
    }
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

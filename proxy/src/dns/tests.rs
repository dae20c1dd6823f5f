//! Raw packets over UDP and TCP against a fake control plane and a fake resolver.
#![allow(clippy::unwrap_used)]

use super::answer::{Known, read};
use super::{Resolvers, start};
use crate::config::Bind;
use crate::metrics::Metrics;
use crate::snapshot::Host;
use crate::supervise::tasks;
use crate::xds::tests::{World, host};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message
        .queries
        .push(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

/// The answer in one line: code, answers, authority.
fn line(message: &Message) -> String {
    let records = |records: &[hickory_proto::rr::Record]| {
        let one = |record: &hickory_proto::rr::Record| {
            format!("{} {} {}", record.ttl, record.record_type(), record.data)
        };
        records.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let code = message.metadata.response_code;
    let cut = if message.metadata.truncation {
        " cut"
    } else {
        ""
    };
    let soa = if message.authorities.is_empty() {
        ""
    } else {
        " +soa"
    };
    format!("{code:?}{cut} [{}]{soa}", records(&message.answers))
}

/// What a known service answers to one question, without any network.
fn check(name: &str, kind: RecordType, expected: &str) {
    let known = Host {
        namespace: "shop".into(),
        service: "api".into(),
        addresses: vec!["240.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        ttl_seconds: 7,
    };
    let question = read(&query(name, kind).to_vec().unwrap()).unwrap();
    let answer = question.answer(Known::Host(&known), true).unwrap();
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!(line(&answer), expected, "for {name} {kind}");
    assert_eq!(answer.metadata.id, 4711);
    assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
    assert_eq!(answer.queries[0].name, Name::from_ascii(name).unwrap());
}

#[test]
fn each_kind_of_question_has_its_answer() {
    check("api.shop.mesh.", RecordType::A, "NoError [7 A 240.0.0.1]");
    check("API.Shop.MESH.", RecordType::A, "NoError [7 A 240.0.0.1]");
    check(
        "api.shop.mesh.",
        RecordType::AAAA,
        "NoError [7 AAAA fd00::1]",
    );
    check("api.shop.mesh.", RecordType::HTTPS, "NoError [] +soa");
    check("api.shop.mesh.", RecordType::SRV, "NoError [] +soa");
}

#[test]
fn an_answer_that_does_not_fit_is_cut() {
    let known = Host {
        namespace: "shop".into(),
        service: "api".into(),
        addresses: (0..60).map(|last| [240, 0, 0, last].into()).collect(),
        ttl_seconds: 7,
    };
    let mut asked = query("api.shop.mesh.", RecordType::A);
    let answer = |asked: &Message, udp| {
        let question = read(&asked.to_vec().unwrap()).unwrap();
        let answer = question.answer(Known::Host(&known), udp).unwrap();
        Message::from_vec(&answer).unwrap()
    };
    assert!(answer(&asked, true).metadata.truncation);
    assert_eq!(answer(&asked, false).answers.len(), 60);
    asked.edns = Some(Edns::new().set_max_payload(1_232).clone());
    let whole = answer(&asked, true);
    assert_eq!((whole.answers.len(), whole.edns.is_some()), (60, true));
}

#[test]
fn what_is_no_question_is_refused_and_an_answer_is_never_answered() {
    let code = |packet: &[u8]| {
        let answer = read(packet).unwrap_err()?;
        Some(Message::from_vec(&answer).unwrap().metadata.response_code)
    };
    let mut answer = query("a.b.mesh.", RecordType::A);
    answer.metadata.message_type = MessageType::Response;
    assert_eq!(code(&answer.to_vec().unwrap()), None);
    let none = Message::new(1, MessageType::Query, OpCode::Query);
    assert_eq!(code(&none.to_vec().unwrap()), Some(ResponseCode::FormErr));
    let mut update = query("a.b.mesh.", RecordType::A);
    update.metadata.op_code = OpCode::Notify;
    assert_eq!(code(&update.to_vec().unwrap()), Some(ResponseCode::NotImp));
    let mut cut = query("a.b.mesh.", RecordType::A).to_vec().unwrap();
    cut.truncate(15);
    assert_eq!(code(&cut), Some(ResponseCode::FormErr));
    assert_eq!(code(&cut[..5]), None);
}

/// A resolver that answers everything with SERVFAIL over TCP and with one address over UDP, after a forged answer.
async fn resolver() -> SocketAddr {
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 2048];
        loop {
            let (length, asker) = udp.recv_from(&mut buffer).await.unwrap();
            let asked = Message::from_vec(&buffer[..length]).unwrap();
            let mut forged = answered(&asked, ResponseCode::Refused);
            forged[0] ^= 0xff;
            udp.send_to(&forged, asker).await.unwrap();
            let answer = answered(&asked, ResponseCode::NoError);
            udp.send_to(&answer, asker).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut packet = vec![0; usize::from(length)];
            stream.read_exact(&mut packet).await.unwrap();
            let asked = Message::from_vec(&packet).unwrap();
            let answer = answered(&asked, ResponseCode::YXDomain);
            stream
                .write_u16(u16::try_from(answer.len()).unwrap())
                .await
                .unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    address
}

fn answered(asked: &Message, code: ResponseCode) -> Vec<u8> {
    let mut answer = Message::error_msg(asked.metadata.id, OpCode::Query, code);
    answer.queries.clone_from(&asked.queries);
    answer.to_vec().unwrap()
}

async fn over_udp(server: SocketAddr, asked: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket
        .send_to(&asked.to_vec().unwrap(), server)
        .await
        .unwrap();
    let mut buffer = vec![0; 4096];
    let received = timeout(Duration::from_secs(10), socket.recv(&mut buffer));
    let length = received.await.unwrap().unwrap();
    let answer = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!(answer.metadata.id, asked.metadata.id);
    answer
}

async fn over_tcp(server: SocketAddr, asked: &Message) -> Message {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let packet = asked.to_vec().unwrap();
    stream
        .write_u16(u16::try_from(packet.len()).unwrap())
        .await
        .unwrap();
    stream.write_all(&packet).await.unwrap();
    let read = async {
        let length = stream.read_u16().await.unwrap();
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await.unwrap();
        answer
    };
    let answer = timeout(Duration::from_secs(10), read).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

/// A free port for both transports.
async fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn names_of_the_mesh_are_answered_and_all_others_are_passed_on() {
    let world = World::new().await;
    world
        .server
        .set("host/api.shop", &host(&["240.0.0.1", "fd00::1"]));
    let life = world.start();
    let address = free().await;
    let binds = [Bind {
        address,
        required: true,
    }];
    let resolvers = Resolvers::given(vec!["127.0.0.1:1".parse().unwrap(), resolver().await]);
    let (tasks, _endings) = tasks();
    let xds = life.xds.clone();
    start(&binds, vec![xds], resolvers, &Metrics::new(), &tasks)
        .await
        .unwrap();

    let table = [
        ("api.shop.mesh.", RecordType::A, "NoError [7 A 240.0.0.1]"),
        (
            "api.shop.mesh.",
            RecordType::AAAA,
            "NoError [7 AAAA fd00::1]",
        ),
        ("api.shop.mesh.", RecordType::TXT, "NoError [] +soa"),
        ("db.shop.mesh.", RecordType::A, "NXDomain [] +soa"),
        ("x.api.shop.mesh.", RecordType::A, "NXDomain [] +soa"),
        ("shop.mesh.", RecordType::A, "NoError [] +soa"),
        ("mesh.", RecordType::SOA, "NoError [] +soa"),
        ("mesh.example.org.", RecordType::A, "NoError []"),
    ];
    for (name, kind, expected) in table {
        let answer = over_udp(address, &query(name, kind)).await;
        assert_eq!(line(&answer), expected, "for {name} {kind}");
    }
    let answer = over_tcp(address, &query("api.shop.mesh.", RecordType::A)).await;
    assert_eq!(line(&answer), "NoError [7 A 240.0.0.1]");
    let answer = over_tcp(address, &query("example.org.", RecordType::A)).await;
    assert_eq!(line(&answer), "YXDomain []");
    tasks.stop().await;
}

#[tokio::test]
async fn without_a_control_plane_an_unknown_name_is_servfail_and_a_known_one_is_answered() {
    let world = World::new().await;
    world.server.set("host/api.shop", &host(&["240.0.0.1"]));
    let life = world.start();
    let address = free().await;
    let binds = [Bind {
        address,
        required: true,
    }];
    let (tasks, _endings) = tasks();
    let resolvers = Resolvers::given(Vec::new());
    let xds = life.xds.clone();
    start(&binds, vec![xds], resolvers, &Metrics::new(), &tasks)
        .await
        .unwrap();
    let known = query("api.shop.mesh.", RecordType::A);
    assert_eq!(
        line(&over_udp(address, &known).await),
        "NoError [7 A 240.0.0.1]"
    );
    drop(world);
    let mut status = life.xds.status();
    let lost = status.wait_for(|status| status.controller.is_none());
    timeout(Duration::from_secs(10), lost)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        line(&over_udp(address, &known).await),
        "NoError [7 A 240.0.0.1]"
    );
    let unknown = query("db.shop.mesh.", RecordType::A);
    assert_eq!(line(&over_udp(address, &unknown).await), "ServFail []");
    let elsewhere = query("example.org.", RecordType::A);
    assert_eq!(line(&over_udp(address, &elsewhere).await), "ServFail []");
    tasks.stop().await;
}

//! Clients that begin and do not end, or do not end at all: what they cost, and that others do not notice.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    process::Stdio,
    thread,
    time::Duration,
};

use crate::{
    common::{
        Serving, Workdir,
        http1::Http1,
        process::{peak_kib_of, wait_for},
        run,
        serving::text_entry,
    },
    cost::{cpu_ticks, descriptors, resident_kib},
    crowd::take_all_descriptors,
    shows,
};

/// A server of `text` at `h.test`, whose log goes to a file: it has a line for each client that it refuses.
pub fn serving() -> Serving {
    let mut inventory = text_entry("http://h.test/text", "some text");
    inventory += &text_entry("https://h.test/text", "some text");
    Serving::start_in(Workdir::new(), &inventory, |command| {
        let log = std::fs::File::create(command.get_current_dir().unwrap().join("log")).unwrap();
        command.stderr(log).stdout(Stdio::null()).env("TOKIO_WORKER_THREADS", "2").env("MALLOC_ARENA_MAX", "2");
    })
}

/// Another client gets its answer meanwhile, in plain text and encrypted.
pub fn others_are_served(serving: &Serving) {
    let answer = Http1(serving.connect()).ask("GET http://h.test/text HTTP/1.1\nHost: h.test");
    assert_eq!(answer.text(), "some text");
    let outcome = run(serving.curl().args(["--max-time", "60", "https://h.test/text"])).expect_code(0);
    assert_eq!(outcome.text(), "some text");
}

/// What a client can begin to say, and not end.
const BEGUN: [(&str, &[u8]); 9] = [
    ("nothing", b""),
    ("a request line", b"GET http://h.te"),
    ("a head", b"GET http://h.test/text HTTP/1.1\r\nHost: h.test\r\nAccept"),
    ("a body", b"POST http://h.test/text HTTP/1.1\r\nHost: h.test\r\nContent-Length: 100\r\n\r\nabc"),
    ("a ClientHello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefgh"),
    ("CONNECT", b"CONNECT h.test:443 HTT"),
    ("a ClientHello in a tunnel", b"CONNECT h.test:443 HTTP/1.1\r\nHost: h.test:443\r\n\r\n\x16\x03\x01\x02\x00"),
    ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n"),
    ("a head of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x02\x01\0\0\0\0\x01\x82\x86"),
];

#[test]
fn thousands_of_connections_that_say_half_of_something_take_bounded_memory_and_time_and_hold_up_nobody() {
    const EACH: usize = 500;
    take_all_descriptors();
    let serving = serving();
    let pid = serving.server.0.id();
    others_are_served(&serving);
    let (memory, ticks, open) = (resident_kib(pid), cpu_ticks(pid), descriptors(pid));
    let mut clients = Vec::new();
    for (_, begun) in BEGUN {
        for _ in 0..EACH {
            let mut stream = serving.connect();
            stream.write_all(begun).unwrap();
            clients.push(stream);
        }
    }
    let all = clients.len();
    wait_for("all to be there", || (descriptors(pid) >= open + all).then_some(()));
    others_are_served(&serving);
    let each = (resident_kib(pid) - memory) / all as u64;
    let ticks = cpu_ticks(pid) - ticks;
    assert!(each < 48, "{each} KiB each");
    // Looking each client of TLS up in the system's tables takes a millisecond and more, and stops after two seconds.
    assert!(ticks < 300, "{ticks} hundredths of a second");
    drop(clients);
    wait_for("them to be gone", || (descriptors(pid) <= open).then_some(()));
    others_are_served(&serving);
    shows!(
        Load,
        "connections that stay silent, or stop within a request line, head, body, ClientHello, CONNECT, tunnel or preface",
        "{all} at once: {each} KiB each, {}.{:02} s of processor time in all, none left behind, others served meanwhile",
        ticks / 100,
        ticks % 100
    );
}

/// How a server ended what was sent to it.
#[derive(Debug)]
struct Ended {
    /// Bytes that it took.
    taken: u64,
    answer: Vec<u8>,
}

/// Sends `pieces` until the server wants no more of them.
fn send_until_refused(mut stream: TcpStream, pieces: impl Iterator<Item = Vec<u8>>) -> Ended {
    let (mut taken, mut answer) = (0, Vec::new());
    for piece in pieces {
        match stream.write_all(&piece) {
            Ok(()) => taken += piece.len() as u64,
            Err(_) => break,
        }
    }
    let _closed = stream.shutdown(Shutdown::Write);
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..read]);
    }
    Ended { taken, answer }
}

#[test]
fn heads_without_end_and_a_hundred_thousand_fields_are_refused_in_bounded_memory() {
    let serving = serving();
    let pid = serving.server.0.id();
    others_are_served(&serving);
    let memory = peak_kib_of(pid);
    let head = |then: &str| format!("GET http://h.test/text HTTP/1.1\r\nHost: h.test\r\n{then}").into_bytes();
    let mut most = 0;
    for (name, first, piece) in [
        ("fields", head(""), b"X-Field: value\r\n".repeat(1000)),
        ("one field", head("X-Long: "), vec![b'x'; 16 << 10]),
        ("a request line", b"GET http://h.test/".to_vec(), vec![b'x'; 16 << 10]),
        ("an empty line", Vec::new(), b"\r\n".repeat(1000)),
        ("CONNECT", b"CONNECT ".to_vec(), vec![b'x'; 16 << 10]),
    ] {
        // A gigabyte, if nobody stops it.
        let pieces = std::iter::once(first).chain(std::iter::repeat_n(piece, 64 << 10));
        let ended = send_until_refused(serving.connect(), pieces);
        let status = String::from_utf8_lossy(&ended.answer).chars().take(12).collect::<String>();
        // A reset can overtake the answer.
        assert!(["", "HTTP/1.1 431", "HTTP/1.1 400", "HTTP/1.1 414"].contains(&status.as_str()), "{name}: {status}");
        assert!(ended.taken < 16 << 20, "{name}: {} bytes", ended.taken);
        most = most.max(ended.taken);
        others_are_served(&serving);
    }
    let fields: String = (0..100_000).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let ended = send_until_refused(serving.connect(), std::iter::once(head(&format!("{fields}\r\n"))));
    assert!(!ended.answer.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&ended.answer));
    let grown = peak_kib_of(pid) - memory;
    assert!(grown < 16 << 10, "{grown} KiB");
    shows!(
        HostileInput,
        "request lines, fields and empty lines without end, and 100,000 fields, over HTTP/1.1",
        "each refused or closed, at most {} KiB of a head taken, {grown} KiB more memory",
        most >> 10
    );
}

#[test]
fn a_request_body_without_end_takes_no_memory_and_holds_up_nobody() {
    const SIZE: usize = 192 << 20;
    let serving = serving();
    let pid = serving.server.0.id();
    others_are_served(&serving);
    let memory = peak_kib_of(pid);
    for kind in ["application/octet-stream", "application/json"] {
        let mut stream = serving.connect();
        let head = format!(
            "POST http://h.test/text HTTP/1.1\r\nHost: h.test\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let chunk = [format!("{:x}\r\n", 1 << 20).into_bytes(), vec![b'['; 1 << 20], b"\r\n".to_vec()].concat();
        for n in 0..SIZE >> 20 {
            stream.write_all(&chunk).unwrap();
            if n % 64 == 0 {
                others_are_served(&serving);
            }
        }
        drop(stream);
    }
    let grown = peak_kib_of(pid) - memory;
    assert!(grown < 32 << 10, "{grown} KiB");
    shows!(
        HostileInput,
        "chunked request bodies that do not end, of bytes and of JSON, which is compared by its meaning",
        "{} MiB each in {grown} KiB more memory, others served meanwhile",
        SIZE >> 20
    );
}

/// A client that has the handshake behind it, and what it then sends in place of records.
fn garbage(serving: &Serving, n: usize) -> io::Result<()> {
    let mut stream = serving.connect();
    let noise: Vec<u8> = (0..2000).map(|at| ((at * 7919 + n * 104_729) % 251) as u8).collect();
    match n % 4 {
        0 => stream.write_all(&[&[0x16, 3, 1], &noise[..]].concat())?,
        1 => stream.write_all(&[&[0x16, 3, 1, 0, 200], &noise[..]].concat())?,
        2 => {
            let mut tls = tls_client(serving);
            tls.conn.complete_io(&mut stream)?;
            stream.write_all(&[&[0x17, 3, 3, 7, 0xd0], &noise[..]].concat())?;
        }
        _ => {
            let mut tls = tls_client(serving);
            tls.conn.complete_io(&mut stream)?;
            // Half a record, and away.
            stream.write_all(&[&[0x17, 3, 3, 0x40, 0], &noise[..]].concat())?;
            return stream.shutdown(Shutdown::Both);
        }
    }
    stream.shutdown(Shutdown::Write)?;
    io::copy(&mut stream, &mut io::sink()).map(drop)
}

struct Tls {
    conn: tokio_rustls::rustls::ClientConnection,
}

fn tls_client(serving: &Serving) -> Tls {
    let name = tokio_rustls::rustls::pki_types::ServerName::try_from("h.test").unwrap();
    let config = std::sync::Arc::new(serving.tls(&["http/1.1"]));
    Tls { conn: tokio_rustls::rustls::ClientConnection::new(config, name).unwrap() }
}

#[test]
fn garbage_in_place_of_tls_and_renegotiation_end_their_own_connection_alone() {
    const COUNT: usize = 400;
    let serving = serving();
    let pid = serving.server.0.id();
    others_are_served(&serving);
    let (memory, open) = (peak_kib_of(pid), descriptors(pid));
    for n in 0..COUNT {
        // An alert, or a reset.
        let _ended = garbage(&serving, n);
    }
    // `R` on a line of its own has openssl ask for a second handshake, and wait for it.
    let mut openssl = serving.work.command("sh");
    let script = format!(
        "(sleep 0.3; echo R; sleep 2) | timeout 2 openssl s_client -connect {} -servername h.test -CAfile {} -tls1_2 -msg",
        serving.address,
        serving.ca_file.display()
    );
    let outcome = run(openssl.args(["-c", &script]));
    let hellos = |kind: &str| outcome.text().matches(kind).count();
    assert_eq!((hellos(", ClientHello"), hellos(", ServerHello\n")), (2, 1), "{outcome}");
    wait_for("them to be gone", || (descriptors(pid) <= open).then_some(()));
    others_are_served(&serving);
    let grown = peak_kib_of(pid) - memory;
    assert!(grown < 16 << 10, "{grown} KiB");
    shows!(
        HostileInput,
        "noise as handshake, as record and as half a record of TLS; renegotiation by `openssl s_client`",
        "{COUNT} connections, none left behind, {grown} KiB more memory; no second handshake"
    );
}

#[test]
fn a_byte_now_and_then_is_an_answer_all_the_same() {
    let serving = serving();
    let request = b"GET http://h.test/text HTTP/1.1\r\nHost: h.test\r\n\r\n";
    let clients: Vec<_> = (0..100).map(|_| serving.connect()).collect();
    for byte in request {
        clients.iter().for_each(|mut client| client.write_all(&[*byte]).unwrap());
        thread::sleep(Duration::from_millis(10));
    }
    others_are_served(&serving);
    for client in &clients {
        assert_eq!(Http1(client).answer("GET").text(), "some text");
    }
}

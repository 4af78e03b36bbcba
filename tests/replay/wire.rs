//! HTTP/1 down to the byte: connections that are kept, closed or used ahead, and protocols that are refused.

use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
};

use crate::common::{
    Serving, Workdir,
    http1::{Http1, lines},
    serving::{sparse_entry, text_entry},
    sri,
};
use tokio_rustls::rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

const LARGE: u64 = 300 << 20;

/// A few entries for both schemes, and a large body.
fn serving() -> Serving {
    let work = Workdir::new();
    let mut inventory = sparse_entry(&work, "http://h.test/large", "large", LARGE);
    inventory += &sparse_entry(&work, "https://h.test/large", "large", LARGE);
    for scheme in ["http", "https"] {
        for n in 0..50 {
            inventory += &text_entry(&format!("{scheme}://h.test/{n}"), &format!("answer {n}"));
        }
        for (method, body) in [("POST", "one"), ("PUT", "two")] {
            let _written = writeln!(
                inventory,
                "[[entry]]\nmethod = {method:?}\nurl = \"{scheme}://h.test/post\"\nrequest-body = {:?}\n\
                 body = {{ hash = {:?}, size = 4, text = \"made\" }}",
                sri(body.as_bytes()),
                sri(b"made")
            );
        }
        let _written = writeln!(inventory, "[[entry]]\nurl = \"{scheme}://h.test/nothing\"\nstatus = 204");
    }
    Serving::start_in(work, &inventory, |_| {})
}

trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// The ways to the port: plain, in a tunnel, in a tunnel by TLS, and by TLS alone.
const WAYS: [&str; 4] = ["plain", "tunnel", "tls", "straight"];

fn open(serving: &Serving, way: &str) -> Http1<Box<dyn Stream>> {
    let stream = serving.connect();
    if matches!(way, "tunnel" | "tls") {
        let port = if way == "tls" { 443 } else { 80 };
        assert_eq!(Http1(&stream).ask(&format!("CONNECT h.test:{port} HTTP/1.1\nHost: h.test:{port}")).status, 200);
    }
    if matches!(way, "plain" | "tunnel") {
        return Http1(Box::new(stream));
    }
    Http1(Box::new(encrypted(serving, stream)))
}

fn encrypted(serving: &Serving, stream: TcpStream) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("h.test").unwrap();
    let tls = ClientConnection::new(Arc::new(serving.tls(&["http/1.1"])), name).unwrap();
    StreamOwned::new(tls, stream)
}

#[test]
fn a_connection_is_kept_for_any_number_of_requests_in_every_form() {
    let serving = serving();
    for way in WAYS {
        let mut client = open(&serving, way);
        let scheme = if matches!(way, "plain" | "tunnel") { "http" } else { "https" };
        for n in 0..50 {
            let target = if n % 2 == 0 { format!("/{n}") } else { format!("{scheme}://h.test/{n}") };
            let answer = client.ask(&format!("GET {target} HTTP/1.1\nHost: h.test"));
            assert_eq!((answer.status, answer.text()), (200, format!("answer {n}").as_str()), "{way}");
            assert_eq!(answer.header("connection"), None, "{way}");
        }
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_whatever_their_method() {
    let serving = serving();
    for way in WAYS {
        let mut client = open(&serving, way);
        let mut requests = String::new();
        let methods = ["GET", "HEAD", "POST"];
        let body = |method: &str| if method == "POST" { "one" } else { "" };
        for n in 0..45 {
            let method = methods[n % 3];
            let path = if method == "POST" { "post".to_owned() } else { n.to_string() };
            let length = if method == "POST" { "\nContent-Length: 3" } else { "" };
            requests += &lines(&format!("{method} /{path} HTTP/1.1\nHost: h.test{length}"));
            requests += body(method);
        }
        requests += &lines("GET /nothing HTTP/1.1\nHost: h.test");
        requests += &lines("HEAD /large HTTP/1.1\nHost: h.test");
        requests += &lines("GET /missing HTTP/1.1\nHost: h.test");
        requests += &lines("GET /7 HTTP/1.1\nHost: h.test\nConnection: close");
        client.send(requests);
        for n in 0..45 {
            let (answer, text) = (client.answer(methods[n % 3]), format!("answer {n}"));
            match methods[n % 3] {
                "GET" => assert_eq!(answer.text(), text, "{way}"),
                "HEAD" => assert_eq!(answer.header("content-length"), Some(text.len().to_string().as_str()), "{way}"),
                _ => assert_eq!(answer.text(), "made", "{way}"),
            }
        }
        assert_eq!(client.answer("GET").status, 204);
        assert_eq!(client.answer("HEAD").header("content-length"), Some(LARGE.to_string().as_str()));
        assert_eq!(client.answer("GET").status, 404);
        let last = client.answer("GET");
        assert_eq!((last.text(), last.header("connection")), ("answer 7", Some("close")), "{way}");
        assert!(client.is_closed(), "{way}");
    }
}

#[test]
fn a_head_of_a_large_file_has_its_length_and_no_byte_of_it() {
    let serving = serving();
    for way in WAYS {
        let mut client = open(&serving, way);
        for _ in 0..3 {
            let head = client.ask("HEAD /large HTTP/1.1\nHost: h.test");
            assert_eq!((head.status, head.header("content-length")), (200, Some(LARGE.to_string().as_str())));
            assert_eq!(client.ask("GET /1 HTTP/1.1\nHost: h.test").text(), "answer 1", "{way}");
            let part = client.ask("GET /large HTTP/1.1\nHost: h.test\nRange: bytes=314572000-314572099");
            assert_eq!((part.status, part.body), (206, vec![0; 100]), "{way}");
        }
    }
}

#[test]
fn a_body_is_asked_for_where_the_answer_depends_on_it() {
    let serving = serving();
    for way in WAYS {
        let mut client = open(&serving, way);
        for body in ["one", "one"] {
            let asked = client.ask("POST /post HTTP/1.1\nHost: h.test\nExpect: 100-continue\nContent-Length: 3");
            assert_eq!((asked.status, asked.head.lines().count()), (100, 1), "{way}: {}", asked.head);
            client.send(body);
            assert_eq!(client.answer("POST").text(), "made", "{way}");
        }
        assert_eq!(client.ask("GET /1 HTTP/1.1\nHost: h.test").text(), "answer 1", "{way}: the connection is kept");
        let other = "POST /post HTTP/1.1\nHost: h.test\nExpect: 100-continue\nContent-Length: 3";
        assert_eq!(client.ask(other).status, 100);
        client.send("six");
        assert_eq!(client.answer("POST").status, 404, "{way}: another body");
    }
}

#[test]
fn a_body_that_would_change_nothing_is_not_asked_for() {
    let serving = serving();
    for way in WAYS {
        let mut client = open(&serving, way);
        let answer = client.ask("POST /nowhere HTTP/1.1\nHost: h.test\nExpect: 100-continue\nContent-Length: 3");
        assert_eq!(answer.status, 404, "{way}");
        // The client may send the body all the same (RFC 9110 §10.1.1): nothing else could be told apart from it.
        assert_eq!(answer.header("connection"), Some("close"), "{way}");
        assert!(client.is_closed(), "{way}");
    }
}

#[test]
fn http_1_0_closes_unless_it_asks_to_be_kept() {
    let serving = serving();
    for way in WAYS {
        let mut client = open(&serving, way);
        let kept = client.ask("GET /1 HTTP/1.0\nHost: h.test\nConnection: keep-alive");
        assert!(kept.head.starts_with("HTTP/1.0 200 "), "{way}: {}", kept.head);
        assert_eq!((kept.text(), kept.header("connection")), ("answer 1", Some("keep-alive")), "{way}");
        assert_eq!(client.ask("GET /2 HTTP/1.0\nHost: h.test").text(), "answer 2", "{way}");
        assert!(client.is_closed(), "{way}");
    }
}

/// The number of bytes up to the end, and the last few.
fn read_to_end(from: &mut dyn Read) -> (u64, Vec<u8>) {
    let (mut length, mut end, mut buffer) = (0, Vec::new(), vec![0; 1 << 16]);
    loop {
        match from.read(&mut buffer).unwrap() {
            0 => return (length, end),
            more => {
                length += more as u64;
                end.extend_from_slice(&buffer[..more]);
                end.drain(..end.len().saturating_sub(100));
            }
        }
    }
}

#[test]
fn a_client_that_closes_its_half_gets_every_answer_that_it_asked_for() {
    let serving = serving();
    let mut requests = String::new();
    for target in ["/1", "/large", "/2"] {
        requests += &lines(&format!("GET {target} HTTP/1.1\nHost: h.test"));
    }
    let check = |from: &mut dyn Read, way: &str| {
        let (length, end) = read_to_end(from);
        assert!(end.ends_with(b"\r\n\r\nanswer 2"), "{way}: the last answer is whole");
        assert!(length > LARGE, "{way}");
    };
    let mut plain = serving.connect();
    plain.write_all(requests.as_bytes()).unwrap();
    plain.shutdown(Shutdown::Write).unwrap();
    check(&mut plain, "plain");
    for notify in [true, false] {
        let mut tls = encrypted(&serving, serving.connect());
        tls.write_all(requests.as_bytes()).unwrap();
        if notify {
            // What a close of TLS's half says (RFC 8446 §6.1) is said by the TCP half as well.
            tls.conn.send_close_notify();
        }
        tls.flush().unwrap();
        tls.sock.shutdown(Shutdown::Write).unwrap();
        check(&mut tls, if notify { "tls" } else { "tls without close_notify" });
    }
}

#[test]
fn an_upgrade_gets_a_501_in_words_and_the_connection_goes_on() {
    let serving = serving();
    for way in WAYS {
        let mut client = open(&serving, way);
        for protocol in ["websocket", "TLS/1.2, HTTP/1.1", "foo/2"] {
            let answer = client.ask(&format!(
                "GET /1 HTTP/1.1\nHost: h.test\nConnection: Upgrade\nUpgrade: {protocol}\n\
                 Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
            ));
            assert_eq!(answer.status, 501, "{way} {protocol}");
            assert!(answer.text().contains("cannot upgrade"), "{}", answer.text());
        }
        assert_eq!(client.ask("GET /1 HTTP/1.1\nHost: h.test").text(), "answer 1", "{way}");
    }
}

#[test]
fn tunnels_lie_within_each_other_twice_and_then_get_a_501() {
    let serving = serving();
    let mut client = Http1(serving.connect());
    for (host, status) in [("a.test", 200), ("b.test", 200), ("h.test", 501)] {
        let answer = client.ask(&format!("CONNECT {host}:80 HTTP/1.1\nHost: {host}:80"));
        assert_eq!(answer.status, status, "{host}");
    }
    assert_eq!(client.ask("GET /1 HTTP/1.1\nHost: h.test").text(), "answer 1", "the tunnels are still open");
}

#[test]
fn framing_that_can_be_read_in_two_ways_is_refused() {
    let serving = serving();
    for head in [
        "POST /post HTTP/1.1\nHost: h.test\nContent-Length: 3\nContent-Length: 4",
        "POST /post HTTP/1.1\nHost: h.test\nContent-Length: three",
        "POST /post HTTP/1.1\nHost: h.test\nTransfer-Encoding: gzip",
        "GET /1 HTTP/1.1\nHost : h.test",
    ] {
        let mut client = open(&serving, "plain");
        assert_eq!(client.ask(head).status, 400, "{head}");
        assert!(client.is_closed(), "{head}");
    }
}

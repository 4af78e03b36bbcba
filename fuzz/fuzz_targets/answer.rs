//! Whatever bytes an origin answers with, what is recorded and replayed of them is one answer with none but its own fields.

#![no_main]

use std::{cell::RefCell, convert::Infallible};

use buildproxy_fuzz::{
    capture::policy::recorded_headers,
    inventory::{Entry, Inventory, parse, to_toml},
    proxy::hop_by_hop,
    replay::respond::respond,
};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    runtime::{Builder, Runtime},
};

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(Builder::new_current_thread().build().unwrap());
}

fuzz_target!(|bytes: &[u8]| {
    // The first byte says what was asked.
    let Some((&first, answer)) = bytes.split_first() else { return };
    let method = if first == b'H' { Method::HEAD } else { Method::GET };
    RUNTIME.with_borrow(|runtime| {
        runtime.block_on(async {
            if let Some((status, headers, body)) = captured(&method, answer).await {
                replayed(&method, status, &headers, body).await;
            }
        });
    });
});

/// The answer in `bytes`, as the client that asks origins reads it, with what a capture makes of its fields.
async fn captured(method: &Method, bytes: &[u8]) -> Option<(u16, HeaderMap, Bytes)> {
    let (near, mut far) = duplex(1 << 20);
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_headers(1000).allow_obsolete_multiline_headers_in_responses(true);
    let (mut sender, connection) = builder.handshake(TokioIo::new(near)).await.ok()?;
    let request = Request::builder().method(method).uri("/").header("host", "h.test");
    let request = request.body(Empty::<Bytes>::new()).ok()?;
    let origin = async {
        let _asked = far.read(&mut [0; 1024]).await;
        let _answered = far.write_all(bytes).await;
        let _ended = far.shutdown().await;
    };
    let exchange = async {
        let (parts, body) = sender.send_request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        drop(sender);
        Some((parts, body))
    };
    let (answer, _, ()) = tokio::join!(exchange, connection, origin);
    let (parts, body) = answer?;
    let mut headers = parts.headers;
    if headers.contains_key("transfer-encoding") {
        headers.remove("content-length");
    }
    hop_by_hop::say_length_once(&mut headers);
    hop_by_hop::strip(&mut headers);
    (200..600).contains(&parts.status.as_u16()).then_some((parts.status.as_u16(), headers, body))
}

/// Records the answer, reads it back from the inventory, and looks at every byte that a client gets.
async fn replayed(method: &Method, status: u16, headers: &HeaderMap, body: Bytes) {
    let mut entry = Entry::get("http://h.test/".parse().expect("a URL"));
    entry.method = method.clone();
    entry.status = status;
    entry.headers = recorded_headers(method, &entry.url, headers);
    let mut inventory = Inventory::default();
    inventory.entries.push(entry.clone());
    let written = to_toml(&inventory);
    let read = parse(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
    assert_eq!(read.entries, [entry], "{written}");

    let plan = respond(&read.entries[0], body.len() as u64, method, &HeaderMap::new());
    let names: Vec<String> = plan.headers.keys().map(|name| name.as_str().to_owned()).collect();
    let is_bare = method == Method::HEAD || matches!(status, 204 | 304);
    let body = if is_bare { Bytes::new() } else { body };
    let wire = sent(method, plan.status.as_u16(), plan.headers, body.clone()).await;
    assert!(!wire.is_empty(), "nothing is sent of\n{written}");
    check(&wire, &names, &body);
}

/// What hyper's server sends.
async fn sent(method: &Method, status: u16, headers: HeaderMap, body: Bytes) -> Vec<u8> {
    let (near, mut far) = duplex(1 << 20);
    let service = hyper::service::service_fn(move |_| {
        let mut response = Response::new(Full::new(body.clone()));
        *response.status_mut() = status.try_into().expect("a status");
        *response.headers_mut() = headers.clone();
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    let connection = builder.auto_date_header(false).serve_connection(TokioIo::new(near), service);
    let client = async {
        let request = format!("{method} / HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n\r\n");
        far.write_all(request.as_bytes()).await.expect("the server reads");
        let mut wire = Vec::new();
        let _ended = far.read_to_end(&mut wire).await;
        wire
    };
    let (_, wire) = tokio::join!(connection, client);
    wire
}

/// One head with `names` and framing alone, and behind it `body` and nothing else.
fn check(wire: &[u8], names: &[String], body: &[u8]) {
    let shown = || String::from_utf8_lossy(wire).into_owned();
    let end = wire.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or_else(|| panic!("{}", shown()));
    let (head, rest) = (&wire[..end], &wire[end + 4..]);
    let mut lines = head.split(|&byte| byte == b'\n');
    assert!(lines.next().is_some_and(|line| line.starts_with(b"HTTP/1.1 ")), "{}", shown());
    let mut lengths = 0;
    for line in lines {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.iter().position(|&byte| byte == b':').unwrap_or_else(|| panic!("{}", shown()));
        let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
        assert!(names.contains(&name) || matches!(&*name, "content-length" | "connection"), "{name} in {}", shown());
        assert!(line.iter().all(|&byte| byte == b'\t' || (byte >= 0x20 && byte != 0x7f)), "{}", shown());
        lengths += usize::from(name == "content-length");
    }
    assert!(lengths <= 1, "{}", shown());
    assert_eq!(rest, body, "{}", shown());
}

//! How long clients are waited for. Hours pass in no time here: the proxy runs in the test, by a clock that jumps to
//! whatever is waited for next.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use buildproxy::{CertificateAuthority, Listener};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep},
};

use crate::shows;

/// More than what sockets hold.
const LONG: usize = 32 << 20;

/// A proxy in front of a service that answers `GET` with [`LONG`] bytes and `POST` with what became of the body.
async fn proxy() -> SocketAddr {
    let service = Router::new().fallback(|request: Request| async move {
        if request.method() == "GET" {
            return Body::from(vec![b'x'; LONG]);
        }
        Body::from(match axum::body::to_bytes(request.into_body(), usize::MAX).await {
            Ok(body) => format!("{} bytes", body.len()),
            Err(error) => format!("not whole: {}", std::error::Error::source(&error).unwrap()),
        })
    });
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr();
    let ca = Arc::new(CertificateAuthority::new().unwrap());
    tokio::spawn(listener.serve(ca, service, std::future::pending(), Duration::ZERO));
    address
}

/// A client that has asked for the long answer, and reads through a small socket.
async fn asking(address: SocketAddr, request: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    stream
}

const HTTP1: &[u8] = b"GET http://h.test/ HTTP/1.1\r\nHost: h.test\r\n\r\n";
/// The preface, an empty SETTINGS frame, and a request on stream 1: GET, http, `/`, and the authority `h.test`.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
                       \0\0\x0b\x01\x05\0\0\0\x01\x82\x86\x84\x41\x06h.test";

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_of_its_answer_is_let_go() {
    for (name, request) in [("HTTP/1.1", HTTP1), ("HTTP/2", HTTP2)] {
        let mut stream = asking(proxy().await, request).await;
        sleep(Duration::from_secs(329)).await;
        // What sockets hold comes, and of HTTP/2 no more than the window that it begins with; then the server is at it
        // again, and has 30 seconds more.
        assert!(stream.read(&mut vec![0; 8 << 20]).await.unwrap() > 0, "{name}: it is still there");
        sleep(Duration::from_secs(400)).await;
        let mut rest = Vec::new();
        let _ended = stream.read_to_end(&mut rest).await;
        assert!(rest.len() < LONG / 2, "{name}: {} bytes", rest.len());
    }
    shows!(
        Replay,
        "HTTP/1.1 and HTTP/2, of which nothing is read, by a clock that jumps",
        "told to end after 300 s, closed 30 s later"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_some_of_its_answer_now_and_then_gets_it_all() {
    let start = Instant::now();
    let mut stream = asking(proxy().await, HTTP1).await;
    // The system takes more from the server only when a third of what it holds for the client is gone.
    let (mut received, mut buffer) = (0, vec![0; 4 << 20]);
    for _ in 0..7 {
        sleep(Duration::from_secs(290)).await;
        stream.read_exact(&mut buffer).await.unwrap();
        received += buffer.len();
    }
    stream.read_exact(&mut vec![0; LONG - received]).await.unwrap();
    shows!(
        Replay,
        "4 MiB of 32 MiB at a time, with nearly five minutes between, by a clock that jumps",
        "{} MiB in {} s",
        LONG >> 20,
        start.elapsed().as_secs()
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing_more_of_its_request_is_told_so() {
    for (framing, pieces, expected) in [
        ("Content-Length: 6", ["abc", "def"], "6 bytes"),
        ("Content-Length: 7", ["abc", "def"], "sent nothing more of its request's body for 300 seconds"),
        ("Transfer-Encoding: chunked", ["3\r\nabc\r\n", "3\r\ndef\r\n"], "sent nothing more of its"),
    ] {
        let mut stream = TcpStream::connect(proxy().await).await.unwrap();
        stream.write_all(format!("POST http://h.test/ HTTP/1.1\r\n{framing}\r\n\r\n").as_bytes()).await.unwrap();
        for piece in pieces {
            sleep(Duration::from_secs(290)).await;
            stream.write_all(piece.as_bytes()).await.unwrap();
        }
        let mut answer = vec![0; 512];
        let length = stream.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..length]);
        assert!(answer.contains(expected), "{framing}: {answer}");
    }
    shows!(
        Replay,
        "bodies with a length and chunked, of which a piece comes each 290 s, and then none, by a clock that jumps",
        "2 of 3 told that nothing more came for 300 s, the whole one answered"
    );
}

//! HTTP/2 origins that end a stream or the connection in the middle of a body.

use std::{io::Write, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{Reason, server};
use http::{Response, StatusCode};
use tokio::{net::TcpListener, runtime::Runtime, time::sleep};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};

use crate::{
    common::{Outcome, TestCa, Workdir, pattern, run, sri},
    shows,
    wire::WireOrigin,
};

type Connection = server::Connection<TlsStream<tokio::net::TcpStream>, Bytes>;

/// What goes wrong after the first half of a body of 5000 bytes.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The stream ends with this reason.
    Stream(Reason),
    /// The connection ends with this reason.
    Connection(Reason),
    /// TCP ends.
    Tcp,
    /// The stream ends as it should, with half of what was announced.
    Short,
    /// More comes than was announced.
    Long,
    /// Nothing: the connection takes no more requests, and the rest comes.
    Graceful,
}

/// An origin that answers `/good`, and what it announces the length of where that is in the path.
struct Http2Origin {
    address: SocketAddr,
    _runtime: Runtime,
}

impl Http2Origin {
    fn start(ca: &TestCa, fault: Fault) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let tls = TlsAcceptor::from(with_h2(ca));
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let tls = tls.clone();
                tokio::spawn(async move {
                    let Ok(stream) = tls.accept(tcp).await else { return };
                    let Ok(connection) = server::handshake(stream).await else { return };
                    serve(connection, fault).await;
                });
            }
        });
        Self { address, _runtime: runtime }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }
}

fn with_h2(ca: &TestCa) -> Arc<ServerConfig> {
    let mut config = (*ca.server_config()).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

async fn serve(mut connection: Connection, fault: Fault) {
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let path = request.uri().path().to_owned();
        let mut response = Response::builder().status(StatusCode::OK);
        if path == "/good" || path.starts_with("/announced") {
            response = response.header("content-length", 5000);
        }
        let mut body = respond.send_response(response.body(()).unwrap(), false).unwrap();
        if path == "/good" {
            body.send_data(pattern(5000).into(), true).unwrap();
            continue;
        }
        body.send_data(pattern(2500).into(), false).unwrap();
        // Until that is on its way.
        let _sent =
            tokio::time::timeout(Duration::from_millis(100), std::future::poll_fn(|cx| connection.poll_closed(cx)))
                .await;
        let rest = || Bytes::from(pattern(5000).split_off(2500));
        match fault {
            Fault::Stream(reason) => body.send_reset(reason),
            Fault::Connection(reason) => connection.abrupt_shutdown(reason),
            Fault::Tcp => return,
            Fault::Short => body.send_data(Bytes::new(), true).unwrap(),
            Fault::Long => body.send_data([rest(), rest()].concat().into(), true).unwrap(),
            Fault::Graceful => {
                connection.graceful_shutdown();
                let _ = tokio::time::timeout(
                    Duration::from_millis(100),
                    std::future::poll_fn(|cx| connection.poll_closed(cx)),
                )
                .await;
                body.send_data(rest(), true).unwrap();
            }
        }
    }
    // What is still to be said.
    sleep(Duration::from_millis(100)).await;
}

fn captured(ca: &TestCa, urls: [&str; 2]) -> (Workdir, Outcome) {
    let work = Workdir::new();
    let script = format!("curl -sS -m 60 -o got '{}'; echo $?; curl -sSf -m 60 -o good '{}'", urls[0], urls[1]);
    let outcome = run(work.capturing(&ca.pem).args(["--", "sh", "-uc", &script])).expect_code(0);
    assert_eq!(work.read("good"), pattern(5000), "{outcome}");
    (work, outcome)
}

#[test]
fn an_http2_origin_that_ends_a_stream_or_connection_in_the_middle_is_not_recorded() {
    let streams = [Reason::CANCEL, Reason::NO_ERROR, Reason::INTERNAL_ERROR, Reason::REFUSED_STREAM];
    let streams = streams.map(Fault::Stream);
    let connections = [Reason::INTERNAL_ERROR, Reason::NO_ERROR, Reason::ENHANCE_YOUR_CALM].map(Fault::Connection);
    let faults: Vec<Fault> = streams.into_iter().chain(connections).chain([Fault::Tcp]).collect();
    let ca = TestCa::new();
    let mut failed = Vec::new();
    for fault in &faults {
        for path in ["/announced", "/unannounced"] {
            let origin = Http2Origin::start(&ca, *fault);
            let (url, good) = (origin.url(path), origin.url("/good"));
            let (work, outcome) = captured(&ca, [&url, &good]);
            let is_said = outcome.stderr.contains(&format!("{url} is not recorded"));
            if outcome.text().starts_with("0\n") || !is_said || work.inventory().urls() != [&good] {
                failed.push(format!("{fault:?} {path}: {outcome}"));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    shows!(
        Capture,
        "RST_STREAM and GOAWAY with different reasons, and the end of TCP, in the middle of a body over HTTP/2",
        "{} faults, with and without an announced length; none recorded, the client saw each",
        faults.len()
    );
}

#[test]
fn a_fetch_over_http2_that_breaks_off_is_not_taken_for_a_changed_file() {
    let ca = TestCa::new();
    let (origin, work) = (Http2Origin::start(&ca, Fault::Stream(Reason::NO_ERROR)), Workdir::new());
    let hash = sri(&pattern(5000));
    for path in ["/announced", "/unannounced"] {
        let entry = format!(
            "[[entry]]\nurl = \"{}\"\nbody = {{ hash = \"{hash}\", size = 5000, name = \"a\" }}",
            origin.url(path)
        );
        work.write("inventory.toml", format!("version = 1\n{entry}\n"));
        work.write("ca.pem", &ca.pem);
        for arguments in [&["fetch"][..], &["verify", "--refetch"]] {
            let mut command = work.command(env!("CARGO_BIN_EXE_buildproxy"));
            command.args(arguments).env("BUILDPROXY_STORE", work.store()).env("SSL_CERT_FILE", work.path("ca.pem"));
            let outcome = run(&mut command).expect_code(1);
            outcome.expect_stderr(&[&origin.url(path), "the answer did not arrive whole"]);
        }
    }
}

#[test]
fn a_length_that_http2_makes_a_lie_of_is_not_recorded() {
    let ca = TestCa::new();
    for fault in [Fault::Short, Fault::Long] {
        let origin = Http2Origin::start(&ca, fault);
        let (url, good) = (origin.url("/announced"), origin.url("/good"));
        let (work, outcome) = captured(&ca, [&url, &good]);
        assert!(!outcome.text().starts_with("0\n"), "{fault:?}: {outcome}");
        assert_eq!(work.inventory().urls(), [&good], "{fault:?}");
        outcome.expect_stderr(&["/announced is not recorded"]);
    }
}

#[test]
fn what_comes_whole_from_a_connection_that_is_going_away_is_recorded() {
    let ca = TestCa::new();
    for path in ["/announced", "/unannounced"] {
        let origin = Http2Origin::start(&ca, Fault::Graceful);
        let (url, good) = (origin.url(path), origin.url("/good"));
        let (work, outcome) = captured(&ca, [&url, &good]);
        assert!(outcome.text().starts_with("0\n"), "{outcome}");
        assert_eq!(work.inventory().one(&url).size(), Some(5000));
        assert_eq!(work.read("got"), pattern(5000));
    }
}

#[test]
fn endless_headers_over_http2_end_in_little_memory() {
    let ca = TestCa::new();
    let config = with_h2(&ca);
    let origin = WireOrigin::raw("https", move |tcp| {
        let session =
            tokio_rustls::rustls::ServerConnection::new(Arc::clone(&config)).map_err(std::io::Error::other)?;
        let mut tls = tokio_rustls::rustls::StreamOwned::new(session, tcp);
        // SETTINGS, and the acknowledgement of the client's.
        tls.write_all(b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0")?;
        // Half of a header block: `:status: 200`, and then fields as literals, in frames that never say END_HEADERS.
        let field = [&b"\0\x05x-odd\x20"[..], &[b'a'; 32]].concat().repeat(400);
        let mut frame = |kind: u8, payload: &[u8]| {
            let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
            tls.write_all(&[&length[1..], &[kind, 0, 0, 0, 0, 1], payload].concat())
        };
        std::thread::sleep(Duration::from_millis(100));
        frame(1, &[0x88])?;
        (0..100_000_000 / field.len()).try_for_each(|_| frame(9, &field))
    });
    let work = Workdir::new();
    let url = origin.url("/flood");
    let script = format!("curl -sS -m 60 -w ' %{{http_code}}' '{url}'");
    let outcome = run(work.capturing(&ca.pem).args(["--", "sh", "-uc", &script])).expect_code(0);
    assert!(outcome.text().ends_with(" 502"), "{outcome}");
    assert!(outcome.peak_kib < 64 << 10, "{} KiB", outcome.peak_kib);
    assert!(work.inventory().urls().is_empty());
    let peak = outcome.peak_kib;
    outcome.expect_stderr(&["/flood is not recorded"]);
    shows!(Capture, "a header of 100 MB in CONTINUATION frames", "a 502, {peak} KiB of memory");
}

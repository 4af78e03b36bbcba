//! Large bodies over TLS, by HTTP/1.1 and HTTP/2: every byte, in full records, whatever happens to file and client on the
//! way.

#![cfg(target_os = "linux")]

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::FileExt,
    process::Stdio,
    thread::{self, JoinHandle},
};

use crate::common::{
    Sending,
    http1::Http1,
    http2::{Client, WAYS, chunk, whole},
    pattern,
    process::wait_for,
    run,
    sending::{BODY, read_head},
    sri,
};
use http::Method;
use tokio_rustls::rustls::{
    HandshakeKind,
    version::{TLS12, TLS13},
};

/// The answer's status and body by HTTP/2, of a range where one is given.
async fn get_h2(client: &Client, range: Option<&str>) -> (u16, Vec<u8>) {
    let mut request = client.request(Method::GET, BODY);
    if let Some(range) = range {
        request.headers_mut().insert("range", range.parse().unwrap());
    }
    let answer = client.send(request).await.unwrap();
    (answer.status().as_u16(), whole(answer.into_body()).await)
}

#[tokio::test]
async fn bodies_and_ranges_arrive_byte_for_byte_by_every_way_from_the_disk_and_from_memory() {
    let bytes = pattern((9 << 20) + 4321);
    let sending = Sending::of_bytes(&bytes);
    let parts = [0..bytes.len(), 5..300_006, (4 << 20) - 1..(8 << 20) + 1, bytes.len() - 70_000..bytes.len()];
    for part in parts {
        let range = format!("bytes={}-{}", part.start, part.end - 1);
        for is_cold in [true, false] {
            for scheme in ["http", "https"] {
                if is_cold {
                    sending.make_cold();
                }
                let (head, body) = sending.get(scheme, &format!("Range: {range}\r\n"));
                assert!(head.starts_with("HTTP/1.1 206") && body == bytes[part.clone()], "{scheme} {part:?} {is_cold}");
            }
            for way in WAYS {
                if is_cold {
                    sending.make_cold();
                }
                let (status, body) = get_h2(&Client::open(&sending.serving, way).await, Some(&range)).await;
                assert!(status == 206 && body == bytes[part.clone()], "HTTP/2, {way} {part:?} {is_cold}");
            }
        }
    }
}

#[tokio::test]
async fn offsets_beyond_four_gibibytes_are_read_from_the_right_place() {
    const SIZE: u64 = 5 << 30;
    let marks = [(1 << 31) - 3, (1 << 32) - 3, SIZE - 6];
    let sending = Sending::of(&[(sri(b"sparse"), SIZE)], |_, file| {
        file.set_len(SIZE).unwrap();
        marks.iter().for_each(|&mark| file.write_all_at(b"marked", mark).unwrap());
    });
    let client = Client::open(&sending.serving, "tls").await;
    for mark in marks {
        let range = format!("bytes={}-{}", mark - 1_000_000, mark + 5);
        let (head, http1) = sending.get("https", &format!("Range: {range}\r\n"));
        assert!(head.starts_with("HTTP/1.1 206"), "{head}");
        for body in [http1, get_h2(&client, Some(&range)).await.1] {
            assert!(body.len() == 1_000_006 && body.ends_with(b"\0marked"), "at {mark}");
        }
    }
}

#[tokio::test]
async fn a_file_that_is_replaced_is_sent_to_its_end_as_it_was() {
    let bytes = pattern(32 << 20);
    let sending = Sending::of_bytes(&bytes);
    let client = Client::open(&sending.serving, "tls").await;
    let h2 = client.get(BODY).await.into_body();
    let mut http1 = sending.ask("https", "");
    read_head(&mut http1);
    let other = sending.serving.work.path("other");
    fs::write(&other, vec![0; bytes.len()]).unwrap();
    fs::rename(&other, &sending.files[0]).unwrap();
    let mut body = Vec::new();
    http1.read_to_end(&mut body).unwrap();
    assert!(body == bytes);
    assert!(whole(h2).await == bytes);
}

#[tokio::test]
async fn a_file_that_is_cut_short_ends_its_answers_early_and_not_the_server() {
    let bytes = pattern(64 << 20);
    let sending = Sending::of_bytes(&bytes);
    let client = Client::open(&sending.serving, "tls").await;
    let mut h2 = client.get(BODY).await.into_body();
    let mut http1 = sending.ask("https", "");
    read_head(&mut http1);
    File::options().write(true).open(&sending.files[0]).unwrap().set_len(32 << 20).unwrap();
    let mut part = Vec::new();
    let error = http1.read_to_end(&mut part).unwrap_err();
    assert!(part.len() < bytes.len() && bytes.starts_with(&part), "{} bytes, then {error}", part.len());
    let mut received = 0;
    let reset = loop {
        match chunk(&mut h2).await.expect("no end of the stream as if that were all") {
            Ok(more) => received += more.len(),
            Err(error) => break error,
        }
    };
    assert!(reset.is_reset() && received <= 32 << 20, "{reset}");
    let (head, body) = sending.get("https", "");
    assert!(head.starts_with("HTTP/1.1 500") && body.starts_with(b"buildproxy:"), "{head}");
    let (status, body) = get_h2(&client, None).await;
    assert!(status == 500 && body.starts_with(b"buildproxy:"), "the other streams of the connection go on");
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let bytes = pattern(32 << 20);
    let sending = Sending::of_bytes(&bytes);
    assert!(sending.get("https", "").1 == bytes);
    let before = sending.descriptors();
    for _ in 0..10 {
        sending.ask("https", "").read_exact(&mut [0; 50_000]).unwrap();
        let client = Client::open(&sending.serving, "straight").await;
        let mut body = client.get(BODY).await.into_body();
        chunk(&mut body).await.unwrap().unwrap();
        client.connection.abort();
        drop(body);
    }
    // Connections are only gone when the tasks that drive them are.
    tokio::task::yield_now().await;
    wait_for("the descriptors to go", || (sending.descriptors() <= before).then_some(()));
    assert!(sending.get("https", "").1 == bytes);
}

/// Passes a connection on to `address`. The thread gives the lengths of the TLS records that came back, with their heads.
fn relay(address: SocketAddr) -> (SocketAddr, JoinHandle<Vec<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap();
    let relaying = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut server = TcpStream::connect(address).unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let upstream = thread::spawn(move || {
            let _copied = std::io::copy(&mut from, &mut to);
            let _closed = to.shutdown(Shutdown::Both);
        });
        let (mut records, mut record) = (Vec::new(), Vec::new());
        loop {
            record.resize(5, 0);
            if server.read_exact(&mut record).is_err() {
                break;
            }
            record.resize(5 + usize::from(u16::from_be_bytes([record[3], record[4]])), 0);
            server.read_exact(&mut record[5..]).unwrap();
            records.push(record.len());
            if client.write_all(&record).is_err() {
                break;
            }
        }
        let _closed = client.shutdown(Shutdown::Both);
        upstream.join().unwrap();
        records
    });
    (here, relaying)
}

#[test]
fn large_bodies_come_in_full_records() {
    // Of TLS 1.3 with AES-GCM: head, 16 KiB, kind, tag (RFC 8446 §5.2).
    const FULL: usize = 5 + (16 << 10) + 1 + 16;
    let bytes = pattern(16 << 20);
    let sending = Sending::of_bytes(&bytes);
    for (version, carried) in [("--http1.1", 16 << 10), ("--http2", (16 << 10) - 9)] {
        let (here, relaying) = relay(sending.serving.address);
        let mut curl = sending.serving.work.command("curl");
        curl.args(["-q", "-sSf", version, "--tlsv1.3", "-o", "got", "--cacert"]).arg(&sending.serving.ca_file);
        run(curl.arg("--connect-to").arg(format!("h.test:443:{here}")).arg(format!("https://h.test/{BODY}")))
            .expect_code(0);
        assert!(sending.serving.work.read("got") == bytes, "{version}");
        let records = relaying.join().unwrap();
        let full = records.iter().filter(|&&length| length == FULL).count();
        // Before and behind them are the handshake, the heads, and what the body leaves.
        let others = records.len() - full;
        assert!(full + 12 > bytes.len() / carried && others < 40, "{version}: {full} full and {others} other records");
    }
}

#[test]
fn sessions_are_resumed_by_rustls_and_by_openssl() {
    let sending = Sending::of_bytes(b"a body");
    for version in [&TLS13, &TLS12] {
        // Both handshakes are one client's, which keeps the sessions.
        let config = sending.serving.tls_of(&[version], &["http/1.1"]);
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut client = sending.encrypted(sending.serving.connect(), config.clone());
            let answer = Http1(&mut client).ask(&format!("GET /{BODY} HTTP/1.1\nHost: h.test"));
            assert_eq!(answer.text(), "a body");
            assert_eq!(client.conn.handshake_kind(), Some(expected), "{version:?}");
        }
    }
    let request = format!("GET /{BODY} HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n\r\n");
    sending.serving.work.write("request", &request);
    for version in ["-tls1_3", "-tls1_2"] {
        for (option, expected) in [("-sess_out", "New, TLSv1."), ("-sess_in", "Reused, TLSv1.")] {
            let mut openssl = sending.serving.work.command("sh");
            let script = format!(
                "openssl s_client -connect {} -servername h.test -CAfile {} -verify_return_error {version} {option} session \
                 -ign_eof < request",
                sending.serving.address,
                sending.serving.ca_file.display()
            );
            let outcome = run(openssl.args(["-euc", &script]).stderr(Stdio::null())).expect_code(0);
            // The key of the certificate is one on a curve, of 256 bits: P-256.
            for part in [expected, "Server public key is 256 bit", "a body"] {
                assert!(outcome.text().contains(part), "{version} {option}: no `{part}` in {outcome}");
            }
        }
    }
}

#[test]
fn a_client_that_takes_http2_and_speaks_http1_gets_its_answers_and_a_tunnel() {
    let sending = Sending::of_bytes(b"a body");
    let mut client = sending.encrypted(sending.serving.connect(), sending.serving.tls(&["h2"]));
    let answer = Http1(&mut client).ask(&format!("GET /{BODY} HTTP/1.1\nHost: h.test"));
    assert_eq!(answer.text(), "a body");
    assert_eq!(client.conn.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(Http1(&mut client).ask("CONNECT h.test:80 HTTP/1.1\nHost: h.test:80").status, 200);
    let answer = Http1(&mut client).ask(&format!("GET /{BODY} HTTP/1.1\nHost: h.test"));
    assert_eq!(answer.text(), "a body");
}

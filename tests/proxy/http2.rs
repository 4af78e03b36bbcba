//! HTTP/2: through a tunnel, by TLS straight to the port, and in plain text with prior knowledge.

use std::{fmt::Write as _, process::Command, sync::Arc, time::Duration};

use crate::{
    common::{
        Serving, Workdir,
        http2::{Client, WAYS, asynchronous, chunk, whole},
        process::peak_kib_of,
        run,
        serving::{sparse_entry, text_entry},
        sri,
    },
    shows,
};
use bytes::Bytes;
use h2::{RecvStream, client};
use http::{Method, Request, Response, StatusCode, Version};

const HUGE: u64 = 4 << 30;
/// What h2load asks for, and two uploads' size.
const SIZES: [(&str, usize); 3] = [("empty", 0), ("kib", 1 << 10), ("mib", 1 << 20)];
const UPLOAD: usize = 5 << 20;

fn serving() -> Serving {
    serving_by(|_| {})
}

/// The same by a command that `change` completes.
fn serving_by(change: impl FnOnce(&mut Command)) -> Serving {
    let work = Workdir::new();
    let mut inventory = String::new();
    for scheme in ["http", "https"] {
        let url = |path: &str| format!("{scheme}://h.test/{path}");
        inventory += &sparse_entry(&work, &url("huge"), "huge", HUGE);
        for (name, size) in SIZES {
            inventory += &sparse_entry(&work, &url(name), name, size as u64);
        }
        inventory += &text_entry(&url("text"), "some text");
        let _written = writeln!(inventory, "[entry.headers]\netag = '\"v1\"'\nx-kept = \"yes\"");
        let _written = writeln!(inventory, "[[entry]]\nurl = \"{}\"\nstatus = 204", url("nothing"));
        let _written = writeln!(
            inventory,
            "[[entry]]\nurl = \"{}\"\nredirects = [{{ status = 302, location = \"/text\" }}]\n\
             body = {{ hash = {:?}, size = 0, text = \"\" }}",
            url("moved"),
            sri(b"")
        );
        let _written = writeln!(
            inventory,
            "[[entry]]\nmethod = \"POST\"\nurl = \"{}\"\nrequest-body = {:?}\n\
             body = {{ hash = {:?}, size = 4, text = \"made\" }}",
            url("post"),
            sri(&vec![b'x'; UPLOAD]),
            sri(b"made")
        );
    }
    for url in ["https://h.test:8443/text", "https://o.test/text"] {
        inventory += &text_entry(url, url);
    }
    Serving::start_in(work, &inventory, change)
}

#[tokio::test]
async fn a_small_answer_does_not_wait_for_a_huge_one_on_the_same_connection() {
    let serving = serving();
    for way in ["tls", "plain"] {
        // What the HTTP/2 standard begins with, and what clients that want throughput announce.
        for window in [(1 << 16) - 1, 32 << 20] {
            let mut builder = client::Builder::new();
            builder.initial_window_size(window).initial_connection_window_size(window);
            let client = Client::open_with(&serving, way, &builder).await;
            let mut huge = client.get("huge").await.into_body();
            let mut received = 0;
            while received < 1 << 20 {
                received += chunk(&mut huge).await.unwrap().unwrap().len() as u64;
            }
            let twenty = async {
                for _ in 0..20 {
                    assert_eq!(whole(client.get("kib").await.into_body()).await.len(), 1 << 10);
                }
            };
            tokio::pin!(twenty);
            loop {
                tokio::select! {
                    biased;
                    () = &mut twenty => break,
                    more = chunk(&mut huge) => received += more.unwrap().unwrap().len() as u64,
                }
            }
            // Each of the twenty may wait for what was on its way before it: a window, and what sockets hold.
            assert!(received < HUGE / 2, "{way}, window {window}: they came behind {received} bytes");
            drop(huge);
            assert_eq!(whole(client.get("text").await.into_body()).await, b"some text", "the connection is of use");
        }
    }
}

#[tokio::test]
async fn streams_that_nobody_reads_take_bounded_memory() {
    const STREAMS: usize = 200;
    let serving = serving_by(|command| {
        // Else the allocator keeps the more memory the more cores there are.
        command.env("MALLOC_ARENA_MAX", "2");
    });
    let mut builder = client::Builder::new();
    builder.initial_window_size(1 << 30).initial_connection_window_size(1 << 30).initial_max_send_streams(STREAMS);
    let (mut requests, connection) = builder.handshake::<_, Bytes>(asynchronous(serving.connect())).await.unwrap();
    tokio::pin!(connection);
    let mut heads = tokio::task::JoinSet::new();
    for _ in 0..STREAMS {
        let request = Request::builder().uri("http://h.test/huge").body(()).unwrap();
        heads.spawn(requests.send_request(request, true).unwrap().0);
    }
    let mut answers = Vec::new();
    while answers.len() < STREAMS {
        tokio::select! {
            biased;
            Some(head) = heads.join_next() => answers.push(head.unwrap().unwrap()),
            ended = &mut connection => panic!("{ended:?}"),
        }
    }
    // From here on nothing is read, of 200 GiB that the client has announced room for.
    let (mut peak, mut unchanged) = (0, 0);
    while unchanged < 20 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = peak_kib_of(serving.server.0.id());
        unchanged = if now == peak { unchanged + 1 } else { 0 };
        peak = now;
    }
    assert!(peak < 150 << 10, "{peak} KiB");
    shows!(
        Load,
        "one connection of HTTP/2 with windows of 1 GiB, 200 bodies of 4 GiB asked for and none read",
        "peak {} MiB",
        peak >> 10
    );
}

#[tokio::test]
async fn a_thousand_requests_at_once_are_all_answered() {
    let serving = serving();
    for way in WAYS {
        let client = Arc::new(Client::open(&serving, way).await);
        // With the first answer the client knows how many streams it can have; it refuses itself what is above.
        assert_eq!(client.get("empty").await.status(), 200);
        let mut answers = tokio::task::JoinSet::new();
        for n in 0..1000 {
            let (name, size) = SIZES[usize::from(n % 50 == 0) + usize::from(n % 2 == 0)];
            let client = Arc::clone(&client);
            answers.spawn(async move { (whole(client.get(name).await.into_body()).await.len(), size) });
        }
        while let Some(answer) = answers.join_next().await {
            let (length, size) = answer.unwrap();
            assert_eq!(length, size, "{way}");
        }
        assert_eq!(client.requests.current_max_send_streams(), 200, "{way}");
    }
}

#[tokio::test]
async fn an_answer_without_content_ends_with_its_head() {
    let serving = serving();
    for way in WAYS {
        let client = Client::open(&serving, way).await;
        let length = |answer: &Response<RecvStream>| {
            answer.headers().get("content-length").map(|value| value.to_str().unwrap().to_owned())
        };
        for (method, path, field, status, expected) in [
            (Method::HEAD, "text", None, 200, Some("9")),
            (Method::HEAD, "huge", None, 200, Some("4294967296")),
            (Method::HEAD, "nothing", None, 204, None),
            (Method::HEAD, "moved", None, 302, None),
            (Method::GET, "nothing", None, 204, None),
            (Method::GET, "empty", None, 200, Some("0")),
            (Method::GET, "text", Some(("if-none-match", "\"v1\"")), 304, None),
            (Method::HEAD, "text", Some(("if-none-match", "\"v1\"")), 304, None),
        ] {
            let mut request = client.request(method.clone(), path);
            if let Some((name, value)) = field {
                request.headers_mut().insert(name, value.parse().unwrap());
            }
            let answer = client.send(request).await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{way} {method} {path}");
            assert!(answer.body().is_end_stream(), "{way} {method} {path}: no DATA frame, not even an empty one");
            if path != "moved" {
                assert_eq!(length(&answer).as_deref(), expected, "{way} {method} {path}");
            }
        }
        for (path, range, status, body) in [
            ("text", "bytes=5-", 206, &b"text"[..]),
            ("text", "bytes=-4", 206, b"text"),
            ("text", "bytes=9-", 416, b""),
            ("huge", "bytes=4294967290-", 206, &[0; 6]),
        ] {
            let mut request = client.request(Method::GET, path);
            request.headers_mut().insert("range", range.parse().unwrap());
            let answer = client.send(request).await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{way} {range}");
            assert_eq!(length(&answer), Some(body.len().to_string()), "{way} {range}");
            assert_eq!(whole(answer.into_body()).await, body, "{way} {range}");
        }
    }
}

#[tokio::test]
async fn an_upload_larger_than_every_window_is_read_and_matched() {
    let serving = serving();
    for way in WAYS {
        let client = Client::open(&serving, way).await;
        let request = client.request(Method::POST, "post");
        let (answer, mut body) = client.requests.clone().ready().await.unwrap().send_request(request, false).unwrap();
        body.send_data(Bytes::from(vec![b'x'; UPLOAD]), true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(whole(answer.into_body()).await, b"made", "{way}");
    }
}

#[tokio::test]
async fn authority_and_host_have_one_answer_each() {
    let serving = serving();
    let builder = client::Builder::new();
    let client = Client::open_to(&serving, "tls", "h.test:443", &builder).await;
    let other = Client::open_to(&serving, "tls", "h.test:8443", &builder).await;
    let (text, port, o) = ("some text", "https://h.test:8443/text", "https://o.test/text");
    for (client, uri, host, status, expected) in [
        (&client, "https://h.test/text", None, 200, text),
        (&client, "https://H.Test.:443/text", None, 200, text),
        (&client, "https://h.test/text", Some("H.test.:443"), 200, text),
        (&client, "https://o.test/text", None, 200, o),
        // Without :authority, Host says it (RFC 9113 §8.3.1), and without both CONNECT does.
        (&client, "/text", Some("h.test"), 200, text),
        (&client, "/text", Some("o.test:443"), 200, o),
        (&client, "/text", None, 200, text),
        (&other, "/text", None, 200, port),
        (&other, "https://h.test/text", None, 200, port),
        (&other, "https://h.test/text", Some("h.test"), 200, port),
        (&other, "https://o.test/text", None, 200, o),
        // The scheme is what the request says, at the port that it was sent to.
        (&client, "http://h.test/text", None, 404, "GET http://h.test:443/text"),
        // Both, and different.
        (&client, "https://h.test/text", Some("o.test"), 400, "`h.test` but its Host header says `o.test`"),
        (&client, "https://h.test/text", Some("h.test:8443"), 400, "`h.test` but its Host header"),
    ] {
        // Only a request of HTTP/1.1, passed on, may be without :authority; it is sent as HTTP/2 all the same.
        let version = if uri.starts_with('/') { Version::HTTP_11 } else { Version::HTTP_2 };
        let mut request = Request::builder().uri(uri).version(version);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let answer = client.send(request.body(()).unwrap()).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{uri} {host:?}");
        let got = String::from_utf8(whole(answer.into_body()).await).unwrap();
        assert!(got.contains(expected), "{uri} {host:?}: {got}");
    }
}

#[tokio::test]
async fn the_proxys_own_answers_to_head_have_no_content() {
    let serving = serving();
    let client = Client::open(&serving, "tls").await;
    for (path, host, status) in [("text", Some("o.test"), 400), ("absent", None, 404)] {
        let mut request = client.request(Method::HEAD, path);
        if let Some(host) = host {
            request.headers_mut().insert("host", host.parse().unwrap());
        }
        let answer = client.send(request).await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        assert_ne!(answer.headers().get("content-length").map(http::HeaderValue::as_bytes), Some(&b"0"[..]));
        assert_eq!(whole(answer.into_body()).await, b"");
    }
}

#[tokio::test]
async fn connect_and_extended_connect_get_a_501_in_words() {
    let serving = serving();
    for way in WAYS {
        let client = Client::open(&serving, way).await;
        assert_eq!(client.get("text").await.status(), 200);
        assert!(client.requests.is_extended_connect_protocol_enabled(), "else a client could not ask and be answered");
        let mut websocket = client.request(Method::CONNECT, "chat");
        websocket.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        let tunnel = Request::builder().method(Method::CONNECT).uri("h.test:443").body(()).unwrap();
        for (request, words) in [(websocket, "cannot upgrade to `websocket`"), (tunnel, "use HTTP/1.1")] {
            let answer = client.send(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::NOT_IMPLEMENTED, "{way}: {words}");
            let text = String::from_utf8(whole(answer.into_body()).await).unwrap();
            assert!(text.contains(words), "{way}: {text}");
        }
        assert_eq!(client.get("text").await.status(), 200, "{way}: the connection goes on");
    }
}

#[tokio::test]
async fn a_server_that_ends_says_goaway_and_lets_streams_end() {
    for way in WAYS {
        let mut serving = serving();
        // What is not read of one stream must not use up the window of the connection.
        let mut builder = client::Builder::new();
        builder.initial_connection_window_size(16 << 20);
        let client = Client::open_with(&serving, way, &builder).await;
        let (huge, mib) = (client.get("huge").await, client.get("mib").await);
        let (mut mib, mut received) = (mib.into_body(), 0);
        // What is left of it is more than a window, and yet takes no time.
        while received < (1 << 20) - (100 << 10) {
            received += chunk(&mut mib).await.unwrap().unwrap().len();
        }
        serving.server.signal(rustix::process::Signal::TERM);
        let refused = loop {
            // Until the news is here, requests are answered.
            match client.send(client.request(Method::GET, "kib")).await {
                Ok(answer) => assert_eq!(whole(answer.into_body()).await.len(), 1 << 10),
                Err(error) => break error,
            }
        };
        assert!(refused.is_go_away() && refused.is_remote(), "{way}: {refused}");
        assert_eq!(refused.reason(), Some(h2::Reason::NO_ERROR), "{way}");
        assert_eq!(received + whole(mib).await.len(), 1 << 20, "{way}: what was begun ends");
        let code = tokio::task::spawn_blocking(move || serving.server.wait(Duration::from_secs(10)));
        let mut huge = huge.into_body();
        let mut received = 0;
        while let Some(Ok(more)) = chunk(&mut huge).await {
            received += more.len() as u64;
        }
        assert!(received < HUGE, "{way}: what takes for ever is cut off");
        assert_eq!(code.await.unwrap(), Some(0), "{way}: it ends");
        let _ended = client.connection.await.unwrap();
    }
}

#[test]
fn h2load_sees_no_failed_stream() {
    let serving = serving();
    for (scheme, names, requests) in [
        ("https", &["empty", "kib"][..], 4000),
        ("https", &["mib"], 200),
        ("https", &["empty", "kib", "mib"], 600),
        ("http", &["empty", "kib", "mib"], 600),
    ] {
        let mut h2load = serving.work.command("h2load");
        h2load.args(["-n", &requests.to_string(), "-c", "4", "-m", "100", "-t", "1"]);
        h2load.arg(format!("--connect-to={}", serving.address));
        h2load.args(names.iter().map(|name| format!("{scheme}://h.test/{name}")));
        let outcome = run(&mut h2load).expect_code(0);
        for part in [
            format!("{requests} succeeded, 0 failed, 0 errored, 0 timeout"),
            format!("status codes: {requests} 2xx, 0 3xx, 0 4xx, 0 5xx"),
        ] {
            assert!(outcome.text().contains(&part), "{outcome}");
        }
    }
}

#[test]
fn nghttp_finds_every_frame_in_order() {
    let serving = serving();
    let urls = SIZES.map(|(name, _)| format!("http://{}/{name}", serving.address));
    let mut nghttp = serving.work.command("nghttp");
    let outcome = run(nghttp.args(["-nv", "-H:authority: h.test"]).args(urls)).expect_code(0);
    let count = |part: &str| outcome.text().matches(part).count();
    assert_eq!((count(":status: 200"), count("; END_STREAM")), (3, 6), "{outcome}");
    for wrong in ["RST_STREAM", "recv GOAWAY", "_ERROR(0x01)", "INVALID"] {
        assert_eq!((count(wrong), outcome.stderr.as_str()), (0, ""), "{wrong} in {outcome}");
    }
}

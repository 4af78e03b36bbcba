//! Every answer ends where it says, so that the next one on the connection is understood.

use super::*;

const URL: &str = "http://example.org/a";

#[test]
fn head_then_get_on_one_connection_keep_their_framing() {
    let server = serve(vec![with_headers(get(URL, "0123456789"), &[("etag", r#""a""#)])]);
    let mut client = server.client();
    let head = client.ask(&format!("HEAD {URL}"), "");
    assert!(client.is_quiet());
    let got = client.ask(&format!("GET {URL}"), "");
    assert_eq!(head.head, got.head);
    assert_eq!((head.header("content-length"), got.text()), (Some("10"), "0123456789"));
}

#[test]
fn the_same_request_twice_gets_the_same_bytes_and_nothing_is_added() {
    let server = serve(vec![with_headers(get(URL, "hello"), &[("x-b", "1"), ("x-a", "2"), ("x-b", "3")])]);
    let ask = |fields: &str| {
        let mut client = server.client();
        client.send(format!("GET {URL} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{fields}\r\n").as_bytes());
        let mut bytes = String::new();
        client.0.read_to_string(&mut bytes).unwrap();
        bytes
    };
    let first = ask("");
    assert_eq!(first, ask(""));
    let mut lines: Vec<&str> = first.split("\r\n").collect();
    lines[1..6].sort_unstable();
    let framing = ["connection: close", "content-length: 5"];
    assert_eq!(lines[..8], ["HTTP/1.1 200 OK", framing[0], framing[1], "x-a: 2", "x-b: 1", "x-b: 3", "", "hello"]);
    let ranges = "Range: bytes=0-0,-1\r\n";
    assert_eq!(ask(ranges), ask(ranges));
}

#[test]
fn ranges_are_cut_from_the_recorded_body() {
    let server = serve(vec![with_headers(get(URL, "0123456789"), &[("content-type", "text/x")])]);
    let mut client = server.client();
    for (range, status, body, content_range) in [
        ("bytes=2-4", 206, "234", Some("bytes 2-4/10")),
        ("bytes=-3", 206, "789", Some("bytes 7-9/10")),
        ("bytes=9-", 206, "9", Some("bytes 9-9/10")),
        ("bytes=0-99", 206, "0123456789", Some("bytes 0-9/10")),
        ("bytes=10-", 416, "", Some("bytes */10")),
        ("lines=1-2", 200, "0123456789", None),
    ] {
        let answer = client.ask(&format!("GET {URL}"), &format!("Range: {range}\r\n"));
        assert_eq!((answer.status, answer.text(), answer.header("content-range")), (status, body, content_range));
    }
    let answer = client.ask(&format!("GET {URL}"), "Range: bytes=0-0,8-\r\n");
    let kind = answer.header("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let part = |range: &str, bytes: &str| {
        format!("\r\n--{boundary}\r\nContent-Type: text/x\r\nContent-Range: bytes {range}/10\r\n\r\n{bytes}")
    };
    let expected = format!("{}{}\r\n--{boundary}--\r\n", part("0-0", "0"), part("8-9", "89"));
    assert_eq!((answer.status, answer.text()), (206, expected.as_str()));
}

#[test]
fn conditions_give_a_304_without_length_or_body() {
    let date = "Tue, 02 Jan 2024 00:00:00 GMT";
    let server = serve(vec![with_headers(get(URL, "hello"), &[("etag", r#""a""#), ("last-modified", date)])]);
    let mut client = server.client();
    for condition in [r#"If-None-Match: W/"a""#.to_owned(), format!("If-Modified-Since: {date}")] {
        for method in ["GET", "HEAD"] {
            let answer = client.ask(&format!("{method} {URL}"), &format!("{condition}\r\n"));
            assert_eq!((answer.status, answer.header("etag")), (304, Some(r#""a""#)));
            assert_eq!((answer.header("content-length"), answer.header("transfer-encoding")), (None, None));
        }
    }
    assert_eq!(client.ask(&format!("GET {URL}"), "If-Match: \"b\"\r\n").status, 412);
    assert!(client.is_quiet());
    assert_eq!(client.ask(&format!("GET {URL}"), "").text(), "hello");
}

#[test]
fn answers_without_content_have_no_length() {
    let no_content = Entry { status: 204, ..Entry::get(URL.parse().unwrap()) };
    let untold = Entry { method: http::Method::HEAD, ..Entry::get("http://h/untold".parse().unwrap()) };
    let told = with_headers(untold.clone(), &[("content-length", "1234567")]);
    let told = Entry { url: "http://h/told".parse().unwrap(), ..told };
    let server = serve(vec![no_content, untold, told, get("http://h/get", "hello")]);
    let mut client = server.client();
    let length = |answer: &Answer| answer.header("content-length").map(str::to_owned);
    for method in ["GET", "HEAD"] {
        let answer = client.ask(&format!("{method} {URL}"), "");
        assert_eq!((answer.status, length(&answer)), (204, None));
    }
    assert_eq!(length(&client.ask("HEAD http://h/untold", "")), None);
    assert_eq!(length(&client.ask("HEAD http://h/told", "")).as_deref(), Some("1234567"));
    assert_eq!(client.ask("GET http://h/get", "").text(), "hello");
}

#[test]
fn errors_are_answered_with_their_recorded_bodies() {
    let empty = Entry::get("http://h/empty".parse().unwrap());
    let server = serve(vec![
        Entry { status: 404, ..get("http://h/absent", "not here") },
        Entry { status: 410, ..Entry::get("http://h/gone".parse().unwrap()) },
        empty,
    ]);
    let mut client = server.client();
    let ask = |client: &mut Client, path: &str| {
        let answer = client.ask(&format!("GET http://h/{path}"), "");
        (answer.status, answer.text().to_owned())
    };
    assert_eq!(ask(&mut client, "absent"), (404, "not here".to_owned()));
    assert_eq!(ask(&mut client, "gone"), (410, String::new()));
    assert_eq!(ask(&mut client, "empty"), (200, String::new()));
    assert!(!server.report().failed(false), "recorded errors are no misses");
}

#[test]
fn two_hundred_parts_of_a_file_arrive_in_order() {
    let setup = Setup::new();
    let data: Vec<u8> = (0..100_000u32).map(|n| (n / 100) as u8).collect();
    let stored = Entry { body: Some(setup.stored(&data, "stored")), ..get("http://h/stored", "") };
    let beside = Entry { body: Some(setup.beside(&data, "beside")), ..get("http://h/beside", "") };
    let server = setup.serve(vec![stored, beside]);
    let list: Vec<String> = (0..200).rev().map(|n| format!("{}-{}", n * 100, n * 100 + 49)).collect();
    for path in ["stored", "beside"] {
        let range = format!("Range: bytes={}\r\n", list.join(","));
        let answer = server.client().ask(&format!("GET http://h/{path}"), &range);
        assert_eq!(answer.status, 206);
        let bytes = (0..200u32).rev().flat_map(|n| vec![n as u8; 50]);
        let sent: Vec<u8> = payload(&answer);
        assert!(sent.iter().copied().eq(bytes), "{path}");
    }
}

/// The bytes of all parts of a `multipart/byteranges` answer whose parts have 50 bytes.
fn payload(answer: &Answer) -> Vec<u8> {
    let heads = answer.body.windows(4).enumerate().filter(|(_, window)| window == b"\r\n\r\n");
    heads.flat_map(|(at, _)| answer.body[at + 4..at + 54].to_vec()).collect()
}

#[test]
fn a_miss_and_a_redirect_keep_the_connection() {
    let server = serve(vec![with_hops(get(URL, "final"), &[(302, "/b")])]);
    let mut client = server.client();
    for _ in 0..2 {
        let hop = client.ask(&format!("GET {URL}"), "");
        assert_eq!((hop.status, hop.header("location"), hop.header("content-length")), (302, Some("/b"), Some("0")));
        assert_eq!(client.ask(&format!("HEAD {URL}"), "").header("location"), Some("/b"));
        let miss = client.ask("HEAD http://h/none", "");
        let length = client.ask("GET http://h/none", "").body.len() + "HEAD".len() - "GET".len();
        assert_eq!((miss.status, miss.header("content-length")), (404, Some(length.to_string().as_str())));
        assert_eq!(client.ask("GET http://example.org/b", "").text(), "final");
    }
}

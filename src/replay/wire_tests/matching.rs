//! Which request is answered by which entry.

use std::io::Write as _;

use http::Method;

use super::*;

fn post(url: &str, body: &[u8], text: &str) -> Entry {
    Entry { method: Method::POST, request_body: Some(NixHash::sha256(body)), ..get(url, text) }
}

#[test]
fn every_spelling_of_a_recorded_url_is_answered() {
    let server = serve(vec![get("http://example.org/~user/a?q=%2F", "hit"), get("https://example.org/s", "tls")]);
    for url in [
        "http://example.org/~user/a?q=%2F",
        "http://example.org:80/~user/a?q=%2F",
        "HTTP://EXAMPLE.org/~user/a?q=%2f",
        "http://example.org./~user/a?q=%2F",
        "http://example.org/%7Euser/a?q=%2F",
        "http://example.org/x/../~user/./a?q=%2F",
        "http://me:secret@example.org/~user/a?q=%2F",
    ] {
        assert_eq!(server.get(url).text(), "hit", "{url}");
    }
    assert_eq!(server.get("https://example.org:443/s").text(), "tls");
    for url in
        ["http://example.org/../../../etc/passwd", "http://example.org/~user/a", "https://example.org/~user/a?q=%2F"]
    {
        assert_eq!(server.get(url).status, 404, "{url}");
    }
}

#[test]
fn other_methods_on_a_recorded_get_are_misses() {
    let server = serve(vec![get("http://h/a", "recorded")]);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"] {
        let answer = server.ask(&format!("{method} http://h/a"));
        assert_eq!(answer.status, 404, "{method}");
        assert!(answer.text().contains("recorded only with GET"), "{}", answer.text());
        assert_eq!(answer.header("allow"), None);
    }
    let mut client = server.client();
    assert_eq!(client.post("http://h/a", "", b"x=1").status, 404);
    assert_eq!(client.ask("GET http://h/a", "").text(), "recorded");
}

#[test]
fn a_get_with_a_body_is_not_the_recorded_get() {
    let server = serve(vec![get("http://h/a", "recorded")]);
    let mut client = server.client();
    client.send(b"GET http://h/a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(client.answer("GET").status, 404);
    client.send(b"GET http://h/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(client.answer("GET").text(), "recorded", "an empty body is none");
}

#[test]
fn posts_are_told_apart_by_their_decoded_bodies() {
    let api = "http://h/api";
    let server = serve(vec![post(api, b"one", "1"), post(api, b"two", "2")]);
    let mut client = server.client();
    assert_eq!(client.post(api, "", b"two").text(), "2");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(b"one").unwrap();
    assert_eq!(client.post(api, "Content-Encoding: gzip\r\n", &gzip.finish().unwrap()).text(), "1");
    client.send(
        b"POST http://h/api HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n2\r\nne\r\n0\r\n\r\n",
    );
    assert_eq!(client.answer("POST").text(), "1");
    let miss = client.post(api, "", b"three");
    assert!(miss.text().contains(&NixHash::sha256(b"three").to_string()), "{}", miss.text());
    assert_eq!(client.post(api, "", b"").status, 404);
}

#[test]
fn a_large_upload_to_nothing_still_reads_its_answer() {
    let server = serve(vec![get("http://h/a", "recorded")]);
    let mut client = server.client();
    let answer = client.post("http://h/a", "", &vec![b'x'; 8 << 20]);
    assert_eq!(answer.status, 404);
    assert_eq!(client.ask("GET http://h/a", "").text(), "recorded");
    let mut client = server.client();
    client.send(b"POST http://h/a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9999\r\n\r\n");
    assert_eq!(client.answer("POST").status, 404, "without asking for the body");
}

#[test]
fn variants_and_ignored_parameters() {
    let mut setup = Setup::new();
    setup.ignore_query = vec!["X-Amz-*".to_owned()];
    let variant = |accept: &str, text: &str| {
        let request_headers = [("accept".to_owned(), accept.to_owned())].into();
        Entry { request_headers, ..get("http://h/v", text) }
    };
    let server = setup.serve(vec![variant("a/b", "ab"), variant("", "none"), get("http://h/s?X-Amz-Date=1", "signed")]);
    let mut client = server.client();
    assert_eq!(client.ask("GET http://h/v", "Accept: a/b\r\n").text(), "ab");
    assert_eq!(client.ask("GET http://h/v", "").text(), "none");
    let miss = client.ask("GET http://h/v", "Accept: c/d\r\n");
    assert!(miss.text().contains(r#"accept: recorded with "a/b", asked with "c/d""#), "{}", miss.text());
    let miss = client.ask("GET http://h/v", "Accept: \u{9b}31m\u{202e}\r\n");
    assert!(miss.text().contains(r"\u{9b}31m\u{202e}"), "{}", miss.text());
    assert_eq!(client.ask("GET http://h/s?X-Amz-Date=2&X-Amz-Signature=3", "").text(), "signed");
}

#[test]
fn a_sequence_moves_with_whole_answers_alone() {
    let url = "http://h/poll";
    let pending = with_headers(get(url, "pending"), &[("etag", r#""p""#)]);
    let server = serve(vec![pending, get(url, "done")]);
    let mut client = server.client();
    assert_eq!(client.ask(&format!("HEAD {url}"), "").header("content-length"), Some("7"));
    assert_eq!(client.ask(&format!("GET {url}"), "Range: bytes=0-2\r\n").text(), "pen");
    assert_eq!(client.ask(&format!("GET {url}"), "If-None-Match: \"p\"\r\n").status, 304);
    let texts: Vec<String> = (0..3).map(|_| client.ask(&format!("GET {url}"), "").text().to_owned()).collect();
    assert_eq!(texts, ["pending", "done", "done"]);
}

#[test]
fn empty_answers_move_a_sequence_too() {
    let empty = |status| Entry { status, ..Entry::get("http://h/e".parse().unwrap()) };
    let server = serve(vec![empty(202), empty(204), empty(410)]);
    let statuses: Vec<u16> = (0..4).map(|_| server.get("http://h/e").status).collect();
    assert_eq!(statuses, [202, 204, 410, 410]);
}

#[test]
fn a_download_that_breaks_off_comes_again() {
    let setup = Setup::new();
    let large = Entry { body: Some(setup.stored(&vec![b'x'; 64 << 20], "large")), ..get("http://h/l", "") };
    let server = setup.serve(vec![large, get("http://h/l", "second")]);
    let mut client = server.client();
    client.send(b"GET http://h/l HTTP/1.1\r\nHost: h\r\n\r\n");
    client.0.read_exact(&mut [0; 1000]).unwrap();
    drop(client);
    assert_eq!(server.get("http://h/l").body.len(), 64 << 20);
    assert_eq!(server.get("http://h/l").text(), "second");
}

#[test]
fn what_is_no_url_is_a_miss_that_shows_no_credentials() {
    let server = serve(vec![]);
    for target in ["ftp://me:secret@h/a", "/only/a/path", "http://me:secret@h/a"] {
        let answer = server.get(target);
        assert_eq!((answer.status, answer.header("content-type")), (404, Some("text/plain; charset=utf-8")));
        assert!(!answer.text().contains("secret"), "{}", answer.text());
    }
    assert_eq!(server.report().requests_missed, 3);
}

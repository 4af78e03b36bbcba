//! Which request is answered by which entry.

use std::io::Write as _;

use http::Method;

use super::*;

fn post(url: &str, body: &[u8], text: &str) -> Entry {
    Entry { method: Method::POST, request_body: Some(BodyDigest::of_bytes(body)), ..get(url, text) }
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
    setup.match_rules = MatchRules::ignoring(&["X-Amz-*"]);
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
fn urls_that_a_rewrite_rule_makes_one_have_one_answer() {
    let mut setup = Setup::new();
    let rule = |from: &str, to: &str| Rewrite { from: from.parse().unwrap(), to: to.to_owned() };
    setup.match_rules.rewrite =
        vec![rule("^https?://mirror[0-9]\\.test/", "https://origin.test/"), rule("/nightly-[0-9]+/", "/nightly/")];
    let recorded = [get("https://origin.test/a", "a"), get("http://mirror3.test/nightly-20240101/b", "b")];
    let server = setup.serve(recorded.to_vec());
    for (url, text) in [
        ("https://origin.test/a", "a"),
        ("http://mirror1.test/a", "a"),
        ("https://origin.test/nightly-7/b", "b"),
        ("https://mirror3.test/nightly/b", "b"),
    ] {
        assert_eq!(server.get(url).text(), text, "{url}");
    }
    assert_eq!(server.get("http://origin.test/a").status, 404);
}

#[test]
fn an_entry_for_a_prefix_answers_what_no_other_entry_does() {
    let prefix = |url: &str, text: &str| Entry { url_match: UrlMatch::Prefix, ..get(url, text) };
    let server = serve(vec![
        prefix("http://h/api/", "short"),
        prefix("http://h/api/v1?t=", "long"),
        get("http://h/api/exact", "exact"),
        with_hops(get("http://h/from", "led"), &[(302, "/api/led")]),
    ]);
    for (url, text) in [
        ("http://h/api/", "short"),
        ("http://h/api/x/y?z", "short"),
        ("http://h/api/v1?t=123", "long"),
        ("http://h/api/v1?u=123", "short"),
        ("http://h/api/exact", "exact"),
        ("http://h/api/exact?more", "short"),
        ("http://h/api/led", "led"),
    ] {
        assert_eq!(server.get(url).text(), text, "{url}");
    }
    for url in ["http://h/api", "http://h.evil/api/", "http://h/apix"] {
        assert_eq!(server.get(url).status, 404, "{url}");
    }
    assert_eq!(server.ask("POST http://h/api/x").status, 404, "the method is another");
    assert_eq!(server.ask("HEAD http://h/api/x").header("content-length"), Some("5"));
}

#[test]
fn bodies_are_compared_as_their_entries_say() {
    let recorded = |url: &str, form: &str, body: &[u8], text: &str| {
        let digests = request_body_digests(body);
        let digest = digests.into_iter().find(|digest| digest.form == form.parse().unwrap()).unwrap();
        Entry { method: Method::POST, request_body: Some(digest), ..get(url, text) }
    };
    let server = serve(vec![
        recorded("http://h/j", "json", br#"{"b":1,"a":[true]}"#, "json"),
        post("http://h/j", b"{ }", "bytes"),
        recorded("http://h/f", "form", b"b=2&a=1", "form"),
    ]);
    let mut client = server.client();
    let mut asked = |url: &str, body: &str| client.post(url, "", body.as_bytes()).text().to_owned();
    assert_eq!(asked("http://h/j", "{\"a\": [ true ], \"b\": 1.0}\n"), "json");
    assert_eq!(asked("http://h/j", "{ }"), "bytes");
    assert!(asked("http://h/j", "{}").contains("only with another request body"));
    assert_eq!(asked("http://h/f", "a=1&b=%32"), "form");
    assert!(asked("http://h/f", "a=2&b=1").contains("request-body-as = \"form\""));
}

fn request_body_digests(body: &[u8]) -> Vec<BodyDigest> {
    let mut digest = crate::inventory::request_body::RequestDigest::new(&http::HeaderMap::new());
    digest.update(body);
    digest.finish()
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
fn a_miss_shows_no_credential_however_short() {
    let server = serve(vec![get("http://h/a?token=buildproxy-dummy-token", "a"), get("http://h/b?c=1", "b")]);
    for (target, shown) in [
        ("http://h/a?pass=abc", "http://h/a?pass=buildproxy-dummy-token"),
        ("http://h/b?c=2&api_key=abc", "`c`: asked \"2\", recorded \"1\""),
        ("http://me:abc@h/b?c=1&token=abc", "`token`: asked a credential, recorded without it"),
    ] {
        let text = server.get(target).text().to_owned();
        assert!(!text.contains("abc") && text.contains(shown), "{text}");
    }
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

use super::*;
use crate::store::spool::SpooledContent;

fn heard_by(creator: &str, entries: &str) -> Vec<Result<Retold, Unheard>> {
    let mut heard = Vec::new();
    let file = format!(
        r#"{{"log": {{"version": "1.2", "creator": {{"name": "{creator}", "version": "1"}}, "entries": [{entries}]}}}}"#
    );
    read(file.as_bytes(), None, |one| heard.push(one)).unwrap();
    heard
}

fn heard(entries: &str) -> Vec<Result<Retold, Unheard>> {
    heard_by("WebInspector", entries)
}

/// The bytes of a body, and whether others are expected to get them too.
fn bytes(retold: Retold) -> Result<(Vec<u8>, bool), String> {
    let is_public = retold.is_public;
    let content = |spooled: Spooled| match spooled.content {
        SpooledContent::Memory(bytes) => bytes,
        SpooledContent::File(path) => panic!("in {}", path.display()),
    };
    retold.body.map(|body| (body.map(content).unwrap_or_default(), is_public))
}

/// What an answer with this `content` and these members more has as its body.
fn body(content: &str, more: &str) -> Result<Option<Vec<u8>>, String> {
    let entry = format!(
        r#"{{"request": {{"method": "GET", "url": "http://h/a"}},
            "response": {{"status": 200, "headers": [{more}], "content": {content}}}}}"#
    );
    bytes(heard(&entry).pop().unwrap().unwrap()).map(|(bytes, _)| Some(bytes).filter(|bytes| !bytes.is_empty()))
}

#[test]
fn a_body_is_taken_where_its_bytes_are_certain() {
    let taken = |content: &str| body(content, "").unwrap().unwrap_or_default();
    assert_eq!(taken(r#"{"size": 3, "text": "aä"}"#), "aä".as_bytes());
    assert_eq!(taken(r#"{"size": 2, "text": "aä"}"#), b"a\xe4", "Latin-1, as the size tells");
    assert_eq!(taken(r#"{"size": 4, "text": "a"}"#), b"\xef\xbb\xbfa", "a byte order mark that was taken away");
    assert_eq!(taken(r#"{"size": 2, "text": "AP8=", "encoding": "base64"}"#), [0, 255]);
    assert_eq!(taken(r#"{"size": 2, "compression": 3, "text": "12345"}"#), b"12345", "mitmproxy's way to count");
    assert_eq!(taken(r#"{"size": -1, "text": "ä", "mimeType": "text/plain; charset=utf-8"}"#), "ä".as_bytes());
    assert_eq!(taken(r#"{"size": 2, "text": "a\udcff"}"#), b"a\xff", "Python's way to write what is no UTF-8");
    assert_eq!(taken(r#"{"size": 0}"#), b"");
    assert_eq!(taken(r#"{"size": 0, "text": "", "mimeType": "x-unknown"}"#), b"");
}

#[test]
fn a_body_whose_bytes_are_not_certain_is_left_out_with_the_reason() {
    for (content, says) in [
        (r#"{"size": 5}"#, "does not have its body"),
        ("{}", "does not have its body"),
        (r#"{"size": 5, "text": "1234"}"#, "cut short"),
        (r#"{"size": 5, "text": "AP8=", "encoding": "base64"}"#, "cut short"),
        (r#"{"size": 2, "text": "A", "encoding": "base64"}"#, "no base64"),
        (r#"{"size": 2, "text": "A", "encoding": "hex"}"#, "`hex`"),
        (r#"{"size": -1, "text": "a\udcff"}"#, "does not tell the bytes"),
        (r#"{"size": -1, "text": "\ufffd"}"#, "does not tell the bytes"),
        (r#"{"size": -1, "text": "ä", "mimeType": "text/plain; charset=koi8-r"}"#, "does not tell the bytes"),
    ] {
        let reason = body(content, "").unwrap_err();
        assert!(reason.contains(says), "{content}: {reason}");
    }
}

#[test]
fn a_coding_that_was_undone_is_noticed() {
    let entry = |content: &str| {
        let entry = format!(
            r#"{{"request": {{"method": "GET", "url": "http://h/a"}}, "response": {{"status": 200,
                "headers": [{{"name": "Content-Encoding", "value": "gzip"}}], "content": {content}}}}}"#
        );
        heard(&entry).pop().unwrap().unwrap().is_decoded
    };
    assert!(entry(r#"{"size": 1, "text": "a"}"#));
    assert!(!entry(r#"{"size": 1, "text": "a", "_encoded": true}"#));
}

#[test]
fn requests_have_their_digest_or_a_reason() {
    let entry = |request: &str| {
        let entry = format!(
            r#"{{"request": {{"method": "POST", "url": "http://h/a", {request}}}, "response": {{"status": 204}}}}"#
        );
        heard(&entry).pop().unwrap().map(|retold| retold.request_body).map_err(|unheard| unheard.reason)
    };
    assert_eq!(entry(r#""bodySize": 1, "postData": {"text": "q"}"#).unwrap()[0], BodyDigest::of_bytes(b"q"));
    assert_eq!(entry(r#""bodySize": 0, "postData": {"params": []}"#).unwrap(), []);
    assert_eq!(entry(r#""bodySize": -1"#).unwrap(), []);
    assert!(entry(r#""bodySize": 1"#).unwrap_err().contains("request"));
    assert!(entry(r#""bodySize": 9, "postData": {"text": "q"}"#).unwrap_err().contains("request"));
    assert!(entry(r#""postData": {"params": [{"name": "a"}]}"#).is_err());
}

#[test]
fn what_is_no_answer_of_http_is_told() {
    let entries = [
        (r#"{"request": {"method": "GET", "url": "data:,x"}, "response": {"status": 200}}"#, "without a request"),
        (r#"{"request": {"method": "GET", "url": "wss://h/"}, "response": {"status": 101}}"#, "WebSocket"),
        (r#"{"request": {"method": "GET", "url": "ftp://h/"}, "response": {"status": 200}}"#, "http"),
        (
            r#"{"request": {"method": "GET", "url": "http://h/"}, "response": {"status": 200, "_failureText": "net::ERR_ABORTED"}}"#,
            "download",
        ),
        (
            r#"{"request": {"method": "GET", "url": "http://h/"}, "response": {"status": 0, "_error": "net::X"}}"#,
            "net::X",
        ),
        (r#"{"request": {"method": "GET", "url": "http://h/"}, "response": null}"#, "not answered"),
        (r#"{"request": {"method": "CONNECT", "url": "http://h/"}, "response": {"status": 200}}"#, "tunnel"),
        (r#"{"request": {"method": "G T", "url": "http://u:p@h/"}, "response": {"status": 200}}"#, "no method"),
    ];
    for (entry, says) in entries {
        let unheard = heard(entry).pop().unwrap().unwrap_err();
        assert!(unheard.reason.contains(says), "{unheard:?}");
        assert!(!unheard.request.contains("u:p@"), "{unheard:?}");
    }
}

#[test]
fn what_is_no_har_file_is_refused_with_its_place() {
    for (text, says) in [
        ("", "EOF"),
        ("[]", "expected an object with `log`"),
        ("{\"version\": 1}", "no `log`"),
        ("{\"log\": {}}", "no `entries`"),
        ("{\"log\": {\"entries\": {}}}", "entries"),
        ("{\"log\":\n {\"entries\": [{}]}}", "line 2"),
        ("{\"log\": {\"entries\": []}} x", "trailing"),
        ("{\"log\": {\"version\": \"2.0\", \"entries\": []}}", "HAR 2.0, and only"),
        ("{\"log\": {\"entries\": [], \n\"entries\": []}}", "twice at line 2"),
    ] {
        let error = read(text.as_bytes(), None, |_| {}).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
    for text in [
        "{\"creator\": 1, \"version\": 7, \"log\": {\"version\": \"\", \"entries\": []}}",
        "{\"log\": {\"entries\": []}}",
    ] {
        assert!(read(text.as_bytes(), None, |_| {}).is_ok(), "{text}");
    }
}

#[test]
fn headers_are_those_of_http() {
    let entry = r#"{"request": {"method": "GET", "url": "http://h/a", "cookies": [{"name": "a", "value": "b"}],
        "headers": [{"name": ":authority", "value": "h"}, {"name": "Accept", "value": "x"}]}, "response": {"status": 200,
        "headers": [{"name": "X", "value": "1\n2"}, {"name": "bad name", "value": "1"}, {"name": "y", "value": "\udce4\ud800"}], "content": {"size": 0}}}"#;
    let heard = heard(entry).pop().unwrap().unwrap();
    assert_eq!(heard.headers.get_all("x").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!((heard.headers.len(), heard.asked.len()), (3, 2));
    assert_eq!(heard.headers["y"].as_bytes(), b"\xe4\xed\xa0\x80");
    assert!(heard.asked.contains_key("cookie"), "cookies make it private, wherever the file has them");
}

/// An answer with these headers, `Content-Type` first, in Playwright's way.
fn by_playwright(kind: &str, more: &str, text: &str) -> Result<(Vec<u8>, bool), String> {
    let entry = format!(
        r#"{{"request": {{"method": "GET", "url": "http://h/a"}}, "response": {{"status": 200,
            "headers": [{{"name": "Content-Type", "value": "{kind}"}}{more}],
            "content": {{"size": {}, "mimeType": "{kind}", "text": "{text}"}}}}}}"#,
        text.len()
    );
    bytes(heard_by("Playwright", &entry).pop().unwrap().unwrap())
}

#[test]
fn the_length_of_what_was_sent_tells_its_bytes() {
    let sent = |kind: &str, length: usize, text: &str| {
        by_playwright(kind, &format!(r#", {{"name": "Content-Length", "value": "{length}"}}"#), text)
    };
    assert_eq!(sent("text/plain; charset=iso-8859-1", 3, "xäy"), Ok((b"x\xe4y".to_vec(), true)));
    assert_eq!(sent("text/plain", 3, "xäy"), Ok((b"x\xe4y".to_vec(), true)));
    assert_eq!(sent("text/plain", 4, "xäy"), Ok(("xäy".as_bytes().to_vec(), true)));
    assert_eq!(sent("text/plain; charset=UTF-8", 6, "bom"), Ok((b"\xef\xbb\xbfbom".to_vec(), true)));
    assert!(sent("text/plain; charset=utf-16le", 6, "bom").is_err(), "that is no byte order mark");
    assert!(sent("text/plain; charset=utf-16le", 6, "hiä").is_err());
    assert!(sent("text/plain", 9, "abc").unwrap_err().contains("cut short"));
    // Two bytes of a character that was cut off and two that are that replacement: it could be either.
    assert_eq!(sent("text/plain", 3, "\u{fffd}").map(|(_, is_certain)| is_certain), Ok(false));
}

#[test]
fn where_nothing_tells_the_length_a_text_is_taken_by_its_charset_and_not_expected_of_others() {
    let coded = r#", {"name": "Content-Encoding", "value": "gzip"}, {"name": "Content-Length", "value": "99"}"#;
    let taken = |kind: &str, text: &str| by_playwright(kind, coded, text);
    for (kind, text, expected) in [
        ("text/plain", "abc", &b"abc"[..]),
        ("text/plain; charset=UTF-8", "ä", "ä".as_bytes()),
        ("text/plain; charset=ISO-8859-1", "ä", b"\xe4"),
        ("application/json", "ä", "ä".as_bytes()),
        ("text/html", "<meta charset=UTF-8>ä", "<meta charset=UTF-8>ä".as_bytes()),
    ] {
        assert_eq!(taken(kind, text), Ok((expected.to_vec(), false)), "{kind}");
    }
    for (kind, text) in
        [("text/plain", "ä"), ("text/plain; charset=koi8-r", "я"), ("text/html; charset=utf-8", "\u{fffd}")]
    {
        assert!(taken(kind, text).unwrap_err().contains("does not tell the bytes"), "{kind}");
    }
}

#[test]
fn a_request_body_of_which_the_file_has_nothing_is_neither_empty_nor_a_byte_order_mark() {
    for size in [3, -1] {
        let entry = format!(
            r#"{{"request": {{"method": "POST", "url": "http://h/a", "bodySize": {size}, "postData": {{"text": ""}}}},
                "response": {{"status": 204}}}}"#
        );
        assert!(heard(&entry).pop().unwrap().unwrap_err().reason.contains("body of the request"), "{size}");
    }
}

#[test]
fn a_body_of_no_length_is_empty_whatever_the_file_counts() {
    let none = r#"{"name": "Content-Length", "value": "0"}"#;
    assert_eq!(body(r#"{"size": -1, "text": ""}"#, none), Ok(None));
    assert!(body(r#"{"size": -1, "text": ""}"#, "").is_err());
    let one = r#"{"name": "Content-Length", "value": "1"}"#;
    assert!(body(r#"{"size": 0, "text": ""}"#, one).is_err());
}

#[test]
fn what_playwright_keeps_in_files_is_read_from_its_folder_alone() {
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(folder.path().join("a.bin"), b"\xff\0").unwrap();
    std::fs::write(folder.path().join("a.txt"), "xäy").unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).unwrap();
    let body = |file: &str, length: usize| {
        let mut heard = Vec::new();
        let text = format!(
            r#"{{"log": {{"creator": {{"name": "Playwright"}}, "entries": [{{"request": {{"method": "GET", "url": "http://h/"}},
                "response": {{"status": 200, "headers": [{{"name": "Content-Length", "value": "{length}"}}],
                "content": {{"size": 2, "_file": {file:?}}}}}}}]}}}}"#
        );
        read(text.as_bytes(), Some(folder.path()), |one| heard.push(one)).unwrap();
        bytes(heard.pop().unwrap().unwrap())
    };
    assert_eq!(body("a.bin", 2), Ok((b"\xff\0".to_vec(), true)));
    assert_eq!(body("a.txt", 3), Ok((b"x\xe4y".to_vec(), true)));
    for name in ["../x", outside.path().to_str().unwrap(), "link", "absent", "..", ""] {
        assert!(body(name, 0).is_err(), "{name}");
    }
}

#[test]
fn credentials_in_a_url_make_the_answer_private() {
    let asked = |url: &str| {
        let entry = format!(r#"{{"request": {{"method": "GET", "url": "{url}"}}, "response": {{"status": 204}}}}"#);
        let retold = heard(&entry).pop().unwrap().unwrap();
        (retold.url.to_string(), retold.asked.contains_key("authorization"))
    };
    assert_eq!(asked("http://user:pass@h/a"), ("http://h/a".to_owned(), true));
    assert_eq!(asked("http://h/@a"), ("http://h/@a".to_owned(), false));
}

#[test]
fn cookies_are_cookies_in_whatever_form() {
    let is_private = |cookies: &str| {
        let entry = format!(
            r#"{{"request": {{"method": "GET", "url": "http://h/a", "cookies": {cookies}}}, "response": {{"status": 204}}}}"#
        );
        heard(&entry).pop().unwrap().unwrap().asked.contains_key("cookie")
    };
    assert!(is_private(r#"{"name": "a", "value": "\ud800"}"#) && is_private(r#"[{}]"#));
    for none in ["[]", "[ ]", "[\n]", "{}", "null"] {
        assert!(!is_private(none), "{none}");
    }
}

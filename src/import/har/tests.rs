use super::*;

fn heard(entries: &str) -> Vec<Result<Heard, Unheard>> {
    let mut heard = Vec::new();
    read(format!(r#"{{"log": {{"version": "1.2", "entries": [{entries}]}}}}"#).as_bytes(), |one| heard.push(one))
        .unwrap();
    heard
}

/// What an answer with this `content` and these members more has as its body.
fn body(content: &str, more: &str) -> Result<Option<Vec<u8>>, String> {
    let entry = format!(
        r#"{{"request": {{"method": "GET", "url": "http://h/a"}},
            "response": {{"status": 200, "headers": [{more}], "content": {content}}}}}"#
    );
    heard(&entry).pop().unwrap().unwrap().body
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
        (r#"{"size": -1, "text": "a\udcff"}"#, "cut short"),
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
        heard(&entry).pop().unwrap().unwrap().request_body
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
        (r#"{"request": {"method": "GET", "url": "data:,x"}, "response": {"status": 200}}"#, "http"),
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
    ] {
        let error = read(text.as_bytes(), |_| {}).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
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

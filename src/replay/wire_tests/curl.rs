//! The same through curl, a client that was not written for these tests.

use std::process::Command;

use super::*;

/// Runs curl with the server as its proxy; standard output.
fn curl(server: &Server, arguments: &[&str]) -> String {
    let proxy = format!("http://{}", server.addr);
    run(Command::new("curl").args(["-sS", "-q", "--max-time", "20", "-x", &proxy]).args(arguments))
}

/// Runs curl with HTTP/2 from the first byte; every host is the server.
fn curl_h2(server: &Server, arguments: &[&str]) -> String {
    let to = format!("::{}", server.addr);
    let fixed = ["-sS", "-q", "--max-time", "20", "--http2-prior-knowledge", "--noproxy", "*", "--connect-to", &to];
    run(Command::new("curl").args(fixed).args(arguments))
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("curl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn curl_follows_a_recorded_chain_to_its_end() {
    let entry = with_hops(get("http://a.test/start", "final"), &[(301, "http://b.test/x/../y"), (307, "z?s=1#top")]);
    let server = serve(vec![entry]);
    let got = curl(&server, &["-L", "-w", " %{http_code} %{num_redirects} %{url_effective}", "http://a.test/start"]);
    assert_eq!(got.split('#').next(), Some("final 200 2 http://b.test/z?s=1"));
    // One step at a time: following on one connection with prior knowledge is broken in curl 7.88.
    let step = |url: &str| curl_h2(&server, &["-w", "%{http_code} %header{location}", url]);
    assert_eq!(step("http://a.test/start"), "301 http://b.test/x/../y");
    assert_eq!(step("http://b.test/y"), "307 z?s=1#top");
    assert_eq!(step("http://b.test/z?s=1"), "final200 ");
    assert!(!server.report().failed(false));
}

#[test]
fn a_post_that_is_redirected_is_followed_as_recorded() {
    let form = |url: &str, status| {
        let body = Some(BodyDigest::of_bytes(b"a=1"));
        with_hops(Entry { method: http::Method::POST, request_body: body, ..get(url, "made") }, &[(status, "/made")])
    };
    let server = serve(vec![form("http://h/303", 303), form("http://h/302", 302), form("http://g/307", 307)]);
    for url in ["http://h/303", "http://h/302", "http://g/307"] {
        assert_eq!(curl(&server, &["-L", "-d", "a=1", url]), "made", "{url}");
    }
    // What was followed by a GET is not known to answer a POST.
    assert!(curl(&server, &["-L", "--post302", "-d", "a=1", "http://h/302"]).contains("recorded only with GET"));
}

#[test]
fn curl_resumes_and_revalidates() {
    let server = serve(vec![with_headers(get("http://h/f", "0123456789"), &[("etag", r#""a""#)])]);
    assert_eq!(curl(&server, &["-C", "4", "http://h/f"]), "456789");
    assert_eq!(curl(&server, &["-r", "0-1", "-H", "If-Range: \"a\"", "http://h/f"]), "01");
    let status = ["-w", "%{http_code}", "-H", "If-None-Match: \"a\"", "http://h/f"];
    assert_eq!(curl(&server, &status), "304");
    assert_eq!(curl_h2(&server, &status), "304");
}

#[test]
fn http_2_answers_like_http_1() {
    let no_content = Entry { status: 204, ..Entry::get("http://h/204".parse().unwrap()) };
    let server = serve(vec![with_headers(get("http://h/f", "hello"), &[("x-a", "1")]), no_content]);
    let fields = |answer: &str| {
        let mut fields: Vec<String> = answer.lines().skip(1).map(|line| line.trim().to_owned()).collect();
        fields.sort();
        fields
    };
    for arguments in
        [&["-i", "http://h/f"][..], &["-I", "http://h/f"], &["-i", "http://h/204"], &["-i", "http://h/none"]]
    {
        let (one, two) = (curl(&server, arguments), curl_h2(&server, arguments));
        assert!(two.starts_with("HTTP/2 "), "{two}");
        assert_eq!(fields(&one), fields(&two), "{arguments:?}");
    }
    assert_eq!(curl_h2(&server, &["-d", "x", "-w", "%{http_code}", "-o", "/dev/null", "http://h/f"]), "404");
    assert_eq!(
        curl_h2(&server, &["-X", "GET", "-d", "x", "-w", "%{http_code}", "-o", "/dev/null", "http://h/f"]),
        "404"
    );
}

#[test]
fn a_large_body_arrives_whole() {
    let setup = Setup::new();
    let data: Vec<u8> = (0..40_000_000u32).map(|n| b'a' + (n / 7 % 26) as u8).collect();
    let entry = Entry { body: Some(setup.stored(&data, "large")), ..get("http://h/large", "") };
    let server = setup.serve(vec![entry]);
    assert!(curl(&server, &["http://h/large"]).as_bytes() == data);
    assert!(curl_h2(&server, &["http://h/large"]).as_bytes() == data);
}

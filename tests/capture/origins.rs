//! The origins themselves: a test that a broken origin would pass by accident proves nothing. Then what comes of their
//! rarer answers, in a capture and in the replay of what it recorded.

use std::{fs, process::Command};

use crate::common::{Awkward, Nginx, Workdir, awkward::answers::ETAG, git::GitServer, pattern, run};

/// curl without any proxy.
fn curl(ca: &str, arguments: &[&str]) -> crate::common::Outcome {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ca.pem"), ca).unwrap();
    let mut command = Command::new("curl");
    command.env_clear().env("PATH", std::env::var("PATH").unwrap()).env("CURL_CA_BUNDLE", folder.path().join("ca.pem"));
    run(command.args(["-sS", "--max-time", "20"]).args(arguments))
}

#[test]
fn nginx_serves_a_file_over_http_and_over_http_2() {
    let nginx = Nginx::start("");
    fs::write(nginx.www().join("file.txt"), "from nginx\n").unwrap();
    assert_eq!(curl(&nginx.ca.pem, &[&nginx.url("/file.txt")]).text(), "from nginx\n");
    let version = curl(&nginx.ca.pem, &["-o", "/dev/null", "-w", "%{http_version}", &nginx.tls_url("/file.txt")]);
    assert_eq!(version.text(), "2");
}

#[test]
fn an_origin_that_ends_every_connection_after_a_few_requests_is_asked_again() {
    let nginx = Nginx::start("keepalive_requests 7;");
    let names: Vec<String> = (0..60).map(|n| format!("file-{n}")).collect();
    names.iter().for_each(|name| fs::write(nginx.www().join(name), format!("this is {name}\n")).unwrap());
    let work = Workdir::new();
    let mut command = work.capturing(&nginx.ca.pem);
    command.args(["--", "curl", "-sSf", "--http2", "-Z", "--parallel-immediate", "--parallel-max", "60"]);
    for name in &names {
        command.args(["-o", name]).arg(nginx.tls_url(&format!("/{name}")));
    }
    run(&mut command).expect_code(0);
    for name in &names {
        assert_eq!(work.read(name), format!("this is {name}\n").into_bytes());
    }
    assert_eq!(work.inventory().urls().len(), names.len());
}

#[test]
fn git_clones_from_the_git_server() {
    let server = GitServer::start();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ca.pem"), &server.nginx.ca.pem).unwrap();
    let mut command = Command::new("git");
    command.env("GIT_SSL_CAINFO", folder.path().join("ca.pem")).env("GIT_CONFIG_GLOBAL", "/dev/null");
    run(command.args(["clone", "--quiet", &server.url()]).arg(folder.path().join("clone"))).expect_code(0);
    assert!(folder.path().join("clone/numbers-40.txt").exists());
}

#[test]
fn the_awkward_origin_is_awkward_in_the_ways_that_it_promises() {
    let origin = Awkward::start();
    let ca = origin.ca.pem.as_str();
    let code = |path: &str| curl(ca, &["-o", "/dev/null", &origin.tls_url(path)]).code;
    for path in
        ["/plain/file", "/chunked", "/until-close", "/http-1.0", "/no-content", "/gzip", "/empty", "/odd-headers"]
    {
        assert_eq!(code(path), 0, "{path}");
    }
    assert_eq!(code("/truncated"), 18, "curl's code for a partial file");
    assert_eq!(code("/truncated-chunked"), 18);
    // curl takes a TLS connection that ends without close_notify for a good end; OpenSSL itself tells them apart.
    let ends_badly = |path: &str| {
        let client = "printf 'GET %s HTTP/1.0\\r\\n\\r\\n' \"$2\" | openssl s_client -quiet -ign_eof -connect \"$1\"";
        let address = origin.tls_url("").replace("https://", "");
        let outcome = run(Command::new("sh").args(["-c", client, "sh", &address, path]));
        assert!(outcome.text().contains("line 10 of the pattern"), "{outcome}");
        outcome.stderr.contains("unexpected eof")
    };
    assert!(ends_badly("/until-cut"));
    assert!(!ends_badly("/until-close"));
    assert_eq!(code("/loop"), 0, "not followed unless asked");
    let chain =
        curl(ca, &["-L", "-o", "/dev/null", "-w", "%{num_redirects} %{url_effective}", &origin.url("/redirect/3")]);
    assert_eq!(
        chain.text(),
        format!("3 {}", origin.url("/plain/end-of-chain?X-Amz-Signature=abc%2Fdef&X-Amz-Expires=5"))
    );
    let unzipped = curl(ca, &["--compressed", &origin.url("/gzip-always")]);
    assert_eq!(unzipped.stdout, pattern(3000));
    let big = curl(ca, &[&origin.tls_url("/big?mib=3")]);
    assert_eq!(big.stdout.len(), 3 << 20);
    assert_eq!(curl(ca, &["-d", "x=1", &origin.url("/echo")]).text(), "POST x=1\n");
    assert_eq!(curl(ca, &["-r", "5-9", &origin.url("/cached")]).stdout, pattern(10)[5..]);
    assert_eq!(curl(ca, &[&origin.url("/counter")]).text(), "count 1\n");
    assert_eq!(curl(ca, &[&origin.url("/counter")]).text(), "count 2\n");
    assert_eq!(origin.requests_for("/counter").len(), 2);
    let connections = origin.connections();
    assert!(connections >= 15, "{connections}");
    let gone = origin.url("/plain/file");
    drop(origin);
    assert_eq!(curl("", &[&gone]).code, 7, "refused when the origin has ended");
}

/// The lines of an answer's head, the status line first, with names in lower case.
fn head(bytes: &[u8]) -> Vec<String> {
    let lines = std::str::from_utf8(bytes).unwrap().lines().map(str::trim_end).filter(|line| !line.is_empty());
    let name_in_lower_case = |line: &str| match line.split_once(": ") {
        Some((name, value)) => format!("{}: {value}", name.to_ascii_lowercase()),
        None => line.to_owned(),
    };
    lines.map(name_in_lower_case).collect()
}

#[track_caller]
fn expect_field(head: &[String], field: &str) {
    assert!(head.iter().any(|line| line == field), "`{field}` in {head:?}");
}

#[track_caller]
fn expect_no_field(head: &[String], name: &str) {
    assert!(!head.iter().any(|line| line.starts_with(&format!("{name}:"))), "`{name}` in {head:?}");
}

#[test]
fn a_head_alone_is_replayed_with_its_length_or_without_and_the_get_is_a_miss() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (told, untold) = (origin.url("/plain/told"), origin.tls_url("/chunked"));
    let script = format!("curl -sSf -I -o told '{told}'; curl -sSf -I --http1.1 -o untold '{untold}'");
    work.capture_sh(&origin, &script).expect_code(0);
    let captured = (head(&work.read("told")), head(&work.read("untold")));
    work.replay_sh(&script).expect_code(0);
    for (told, untold) in [captured, (head(&work.read("told")), head(&work.read("untold")))] {
        expect_field(&told, "content-length: 1000");
        expect_field(&told, "content-type: application/octet-stream");
        expect_no_field(&untold, "content-length");
        expect_no_field(&untold, "transfer-encoding");
    }
    let miss = work.replay_sh(&format!("curl -sS '{told}'")).expect_code(4).expect_stderr(&[&told]);
    assert!(miss.text().contains("HEAD"), "what is recorded is said: {miss}");
}

#[test]
fn a_304_that_no_condition_asked_for_is_passed_on_and_said_and_left_out() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/always-304");
    let script = format!(
        "curl -sS -w '%{{http_code}} ' '{url}'; curl -sS -H 'If-None-Match: {ETAG}' -r 0-1 -w '%{{http_code}}' '{url}'"
    );
    let outcome = work.capture_sh(&origin, &script).expect_code(0);
    assert_eq!(outcome.text(), "304 304");
    outcome.expect_stderr(&["/always-304 is not recorded", "304, which is not the whole"]);
    assert!(origin.requests_for("/always-304").iter().all(|request| request.header("if-none-match").is_none()));
    assert!(work.inventory().urls().is_empty());
    work.replay_sh(&format!("curl -sS '{url}'")).expect_code(4);
}

#[test]
fn informational_answers_are_not_taken_for_the_final_one() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    for url in [origin.url("/hints"), origin.tls_url("/hints")] {
        let script = format!("curl -sSf -D head '{url}'");
        let captured = work.capture_sh(&origin, &script).expect_code(0);
        expect_field(&head(&work.read("head")), "x-final: 1");
        let inventory = work.inventory();
        let entry = inventory.one(&url);
        assert_eq!((entry.status(), entry.header("x-final"), entry.header("x-early")), (200, Some("1"), None));
        let replayed = work.replay_sh(&script).expect_code(0);
        assert_eq!((captured.text(), replayed.text()), ("the final answer\n", "the final answer\n"));
        expect_no_field(&head(&work.read("head")), "link");
    }
}

#[test]
fn answers_without_content_are_replayed_without() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (none, reset) = (origin.url("/no-content"), origin.url("/reset-content"));
    let script = format!("curl -sSf -D none '{none}'; curl -sSf -D reset '{reset}' -w '%{{http_code}}'");
    assert_eq!(work.capture_sh(&origin, &script).expect_code(0).text(), "205");
    assert_eq!(work.inventory().one(&reset).get(&["body"]), None);
    assert_eq!(work.replay_sh(&script).expect_code(0).text(), "205");
    let (none, reset) = (head(&work.read("none")), head(&work.read("reset")));
    expect_field(&none, "x-kind: none");
    expect_no_field(&none, "content-length");
    expect_field(&reset, "x-kind: reset");
    expect_field(&reset, "content-length: 0");
}

#[test]
fn trailers_reach_the_client_that_takes_them_and_are_not_recorded() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.tls_url("/trailers");
    let script = format!(
        "curl -sSf --http1.1 -H 'TE: trailers' -D one -o got '{url}'; curl -sSf --http2 -D two -o got '{url}'; \
         curl -sSf --http1.1 -D none -o got '{url}'"
    );
    work.capture_sh(&origin, &script).expect_code(0);
    assert_eq!(work.read("got"), b"hello world");
    for file in ["one", "two"] {
        let head = head(&work.read(file));
        expect_field(&head, "x-checksum: 17");
        expect_field(&head, "trailer: X-Checksum");
    }
    expect_no_field(&head(&work.read("none")), "x-checksum");
    let inventory = work.inventory();
    assert_eq!(inventory.one(&url).get(&["headers"]), None, "neither trailers nor their announcement");
    work.replay_sh(&script).expect_code(0);
    assert_eq!(work.read("got"), b"hello world");
    for file in ["one", "two", "none"] {
        let head = head(&work.read(file));
        expect_field(&head, "content-length: 11");
        for name in ["trailer", "x-checksum", "transfer-encoding"] {
            expect_no_field(&head, name);
        }
    }
}

#[test]
fn an_answer_without_a_length_is_replayed_with_the_exact_one() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let urls =
        ["/chunked", "/until-close"].map(|path| (origin.url(path), if path == "/chunked" { 5000 } else { 4000 }));
    for (url, length) in urls {
        let script = format!("curl -sSf -D head -o got '{url}'");
        work.capture_sh(&origin, &script).expect_code(0);
        expect_no_field(&head(&work.read("head")), "content-length");
        assert_eq!(work.read("got"), pattern(length));
        work.replay_sh(&script).expect_code(0);
        let head = head(&work.read("head"));
        expect_field(&head, &format!("content-length: {length}"));
        expect_no_field(&head, "transfer-encoding");
        assert_eq!(work.read("got"), pattern(length));
    }
}

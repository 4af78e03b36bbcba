//! The origins themselves: a test that a broken origin would pass by accident proves nothing.

#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, process::Command};

use common::{Awkward, Nginx, git::GitServer, pattern, run};

/// curl without any proxy.
fn curl(ca: &str, arguments: &[&str]) -> common::Outcome {
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

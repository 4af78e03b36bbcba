//! Which host a request is for, and which name is in the certificate, where CONNECT, SNI and Host do not say the same.

use std::{
    io::{Read, Write},
    process::Stdio,
    sync::Arc,
};

use crate::common::{
    Serving, Workdir,
    http1::{Answer, Http1},
    run,
    serving::text_entry,
};
use tokio_rustls::rustls::{ClientConnection, StreamOwned, client, pki_types::ServerName, server::ParsedCertificate};

/// One way to ask.
struct Case {
    /// `plain`, or `tls` with the SNI behind a space where there is one.
    way: &'static str,
    /// The CONNECT target; none for a connection straight to the port.
    connect: Option<&'static str>,
    /// The request line without its version, then the header lines.
    request: &'static str,
    /// The URL that is looked up, or the status of a refusal with a part of its text.
    expected: Result<&'static str, (u16, &'static str)>,
    /// The names that the certificate is good for.
    names: &'static [&'static str],
}

const fn case(
    way: &'static str,
    connect: &'static str,
    request: &'static str,
    expected: Result<&'static str, (u16, &'static str)>,
    names: &'static [&'static str],
) -> Case {
    Case { way, connect: if connect.is_empty() { None } else { Some(connect) }, request, expected, names }
}

/// The rules are those of `effective_uri` in `src/proxy/target.rs` and of `src/proxy/tls.rs`.
#[rustfmt::skip]
const CASES: &[Case] = &[
    // No TLS, no tunnel: the target counts, else Host.
    case("plain", "", "GET http://a.test/", Ok("http://a.test/"), &[]),
    case("plain", "", "GET http://a.test/\nHost: b.test", Ok("http://a.test/"), &[]),
    case("plain", "", "GET http://A.TEST.:80/\nHost: a.test", Ok("http://a.test/"), &[]),
    case("plain", "", "GET https://a.test/\nHost: a.test", Ok("https://a.test/"), &[]),
    case("plain", "", "GET /\nHost: a.test", Ok("http://a.test/"), &[]),
    case("plain", "", "GET /\nHost: A.Test.:80", Ok("http://a.test/"), &[]),
    case("plain", "", "GET /\nHost: a.test:443", Ok("http://a.test:443/"), &[]),
    case("plain", "", "GET /\nHost: [::1]:80", Ok("http://[::1]/"), &[]),
    case("plain", "", "GET /\nHost: a_b.test", Ok("http://a_b.test/"), &[]),
    case("plain", "", "GET /", Err((400, "names no host")), &[]),
    case("plain", "", "GET /\nHost: a.test\nHost: a.test", Err((400, "more than one Host")), &[]),
    case("plain", "", "GET /\nHost: ::1", Err((400, "`::1`")), &[]),
    // A tunnel without TLS: the scheme stays http, the port is CONNECT's.
    case("plain", "a.test:80", "GET /\nHost: a.test", Ok("http://a.test/"), &[]),
    case("plain", "a.test:8080", "GET /\nHost: a.test", Ok("http://a.test:8080/"), &[]),
    case("plain", "a.test:443", "GET /\nHost: a.test", Ok("http://a.test:443/"), &[]),
    // TLS in a tunnel, all saying the same in different spellings.
    case("tls a.test", "a.test:443", "GET /\nHost: a.test", Ok("https://a.test/"), &["a.test"]),
    case("tls a.test", "a.test:443", "GET /\nHost: a.test:443", Ok("https://a.test/"), &["a.test"]),
    case("tls a.test", "A.Test:443", "GET /\nHost: A.TEST", Ok("https://a.test/"), &["a.test"]),
    case("tls A.TEST", "a.test:443", "GET /\nHost: a.test.", Ok("https://a.test/"), &["a.test"]),
    case("tls a.test", "a.test.:443", "GET /\nHost: a.test.:443", Ok("https://a.test/"), &["a.test"]),
    case("tls a.test", "a.test:8443", "GET /\nHost: a.test", Ok("https://a.test:8443/"), &["a.test"]),
    case("tls a.test", "A.test.:8443", "GET /\nHost: a.test", Ok("https://a.test:8443/"), &["a.test"]),
    case("tls a.test", "a.test:8443", "GET /\nHost: a.test:443", Ok("https://a.test/"), &["a.test"]),
    case("tls a.test", "a.test:8443", "GET /\nHost: a.test:8443", Ok("https://a.test:8443/"), &["a.test"]),
    // TLS in a tunnel, contradictions: the certificate is for the SNI, the URL is Host's, and the target's before it.
    case("tls a.test", "b.test:443", "GET /\nHost: c.test", Ok("https://c.test/"), &["a.test"]),
    case("tls a.test", "b.test:8443", "GET /\nHost: c.test", Ok("https://c.test/"), &["a.test"]),
    case("tls a.test", "b.test:8443", "GET /", Ok("https://b.test:8443/"), &["a.test"]),
    case("tls a.test", "192.0.2.1:443", "GET /\nHost: a.test", Ok("https://a.test/"), &["a.test"]),
    case("tls a.test", "a.test:443", "GET https://c.test/\nHost: a.test", Ok("https://c.test/"), &["a.test"]),
    case("tls a.test", "a.test:8443", "GET http://a.test/\nHost: a.test", Ok("http://a.test/"), &["a.test"]),
    // TLS in a tunnel without SNI: the certificate is for the CONNECT host.
    case("tls", "a.test:443", "GET /\nHost: a.test", Ok("https://a.test/"), &["a.test"]),
    case("tls", "A.test.:443", "GET /\nHost: a.test", Ok("https://a.test/"), &["a.test", "a.test."]),
    case("tls", "192.0.2.1:443", "GET /\nHost: 192.0.2.1", Ok("https://192.0.2.1/"), &["192.0.2.1"]),
    case("tls", "192.0.2.1:8443", "GET /\nHost: 192.0.2.1", Ok("https://192.0.2.1:8443/"), &["192.0.2.1"]),
    case("tls", "[::1]:443", "GET /\nHost: [::1]", Ok("https://[::1]/"), &["::1"]),
    case("tls", "[::1]:8443", "GET /\nHost: [0:0:0:0:0:0:0:1]", Ok("https://[::1]:8443/"), &["::1"]),
    case("tls", "[2001:DB8:0::1]:443", "GET /\nHost: [2001:db8::1]:443", Ok("https://[2001:db8::1]/"), &["2001:db8::1"]),
    // TLS straight to the port: the certificate is for the SNI, else for the address that was dialled.
    case("tls a.test", "", "GET /\nHost: a.test", Ok("https://a.test/"), &["a.test"]),
    case("tls a.test", "", "GET /\nHost: b.test:8443", Ok("https://b.test:8443/"), &["a.test"]),
    case("tls a.test", "", "GET https://b.test/\nHost: a.test", Ok("https://b.test/"), &["a.test"]),
    case("tls a.test", "", "GET /", Err((400, "names no host")), &["a.test"]),
    case("tls", "", "GET /\nHost: a.test", Ok("https://a.test/"), &["127.0.0.1"]),
    // Names that are unusual, and work.
    case("tls a_b.test", "a_b.test:443", "GET /\nHost: a_b.test", Ok("https://a_b.test/"), &["a_b.test"]),
    case("tls xn--bcher-kva.test", "xn--bcher-kva.test:443", "GET /\nHost: xn--bcher-kva.test",
        Ok("https://xn--bcher-kva.test/"), &["xn--bcher-kva.test"]),
    case("tls localhost", "localhost:443", "GET /\nHost: localhost", Ok("https://localhost/"), &["localhost"]),
    case("tls 1.2.3.4.test", "1.2.3.4.test:443", "GET /\nHost: 1.2.3.4.test", Ok("https://1.2.3.4.test/"), &["1.2.3.4.test"]),
];

/// An inventory in which every URL answers with itself.
fn serving() -> Serving {
    let urls: std::collections::BTreeSet<_> = CASES.iter().filter_map(|case| case.expected.ok()).collect();
    Serving::start(&urls.into_iter().map(|url| text_entry(url, url)).collect::<String>())
}

/// Sends the request of `case` and checks the answer.
#[track_caller]
fn ask(case: &Case, stream: impl Read + Write) {
    let (line, fields) = case.request.split_once('\n').unwrap_or((case.request, ""));
    // HTTP/1.0 is what a request without Host is allowed to be.
    let version = if fields.contains("Host") { "HTTP/1.1" } else { "HTTP/1.0" };
    let answer = Http1(stream).ask(format!("{line} {version}\n{fields}").trim_end());
    check(case, &answer);
}

#[track_caller]
fn check(case: &Case, answer: &Answer) {
    let Case { way, connect, request, expected, .. } = case;
    match *expected {
        Ok(url) => assert_eq!((answer.status, answer.text()), (200, url), "{way} {connect:?}: {request}"),
        Err((status, part)) => {
            assert_eq!(answer.status, status, "{way} {connect:?}: {request}");
            assert!(answer.text().contains(part), "{part} in {}", answer.text());
        }
    }
}

#[test]
fn every_combination_of_connect_sni_and_host_has_its_answer_and_its_certificate() {
    let serving = serving();
    for case in CASES {
        let mut stream = serving.connect();
        if let Some(target) = case.connect {
            let granted = Http1(&stream).ask(&format!("CONNECT {target} HTTP/1.1\nHost: {target}"));
            assert_eq!(granted.status, 200, "{target}: {}", granted.head);
        }
        let Some(sni) = case.way.strip_prefix("tls") else {
            ask(case, &mut stream);
            continue;
        };
        let mut config = serving.tls(&["http/1.1"]);
        config.enable_sni = !sni.is_empty();
        // The handshake fails where the certificate is not good for this name.
        let name = ServerName::try_from(if sni.is_empty() { case.names[0] } else { sni.trim() }).unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut tls = StreamOwned::new(tls, stream);
        ask(case, &mut tls);
        let certificate = &tls.conn.peer_certificates().unwrap()[0];
        let certificate = ParsedCertificate::try_from(certificate).unwrap();
        for name in case.names {
            let name = ServerName::try_from(*name).unwrap();
            client::verify_server_name(&certificate, &name).unwrap_or_else(|error| panic!("{}: {error}", case.way));
        }
    }
}

/// A name as OpenSSL's client sends it, whatever it is, and how it verifies: SNI (empty for none), option, name.
const OPENSSL: &[(&str, &str, &str)] = &[
    ("a.test", "-verify_hostname", "a.test"),
    ("A.Test", "-verify_hostname", "A.Test"),
    // Some verify the name without the dot, and some just as it was given.
    ("a.test.", "-verify_hostname", "a.test"),
    ("a.test.", "-verify_hostname", "a.test."),
    ("a_b.test", "-verify_hostname", "a_b.test"),
    ("xn--bcher-kva.test", "-verify_hostname", "xn--bcher-kva.test"),
    // An address is no SNI (RFC 6066 §3), but sent: the certificate is for the address that was dialled.
    ("127.0.0.1", "-verify_ip", "127.0.0.1"),
    ("", "-verify_ip", "127.0.0.1"),
];

#[test]
fn openssl_accepts_the_certificate_for_the_very_name_that_it_sent() {
    let serving = Serving::start(&text_entry("https://a.test/", "fine"));
    for (sni, option, name) in OPENSSL {
        let sni = if sni.is_empty() { "-noservername".to_owned() } else { format!("-servername {sni}") };
        let script = format!(
            "printf 'GET / HTTP/1.1\\r\\nHost: a.test\\r\\nConnection: close\\r\\n\\r\\n' | \
             openssl s_client -quiet -connect {} -CAfile {} -verify_return_error -x509_strict {sni} {option} {name}",
            serving.address,
            serving.ca_file.display()
        );
        let outcome = run(serving.work.command("sh").args(["-euc", &script])).expect_code(0);
        assert!(outcome.text().ends_with("\r\n\r\nfine"), "{outcome}");
    }
}

#[test]
fn without_sni_and_connect_the_certificate_is_for_the_address_that_was_dialled() {
    let serving = Serving::start_in(Workdir::new(), &text_entry("https://a.test/", "fine"), |command| {
        command.args(["--listen", "[::1]:0"]);
    });
    let name = ServerName::try_from("::1").unwrap();
    let tls = ClientConnection::new(Arc::new(serving.tls(&["http/1.1"])), name).unwrap();
    let answer = Http1(StreamOwned::new(tls, serving.connect())).ask("GET / HTTP/1.1\nHost: a.test");
    assert_eq!(answer.text(), "fine");
}

#[test]
fn curl_and_python_accept_every_host_that_they_can_ask_for() {
    let urls = [
        "https://a.test/",
        "https://a.test:8443/",
        "https://a_b.test/",
        "https://192.0.2.1/",
        "https://[::1]/",
        "https://[2001:db8::1]:8443/",
        "https://xn--bcher-kva.test/",
    ];
    let serving = Serving::start(&urls.map(|url| text_entry(url, url)).concat());
    let python = "import os, ssl, sys, urllib.request as r
context = ssl.create_default_context()
context.verify_flags |= ssl.VERIFY_X509_STRICT
for url in sys.argv[1:]: sys.stdout.write(r.urlopen(url, context=context).read().decode() + '\\n')";
    for url in urls {
        let dotted = url.replace(".test", ".test.");
        // curl takes the dot out of what it verifies, Python does not; neither has one with an address.
        for asked in [url, &dotted] {
            for version in ["--http1.1", "--http2"] {
                let outcome = run(serving.curl().args(["-g", "-f", version, asked])).expect_code(0);
                assert_eq!(outcome.text(), url, "curl {version} {asked}");
            }
            if asked.contains('[') {
                // Python before 3.12 asks for a tunnel to `::1:443`, without brackets, which is no authority.
                continue;
            }
            let script = ". ./env.sh; unset no_proxy NO_PROXY; exec /usr/bin/python3 -c \"$@\"";
            let outcome = run(serving.work.command("sh").args(["-euc", script, "sh", python, asked])).expect_code(0);
            assert_eq!(outcome.text().trim_end(), url, "python {asked}");
        }
    }
}

#[test]
fn a_host_that_no_certificate_can_name_is_refused_before_tls() {
    let serving = Serving::start("");
    let (long_label, long_name) = (format!("{}.test", "a".repeat(64)), format!("{}test", "a.".repeat(125)));
    for host in
        ["a..test", "a-.test", "-a.test", "*.test", "127.1", "[::1%25lo]", "a%62.test", ".", &long_label, &long_name]
    {
        let answer = Http1(serving.connect()).ask(&format!("CONNECT {host}:443 HTTP/1.1\nHost: {host}:443"));
        assert_eq!(answer.status, 400, "{host}: {}", answer.head);
        // What is no authority at all the HTTP library refuses without words.
        assert!(answer.body.is_empty() || answer.text().contains(&format!("`{host}`")), "{}", answer.text());
        assert!(!answer.body.is_empty() || host.contains(['%', '*']), "{host}");
    }
    let longest = format!("{}test", "a.".repeat(124));
    assert_eq!(Http1(serving.connect()).ask(&format!("CONNECT {longest}.:443 HTTP/1.1")).status, 200);
}

#[test]
fn an_sni_that_is_no_host_name_gets_an_alert_and_a_reason() {
    let mut serving = Serving::start_in(Workdir::new(), "", |command| {
        command.stderr(Stdio::piped());
    });
    let mut log = serving.server.0.stderr.take().unwrap();
    let script = format!("openssl s_client -connect {} -servername a..test </dev/null", serving.address);
    run(serving.work.command("sh").args(["-euc", &script])).expect_code(1).expect_stderr(&["alert"]);
    serving.server.signal(rustix::process::Signal::TERM);
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    assert!(text.contains("the server name that the client sent is no host name"), "{text}");
}

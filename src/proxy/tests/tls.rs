//! The certificates, as strict clients check them, and handshakes that fail.

use super::*;

/// Python's verifier with the checks that Python 3.13 makes by default; prints the certificate's names.
const STRICT: &str = r"
import os, socket, ssl, sys
context = ssl.create_default_context()
context.verify_flags |= ssl.VERIFY_X509_STRICT
context.set_alpn_protocols(['h2', 'http/1.1'])
port, host, name, *rest = sys.argv[1:]
tcp = socket.create_connection(('127.0.0.1', int(port)))
tcp.sendall(f'CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n'.encode())
assert tcp.recv(4096).startswith(b'HTTP/1.1 200')
with context.wrap_socket(tcp, server_hostname=name) as tls:
    print(tls.version(), tls.selected_alpn_protocol(), tls.getpeercert()['subjectAltName'])
";

#[tokio::test]
async fn strict_verifiers_accept_names_and_addresses() {
    let proxy = Proxy::start().await;
    let port = proxy.address.port().to_string();
    for (host, name, alternative) in [
        ("files.example.test", "files.example.test", "('DNS', 'files.example.test')"),
        ("Files.Example.test", "sni.example.test", "('DNS', 'sni.example.test')"),
        ("192.0.2.1", "192.0.2.1", "('IP Address', '192.0.2.1')"),
        ("[2001:db8::1]", "2001:db8::1", "('IP Address', '2001:DB8:0:0:0:0:0:1')"),
    ] {
        let printed = proxy.output("python3", &["-c", STRICT, &port, host, name]).await;
        assert_eq!(printed, format!("TLSv1.3 h2 ({alternative},)\n"));
    }
}

#[tokio::test]
async fn certificates_have_the_fields_that_verifiers_ask_for() {
    let proxy = Proxy::start().await;
    let x509 = ["x509", "-noout", "-text", "-in", proxy.ca_file()];
    let ca = proxy.output("openssl", &x509).await;
    for words in ["CN = buildproxy CA", "CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign", "NIST CURVE: P-256"] {
        assert!(ca.contains(words), "{words}: {ca}");
    }
    for date in ["Not Before: Jan  2 00:00:00 1970 GMT", "Not After : Jan  1 00:00:00 2100 GMT"] {
        assert!(ca.contains(date), "{date}: {ca}");
    }
    let connect = format!("127.0.0.1:{}", proxy.address.port());
    let script = "openssl s_client -connect \"$1\" -servername \"$2\" -verify_return_error </dev/null 2>/dev/null |
        openssl x509 -noout -text";
    let mut serials = Vec::new();
    for name in ["a.example.test", "b.example.test"] {
        let leaf = proxy.output("sh", &["-c", script, "sh", &connect, name]).await;
        for words in ["CA:FALSE", "Digital Signature", "TLS Web Server Authentication", "Authority Key Identifier"] {
            assert!(leaf.contains(words), "{words}: {leaf}");
        }
        assert!(leaf.contains(&format!("DNS:{name}")) && leaf.contains("Subject Key Identifier"), "{leaf}");
        let lines: Vec<&str> = leaf.lines().collect();
        let serial = lines.iter().position(|line| line.contains("Serial Number")).unwrap();
        serials.push(lines[serial + 1].trim().to_owned());
    }
    assert_ne!(serials[0], serials[1]);
}

#[tokio::test]
async fn sessions_are_resumed() {
    let proxy = Proxy::start().await;
    let connect = format!("127.0.0.1:{}", proxy.address.port());
    let script =
        "openssl s_client -connect \"$1\" -servername h.example.test \"$2\" -sess_out \"$3\" </dev/null >/dev/null 2>&1
        openssl s_client -connect \"$1\" -servername h.example.test \"$2\" -sess_in \"$3\" </dev/null 2>/dev/null";
    let dir = tempfile::tempdir().unwrap();
    let session = dir.path().join("session");
    let printed = proxy.output("sh", &["-c", script, "sh", &connect, "-tls1_2", session.to_str().unwrap()]).await;
    assert!(printed.contains("Reused, TLSv1.2"), "{printed}");
}

#[tokio::test]
async fn clients_that_do_not_trust_the_ca_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other.pem");
    std::fs::write(&other, CertificateAuthority::new().unwrap().certificate_pem()).unwrap();
    let (url, other) = ("https://files.example.test/", other.to_str().unwrap());
    // curl sends an alert; wget, with GnuTLS, leaves when the handshake is complete.
    for (client, variable, arguments) in [
        ("curl", "CURL_CA_BUNDLE", &["-q", "-sS", "--cacert", other, url][..]),
        ("wget", "WGETRC", &["-q", "-t1", "-O-", "--ca-certificate", other, url]),
        (
            "python3",
            "REQUESTS_CA_BUNDLE",
            &[
                "-c",
                "import os, sys, urllib.request as r; os.environ.pop('SSL_CERT_FILE'); r.urlopen(sys.argv[1])",
                url,
            ],
        ),
    ] {
        let proxy = Proxy::start().await;
        assert!(!proxy.run(client, arguments).await.status.success(), "{client}");
        let failure = wait_for_failure(&proxy).await;
        assert!(failure.client_distrusts_ca && failure.host == "files.example.test", "{client}: {failure:?}");
        let text = failure.to_string();
        assert!(text.contains("does not trust buildproxy's CA") && text.contains(variable), "{text}");
    }
}

#[tokio::test]
async fn a_broken_handshake_is_no_matter_of_trust() {
    let proxy = Proxy::start().await;
    let connect = b"CONNECT h.test:443 HTTP/1.1\r\n\r\n\x16\x03\x01\x00\x05hello";
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(connect).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let failure = wait_for_failure(&proxy).await;
    assert!(!failure.client_distrusts_ca && failure.host == "h.test", "{failure:?}");
    // The proxy goes on.
    assert_eq!(proxy.curl(&["https://h.test/"]).await, "GET https://h.test/ \n");
}

/// The first failure that the proxy tells of, which can be a little later than the client's end.
async fn wait_for_failure(proxy: &Proxy) -> HandshakeFailure {
    for _ in 0..200 {
        if let Some(failure) = proxy.failures.lock().unwrap().first() {
            return failure.clone();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no failure was reported");
}

#[tokio::test]
async fn connect_over_http2_is_refused() {
    let proxy = Proxy::start().await;
    let script = r"
import socket, ssl, struct, sys
context = ssl.create_default_context()
context.check_hostname = False
context.set_alpn_protocols(['h2'])
tls = context.wrap_socket(socket.create_connection(('127.0.0.1', int(sys.argv[1]))))
def frame(kind, flags, stream, payload): return struct.pack('>I', len(payload))[1:] + bytes([kind, flags]) + struct.pack('>I', stream) + payload
def literal(name, value): return bytes([0, len(name)]) + name + bytes([len(value)]) + value
tls.sendall(b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + frame(4, 0, 0, b''))
tls.sendall(frame(1, 5, 1, literal(b':method', b'CONNECT') + literal(b':authority', b'h.test:443')))
answer = b''
while b'HTTP/2: use' not in answer: answer += tls.recv(4096) or sys.exit('closed')
";
    proxy.output("python3", &["-c", script, &proxy.address.port().to_string()]).await;
}

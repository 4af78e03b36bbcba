//! Origins whose TLS or certificate is bad: refused, and the client is told why in words.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use tokio_rustls::rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::{
    common::{Awkward, TestCa, Workdir, pattern, run},
    shows,
    wire::{End, WireOrigin, head},
};

/// Captures one file, and another of an origin without faults. Gives what the client was told, with the status.
fn told(ca: &str, origin: &WireOrigin) -> String {
    let (good, work) = (Awkward::start(), Workdir::new());
    let (faulty, fine) = (origin.url("/faulty"), good.url("/plain/fine"));
    let script = format!("curl -sS -w ' %{{http_code}}' '{faulty}'; curl -sSf -o /dev/null '{fine}'");
    let outcome = run(work.capturing(ca).args(["--", "sh", "-euc", &script])).expect_code(0);
    assert_eq!(work.inventory().urls(), [&fine], "{outcome}");
    let failed = run(work.capturing(ca).args(["--", "curl", "-sSf", "-o", "/dev/null", &faulty]));
    let failed = failed.expect_code(22).expect_stderr(&["/faulty is not recorded"]);
    assert!(!failed.stderr.contains("panicked"), "{failed}");
    outcome.text().to_owned()
}

/// Reads a part of the ClientHello, so that what follows is no reset.
fn hello(tcp: &mut TcpStream) -> io::Result<()> {
    tcp.read(&mut [0; 4096]).map(drop)
}

#[test]
fn an_origin_whose_handshake_fails_is_a_502_with_the_reason() {
    type Serve = fn(TcpStream) -> io::Result<()>;
    let faults: [(&str, Serve, &str); 6] = [
        ("garbage", |mut tcp| hello(&mut tcp).and_then(|()| tcp.write_all(&[0x5a; 600])), "does not speak tls"),
        (
            "plain HTTP",
            |mut tcp| hello(&mut tcp).and_then(|()| tcp.write_all(b"HTTP/1.1 400 Bad\r\n\r\n")),
            "http url?",
        ),
        (
            "an alert",
            |mut tcp| hello(&mut tcp).and_then(|()| tcp.write_all(&[21, 3, 3, 0, 2, 2, 40])),
            "handshakefailure",
        ),
        ("an end", |mut tcp| hello(&mut tcp), "handshake"),
        ("half a record", |mut tcp| hello(&mut tcp).and_then(|()| tcp.write_all(&[22, 3, 3, 1, 0, 2])), "handshake"),
        (
            "a reset",
            |mut tcp| {
                hello(&mut tcp)?;
                Ok(rustix::net::sockopt::set_socket_linger(&tcp, Some(std::time::Duration::ZERO))?)
            },
            "",
        ),
    ];
    let ca = TestCa::new();
    for (fault, serve, reason) in &faults {
        let serve = *serve;
        let origin = WireOrigin::raw("https", move |tcp| {
            serve(tcp.try_clone()?)?;
            // Where it is reset already, this is not heeded.
            drop(tcp.shutdown(Shutdown::Write));
            Ok(())
        });
        let told = told(&ca.pem, &origin);
        assert!(told.ends_with(" 502") && told.to_lowercase().contains(reason), "{fault}: {told}");
    }
    shows!(
        Capture,
        "handshakes that end in garbage, plain HTTP, an alert, half a record, an end, a reset",
        "{} faults, a 502 with the reason each time, nothing recorded",
        faults.len()
    );
}

#[test]
fn encrypted_bytes_that_were_altered_on_the_way_are_not_recorded() {
    let ca = TestCa::new();
    let answer = |path: &str, wire: &mut crate::wire::Wire| {
        wire.write_all(&head("Content-Length: 5000"))?;
        if path == "/good" {
            return wire.write_all(&pattern(5000)).map(|()| End::Keep);
        }
        wire.write_all(&pattern(2500))?;
        wire.flush()?;
        // As long as the record that it says it is, and nobody's.
        wire.tcp.write_all(&[23, 3, 3, 0, 64])?;
        wire.tcp.write_all(&[0x5a; 64])?;
        Ok(End::Stall)
    };
    let (origin, work) = (WireOrigin::http(Some(ca.server_config()), Arc::new(answer)), Workdir::new());
    let (faulty, good) = (origin.url("/faulty"), origin.url("/good"));
    let script = format!("curl -sSf -o got '{faulty}' && exit 9; curl -sSf -o good '{good}'");
    let outcome = run(work.capturing(&ca.pem).args(["--", "sh", "-uc", &script])).expect_code(0);
    outcome.expect_stderr(&["/faulty is not recorded", "cannot decrypt"]);
    assert_eq!((work.inventory().urls(), work.read("good")), (vec![good.as_str()], pattern(5000)));
}

/// A server whose certificate, which `ca` signs, was `change`d before.
fn certified(ca: &TestAuthority, change: impl FnOnce(&mut CertificateParams)) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(["localhost".to_owned()]).unwrap();
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.distinguished_name.push(DnType::CommonName, "test origin");
    change(&mut leaf);
    config(leaf.signed_by(&key, &ca.issuer).unwrap().pem(), &key)
}

fn config(certificate: String, key: &KeyPair) -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())
}

struct TestAuthority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl TestAuthority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        ca.distinguished_name.push(DnType::CommonName, name);
        let pem = ca.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(ca, key) }
    }
}

#[test]
fn a_certificate_that_is_not_good_is_refused_and_the_client_is_told_why() {
    let ca = TestAuthority::new("CA of the test");
    let self_signed = |is_ca: IsCa| {
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(["localhost".to_owned()]).unwrap();
        leaf.is_ca = is_ca;
        config(leaf.self_signed(&key).unwrap().pem(), &key)
    };
    let faults = [
        ("expired", certified(&ca, |leaf| leaf.not_after = date_time_ymd(2020, 1, 1)), "certificate expired"),
        ("not yet valid", certified(&ca, |leaf| leaf.not_before = date_time_ymd(2090, 1, 1)), "not valid yet"),
        (
            "of another host",
            certified(&ca, |leaf| {
                *leaf = CertificateParams::new(["other.test".to_owned()]).unwrap();
                leaf.is_ca = IsCa::ExplicitNoCa;
            }),
            "not valid for",
        ),
        (
            "not for servers",
            certified(&ca, |leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            "certificate",
        ),
        ("self-signed", self_signed(IsCa::ExplicitNoCa), "a ca that is not trusted here"),
        (
            "self-signed by openssl req -x509",
            self_signed(IsCa::Ca(BasicConstraints::Unconstrained)),
            "openssl req -x509",
        ),
        (
            "of a CA that nobody knows",
            certified(&TestAuthority::new("another CA"), |_| {}),
            "a ca that is not trusted here",
        ),
    ];
    let asked = Arc::new(AtomicUsize::new(0));
    let count = faults.len();
    for (fault, config, reason) in faults {
        let asked = Arc::clone(&asked);
        let answer = move |_: &str, wire: &mut crate::wire::Wire| {
            asked.fetch_add(1, Ordering::SeqCst);
            wire.write_all(&head("Content-Length: 0")).map(|()| End::Keep)
        };
        let told = told(&ca.pem, &WireOrigin::http(Some(config), Arc::new(answer)));
        assert!(told.ends_with(" 502") && told.to_lowercase().contains(reason), "{fault}: {told}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0, "no request was sent to any of them");
    shows!(
        Capture,
        "expired, not yet valid, another host's, not a server's, self-signed, of an unknown CA",
        "{count} certificates, a 502 with the reason each time; no request sent, nothing recorded"
    );
}

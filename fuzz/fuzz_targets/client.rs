//! What a client sends first, CONNECT or ClientHello, is told without a panic, and no certificate is made but for the name of a host.

#![no_main]

use std::{io::Cursor, net::IpAddr};

use buildproxy_fuzz::proxy::{
    authority::{HostPort, alternative_names},
    detect::{Protocol, read_ahead},
    prefixed::Prefixed,
    target::{Arrival, effective_uri},
};
use bytes::Bytes;
use http::{Request, Uri};
use libfuzzer_sys::fuzz_target;
use rustls::server::Acceptor;
use tokio::io::AsyncReadExt;

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(detect(bytes));
    hello(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        names(text);
        let (target, rest) = text.split_once(' ').unwrap_or((text, "/"));
        connect(target, rest);
    }
});

/// Looking at the first byte takes none away.
async fn detect(bytes: &[u8]) {
    for prefix in 0..=bytes.len().min(2) {
        let mut stream = Prefixed::new(Bytes::copy_from_slice(&bytes[..prefix]), Cursor::new(bytes[prefix..].to_vec()));
        let protocol = read_ahead(&mut stream).await.unwrap();
        let expected = bytes.first().map(|&first| if first == 0x16 { Protocol::Tls } else { Protocol::Plain });
        assert_eq!(protocol, expected);
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, bytes);
    }
}

/// The name in a ClientHello is one that a certificate can have.
fn hello(bytes: &[u8]) {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while acceptor.read_tls(&mut rest).is_ok_and(|read| read > 0) {
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                if let Some(name) = accepted.client_hello().server_name() {
                    assert!(alternative_names(name).is_ok(), "{name:?}");
                    names(name);
                }
                return;
            }
            Err(_) => return,
        }
    }
}

fn names(host: &str) {
    let Ok(names) = alternative_names(host) else { return };
    assert!((1..=2).contains(&names.len()));
    for name in names {
        let is_dns = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        assert!(is_dns || name.parse::<IpAddr>().is_ok(), "{name:?}");
        assert!(name.len() <= 254 && name == name.to_ascii_lowercase(), "{name:?}");
    }
}

/// What a CONNECT names is the host of what comes through it.
fn connect(target: &str, path: &str) {
    let Ok(uri) = Uri::try_from(target) else { return };
    let Ok(tunnel) = uri.to_string().parse::<HostPort>() else { return };
    assert_eq!(tunnel.to_string().parse().as_ref(), Ok(&tunnel), "it is read as the same again");
    assert!(!tunnel.host().contains(['@', '/', '?', '#', ' ']), "{tunnel}");
    let mut arrival = Arrival::at(([127, 0, 0, 1], 34567).into());
    arrival.decrypted = true;
    arrival.tunnels = vec![tunnel.clone()];
    let Ok(request) = Request::get(path).body(()) else { return };
    if !path.starts_with('/') {
        return;
    }
    let Ok(effective) = effective_uri(&request, &arrival) else { return };
    assert_eq!(effective.scheme_str(), Some("https"));
    let authority = effective.authority().expect("an absolute URI");
    assert!(tunnel.same_host(&HostPort::try_from(authority).unwrap()), "{effective} through {tunnel}");
    assert_eq!(authority.port_u16().unwrap_or(443), tunnel.port().unwrap_or(443));
}

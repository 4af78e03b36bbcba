//! The URL by which clients are told of the proxy.

use std::{fmt, net::SocketAddr, str::FromStr};

use super::authority::HostPort;
use crate::text::printable;

/// Where a proxy is: `http://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    /// The host's name, or its address without brackets.
    pub(super) host: String,
    /// Its port.
    pub(super) port: u16,
}

/// What is no [`ProxyUrl`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no proxy of buildproxy's: expected http://HOST:PORT", printable(.0))]
pub struct ProxyUrlError(String);

impl FromStr for ProxyUrl {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<Self, ProxyUrlError> {
        let refused = || ProxyUrlError(text.to_owned());
        let authority = text.strip_prefix("http://").ok_or_else(refused)?;
        let authority: HostPort = authority.trim_end_matches('/').parse().map_err(|_| refused())?;
        let port = authority.port().filter(|port| *port != 0).ok_or_else(refused)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        Ok(Self { host: host.to_owned(), port })
    }
}

impl From<SocketAddr> for ProxyUrl {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "http://[{host}]:{port}") } else { write!(f, "http://{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_named_by_host_and_port() {
        for url in ["http://127.0.0.1:8080", "http://[::1]:8080", "http://host.docker.internal:3128"] {
            assert_eq!(url.parse::<ProxyUrl>().unwrap().to_string(), url);
        }
        assert_eq!("http://h.test:1/".parse::<ProxyUrl>().unwrap().to_string(), "http://h.test:1");
        for wrong in
            ["", "127.0.0.1:8080", "https://h:1", "http://h", "http://h:0", "http://u:p@h:1", "http://h:1/path"]
        {
            assert!(wrong.parse::<ProxyUrl>().is_err(), "{wrong}");
        }
    }
}

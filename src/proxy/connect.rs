//! CONNECT: what is asked for, and the stream that comes out of it. Nothing is ever dialled.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::{rt::TokioIo, server::conn::auto};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{
    authority::{AuthorityError, HostError, HostPort, server_name},
    lifetime::Watched,
    prefixed::Prefixed,
    socket::ClientSocket,
    target::Arrival,
};

/// How many tunnels can lie within each other: one, and one more in it for clients with a chain of proxies.
const DEEPEST_TUNNEL: usize = 2;

/// Why a CONNECT request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// A target that is no `HOST:PORT`.
    #[error("cannot CONNECT: {0}")]
    Authority(#[from] AuthorityError),
    /// A target without a port, which CONNECT needs (RFC 9110 §9.3.6).
    #[error("cannot CONNECT to `{0}`: the port is missing")]
    NoPort(String),
    /// A host that no certificate can name: TLS inside would break without a word, and as a host name it is invalid.
    #[error("cannot CONNECT: {0}")]
    Host(#[from] HostError),
    /// A tunnel inside too many others.
    #[error("cannot CONNECT: this is already a tunnel inside a tunnel")]
    TooDeep,
    /// CONNECT as a stream of HTTP/2 (RFC 9113 §8.5).
    #[error("cannot CONNECT over HTTP/2: use HTTP/1.1 to the proxy")]
    Http2,
}

impl ConnectError {
    /// The status that the client gets.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Authority(_) | Self::NoPort(_) | Self::Host(_) => StatusCode::BAD_REQUEST,
            Self::TooDeep | Self::Http2 => StatusCode::NOT_IMPLEMENTED,
        }
    }
}

/// A stream of bytes of any making.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<IO: AsyncRead + AsyncWrite + Send + Unpin> Stream for IO {}

/// Where bytes come from: a connection itself, or what is inside one.
pub enum Transport {
    /// The TCP connection, with nothing read ahead.
    Tcp(ClientSocket),
    /// A tunnel in TLS or in another tunnel, or one whose first bytes were read with the CONNECT request.
    Nested(Prefixed<Box<dyn Stream>>),
}

/// A tunnel that was granted and opens when its answer is sent.
pub struct Tunnel {
    /// Where the client believes that it leads.
    pub target: HostPort,
    upgrade: OnUpgrade,
}

/// Where the exchange that grants a tunnel leaves it for the connection, which carries on with it.
#[derive(Clone, Default)]
pub struct TunnelSlot(Arc<Mutex<Option<Tunnel>>>);

impl TunnelSlot {
    /// Takes the tunnel out.
    pub fn take(&self) -> Option<Tunnel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, tunnel: Tunnel) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    }
}

/// Grants a CONNECT request: puts the tunnel, which opens behind a 200, into `slot`.
///
/// # Errors
/// Where the target is no `HOST:PORT`, no certificate can name the host, or the request came through too many tunnels or over HTTP/2.
pub fn grant<B>(request: &mut Request<B>, arrival: &Arrival, slot: &TunnelSlot) -> Result<(), ConnectError> {
    if request.version() >= Version::HTTP_2 {
        return Err(ConnectError::Http2);
    }
    let target: HostPort = request.uri().to_string().parse()?;
    if target.port().is_none() {
        return Err(ConnectError::NoPort(target.to_string()));
    }
    server_name(target.host())?;
    if arrival.tunnels.len() >= DEEPEST_TUNNEL {
        return Err(ConnectError::TooDeep);
    }
    slot.put(Tunnel { target, upgrade: hyper::upgrade::on(request) });
    Ok(())
}

impl Tunnel {
    /// The stream inside, once the answer to CONNECT is out.
    ///
    /// # Errors
    /// Where the connection broke before.
    pub async fn open(self) -> io::Result<Transport> {
        let upgraded = self.upgrade.await.map_err(io::Error::other)?;
        Ok(match auto::upgrade::downcast::<TokioIo<Watched<ClientSocket>>>(upgraded) {
            Ok(parts) if parts.read_buf.is_empty() => Transport::Tcp(parts.io.into_inner().into_inner()),
            Ok(parts) => nested(parts.read_buf, parts.io.into_inner().into_inner()),
            Err(upgraded) => {
                let mut stream = TokioIo::<Upgraded>::new(upgraded);
                // A flush of the answer can have been put off, and hyper does not come back to it.
                stream.flush().await?;
                nested(Bytes::new(), stream)
            }
        })
    }
}

fn nested(read: Bytes, stream: impl Stream + 'static) -> Transport {
    Transport::Nested(Prefixed::new(read, Box::new(stream)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(version: Version, target: &str, depth: usize) -> Result<String, ConnectError> {
        let mut request = Request::builder().method("CONNECT").uri(target).version(version).body(()).unwrap();
        let mut arrival = Arrival::at("127.0.0.1:34567".parse().unwrap());
        arrival.tunnels = vec!["h.test:443".parse().unwrap(); depth];
        let slot = TunnelSlot::default();
        grant(&mut request, &arrival, &slot)?;
        Ok(slot.take().unwrap().target.to_string())
    }

    #[test]
    fn a_host_and_a_port_make_a_tunnel() {
        for target in ["h.test:443", "127.0.0.1:8443", "[::1]:443"] {
            assert_eq!(outcome(Version::HTTP_11, target, 0).as_deref(), Ok(target));
        }
        assert!(outcome(Version::HTTP_10, "h.test:443", 1).is_ok());
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        for (version, target, depth, status, words) in [
            (Version::HTTP_11, "h.test", 0, 400, "port is missing"),
            (Version::HTTP_11, "h.test:", 0, 400, "port is missing"),
            (Version::HTTP_11, "h.test:99999", 0, 400, "below 65536"),
            (Version::HTTP_11, "/path", 0, 400, "not HOST or HOST:PORT"),
            (Version::HTTP_11, "http://h.test:443/", 0, 400, "not HOST or HOST:PORT"),
            (Version::HTTP_11, "u@h.test:443", 0, 400, "not HOST or HOST:PORT"),
            (Version::HTTP_11, "h..test:443", 0, 400, "`h..test` is neither"),
            (Version::HTTP_11, "h.test:443", 2, 501, "tunnel inside a tunnel"),
            (Version::HTTP_2, "h.test:443", 0, 501, "HTTP/2"),
        ] {
            let error = outcome(version, target, depth).unwrap_err();
            assert_eq!(error.status().as_u16(), status, "{target}");
            assert!(error.to_string().contains(words), "{target}: {error}");
        }
    }

    #[test]
    fn each_refusal_of_a_tunnel_says_why() {
        for (error, text) in [
            (ConnectError::NoPort("h".to_owned()), "cannot CONNECT to `h`: the port is missing"),
            (ConnectError::TooDeep, "cannot CONNECT: this is already a tunnel inside a tunnel"),
            (ConnectError::Http2, "cannot CONNECT over HTTP/2: use HTTP/1.1 to the proxy"),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}

//! Takes TLS off a connection, with a certificate for whatever host the client believes that it speaks to.

use std::{fmt, io, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout},
};
use tokio_rustls::{
    LazyConfigAcceptor,
    rustls::{self, AlertDescription},
    server::TlsStream,
};

use super::{
    batched::Batched,
    ca::{CaError, CertificateAuthority},
    detect,
    prefixed::Prefixed,
    target::Arrival,
    trust,
};
use crate::process::ProcessName;

/// How long a handshake can take, from the first byte on.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that leaves this soon after the handshake, without a word, did not like the certificate. One that leaves
/// later had opened a connection that it then did not need.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);

/// What is told about handshakes that failed, for a summary at the end of a run.
pub type HandshakeCallback = Arc<dyn Fn(HandshakeFailure) + Send + Sync>;

/// A TLS connection that came to nothing, and with it every request that the client had in mind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakeFailure {
    /// The host that the client wanted: SNI, else the CONNECT host, else the proxy's own address.
    pub host: String,
    /// Whether the client did not accept the certificate: it said so in an alert, or it left as soon as it had seen
    /// the certificate, as clients with GnuTLS (wget) do.
    pub client_distrusts_ca: bool,
    /// What went wrong, in words.
    pub reason: String,
    /// The client, where it is on this machine and the system told.
    pub(crate) client: Option<ProcessName>,
}

/// One sentence for people; where the client does not trust the CA, with what would change that.
impl fmt::Display for HandshakeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS handshake for {} failed: {}", self.host, self.reason)?;
        let client = self.client.as_ref().map(ProcessName::to_string);
        if !self.client_distrusts_ca {
            return client.map_or(Ok(()), |client| write!(f, "; the client was {client}"));
        }
        let client = client.unwrap_or_else(|| "the client".to_owned());
        let found_by = trust::found_by(self.client.as_ref().map(|client| &*client.name));
        write!(f, "; {client} does not trust buildproxy's CA, {found_by}")
    }
}

/// A stream without its TLS.
pub struct Decrypted<IO> {
    /// The plain bytes, of which the first can have been read ahead.
    pub stream: Prefixed<Batched<IO>>,
    /// The host that the certificate is for.
    host: String,
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error(transparent)]
    Certificate(#[from] CaError),
    #[error("cannot read the client's hello: {0}")]
    Hello(#[source] io::Error),
    #[error("the server name that the client sent is no host name (RFC 6066 §3)")]
    ServerName,
    #[error("{0}")]
    Broken(#[source] io::Error),
    #[error("the client left when it had seen the certificate")]
    Left,
    #[error("the client was silent for {} seconds", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout,
}

impl HandshakeError {
    /// What `error` means before the client has said what it wants. It got an alert.
    fn from_hello(error: io::Error) -> Self {
        const NO_HOST_NAME: rustls::Error =
            rustls::Error::PeerMisbehaved(rustls::PeerMisbehaved::ServerNameMustContainOneHostName);
        match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
            Some(cause) if *cause == NO_HOST_NAME => Self::ServerName,
            _ => Self::Hello(error),
        }
    }

    /// What `error` means once the client has the certificate.
    fn from_client(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Self::Left,
            _ => Self::Broken(error),
        }
    }

    /// Whether the client did not like the certificate: it sent an alert that says so (RFC 8446 §6.2), or left.
    fn client_distrusts_ca(&self) -> bool {
        use AlertDescription::{BadCertificate, CertificateUnknown, UnknownCA};
        match self {
            Self::Left => true,
            Self::Broken(error) => match error.get_ref().and_then(|cause| cause.downcast_ref()) {
                Some(rustls::Error::AlertReceived(alert)) => {
                    matches!(*alert, UnknownCA | BadCertificate | CertificateUnknown)
                }
                _ => false,
            },
            Self::Certificate(_) | Self::Hello(_) | Self::ServerName | Self::Timeout => false,
        }
    }

    /// The same for the caller, with the host.
    fn at(self, host: String) -> HandshakeFailure {
        let client_distrusts_ca = self.client_distrusts_ca();
        HandshakeFailure { host, client_distrusts_ca, reason: self.to_string(), client: None }
    }
}

/// Runs the handshake on `stream`. The certificate names, in this order,
///
/// 1. the SNI, whatever CONNECT said: it is the name that the client will verify. A trailing dot, which RFC 6066 §3
///    does not allow and some send, is no part of it, and is named as well;
/// 2. without one, or where it is an address (RFC 6066 §3 allows none), the host of the innermost CONNECT;
/// 3. without that, the address that the client dialled.
///
/// An SNI that is no host name ends the handshake with an alert. `Host` is not known yet: one that differs decides
/// which URL is looked up, in [`effective_uri`](super::target::effective_uri), and no certificate.
///
/// # Errors
/// Where it fails or takes too long.
pub async fn decrypt<IO>(
    stream: IO,
    arrival: &Arrival,
    ca: &CertificateAuthority,
) -> Result<Decrypted<IO>, HandshakeFailure>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let own = arrival.own.ip().to_string();
    let mut host = arrival.tunnel().map_or(own, |tunnel| tunnel.host().to_owned());
    let outcome = timeout(HANDSHAKE_TIMEOUT, handshake(stream, &mut host, ca)).await;
    match outcome.unwrap_or(Err(HandshakeError::Timeout)) {
        Ok(stream) => Ok(Decrypted { stream: Prefixed::new(Bytes::new(), Batched::new(stream)), host }),
        Err(error) => Err(error.at(host)),
    }
}

/// Reads the client's hello, puts its SNI into `host`, and goes on with the certificate for it.
async fn handshake<IO>(
    stream: IO,
    host: &mut String,
    ca: &CertificateAuthority,
) -> Result<TlsStream<IO>, HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let acceptor = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
    let start = acceptor.await.map_err(HandshakeError::from_hello)?;
    if let Some(name) = start.client_hello().server_name() {
        name.clone_into(host);
    }
    let config = ca.server_config(host)?;
    start.into_stream(config).await.map_err(HandshakeError::from_client)
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Decrypted<IO> {
    /// Waits until the client says something: only then it has accepted the certificate, since some complete the
    /// handshake before they look at it. `false`: it left without needing the connection.
    ///
    /// # Errors
    /// Where the client leaves at once or sends an alert.
    pub async fn accepted(&mut self) -> Result<bool, HandshakeFailure> {
        let start = Instant::now();
        let error = match detect::read_ahead(&mut self.stream).await {
            Ok(Some(_)) => return Ok(true),
            Ok(None) => HandshakeError::Left,
            Err(error) => HandshakeError::from_client(error),
        };
        if start.elapsed() > REFUSED_WITHIN {
            return Ok(false);
        }
        Err(error.at(self.host.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_of_a_handshake_that_fails_is_a_sentence() {
        for (error, text) in [
            (HandshakeError::Hello(io::Error::other("no TLS")), "cannot read the client's hello: no TLS"),
            (HandshakeError::ServerName, "the server name that the client sent is no host name (RFC 6066 §3)"),
            (HandshakeError::Left, "the client left when it had seen the certificate"),
            (HandshakeError::Timeout, "the client was silent for 30 seconds"),
        ] {
            assert_eq!(error.to_string(), text);
        }
        let failure = HandshakeFailure {
            host: "h".to_owned(),
            client_distrusts_ca: false,
            reason: "it broke".to_owned(),
            client: Some(ProcessName { name: "curl".to_owned(), pid: 7 }),
        };
        assert_eq!(failure.to_string(), "TLS handshake for h failed: it broke; the client was curl (process 7)");
    }
}

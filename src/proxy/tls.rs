//! Takes TLS off a connection, with a certificate for whatever host the client believes that it speaks to.

use std::{fmt, io, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{
    LazyConfigAcceptor,
    rustls::{self, AlertDescription},
    server::TlsStream,
};

use super::{
    ca::{CaError, CertificateAuthority},
    detect, environment,
    prefixed::Prefixed,
    target::Arrival,
};

/// How long a handshake can take, from the first byte on.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// What is told about handshakes that failed, for a summary at the end of a run.
pub type HandshakeCallback = Arc<dyn Fn(HandshakeFailure) + Send + Sync>;

/// A TLS connection that came to nothing, and with it every request that the client had in mind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandshakeFailure {
    /// The host that the client wanted: SNI, else the CONNECT host, else the proxy's own address.
    pub host: String,
    /// Whether the client did not accept the certificate: it said so in an alert, or it left as soon as it had seen
    /// the certificate, as GnuTLS (wget) and Node do.
    pub client_distrusts_ca: bool,
    /// What went wrong, in words.
    pub reason: String,
}

/// One sentence for people; where the client does not trust the CA, with what would change that.
impl fmt::Display for HandshakeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS handshake for {} failed: {}", self.host, self.reason)?;
        if !self.client_distrusts_ca {
            return Ok(());
        }
        let variables: Vec<&str> = environment::ca_variables().collect();
        write!(f, "; the client does not trust buildproxy's CA: it reads none of {}", variables.join(", "))
    }
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error(transparent)]
    Certificate(#[from] CaError),
    #[error("cannot read the client's hello: {0}")]
    Hello(#[source] io::Error),
    #[error("{0}")]
    Broken(#[source] io::Error),
    #[error("the client left when it had seen the certificate")]
    Left,
    #[error("the client was silent for {} seconds", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout,
}

impl HandshakeError {
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
            Self::Certificate(_) | Self::Hello(_) | Self::Timeout => false,
        }
    }
}

/// Runs the handshake on `stream`, and waits until the client has sent something in it: only then has it accepted the
/// certificate. The certificate is for the SNI, else for the CONNECT host, else for the proxy's own address.
///
/// # Errors
/// Where it fails or takes too long.
pub async fn decrypt<IO>(
    stream: IO,
    arrival: &Arrival,
    ca: &CertificateAuthority,
) -> Result<Prefixed<TlsStream<IO>>, HandshakeFailure>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let own = arrival.own.ip().to_string();
    let mut host = arrival.tunnel().map_or(own, |tunnel| tunnel.host().to_owned());
    let outcome = timeout(HANDSHAKE_TIMEOUT, handshake(stream, &mut host, ca)).await;
    outcome.unwrap_or(Err(HandshakeError::Timeout)).map_err(|error| HandshakeFailure {
        host,
        client_distrusts_ca: error.client_distrusts_ca(),
        reason: error.to_string(),
    })
}

/// Reads the client's hello, puts its SNI into `host`, and goes on with the certificate for it.
async fn handshake<IO>(
    stream: IO,
    host: &mut String,
    ca: &CertificateAuthority,
) -> Result<Prefixed<TlsStream<IO>>, HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let acceptor = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
    let start = acceptor.await.map_err(HandshakeError::Hello)?;
    if let Some(name) = start.client_hello().server_name() {
        name.clone_into(host);
    }
    let config = ca.server_config(host)?;
    let stream = start.into_stream(config).await.map_err(HandshakeError::from_client)?;
    let mut stream = Prefixed::new(Bytes::new(), stream);
    match detect::read_ahead(&mut stream).await.map_err(HandshakeError::from_client)? {
        Some(_) => Ok(stream),
        None => Err(HandshakeError::Left),
    }
}

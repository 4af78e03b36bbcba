//! One client's connection, from its first byte on: detect, decrypt, serve; and once more inside each tunnel.

use std::{
    convert::Infallible,
    error::Error,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Mutex,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tower::Service;

use super::{
    account::{AnswerCallback, Answered},
    batched::Batched,
    ca::CertificateAuthority,
    connect::{Transport, Tunnel},
    detect,
    exchange::{self, HttpServer},
    lifetime::{IDLE_TIMEOUT, Shutdown},
    prefixed::Prefixed,
    socket::ClientSocket,
    target::Arrival,
    tls::{self, HandshakeCallback, HandshakeFailure},
    upload::Upload,
};
use crate::{
    process::{Finder, Network, ProcessName, Protocol},
    request_id::RequestIds,
};

/// How long a client can be silent after CONNECT. On a new connection it can be as long as between two requests:
/// some clients open connections that they do not need yet.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection may still say why it is closed when the server ends: a command that fails because it does not
/// trust the CA ends as soon as it has said so.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// How long the thread that looks for a client may take to come and to look.
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// What all connections of a listener share.
pub struct Settings {
    /// Whether origins are asked for what clients want.
    pub asks_origins: bool,
    /// Makes the certificates.
    pub ca: Arc<CertificateAuthority>,
    /// Speaks HTTP.
    pub http: HttpServer,
    /// Is told of failed handshakes.
    pub on_handshake_failure: Option<HandshakeCallback>,
    /// Is told of each request that is over.
    pub on_answer: Option<AnswerCallback>,
    /// Knows who the clients are.
    pub clients: Clients,
    /// Set where a client wants something other than to look at the run.
    pub was_asked: Arc<AtomicBool>,
}

/// Which process is at a client's end of a connection.
#[derive(Debug, Clone, Default)]
pub struct Clients {
    finder: Arc<Finder>,
    /// Held by the one connection that is looked up: were it hundreds at once, each would have begun before the time that
    /// there is for all of them was spent.
    turn: Arc<Mutex<()>>,
}

impl Clients {
    /// Those in `network`.
    pub fn of_network(network: Network) -> Self {
        Self { finder: Arc::new(Finder::of(network)), turn: Arc::default() }
    }

    /// The process that `arrival` came from, where it came from this machine.
    async fn find(&self, arrival: &Arrival) -> Option<ProcessName> {
        let (peer, own) = (arrival.peer.filter(|peer| peer.ip().to_canonical().is_loopback())?, arrival.own);
        if self.finder.is_spent() {
            return None;
        }
        let _turn = self.turn.lock().await;
        let finder = Arc::clone(&self.finder);
        let looked_up = spawn_blocking(move || finder.find(Protocol::Tcp, peer, own));
        timeout(LONGEST_LOOK, looked_up).await.inspect_err(|_| self.finder.give_up()).ok()?.ok().flatten()
    }
}

/// One client's connection and what serves it.
pub struct Connection<S> {
    /// What the connections share.
    pub settings: Arc<Settings>,
    /// Answers the requests.
    pub service: S,
    /// Says when to end.
    pub shutdown: Shutdown,
    /// Numbers its requests.
    pub ids: RequestIds,
}

impl<S, B> Connection<S>
where
    S: Service<Request<Upload>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Serves `stream`, and the tunnels that are opened on it one inside the other, until the client has enough.
    ///
    /// # Errors
    /// Where the connection breaks outside of an HTTP exchange.
    pub async fn serve(mut self, stream: TcpStream) -> io::Result<()> {
        // A response of several small writes must not wait for the client's acknowledgement.
        stream.set_nodelay(true)?;
        let mut arrival = Arrival::at(stream.local_addr()?);
        arrival.peer = stream.peer_addr().ok();
        arrival.asks_origins = self.settings.asks_origins;
        arrival.ids = self.ids.clone();
        let mut transport = Transport::Tcp(ClientSocket::new(stream));
        while let Some(tunnel) = self.serve_transport(transport, &mut arrival).await? {
            tracing::debug!(host = %tunnel.target, "tunnel");
            arrival.tunnels.push(tunnel.target.clone());
            arrival.decrypted = false;
            transport = tunnel.open().await?;
        }
        Ok(())
    }

    /// Looks at the first byte and serves what it announces. `None` is the end; a tunnel is to be served next.
    async fn serve_transport(&mut self, transport: Transport, arrival: &mut Arrival) -> io::Result<Option<Tunnel>> {
        arrival.is_direct = matches!(transport, Transport::Tcp(_));
        match transport {
            Transport::Tcp(stream) => {
                let first = self.in_time(detect::peek(stream.stream()), arrival).await.transpose()?.flatten();
                Ok(self.serve_protocol(first, stream, arrival).await)
            }
            Transport::Nested(mut stream) => {
                let first = self.in_time(detect::read_ahead(&mut stream), arrival).await.transpose()?.flatten();
                Ok(self.serve_protocol(first, stream, arrival).await)
            }
        }
    }

    /// Takes TLS off, where there is some, and serves the HTTP inside.
    async fn serve_protocol<IO>(
        &mut self,
        protocol: Option<detect::Protocol>,
        stream: IO,
        arrival: &mut Arrival,
    ) -> Option<Tunnel>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        match protocol? {
            detect::Protocol::Plain => self.serve_http(stream, arrival).await,
            detect::Protocol::Tls => {
                let stream = self.decrypt(stream, arrival).await?;
                arrival.decrypted = true;
                arrival.is_direct = false;
                self.serve_http(stream, arrival).await
            }
        }
    }

    /// Takes TLS off. `None` is the end.
    async fn decrypt<IO>(&mut self, stream: IO, arrival: &Arrival) -> Option<Prefixed<Batched<IO>>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let settings = Arc::clone(&self.settings);
        settings.was_asked.store(true, Ordering::Relaxed);
        // A client that does not like the certificate is gone as soon as it has it.
        let client = settings.clients.find(arrival).await;
        let decryption = async {
            let mut decrypted = tls::decrypt(stream, arrival, &settings.ca).await?;
            Ok(decrypted.accepted().await?.then_some(decrypted.stream))
        };
        self.in_time(decryption, arrival).await?.unwrap_or_else(|failure: HandshakeFailure| {
            let failure = HandshakeFailure { client, ..failure };
            // In full it is for the end of the run: clients try again and again.
            tracing::warn!(host = failure.host, "TLS handshake failed: {}", failure.reason);
            if let Some(callback) = &self.settings.on_handshake_failure {
                callback(failure);
            }
            if let (Some(callback), Some(tunnel)) = (&self.settings.on_answer, arrival.tunnel()) {
                callback(Answered::tunnel(tunnel, arrival.ids.connection(), arrival.peer));
            }
            None
        })
    }

    /// Serves the HTTP on a stream, until its end or the next tunnel.
    async fn serve_http<IO>(&mut self, stream: IO, arrival: &Arrival) -> Option<Tunnel>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        exchange::serve(&self.settings, stream, arrival, self.service.clone(), &mut self.shutdown).await
    }

    /// Waits for `beginning`, the client's first words: not for ever, and not past the end of the server; but what the
    /// client said before that end counts, read or not.
    async fn in_time<T>(&mut self, beginning: impl Future<Output = T>, arrival: &Arrival) -> Option<T> {
        let patience = if arrival.tunnels.is_empty() { IDLE_TIMEOUT } else { FIRST_BYTE_TIMEOUT };
        let ended = async {
            self.shutdown.requested().await;
            sleep(LAST_WORDS).await;
        };
        tokio::select! {
            () = ended => None,
            outcome = timeout(patience, beginning) => outcome
                .inspect_err(|_| tracing::debug!(?patience, "closed a connection that said nothing"))
                .ok(),
        }
    }
}

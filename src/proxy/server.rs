//! The listening socket: accepts connections, and ends them in good order.

use std::{convert::Infallible, error::Error, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::Service;
use tracing::Instrument;

use super::{
    ca::CertificateAuthority,
    connection::{Clients, Connection, Settings},
    exchange,
    lifetime::Shutdown,
    tls::{HandshakeCallback, HandshakeFailure},
};

/// How long accepting pauses when the process or the system is out of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening socket that is not served yet. Clients can connect already: they are served later.
pub struct Listener {
    socket: TcpListener,
    local_addr: SocketAddr,
    on_handshake_failure: Option<HandshakeCallback>,
    clients: Clients,
    asks_origins: bool,
}

impl Listener {
    /// Listens on `addr`; the kernel picks where the port is 0.
    ///
    /// # Errors
    /// Where the address cannot be had.
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        Self::listening(TcpListener::bind(addr).await?)
    }

    /// Listens on what is a listening socket already, of the network that process `member` is in.
    ///
    /// # Errors
    /// Where it is none.
    pub fn from_socket(socket: std::net::TcpListener, member: i32) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let listener = Self::listening(TcpListener::from_std(socket)?)?;
        Ok(Self { clients: Clients::of_network(Some(member)), ..listener })
    }

    fn listening(socket: TcpListener) -> io::Result<Self> {
        let local_addr = socket.local_addr()?;
        if local_addr.ip().is_loopback() {
            without_pacing(&socket);
        }
        Ok(Self { socket, local_addr, on_handshake_failure: None, clients: Clients::default(), asks_origins: false })
    }

    /// Where it listens, with the port that the kernel picked.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Has `callback` told of every TLS handshake that fails: those requests never reach the service.
    #[must_use]
    pub fn on_handshake_failure(mut self, callback: impl Fn(HandshakeFailure) + Send + Sync + 'static) -> Self {
        self.on_handshake_failure = Some(Arc::new(callback));
        self
    }

    /// Says that the service asks origins, so that nothing may come back from there.
    #[must_use]
    pub fn asking_origins(self, asks_origins: bool) -> Self {
        Self { asks_origins, ..self }
    }

    /// Serves until `shutdown` resolves, then stops accepting, lets running exchanges end for `grace`, and closes
    /// the rest. `service` gets each request with its absolute URI and without hop-by-hop fields.
    pub async fn serve<S, B>(
        self,
        ca: Arc<CertificateAuthority>,
        service: S,
        shutdown: impl Future<Output = ()>,
        grace: Duration,
    ) where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let (ending, ended) = watch::channel(false);
        let Self { socket, on_handshake_failure, clients, asks_origins, .. } = self;
        let settings = Settings { asks_origins, ca, http: exchange::server(), on_handshake_failure, clients };
        let connection = Connection { settings: Arc::new(settings), service, shutdown: Shutdown::from(ended) };
        let mut running = JoinSet::new();
        tokio::select! {
            () = accept_all(&socket, connection, &mut running) => {}
            () = shutdown => {}
        }
        drop(socket);
        // Nobody listening means that no connection is left to end.
        let _ = ending.send(true);
        let drained = timeout(grace, async { while running.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            tracing::debug!(connections = running.len(), "closed connections that did not end in time");
        }
    }
}

/// Has the connections of a listener on loopback send as fast as they are read. Nothing is lost there, so that any
/// congestion control will do but one that paces, as BBR does, which is the default of some systems.
fn without_pacing(socket: &TcpListener) {
    // Every kernel has it; one that does not let us choose is as good, only slower.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::net::sockopt::set_tcp_congestion(socket, "reno") {
        tracing::debug!("the congestion control stays the system's: {error}");
    }
}

/// Accepts for ever; each connection runs as a task of `running`.
async fn accept_all<S, B>(socket: &TcpListener, connection: Connection<S>, running: &mut JoinSet<()>)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    loop {
        tokio::select! {
            (stream, peer) = accept(socket) => {
                let span = tracing::debug_span!("connection", %peer);
                let connection = Connection {
                    settings: Arc::clone(&connection.settings),
                    service: connection.service.clone(),
                    shutdown: connection.shutdown.clone(),
                };
                running.spawn(serve(connection, stream).instrument(span));
            }
            // Tasks that have ended are taken out, so that the set does not grow.
            Some(_) = running.join_next() => {}
        }
    }
}

async fn serve<S, B>(connection: Connection<S>, stream: TcpStream)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if let Err(error) = connection.serve(stream).await {
        tracing::debug!(%error, "connection broken");
    }
}

/// The next connection. An error of one connection is nobody else's; an error of the system (EMFILE, ENFILE, ENOMEM)
/// stays until something is closed, so the next attempt waits.
async fn accept(socket: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        let error = match socket.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => error,
        };
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
            continue;
        }
        tracing::warn!(%error, "cannot accept connections");
        sleep(ACCEPT_PAUSE).await;
    }
}

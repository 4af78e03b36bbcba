//! The listening socket: accepts connections, and ends them in good order.

use std::{
    convert::Infallible,
    error::Error,
    fmt, io,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tower::Service;

use super::{
    account::AnswerCallback,
    ca::CertificateAuthority,
    connection::{Clients, Connection, Settings},
    descriptors, exchange,
    lifetime::Shutdown,
    tls::{HandshakeCallback, HandshakeFailure},
    upload::Upload,
};
use crate::{process::Network, request_id::RequestIds};

/// How long accepting pauses when the process or the system is out of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections can wait to be accepted; the system may allow fewer. With the 128 that are usual, what comes at
/// once and is more waits for a second and longer, because its first packet is dropped.
const BACKLOG: i32 = 4096;

/// A listening socket that is not served yet. Clients can connect already: they are served later.
pub struct Listener {
    socket: TcpListener,
    local_addr: SocketAddr,
    on_handshake_failure: Option<HandshakeCallback>,
    on_answer: Option<AnswerCallback>,
    clients: Clients,
    others: u32,
    asks_origins: bool,
    was_asked: Arc<AtomicBool>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

impl Listener {
    /// Listens on `addr`; the kernel picks where the port is 0.
    ///
    /// # Errors
    /// Where the address cannot be had.
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        Self::listening(TcpListener::bind(addr).await?)
    }

    /// Listens on what is a listening socket already, of `network`.
    ///
    /// # Errors
    /// Where it is none.
    pub(crate) fn from_socket(socket: std::net::TcpListener, network: Network) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let listener = Self::listening(TcpListener::from_std(socket)?)?;
        Ok(Self { clients: Clients::of_network(network), ..listener })
    }

    fn listening(socket: TcpListener) -> io::Result<Self> {
        let local_addr = socket.local_addr()?;
        if local_addr.ip().is_loopback() {
            without_pacing(&socket);
        }
        // Once more, for the longer queue.
        if let Err(error) = rustix::net::listen(&socket, BACKLOG) {
            tracing::debug!("the queue of connections stays short: {error}");
        }
        Ok(Self {
            socket,
            local_addr,
            on_handshake_failure: None,
            on_answer: None,
            clients: Clients::default(),
            others: 0,
            asks_origins: false,
            was_asked: Arc::default(),
        })
    }

    /// Where it listens, with the port that the kernel picked.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Whether a client has ever wanted something, other than to look at the run.
    pub(crate) fn was_asked(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.was_asked)
    }

    /// Has `callback` told of every TLS handshake that fails: those requests never reach the service.
    #[must_use]
    pub fn on_handshake_failure(mut self, callback: impl Fn(HandshakeFailure) + Send + Sync + 'static) -> Self {
        self.on_handshake_failure = Some(Arc::new(callback));
        self
    }

    /// Has `callback` told of every request that is over.
    #[must_use]
    pub(crate) fn on_answer(self, callback: Option<AnswerCallback>) -> Self {
        Self { on_answer: callback, ..self }
    }

    /// Says that each connection holds so many more descriptors for as long as it is served.
    #[must_use]
    pub(crate) fn holding(self, others: u32) -> Self {
        Self { others, ..self }
    }

    /// Says that the service asks origins, so that nothing may come back from there.
    #[must_use]
    pub(crate) fn asking_origins(self, asks_origins: bool) -> Self {
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
        S: Service<Request<Upload>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let (ending, ended) = watch::channel(false);
        let Self { socket, on_handshake_failure, on_answer, clients, others, asks_origins, was_asked, .. } = self;
        let http = exchange::server();
        let settings = Settings { asks_origins, ca, http, on_handshake_failure, on_answer, clients, was_asked };
        let ids = RequestIds::default();
        let connection = Connection { settings: Arc::new(settings), service, shutdown: Shutdown::from(ended), ids };
        let mut running = JoinSet::new();
        tokio::select! {
            () = accept_all(&socket, others, connection, &mut running) => {}
            () = shutdown => {}
        }
        drop(socket);
        // Nobody listening means that no connection is left to end.
        let _ = ending.send(true);
        let drained = timeout(grace, async { while running.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            tracing::debug!(connections = running.len(), "closed connections that did not end in time");
            // Until the last one has told what became of its requests.
            running.shutdown().await;
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
async fn accept_all<S, B>(socket: &TcpListener, others: u32, connection: Connection<S>, running: &mut JoinSet<()>)
where
    S: Service<Request<Upload>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut shortage = Shortage::default();
    let mut accepted = 0;
    loop {
        let is_full = running.len() >= descriptors::most_connections(others);
        if is_full {
            shortage
                .is_there(&format_args!("{} are open, and more would leave no descriptors for files", running.len()));
        }
        tokio::select! {
            (stream, peer) = accept(socket, &mut shortage), if !is_full => {
                accepted += 1;
                let ids = RequestIds::of(accepted);
                let id = ids.connection();
                let connection = Connection {
                    settings: Arc::clone(&connection.settings),
                    service: connection.service.clone(),
                    shutdown: connection.shutdown.clone(),
                    ids,
                };
                running.spawn(id.scope(serve(connection, stream, peer)));
            }
            // Tasks that have ended are taken out, so that the set does not grow.
            Some(_) = running.join_next() => {}
        }
    }
}

async fn serve<S, B>(connection: Connection<S>, stream: TcpStream, peer: SocketAddr)
where
    S: Service<Request<Upload>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    tracing::debug!(client = %peer, "connected");
    if let Err(error) = connection.serve(stream).await {
        tracing::debug!(%error, "connection broken");
    }
}

/// The next connection. An error of one connection is nobody else's; an error of the system (EMFILE, ENFILE, ENOMEM)
/// stays until something is closed, so the next attempt waits.
async fn accept(socket: &TcpListener, shortage: &mut Shortage) -> (TcpStream, SocketAddr) {
    loop {
        let error = match socket.accept().await {
            Ok(accepted) => {
                shortage.may_be_over();
                return accepted;
            }
            Err(error) => error,
        };
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
            continue;
        }
        shortage.is_there(&error);
        sleep(ACCEPT_PAUSE).await;
    }
}

/// Why no connections can be accepted for now: said once, and once more if it comes back after a while.
#[derive(Default)]
struct Shortage {
    /// When it was last seen.
    seen: Option<Instant>,
}

impl Shortage {
    /// How long all has to be well before a shortage is news.
    const WELL: Duration = Duration::from_secs(60);

    fn is_there(&mut self, reason: &dyn fmt::Display) {
        if self.seen.replace(Instant::now()).is_none() {
            tracing::warn!(
                "cannot accept connections for now, they wait: {reason}; more are possible with `ulimit -n`"
            );
        }
    }

    /// One connection was accepted; the next may not be.
    fn may_be_over(&mut self) {
        if self.seen.is_some_and(|seen| seen.elapsed() > Self::WELL) {
            self.seen = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_shortage_is_news_again_when_all_was_well_for_a_while() {
        let mut shortage = Shortage::default();
        shortage.is_there(&"none left");
        shortage.may_be_over();
        assert!(shortage.seen.is_some(), "one that comes and goes is the same");
        tokio::time::advance(Shortage::WELL * 2).await;
        shortage.may_be_over();
        assert!(shortage.seen.is_none());
    }
}

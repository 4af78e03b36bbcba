//! A proxy that runs: its listener, its CA, and what its clients need, from one start to one end.

use std::{
    convert::Infallible,
    error::Error,
    fmt, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use bytes::Bytes;
use http::{Request, Response};
use tokio::{sync::oneshot, task::JoinHandle};
use tower::Service;

use super::{
    account::AnswerCallback,
    ca::{CaError, CertificateAuthority},
    control::Controlled,
    environment::ClientEnvironment,
    server::Listener,
    tls::HandshakeFailure,
    upload::Upload,
};
use crate::process::Network;

/// How long running exchanges may go on when the proxy has to end; it is gone within two seconds of a SIGTERM.
const GRACE: Duration = Duration::from_secs(1);

/// The variable that allows debuggers and cores: keys can then be in what they see.
const DUMPABLE: &str = "BUILDPROXY_DUMPABLE";

/// Hosts whose failed handshakes are kept: a client that asks for ever new names must not fill the memory.
const KEPT: usize = 1000;

/// Where a proxy listens.
#[derive(Debug, Clone)]
pub enum ListenOn {
    /// This address; the kernel picks where the port is 0.
    Address(SocketAddr),
    /// A socket of another network, for clients that are there and have a home of their own.
    Isolated {
        /// The socket.
        socket: Arc<TcpListener>,
        /// That network.
        network: Network,
        /// The folder for the files that the clients read.
        folder: PathBuf,
    },
}

/// What a proxy needs to know.
#[derive(Clone)]
pub struct StartOptions {
    /// Where it listens.
    pub(crate) listen_on: ListenOn,
    /// What the clients trust beside the proxy's own CA, in PEM.
    pub(crate) user_roots: Option<String>,
    /// Whether requests to loopback go through the proxy, too.
    pub(crate) proxy_loopback: bool,
    /// How many descriptors a client's connection holds beside its own, for as long as it is served.
    pub(crate) held_per_client: u32,
    /// Whether the service asks origins.
    pub(crate) asks_origins: bool,
    /// What is told of each request that is over.
    pub(crate) on_answer: Option<AnswerCallback>,
    /// What it answers for itself: see [`control::HOST`](super::control::HOST).
    pub(crate) control: Router,
}

impl fmt::Debug for StartOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartOptions").field("listen_on", &self.listen_on).finish_non_exhaustive()
    }
}

impl StartOptions {
    /// On a free port of loopback, for clients that trust nothing else, in front of a service that opens nothing.
    pub fn local() -> Self {
        Self {
            listen_on: ListenOn::Address(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            user_roots: None,
            proxy_loopback: false,
            held_per_client: 0,
            asks_origins: false,
            on_answer: None,
            control: Router::new(),
        }
    }
}

/// Why a proxy cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}\n\nhint: leave `--listen` out and the kernel picks a free port")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate authority cannot be made.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// A file that clients read cannot be written.
    #[error("cannot write the clients' files below {}: {source}", folder.display())]
    Files {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A proxy that is ready, until it is stopped.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    environment: ClientEnvironment,
    handshake_failures: HandshakeFailures,
    was_asked: Arc<AtomicBool>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
    // Holds the clients' files.
    _client_files: tempfile::TempDir,
}

impl Running {
    /// Starts a proxy in front of `service`, with a CA of its own and the files for its clients.
    ///
    /// # Errors
    /// Where the address cannot be had, or a file for the clients cannot be written.
    pub async fn start<S, B>(options: StartOptions, service: S) -> Result<Self, StartError>
    where
        S: Service<Request<Upload>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let StartOptions { listen_on, user_roots, proxy_loopback, held_per_client, asks_origins, on_answer, control } =
            options;
        keep_freed_memory();
        keep_keys_from_others();
        let (is_isolated, folder) = match &listen_on {
            ListenOn::Isolated { folder, .. } => (true, folder.clone()),
            ListenOn::Address(_) => (false, std::env::temp_dir()),
        };
        let listener = listener(listen_on).await?.holding(held_per_client).asking_origins(asks_origins);
        let address = listener.local_addr();
        let ca = Arc::new(CertificateAuthority::new()?);
        let files_error = |folder: &Path| {
            let folder = folder.to_owned();
            move |source| StartError::Files { folder, source }
        };
        let client_files =
            tempfile::Builder::new().prefix(".buildproxy-").tempdir_in(&folder).map_err(files_error(&folder))?;
        let environment = ClientEnvironment::create(
            client_files.path(),
            address,
            ca.certificate_pem(),
            user_roots.as_deref(),
            proxy_loopback,
            &|name| std::env::var_os(name).filter(|_| !is_isolated || name == "JAVA_TOOL_OPTIONS"),
        )
        .map_err(files_error(client_files.path()))?;
        let handshake_failures = HandshakeFailures::default();
        let kept = handshake_failures.clone();
        let listener = listener.on_handshake_failure(move |failure| kept.add(failure)).on_answer(on_answer);
        let was_asked = listener.was_asked();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { drop(stopped.await) };
        let service = Controlled::new(service, control, address);
        let server = tokio::spawn(listener.serve(ca, service, shutdown, GRACE));
        tracing::debug!("the proxy is at http://{address}");
        Ok(Self { address, environment, handshake_failures, was_asked, stop, server, _client_files: client_files })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a command needs to go through it.
    pub fn environment(&self) -> &ClientEnvironment {
        &self.environment
    }

    /// The TLS handshakes that failed; the list goes on to grow, until the proxy has stopped.
    pub fn handshake_failures(&self) -> HandshakeFailures {
        self.handshake_failures.clone()
    }

    /// Whether a client has wanted something so far, other than to look at the run.
    pub fn was_asked(&self) -> bool {
        self.was_asked.load(Ordering::Relaxed)
    }

    /// Ends it: running exchanges have a moment, then all is closed.
    pub async fn stop(self) {
        // Nobody holds the other end only where the server has ended.
        let _ = self.stop.send(());
        let _ = self.server.await;
    }
}

async fn listener(listen_on: ListenOn) -> Result<Listener, StartError> {
    let (address, listener) = match listen_on {
        ListenOn::Address(address) => (address, Listener::bind(address).await),
        ListenOn::Isolated { socket, network, .. } => {
            let address = socket.local_addr().unwrap_or_else(|_| SocketAddr::from(([0; 4], 0)));
            (address, socket.try_clone().and_then(|socket| Listener::from_socket(socket, network)))
        }
    };
    listener.map_err(|source| StartError::Listen { address, source })
}

/// Has glibc keep what is freed, up to twice this many bytes in each of its arenas. It trims an arena's end as soon as
/// that is free, with each buffer that passes, so that the kernel has to clear every page of them again: a sixth of a
/// capture's processor time, and more than half of what an encrypted download takes. Freeing a large block raises that
/// limit (mallopt(3), `M_MMAP_THRESHOLD`); it is never touched, and other allocators do not care.
fn keep_freed_memory() {
    const KEPT: usize = 8 << 20;
    let mut block = Vec::<u8>::new();
    // Where there is no memory for it, it is not needed either.
    let _ = block.try_reserve_exact(KEPT);
    drop(std::hint::black_box(block));
}

/// Has the kernel write no core of this process, whose memory is to hold the CA's key, and let no other process of the same
/// user look into it; root can (prctl(2), `PR_SET_DUMPABLE`). Commands that it starts are as they always are. Who has to look
/// for a fault sets [`DUMPABLE`].
fn keep_keys_from_others() {
    #[cfg(target_os = "linux")]
    if std::env::var_os(DUMPABLE).is_none_or(|value| value.is_empty()) {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::debug!("a core of this process can have keys in it: {error}");
        }
    }
}

/// The hosts whose TLS handshakes failed, each once for each client.
#[derive(Debug, Clone, Default)]
pub struct HandshakeFailures(Arc<Mutex<Vec<HandshakeFailure>>>);

impl HandshakeFailures {
    /// What failed so far, by time.
    pub fn list(&self) -> Vec<HandshakeFailure> {
        self.lock().clone()
    }

    /// Of several failures of a host and a client one is kept: the first, or one that says that the CA is not trusted.
    fn add(&self, failure: HandshakeFailure) {
        let name = |failure: &HandshakeFailure| failure.client.as_ref().map(|client| client.name.clone());
        let mut known = self.lock();
        match known.iter().position(|known| known.host == failure.host && name(known) == name(&failure)) {
            Some(at) if failure.client_distrusts_ca && !known[at].client_distrusts_ca => known[at] = failure,
            None if known.len() < KEPT => known.push(failure),
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<HandshakeFailure>> {
        // Whatever panicked while it held the lock left a whole list behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ProcessName;

    #[test]
    fn a_host_is_kept_once_for_each_client_and_distrust_before_accidents() {
        let failures = HandshakeFailures::default();
        for (host, client_distrusts_ca, client) in [
            ("a", false, "curl"),
            ("b", true, "curl"),
            ("a", true, "curl"),
            ("b", false, "curl"),
            ("a", true, "git"),
            ("a", true, "curl"),
        ] {
            let client = Some(ProcessName { pid: 7, name: client.to_owned() });
            let reason = "whatever".to_owned();
            failures.add(HandshakeFailure { host: host.to_owned(), client_distrusts_ca, reason, client });
        }
        let list = failures.list();
        let kept = list.iter().map(|f| (&*f.host, f.client_distrusts_ca, &*f.client.as_ref().unwrap().name));
        assert_eq!(kept.collect::<Vec<_>>(), [("a", true, "curl"), ("b", true, "curl"), ("a", true, "git")]);
    }
}

//! The proxy as its clients see it: real programs, and raw sockets, against a service that says what it was asked.

mod clients;
mod lifecycle;
mod raw;
mod tls;

use std::{
    ffi::OsStr,
    net::SocketAddr,
    process::Output,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    sync::oneshot,
    task::JoinHandle,
};

use super::{CertificateAuthority, ClientEnvironment, HandshakeFailure, Listener};

/// Answers with what the service saw: method, absolute URI, and the names of the header fields that matter here.
async fn echo(request: Request) -> String {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let hop_by_hop: Vec<&str> = ["connection", "proxy-connection", "proxy-authorization", "te", "upgrade"]
        .into_iter()
        .filter(|name| head.headers.contains_key(*name))
        .collect();
    assert!(hop_by_hop.is_empty(), "{hop_by_hop:?}");
    format!("{} {} {}\n", head.method, head.uri, String::from_utf8_lossy(&body))
}

fn echo_service() -> Router {
    Router::new().fallback(echo)
}

/// A proxy that runs, and the environment of its clients.
struct Proxy {
    address: SocketAddr,
    environment: ClientEnvironment,
    failures: Arc<Mutex<Vec<HandshakeFailure>>>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Proxy {
    /// In front of the echo service; loopback goes through it, too.
    async fn start() -> Self {
        Self::start_with(echo_service(), "127.0.0.1:0", Duration::ZERO, true).await
    }

    async fn start_with(service: Router, address: &str, grace: Duration, proxy_loopback: bool) -> Self {
        let failures = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&failures);
        let listener = Listener::bind(address.parse().unwrap()).await.unwrap();
        let listener = listener.on_handshake_failure(move |failure| log.lock().unwrap().push(failure));
        let address = listener.local_addr();
        let ca = Arc::new(CertificateAuthority::new().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let pem = ca.certificate_pem();
        let environment = ClientEnvironment::create(dir.path(), address, pem, None, proxy_loopback, &|_| None).unwrap();
        let (stop, stopped) = oneshot::channel();
        let ended = async {
            // A test that has ended stops its proxy as well.
            let _ = stopped.await;
        };
        let task = tokio::spawn(listener.serve(ca, service, ended, grace));
        Self { address, environment, failures, stop: Some(stop), task, _dir: dir }
    }

    /// The file that holds the CA's certificate.
    fn ca_file(&self) -> &str {
        let (_, file) = self.environment.variables().find(|(name, _)| *name == "BUILDPROXY_CA_FILE").unwrap();
        file.unwrap().to_str().unwrap()
    }

    /// Runs `program` with the client environment and nothing else but what programs need to be found.
    async fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.env_clear().args(arguments).kill_on_drop(true);
        for name in ["PATH", "HOME"] {
            command.env(name, std::env::var_os(name).unwrap_or_default());
        }
        for (name, value) in self.environment.variables() {
            command.env(name, value.unwrap_or(OsStr::new("")));
            if value.is_none() {
                command.env_remove(name);
            }
        }
        let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
        output.unwrap_or_else(|_| panic!("{program} {arguments:?} hangs")).unwrap_or_else(|e| panic!("{program}: {e}"))
    }

    /// The standard output of a program that succeeds.
    async fn output(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What curl prints for `arguments`; it fails where curl does.
    async fn curl(&self, arguments: &[&str]) -> String {
        self.output("curl", &[&["-q", "-sS", "--max-time", "30"], arguments].concat()).await
    }

    /// Sends `request` as it stands on a connection of its own, and reads until the proxy closes it.
    async fn exchange(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "no end behind {:?}", String::from_utf8_lossy(&answer));
        String::from_utf8(answer).unwrap()
    }
}

/// A service that gives `body` for every request.
fn fixed(body: impl Fn() -> Body + Clone + Send + Sync + 'static) -> Router {
    Router::new().fallback(move || {
        let body = body();
        async move { body }
    })
}

//! An origin that does what real servers do and well-behaved test servers do not: see [`answers`] for its paths.
//!
//! A thread a connection and plain blocking writes, so that a test decides over every byte on the wire, the wrong ones
//! included. It counts connections and keeps every request, so that a test can prove what was not asked.

pub mod answers;
mod request;

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

pub use self::request::Request;
use super::TestCa;

/// How a connection goes on after an answer.
pub enum After {
    /// The next request can come.
    Keep,
    /// Closed as the protocol asks: over TLS with `close_notify`.
    Close,
    /// Cut off: over TLS without `close_notify`.
    Cut,
}

/// The running origin; ends when dropped, its connections included.
pub struct Awkward {
    pub ca: TestCa,
    http: SocketAddr,
    https: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    connections: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
    requests: Mutex<Vec<Request>>,
    refused: AtomicUsize,
    visits: Mutex<HashMap<String, usize>>,
}

impl Awkward {
    pub fn start() -> Self {
        let ca = TestCa::new();
        let shared = Arc::new(Shared::default());
        let (http, plain) = listen(&shared, None);
        let (https, tls) = listen(&shared, Some(ca.server_config()));
        Self { ca, http, https, shared, threads: vec![plain, tls] }
    }

    /// `path` of this origin over plain HTTP.
    pub fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.http.port())
    }

    /// `path` of this origin over HTTPS.
    pub fn tls_url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.https.port())
    }

    /// How many connections have been made to it.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many answers were not taken to their end.
    pub fn refused(&self) -> usize {
        self.shared.refused.load(Ordering::SeqCst)
    }

    /// The requests for `path` so far, query included.
    pub fn requests_for(&self, path: &str) -> Vec<Request> {
        self.shared.requests.lock().unwrap().iter().filter(|request| request.target == path).cloned().collect()
    }
}

impl Drop for Awkward {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for address in [self.http, self.https] {
            let _woken = TcpStream::connect(address);
        }
        for thread in self.threads.drain(..) {
            let _ended = thread.join();
        }
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _closed = stream.shutdown(Shutdown::Both);
        }
    }
}

fn listen(shared: &Arc<Shared>, tls: Option<Arc<ServerConfig>>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let shared = Arc::clone(shared);
    let thread = std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            if shared.stopping.load(Ordering::SeqCst) {
                return;
            }
            shared.connections.fetch_add(1, Ordering::SeqCst);
            shared.open.lock().unwrap().extend(stream.try_clone());
            let (shared, tls) = (Arc::clone(&shared), tls.clone());
            std::thread::spawn(move || {
                // A client that goes away in the middle is no failure of the test.
                let _ended = match tls {
                    None => serve_plain(&shared, stream),
                    Some(config) => serve_tls(&shared, stream, config),
                };
            });
        }
    });
    (address, thread)
}

fn serve_plain(shared: &Shared, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    serve(shared, &mut reader, BufReader::get_mut, "http")?;
    close(reader.get_ref())
}

fn serve_tls(shared: &Shared, stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let session = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut reader = BufReader::new(StreamOwned::new(session, stream));
    if let After::Close = serve(shared, &mut reader, BufReader::get_mut, "https")? {
        let tls = reader.get_mut();
        tls.conn.send_close_notify();
        tls.conn.complete_io(&mut tls.sock)?;
    }
    close(&reader.get_ref().sock)
}

/// Says FIN and waits for the client's, because closing with unread input would say RST.
fn close(mut stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    io::copy(&mut stream, &mut io::sink()).map(drop)
}

/// Answers requests until one answer ends the connection.
fn serve<S: Read + Write>(
    shared: &Shared,
    reader: &mut BufReader<S>,
    writer: fn(&mut BufReader<S>) -> &mut S,
    scheme: &str,
) -> io::Result<After> {
    while !reader.fill_buf()?.is_empty() {
        let request = Request::read(reader, writer, scheme)?;
        let visit = {
            let mut visits = shared.visits.lock().unwrap();
            let visit = visits.entry(format!("{} {}", request.method, request.target)).or_default();
            *visit += 1;
            *visit
        };
        shared.requests.lock().unwrap().push(request.clone());
        let out = writer(reader);
        let answered = answers::answer(&request, visit, out).and_then(|after| out.flush().map(|()| after));
        let after = answered.inspect_err(|_| {
            shared.refused.fetch_add(1, Ordering::SeqCst);
        })?;
        match after {
            After::Keep if request.version == "HTTP/1.1" && request.header("connection") != Some("close") => {}
            After::Keep => return Ok(After::Close),
            after => return Ok(after),
        }
    }
    Ok(After::Close)
}

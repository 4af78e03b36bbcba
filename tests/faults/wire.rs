//! An origin of which the test itself writes every byte, in plain text and by TLS.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rustix::net::sockopt::set_socket_linger;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What a test answers: it is given the request's path. What it gives back is how the connection ends.
pub type Answer = dyn Fn(&str, &mut Wire) -> io::Result<End> + Send + Sync;

/// How a connection ends.
pub enum End {
    /// In good order, when the client has closed it too.
    Close,
    /// With what TLS says at its end left out.
    Cut,
    /// By a reset.
    Reset,
    /// Not at all, as long as the client stays.
    Stall,
    /// The next request can come.
    Keep,
}

/// A connection.
pub struct Wire {
    stream: Stream,
    pub tcp: TcpStream,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}

/// The running origin; ends when dropped.
pub struct WireOrigin {
    address: SocketAddr,
    scheme: &'static str,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl WireOrigin {
    /// One that speaks HTTP, by TLS where there is `tls`.
    pub fn http(tls: Option<Arc<ServerConfig>>, answer: Arc<Answer>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        Self::raw(scheme, move |tcp| {
            let clone = tcp.try_clone()?;
            let stream = match &tls {
                None => Stream::Plain(clone),
                Some(config) => {
                    let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                    Stream::Tls(Box::new(StreamOwned::new(session, clone)))
                }
            };
            serve(&mut Wire { stream, tcp }, &*answer)
        })
    }

    /// One that does `serve` with each connection.
    pub fn raw(scheme: &'static str, serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (address, serve) = (listener.local_addr().unwrap(), Arc::new(serve));
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = std::thread::spawn(move || {
            for tcp in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let serve = Arc::clone(&serve);
                // What the client refuses to take is no failure of the test.
                std::thread::spawn(move || tcp.set_nodelay(true).and_then(|()| serve(tcp)));
            }
        });
        Self { address, scheme, stopping, thread: Some(thread) }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://localhost:{}{path}", self.scheme, self.address.port())
    }
}

impl Drop for WireOrigin {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _woken = TcpStream::connect(self.address);
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(wire: &mut Wire, answer: &Answer) -> io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if wire.read(&mut byte)? == 0 {
                return Ok(());
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default();
        let end = answer(path, wire)?;
        wire.flush()?;
        match end {
            End::Keep => continue,
            End::Close => {
                if let Stream::Tls(stream) = &mut wire.stream {
                    stream.conn.send_close_notify();
                    stream.flush()?;
                }
                wire.tcp.shutdown(Shutdown::Write)?;
                wait(&wire.tcp);
            }
            End::Cut => {
                wire.tcp.shutdown(Shutdown::Write)?;
                wait(&wire.tcp);
            }
            End::Reset => {
                // Until the client has read what was sent before.
                std::thread::sleep(Duration::from_millis(100));
                set_socket_linger(&wire.tcp, Some(Duration::ZERO))?;
            }
            End::Stall => wait(&wire.tcp),
        }
        return Ok(());
    }
}

/// Waits until the client goes.
fn wait(mut tcp: &TcpStream) {
    let _ended = io::copy(&mut tcp, &mut io::sink());
}

/// The end of a head, and a body of `length` bytes.
pub fn head(fields: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n").into_bytes()
}

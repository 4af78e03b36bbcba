//! The client: it must never be what limits a server, so it reads nothing that it need not read.
//!
//! What is only to be received is discarded in the kernel (`recv` with `MSG_TRUNC`), encrypted or not: only handshakes
//! and heads are looked at. One thread drives all connections by epoll.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    event::{Timespec, epoll},
    net::RecvFlags,
};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, Stream, pki_types::ServerName};

/// What one `recv` discards at the most; never touched, so it costs no memory.
const DISCARDED: usize = 4 << 20;
/// A server that sends nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing has come when an answer without a known length is over.
const QUIET: Duration = Duration::from_millis(30);

/// How a server is reached.
#[derive(Clone)]
pub struct Target {
    pub http: SocketAddr,
    pub tls: SocketAddr,
    /// Whether TLS begins in a tunnel.
    pub connect: bool,
    /// Trusts the server alone.
    pub config: Arc<ClientConfig>,
}

/// How the end of an answer shows.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// It has so many bytes, head included.
    Bytes(u64),
    /// The server closes the connection behind so many bytes at least.
    Close(u64),
    /// So many bytes have come at least, and no more come.
    Quiet(u64),
}

/// A connection on which the same is asked again and again.
pub struct Asking {
    stream: TcpStream,
    request: Vec<u8>,
    end: End,
    answers: u64,
    received: u64,
    since: Instant,
}

/// What was received.
#[derive(Debug, Default)]
pub struct Received {
    pub bytes: u64,
    pub took: Duration,
    /// From each request to the last byte of its answer.
    pub latencies: Vec<Duration>,
}

impl Target {
    /// Asks for `path`, which has `size` bytes, in plain HTTP once; the server closes behind it.
    pub fn whole(&self, path: &str, size: u64) -> io::Result<Asking> {
        let request = format!("GET http://localhost{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        Ok(Asking::new(connect(self.http)?, request.into_bytes(), End::Close(size), 1))
    }

    /// Asks for `path` in plain HTTP `answers` times on one connection; once before, to know the length.
    pub fn plain(&self, path: &str, answers: u64) -> io::Result<Asking> {
        let request = format!("GET http://localhost{path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
        let mut stream = connect(self.http)?;
        let end = End::Bytes(length_of_answer(&mut stream, &request)?);
        Ok(Asking::new(stream, request, end, answers))
    }

    /// Asks for `path`, which has `size` bytes, over TLS once. What comes is not decrypted.
    pub fn encrypted(&self, path: &str, size: u64) -> io::Result<Asking> {
        let (mut tls, mut stream) = self.handshake(&[b"http/1.1"])?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let encrypted = encrypt(&mut tls, &mut stream, request.as_bytes())?;
        Ok(Asking::new(stream, encrypted, End::Close(size), 1))
    }

    /// Asks for `path`, which has `size` bytes, over HTTP/2 in TLS once, with windows that never fill.
    pub fn http2(&self, path: &str, size: u64) -> io::Result<Asking> {
        let (mut tls, mut stream) = self.handshake(&[b"h2"])?;
        let encrypted = encrypt(&mut tls, &mut stream, &http2_request(path))?;
        Ok(Asking::new(stream, encrypted, End::Quiet(size), 1))
    }

    /// A whole exchange on a connection of its own: tunnel, TLS, request, answer. Gives the answer.
    pub fn exchange(&self, path: &str) -> io::Result<Vec<u8>> {
        let (mut tls, mut stream) = self.handshake(&[b"http/1.1"])?;
        let mut stream = Stream::new(&mut tls, &mut stream);
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            // A server can close without close_notify.
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
            _ => Ok(answer),
        }
    }

    fn handshake(&self, protocols: &[&[u8]]) -> io::Result<(ClientConnection, TcpStream)> {
        let mut stream = connect(self.tls)?;
        if self.connect {
            stream.write_all(b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n")?;
            read_head(&mut stream)?;
        }
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let mut tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        Ok((tls, stream))
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// What `request` is on the wire; sent by who asks. The rest of the handshake is sent here.
fn encrypt(tls: &mut ClientConnection, stream: &mut TcpStream, request: &[u8]) -> io::Result<Vec<u8>> {
    while tls.wants_write() {
        tls.write_tls(stream)?;
    }
    tls.writer().write_all(request)?;
    let mut encrypted = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut encrypted)?;
    }
    Ok(encrypted)
}

/// Asks once, and gives the length of the answer: the same each time.
fn length_of_answer(stream: &mut TcpStream, request: &[u8]) -> io::Result<u64> {
    stream.write_all(request)?;
    let head = read_head(stream)?;
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let length: u64 = length.ok_or_else(|| io::Error::other(format!("no length in {head}")))?;
    let mut left = length;
    while left > 0 {
        left -= discard(stream, left)?.ok_or_else(|| io::Error::other("a body that ends early"))?;
    }
    Ok(head.len() as u64 + length)
}

/// Reads a head with status 200, and no byte more.
fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    if head.split(' ').nth(1) != Some("200") {
        return Err(io::Error::other(format!("an answer that is no 200: {head}")));
    }
    Ok(head)
}

/// Takes up to `most` bytes out of the socket without copying them. `None` is the end.
fn discard(stream: &TcpStream, most: u64) -> io::Result<Option<u64>> {
    thread_local!(static BUFFER: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; DISCARDED]));
    let most = usize::try_from(most).map_or(DISCARDED, |most| most.min(DISCARDED));
    BUFFER.with_borrow_mut(|buffer| {
        let (_, length) = rustix::net::recv(stream, &mut buffer[..most], RecvFlags::TRUNC)?;
        Ok((length > 0).then_some(length as u64))
    })
}

/// A connection's preface, settings and windows as large as can be, and a request on stream 1 (RFC 9113 §3.4, §6).
fn http2_request(path: &str) -> Vec<u8> {
    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = &u32::try_from(payload.len()).expect("a short payload").to_be_bytes()[1..];
        [length, &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }
    let largest_window = (1u32 << 31) - 1;
    let settings = [&4u16.to_be_bytes()[..], &largest_window.to_be_bytes()].concat();
    // Literal fields without indexing (RFC 7541 §6.2.2), names by their place in the static table.
    let literal = |index: u8, value: &str| {
        let length = u8::try_from(value.len()).expect("a short value");
        [&[index, length], value.as_bytes()].concat()
    };
    // :method GET and :scheme https stand in the table as they are.
    let fields = [vec![0x82, 0x87], literal(4, path), literal(1, "localhost")].concat();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let window = (largest_window - 65_535).to_be_bytes();
    [preface, frame(4, 0, 0, &settings), frame(8, 0, 0, &window), frame(1, 5, 1, &fields)].concat()
}

impl Asking {
    fn new(stream: TcpStream, request: Vec<u8>, end: End, answers: u64) -> Self {
        Self { stream, request, end, answers, received: 0, since: Instant::now() }
    }

    fn ask(&mut self) -> io::Result<()> {
        self.received = 0;
        self.since = Instant::now();
        self.stream.write_all(&self.request)
    }

    /// Takes what is there. `true`: that was the last answer.
    fn take(&mut self, received: &mut Received) -> io::Result<bool> {
        loop {
            let most = if let End::Bytes(all) = self.end { all - self.received } else { u64::MAX };
            let length = match discard(&self.stream, most) {
                Ok(Some(length)) => length,
                Ok(None) if matches!(self.end, End::Close(least) if self.received > least) => return Ok(true),
                Ok(None) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "an answer that ends early")),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
            self.received += length;
            received.bytes += length;
            if matches!(self.end, End::Bytes(all) if self.received == all) {
                received.latencies.push(self.since.elapsed());
                self.answers -= 1;
                if self.answers == 0 {
                    return Ok(true);
                }
                self.ask()?;
            }
        }
    }

    fn is_quiet(&self) -> bool {
        matches!(self.end, End::Quiet(least) if self.received >= least)
    }
}

/// Receives all answers of all connections.
pub fn receive(mut connections: Vec<Asking>) -> io::Result<Received> {
    let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (number, connection) in (0..).zip(&connections) {
        connection.stream.set_nonblocking(true)?;
        epoll::add(&events, &connection.stream, epoll::EventData::new_u64(number), epoll::EventFlags::IN)?;
    }
    let mut received = Received::default();
    let (start, mut running, mut last) = (Instant::now(), connections.len(), Instant::now());
    connections.iter_mut().try_for_each(Asking::ask)?;
    let mut ready = Vec::with_capacity(64);
    while running > 0 {
        let quiet = connections.iter().all(Asking::is_quiet);
        let patience = if quiet { QUIET } else { PATIENCE };
        let patience = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
        ready.clear();
        epoll::wait(&events, rustix::buffer::spare_capacity(&mut ready), Some(&patience))?;
        if ready.is_empty() {
            if quiet {
                break;
            }
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the server hangs"));
        }
        for event in &ready {
            let number = usize::try_from(event.data.u64()).map_err(io::Error::other)?;
            if connections[number].take(&mut received)? {
                running -= 1;
                epoll::delete(&events, &connections[number].stream)?;
            }
        }
        last = Instant::now();
    }
    received.took = last - start;
    Ok(received)
}

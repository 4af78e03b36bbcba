//! A server that is asked the same in thousands of ways, on one connection that stays open.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use super::http1::{Answer, Http1};

/// A server on loopback that is asked again and again.
pub struct Peer {
    port: u16,
    /// What stands before the path in a request's target: empty for an origin, scheme and authority for a proxy.
    prefix: String,
    host: String,
    connection: Option<Http1<Buffered>>,
}

/// A connection that is read in large pieces.
pub struct Buffered(BufReader<TcpStream>);

impl Read for Buffered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.get_mut().flush()
    }
}

impl Peer {
    /// The origin on `port` of loopback.
    pub fn origin(port: u16) -> Self {
        Self { port, prefix: String::new(), host: format!("localhost:{port}"), connection: None }
    }

    /// The same origin through the proxy on `port`.
    pub fn proxied(&self, port: u16) -> Self {
        Self { port, prefix: format!("http://{}", self.host), host: self.host.clone(), connection: None }
    }

    /// Sends one request; `lines` are whole header lines without their ends.
    pub fn ask(&mut self, method: &str, path: &str, lines: &[String]) -> Answer {
        let mut request = format!("{method} {}{path} HTTP/1.1\r\nHost: {}\r\n", self.prefix, self.host);
        for line in lines {
            request += line;
            request += "\r\n";
        }
        request += "\r\n";
        let kept = self.connection.take();
        // nginx closes connections without a word behind some of its errors; a proxy that does is found out.
        let is_retried = kept.is_some() && self.prefix.is_empty();
        let mut connection = kept.unwrap_or_else(|| self.connect());
        let answer = exchange(&mut connection, &request, method).or_else(|| {
            connection = is_retried.then(|| self.connect())?;
            exchange(&mut connection, &request, method)
        });
        let answer = answer.unwrap_or_else(|| panic!("no answer to\n{request}"));
        if answer.header("connection") != Some("close") {
            self.connection = Some(connection);
        }
        answer
    }

    fn connect(&self) -> Http1<Buffered> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Http1(Buffered(BufReader::new(stream)))
    }
}

/// `None` where the connection was closed before the first byte of an answer.
fn exchange(connection: &mut Http1<Buffered>, request: &str, method: &str) -> Option<Answer> {
    connection.0.write_all(request.as_bytes()).ok()?;
    let is_answered = connection.0.0.fill_buf().is_ok_and(|bytes| !bytes.is_empty());
    is_answered.then(|| connection.answer(method))
}

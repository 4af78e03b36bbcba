//! HTTP/1.1 on a plain connection that stays open, so that a test sends any bytes and sees all of the answer, thousands
//! of times in seconds.

use std::{
    fmt, fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use super::{
    Workdir,
    process::{Guard, wait_for},
};

/// A server on loopback that is asked again and again.
pub struct Peer {
    port: u16,
    /// What stands before the path in a request's target: empty for an origin, scheme and authority for a proxy.
    prefix: String,
    host: String,
    stream: Option<BufReader<TcpStream>>,
}

/// An answer as it came.
#[derive(Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// The fields in their order, names in lower case.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Peer {
    /// The origin on `port` of loopback.
    pub fn origin(port: u16) -> Self {
        Self { port, prefix: String::new(), host: format!("localhost:{port}"), stream: None }
    }

    /// The same origin through the proxy on `port`.
    pub fn proxied(&self, port: u16) -> Self {
        Self { port, prefix: format!("http://{}", self.host), host: self.host.clone(), stream: None }
    }

    /// Sends one request; `lines` are whole header lines without their ends.
    pub fn ask(&mut self, method: &str, path: &str, lines: &[String]) -> Answer {
        let mut request = format!("{method} {}{path} HTTP/1.1\r\nHost: {}\r\n", self.prefix, self.host);
        for line in lines {
            request += line;
            request += "\r\n";
        }
        request += "\r\n";
        let kept = self.stream.take();
        // nginx closes connections without a word behind some of its errors; a proxy that does is found out.
        let is_retried = kept.is_some() && self.prefix.is_empty();
        let mut stream = kept.unwrap_or_else(|| self.connect());
        let answer = exchange(&mut stream, &request, method).or_else(|| {
            stream = is_retried.then(|| self.connect())?;
            exchange(&mut stream, &request, method)
        });
        let answer = answer.unwrap_or_else(|| panic!("no answer to\n{request}"));
        if answer.field("connection") != Some("close") {
            self.stream = Some(stream);
        }
        answer
    }

    fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        BufReader::new(stream)
    }
}

/// `None` where the connection was closed before the first byte of an answer.
fn exchange(stream: &mut BufReader<TcpStream>, request: &str, method: &str) -> Option<Answer> {
    stream.get_mut().write_all(request.as_bytes()).ok()?;
    let is_answered = stream.fill_buf().is_ok_and(|bytes| !bytes.is_empty());
    is_answered.then(|| Answer::read(stream, method))
}

impl Answer {
    fn read(stream: &mut BufReader<TcpStream>, method: &str) -> Self {
        let mut line = || {
            let mut text = Vec::new();
            stream.read_until(b'\n', &mut text).unwrap();
            String::from_utf8_lossy(&text).trim_end().to_owned()
        };
        let status = line().split(' ').nth(1).unwrap().parse().unwrap();
        let mut fields = Vec::new();
        while let Some((name, value)) = line().split_once(':') {
            fields.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Self { status, fields, body: Vec::new() };
        if method != "HEAD" && status != 304 && status != 204 {
            let length = answer.field("content-length").expect("a delimited body").parse().unwrap();
            answer.body.resize(length, 0);
            stream.read_exact(&mut answer.body).unwrap();
        }
        answer
    }

    /// The value of a field that comes once.
    #[track_caller]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str());
        let first = values.next();
        assert_eq!(values.next(), None, "{name} comes once in {self:?}");
        first
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.status, self.fields)?;
        write!(
            f,
            " and {} bytes {:?}",
            self.body.len(),
            String::from_utf8_lossy(&self.body[..self.body.len().min(300)])
        )
    }
}

/// A replay that serves until it is dropped, and its port.
pub fn serving(work: &Workdir) -> (Guard, u16) {
    let server = Guard(work.replaying().args(["--quiet", "--env-file", "env.sh"]).spawn().unwrap());
    let text = wait_for("the environment file", || fs::read_to_string(work.path("env.sh")).ok());
    let url = text.lines().find_map(|line| line.strip_prefix("export http_proxy=")).expect("the proxy's URL");
    let port = url.trim_matches(['\'', '"', '/']).rsplit(':').next().unwrap();
    (server, port.parse().unwrap_or_else(|_| panic!("a port at the end of {url}")))
}

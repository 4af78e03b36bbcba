//! A request as the origin got it.

use std::io::{self, BufRead, BufReader, Read, Write};

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// `HTTP/1.0` or `HTTP/1.1`.
    pub version: String,
    pub scheme: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// The first value of the field `name`, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The number that the query gives for `name`.
    pub fn number(&self, name: &str) -> Option<usize> {
        let query = self.target.split_once('?')?.1;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    }

    /// Reads one from the connection, `Expect: 100-continue` and chunked bodies included.
    pub(super) fn read<S: Read + Write>(
        reader: &mut BufReader<S>,
        writer: fn(&mut BufReader<S>) -> &mut S,
        scheme: &str,
    ) -> io::Result<Self> {
        let first = line(reader)?;
        let mut words = first.split(' ').map(str::to_owned);
        let mut word = || words.next().ok_or_else(|| bad("a short request line"));
        let (method, target, version) = (word()?, word()?, word()?);
        let mut headers = Vec::new();
        loop {
            let line = line(reader)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad("a header without a colon"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut request = Self { method, target, version, scheme: scheme.to_owned(), headers, body: Vec::new() };
        if request.header("expect").is_some() {
            writer(reader).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            writer(reader).flush()?;
        }
        if request.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&line(reader)?, 16).map_err(|_| bad("a chunk size"))?;
                let mut chunk = vec![0; size];
                reader.read_exact(&mut chunk)?;
                request.body.extend(chunk);
                line(reader)?;
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = request.header("content-length") {
            request.body = vec![0; length.parse().map_err(|_| bad("a Content-Length"))?];
            reader.read_exact(&mut request.body)?;
        }
        Ok(request)
    }
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

//! HTTP/1.1 by hand: what is sent stands in the test, and every byte of the answer is read.

use std::{
    fmt,
    io::{ErrorKind, Read, Write},
};

/// A connection, encrypted or not.
pub struct Http1<S>(pub S);

/// A response as it came.
#[derive(Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// With the status line, without the empty line.
    pub head: String,
    /// The fields in their order, names in lower case.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = String::from_utf8_lossy(&self.body[..self.body.len().min(300)]);
        write!(f, "{} {:?} and {} bytes {start:?}", self.status, self.fields, self.body.len())
    }
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The value of the field called `name`, which is in lower case and comes once.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str());
        let first = values.next();
        assert_eq!(values.next(), None, "{name} comes once in {}", self.head);
        first
    }
}

impl<S: Read + Write> Http1<S> {
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
        self.0.flush().unwrap();
    }

    /// Sends `request`, whose lines end in plain newlines and which has no empty line yet, and reads the answer.
    #[track_caller]
    pub fn ask(&mut self, request: &str) -> Answer {
        self.send(lines(request));
        self.answer(request.split(' ').next().unwrap())
    }

    /// Reads a head, and as many bytes as a body has by RFC 9112 §6.3 and no more.
    #[track_caller]
    pub fn answer(&mut self, method: &str) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            let read = self.0.read(&mut byte);
            assert!(matches!(read, Ok(1)), "{read:?} behind {:?}", String::from_utf8_lossy(&head));
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().trim_end().to_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let field = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("`{line}` is no field"));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        let fields = head.lines().skip(1).map(field).collect();
        let mut answer = Answer { status, head, fields, body: Vec::new() };
        let is_tunnel = method == "CONNECT" && status / 100 == 2;
        if method != "HEAD" && !is_tunnel && status >= 200 && !matches!(status, 204 | 304) {
            let length = answer.header("content-length").expect("a length").parse().unwrap();
            answer.body = vec![0; length];
            self.0.read_exact(&mut answer.body).unwrap();
        }
        answer
    }

    /// Whether the server has closed the connection, and sent nothing before.
    pub fn is_closed(&mut self) -> bool {
        match self.0.read(&mut [0]) {
            Ok(length) => length == 0,
            Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof),
        }
    }
}

/// A head as it is on the wire.
pub fn lines(head: &str) -> String {
    format!("{}\r\n\r\n", head.replace('\n', "\r\n"))
}

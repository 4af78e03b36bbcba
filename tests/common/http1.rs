//! HTTP/1.1 by hand: what is sent stands in the test, and every byte of the answer is read.

use std::io::{ErrorKind, Read, Write};

/// A connection, encrypted or not.
pub struct Http1<S>(pub S);

/// A response as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// With the status line, without the empty line.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The first field called `name`, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
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
        let mut answer = Answer { status, head, body: Vec::new() };
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

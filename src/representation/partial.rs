//! The answers that are less than the whole: 206 with one part or several, 304, 412 and 416.

use std::ops::Range;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{self, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE},
};

use super::{
    conditional::{self, Outcome},
    range::{self, Selection},
};
use crate::{store::hash::NixHash, url::NormalizedUrl};

/// Fields about the content of a 200 that would be wrong on an answer without that content (RFC 9110 §15.4.5).
const ABOUT_THE_CONTENT: [HeaderName; 8] = [
    CONTENT_LENGTH,
    CONTENT_TYPE,
    CONTENT_RANGE,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_DISPOSITION,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
];

/// Digests of what is in the message, as opposed to the whole body (RFC 9530 §2).
const MESSAGE_DIGESTS: [&str; 2] = ["content-md5", "content-digest"];

/// A whole answer, as far as it is known before its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Representation<'a> {
    /// What it represents.
    pub url: &'a NormalizedUrl,
    /// The status code.
    pub status: StatusCode,
    /// The end-to-end header fields.
    pub headers: &'a HeaderMap,
    /// The number of bytes, where it is known. Ranges of a body without one are not served: a server may ignore the
    /// field (RFC 9110 §14.2).
    pub size: Option<u64>,
}

/// An answer that is less than the whole, and that only its bytes are missing from.
#[derive(Debug, Clone, PartialEq)]
pub struct Partial {
    /// The status code.
    pub status: StatusCode,
    /// All header fields, with the exact `Content-Length` where the answer has one.
    pub headers: HeaderMap,
    /// Which bytes follow.
    pub body: BodyPlan,
}

/// The bytes of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum BodyPlan {
    /// None; what `Content-Length` says, if anything, is about another answer (RFC 9110 §8.6).
    None,
    /// Part of the representation, which can be all of it.
    Bytes(Range<u64>),
    /// Several parts, as `multipart/byteranges`.
    Multipart {
        /// The text before each part, and the part.
        parts: Vec<(Bytes, Range<u64>)>,
        /// The text behind the last one.
        end: Bytes,
    },
}

impl Partial {
    /// Whether any byte of the representation follows.
    pub fn has_bytes(&self) -> bool {
        match &self.body {
            BodyPlan::None => false,
            BodyPlan::Bytes(range) => !range.is_empty(),
            BodyPlan::Multipart { .. } => true,
        }
    }
}

impl Representation<'_> {
    /// What a request with `method` and the fields `asked` gets instead of the whole; `None` where it gets the whole.
    ///
    /// Preconditions count for `GET` and `HEAD` with a 2xx answer (RFC 9110 §13.2.1), ranges for `GET` with a 200
    /// (RFC 9110 §14.2).
    pub fn partial(&self, method: &Method, asked: &HeaderMap) -> Option<Partial> {
        if self.status.is_success() && matches!(*method, Method::GET | Method::HEAD) {
            match conditional::evaluate(asked, self.headers) {
                Outcome::Proceed => {}
                Outcome::NotModified => return Some(self.without_content(StatusCode::NOT_MODIFIED)),
                Outcome::PreconditionFailed => return Some(self.without_content(StatusCode::PRECONDITION_FAILED)),
            }
        }
        let is_ranged = self.status == StatusCode::OK && *method == Method::GET;
        let size = self.size.filter(|_| is_ranged && conditional::allows_range(asked, self.headers))?;
        match range::select(asked, size) {
            Selection::Whole => None,
            Selection::Unsatisfiable => Some(self.unsatisfiable(size)),
            Selection::One(range) => Some(self.part(range, size)),
            Selection::Many(ranges) => Some(self.multipart(ranges, size)),
        }
    }

    /// 304 and 412: the fields of the whole but those about the content.
    fn without_content(&self, status: StatusCode) -> Partial {
        let mut headers = self.headers.clone();
        for name in ABOUT_THE_CONTENT {
            headers.remove(name);
        }
        let body = if status == StatusCode::NOT_MODIFIED {
            BodyPlan::None
        } else {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
            BodyPlan::Bytes(0..0)
        };
        Partial { status, headers, body }
    }

    /// 416 (RFC 9110 §15.5.17).
    fn unsatisfiable(&self, size: u64) -> Partial {
        let mut partial = self.without_content(StatusCode::RANGE_NOT_SATISFIABLE);
        partial.headers.insert(CONTENT_RANGE, field(&format!("bytes */{size}")));
        partial
    }

    /// 206 with one range (RFC 9110 §15.3.7.1).
    fn part(&self, range: Range<u64>, size: u64) -> Partial {
        let mut headers = self.without_digests();
        headers.insert(CONTENT_RANGE, field(&content_range(&range, size)));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
        Partial { status: StatusCode::PARTIAL_CONTENT, headers, body: BodyPlan::Bytes(range) }
    }

    /// 206 with several ranges (RFC 9110 §15.3.7.2 and §14.6).
    fn multipart(&self, ranges: Vec<Range<u64>>, size: u64) -> Partial {
        let boundary = self.boundary(size);
        let content_type = self
            .headers
            .get(CONTENT_TYPE)
            .map_or_else(Vec::new, |value| [b"Content-Type: ", value.as_bytes(), b"\r\n"].concat());
        let head = |range: &Range<u64>| {
            let start = format!("\r\n--{boundary}\r\n");
            let end = format!("Content-Range: {}\r\n\r\n", content_range(range, size));
            Bytes::from([start.as_bytes(), &content_type, end.as_bytes()].concat())
        };
        let parts: Vec<(Bytes, Range<u64>)> = ranges.into_iter().map(|range| (head(&range), range)).collect();
        let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
        let length = parts.iter().map(|(head, range)| head.len() as u64 + (range.end - range.start)).sum::<u64>();
        let mut headers = self.without_digests();
        headers.remove(CONTENT_RANGE);
        headers.insert(CONTENT_TYPE, field(&format!("multipart/byteranges; boundary={boundary}")));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length + end.len() as u64));
        Partial { status: StatusCode::PARTIAL_CONTENT, headers, body: BodyPlan::Multipart { parts, end } }
    }

    fn without_digests(&self) -> HeaderMap {
        let mut headers = self.headers.clone();
        for name in MESSAGE_DIGESTS {
            headers.remove(name);
        }
        headers
    }

    /// Separates the parts: the same for the same representation every time, and not to be found in it but by intent.
    fn boundary(&self, size: u64) -> String {
        NixHash::sha256(format!("{} {size}", self.url).as_bytes()).to_hex()[..32].to_owned()
    }
}

fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1))
}

/// A field value of ours, which is always ASCII without control characters.
fn field(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1000;
    const DATE: &str = "Tue, 02 Jan 2024 00:00:00 GMT";

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    fn headers() -> HeaderMap {
        map(&[
            ("accept-ranges", "bytes"),
            ("cache-control", "max-age=60"),
            ("content-digest", "sha-256=:x:"),
            ("content-length", "1000"),
            ("content-type", "application/gzip"),
            ("etag", r#""a""#),
            ("last-modified", DATE),
            ("x-custom", "1"),
            ("x-custom", "2"),
        ])
    }

    fn ask_of(status: u16, size: Option<u64>, method: &Method, asked: &[(&'static str, &str)]) -> Option<Partial> {
        let (status, headers) = (StatusCode::from_u16(status).unwrap(), headers());
        let url = &"http://h/a".parse().unwrap();
        Representation { url, status, headers: &headers, size }.partial(method, &map(asked))
    }

    #[track_caller]
    fn ask(asked: &[(&'static str, &str)]) -> Partial {
        ask_of(200, Some(SIZE), &Method::GET, asked).expect("less than the whole")
    }

    /// Names and values in order of name.
    fn fields(partial: &Partial) -> Vec<String> {
        let mut fields: Vec<String> =
            partial.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        fields.sort();
        fields
    }

    #[test]
    fn who_asks_for_no_less_gets_the_whole() {
        let range = ("range", "bytes=0-1");
        assert_eq!(ask_of(200, Some(SIZE), &Method::GET, &[]), None);
        assert_eq!(ask_of(200, Some(SIZE), &Method::HEAD, &[range]), None);
        assert_eq!(ask_of(200, Some(SIZE), &Method::POST, &[range, ("if-none-match", r#""a""#)]), None);
        assert_eq!(ask_of(200, None, &Method::GET, &[range]), None, "nobody knows the size");
        assert_eq!(ask_of(200, Some(SIZE), &Method::GET, &[("range", "items=0-1")]), None);
        for status in [203, 206, 301, 404, 500] {
            assert_eq!(ask_of(status, Some(SIZE), &Method::GET, &[range]), None, "{status}");
        }
        for status in [304, 404, 500] {
            assert_eq!(ask_of(status, Some(SIZE), &Method::GET, &[("if-match", r#""x""#)]), None, "{status}");
        }
    }

    #[test]
    fn a_304_keeps_validators_and_caching_and_drops_what_is_about_the_content() {
        for method in [Method::GET, Method::HEAD] {
            let asked = [("if-none-match", r#"W/"a""#), ("range", "bytes=0-1")];
            let partial = ask_of(200, Some(SIZE), &method, &asked).unwrap();
            assert_eq!((partial.status, &partial.body), (StatusCode::NOT_MODIFIED, &BodyPlan::None));
            assert_eq!(
                fields(&partial),
                [
                    "accept-ranges: bytes",
                    "cache-control: max-age=60",
                    r#"etag: "a""#,
                    "last-modified: Tue, 02 Jan 2024 00:00:00 GMT",
                    "x-custom: 1",
                    "x-custom: 2",
                ]
            );
        }
    }

    #[test]
    fn a_failed_precondition_is_an_empty_412() {
        let partial = ask(&[("if-match", r#""x""#)]);
        assert_eq!((partial.status, &partial.body), (StatusCode::PRECONDITION_FAILED, &BodyPlan::Bytes(0..0)));
        assert_eq!(partial.headers["content-length"], "0");
        assert!(!partial.headers.contains_key("content-type"));
    }

    #[test]
    fn one_range_is_a_206_with_exact_framing() {
        let partial = ask(&[("range", "bytes=10-19")]);
        assert_eq!((partial.status, &partial.body), (StatusCode::PARTIAL_CONTENT, &BodyPlan::Bytes(10..20)));
        assert_eq!(partial.headers["content-range"], "bytes 10-19/1000");
        assert_eq!(partial.headers["content-length"], "10");
        assert_eq!(partial.headers["content-type"], "application/gzip");
        assert_eq!(partial.headers["etag"], r#""a""#);
        assert!(!partial.headers.contains_key("content-digest"), "it was the digest of the whole");
    }

    #[test]
    fn if_range_decides_whether_the_range_counts() {
        let range = ("range", "bytes=0-1");
        for (if_range, counts) in
            [(r#""a""#, true), (r#""b""#, false), (DATE, true), ("Mon, 01 Jan 2024 00:00:00 GMT", false)]
        {
            let partial = ask_of(200, Some(SIZE), &Method::GET, &[range, ("if-range", if_range)]);
            let status = partial.map(|partial| partial.status);
            assert_eq!(status, counts.then_some(StatusCode::PARTIAL_CONTENT), "{if_range}");
        }
        let beyond = [("range", "bytes=5000-"), ("if-range", r#""b""#)];
        assert_eq!(ask_of(200, Some(SIZE), &Method::GET, &beyond), None);
    }

    #[test]
    fn a_range_beyond_the_end_is_a_416_that_tells_the_size() {
        let partial = ask(&[("range", "bytes=1000-")]);
        assert_eq!((partial.status, &partial.body), (StatusCode::RANGE_NOT_SATISFIABLE, &BodyPlan::Bytes(0..0)));
        assert_eq!(partial.headers["content-range"], "bytes */1000");
        assert_eq!(partial.headers["content-length"], "0");
        assert!(!partial.headers.contains_key("content-type"));
    }

    #[test]
    fn several_ranges_are_a_multipart_body_of_the_length_that_is_told() {
        let partial = ask(&[("range", "bytes=0-0,-2")]);
        assert_eq!(partial.status, StatusCode::PARTIAL_CONTENT);
        let kind = partial.headers["content-type"].to_str().unwrap();
        let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
        let BodyPlan::Multipart { parts, end } = &partial.body else { panic!("{partial:?}") };
        let head = |range: &str| {
            format!("\r\n--{boundary}\r\nContent-Type: application/gzip\r\nContent-Range: bytes {range}/1000\r\n\r\n")
        };
        assert_eq!(parts[..], [(head("0-0").into(), 0..1), (head("998-999").into(), 998..1000)]);
        assert_eq!(end, format!("\r\n--{boundary}--\r\n").as_bytes());
        let length = parts[0].0.len() + 1 + parts[1].0.len() + 2 + end.len();
        assert_eq!(partial.headers["content-length"], length.to_string());
        assert!(!partial.headers.contains_key("content-range"));
        assert_eq!(partial, ask(&[("range", "bytes=0-0,-2")]));
    }
}

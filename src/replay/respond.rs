//! What a recorded answer becomes for one request: status, header fields, and which bytes of the body. Pure decisions;
//! no file is opened here.
//!
//! The order is that of RFC 9110 §13.2.2: preconditions, then `Range` with `If-Range`, then the answer as recorded.
//! Nothing is added to the recorded header fields but framing: `Content-Length`, and `Content-Range` or the type of a
//! multipart body where a part was asked for.

use std::ops::Range;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{self, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE},
};
use percent_encoding::{CONTROLS, utf8_percent_encode};

use super::{
    conditional::{self, Outcome},
    range::{self, Selection},
};
use crate::{
    inventory::{Body, Entry, Headers, Hop},
    proxy::hop_by_hop,
    store::hash::NixHash,
};

/// Fields about the content of a 200 that would be wrong on an answer without that content (RFC 9110 §15.4.5).
const ABOUT_THE_CONTENT: [HeaderName; 7] = [
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

/// Fields that say something about the bytes of a body, so that they are wrong once it was replaced. A `-` at the end
/// stands for any rest.
const ABOUT_THE_BYTES: [&str; 11] = [
    "etag",
    "last-modified",
    "digest",
    "repr-digest",
    "content-digest",
    "content-md5",
    "x-goog-hash",
    "x-linked-etag",
    "x-linked-size",
    "x-checksum-",
    "x-amz-checksum-",
];

/// An answer that only its bytes are missing from.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponsePlan {
    /// The status code.
    pub status: StatusCode,
    /// All header fields, with the exact `Content-Length` where the answer has one.
    pub headers: HeaderMap,
    /// Which bytes follow.
    pub body: BodyPlan,
    /// Whether this is the recorded answer with its whole body, as opposed to `HEAD`, a part, a 304 or a refusal. Only
    /// such answers move a sequence.
    pub is_whole: bool,
}

/// The bytes of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum BodyPlan {
    /// None; what `Content-Length` says, if anything, is about another answer (RFC 9110 §8.6).
    None,
    /// Part of the recorded body, which can be all of it.
    Bytes(Range<u64>),
    /// Several parts, as `multipart/byteranges`.
    Multipart {
        /// The text before each part, and the part.
        parts: Vec<(Bytes, Range<u64>)>,
        /// The text behind the last one.
        end: Bytes,
    },
}

/// The answer to a request with `method` and `headers` that is recorded in `entry`, whose body has `size` bytes.
pub fn respond(entry: &Entry, size: u64, method: &Method, headers: &HeaderMap) -> ResponsePlan {
    let recorded = recorded_headers(&entry.headers, entry.body.as_ref());
    let status = status(entry.status);
    if status.is_success() && (method == Method::GET || method == Method::HEAD) {
        match conditional::evaluate(headers, &recorded) {
            Outcome::Proceed => {}
            Outcome::NotModified => return without_content(StatusCode::NOT_MODIFIED, recorded),
            Outcome::PreconditionFailed => return without_content(StatusCode::PRECONDITION_FAILED, recorded),
        }
    }
    if status == StatusCode::OK && method == Method::GET && conditional::allows_range(headers, &recorded) {
        match range::select(headers, size) {
            Selection::Whole => {}
            Selection::Unsatisfiable => return unsatisfiable(size, recorded),
            Selection::One(range) => return part(range, size, recorded),
            Selection::Many(ranges) => return multipart(ranges, size, recorded, entry),
        }
    }
    whole(entry, status, size, method, recorded)
}

/// The answer that one redirect of the chain of `entry` gives.
pub fn redirect(entry: &Entry, hop: &Hop, method: &Method) -> ResponsePlan {
    let mut headers = recorded_headers(&hop.headers, entry.body.as_ref());
    // A character that no field can have is sent as URLs have it: percent-encoded.
    let location = HeaderValue::from_bytes(hop.location.as_bytes())
        .or_else(|_| HeaderValue::from_str(&utf8_percent_encode(&hop.location, CONTROLS).to_string()));
    if let Ok(location) = location {
        headers.insert(header::LOCATION, location);
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    let body = if method == Method::HEAD { BodyPlan::None } else { BodyPlan::Bytes(0..0) };
    ResponsePlan { status: status(hop.status), headers, body, is_whole: false }
}

/// The recorded status. An inventory holds only those of final responses (RFC 9110 §15); anything else would break the
/// connection's framing.
fn status(code: u16) -> StatusCode {
    match StatusCode::from_u16(code) {
        Ok(status) if !status.is_informational() => status,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The recorded fields, without framing, and without what is no longer true of a body that was replaced (one that is
/// not pinned by hash and size).
fn recorded_headers(recorded: &Headers, body: Option<&Body>) -> HeaderMap {
    let mut headers = recorded.to_header_map();
    // An entry written by hand may have some.
    hop_by_hop::strip(&mut headers);
    if body.is_some_and(|body| body.hash.is_none() || body.size.is_none()) {
        for (name, _) in recorded.iter().filter(|(name, _)| is_about_the_bytes(name)) {
            headers.remove(name);
        }
    }
    headers
}

fn is_about_the_bytes(name: &str) -> bool {
    ABOUT_THE_BYTES.iter().any(|known| *known == name || (known.ends_with('-') && name.starts_with(known)))
}

/// The answer as it was recorded.
fn whole(entry: &Entry, status: StatusCode, size: u64, method: &Method, mut headers: HeaderMap) -> ResponsePlan {
    // RFC 9110 §8.6 and §6.4.1: neither content nor length.
    let has_no_content = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    // What a HEAD was told is all that is known of the length; every other answer's is that of its body.
    if entry.method != Method::HEAD || has_no_content {
        headers.remove(CONTENT_LENGTH);
    }
    if entry.method != Method::HEAD && !has_no_content {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
    }
    let is_whole = method != Method::HEAD;
    let body = if has_no_content || !is_whole { BodyPlan::None } else { BodyPlan::Bytes(0..size) };
    ResponsePlan { status, headers, body, is_whole }
}

/// 304 and 412: the recorded fields but those about the content.
fn without_content(status: StatusCode, mut headers: HeaderMap) -> ResponsePlan {
    for name in ABOUT_THE_CONTENT {
        headers.remove(name);
    }
    headers.remove(CONTENT_LENGTH);
    let body = if status == StatusCode::NOT_MODIFIED {
        BodyPlan::None
    } else {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        BodyPlan::Bytes(0..0)
    };
    ResponsePlan { status, headers, body, is_whole: false }
}

/// 416 (RFC 9110 §15.5.17).
fn unsatisfiable(size: u64, headers: HeaderMap) -> ResponsePlan {
    let mut plan = without_content(StatusCode::RANGE_NOT_SATISFIABLE, headers);
    plan.headers.insert(CONTENT_RANGE, field(&format!("bytes */{size}")));
    plan
}

/// 206 with one range (RFC 9110 §15.3.7.1).
fn part(range: Range<u64>, size: u64, mut headers: HeaderMap) -> ResponsePlan {
    for name in MESSAGE_DIGESTS {
        headers.remove(name);
    }
    headers.insert(CONTENT_RANGE, field(&content_range(&range, size)));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    ResponsePlan { status: StatusCode::PARTIAL_CONTENT, headers, body: BodyPlan::Bytes(range), is_whole: false }
}

/// 206 with several ranges (RFC 9110 §15.3.7.2 and §14.6).
fn multipart(ranges: Vec<Range<u64>>, size: u64, mut headers: HeaderMap, entry: &Entry) -> ResponsePlan {
    let boundary = boundary(entry, size);
    let content_type = headers
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
    for name in MESSAGE_DIGESTS {
        headers.remove(name);
    }
    headers.remove(CONTENT_RANGE);
    headers.insert(CONTENT_TYPE, field(&format!("multipart/byteranges; boundary={boundary}")));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length + end.len() as u64));
    ResponsePlan {
        status: StatusCode::PARTIAL_CONTENT,
        headers,
        body: BodyPlan::Multipart { parts, end },
        is_whole: false,
    }
}

/// Separates the parts: the same for the same body every time, and not to be found in it but by intent.
fn boundary(entry: &Entry, size: u64) -> String {
    let hash = entry.body.as_ref().and_then(|body| body.hash);
    let seed = format!("{} {size} {hash:?}", entry.url);
    NixHash::sha256(seed.as_bytes()).to_hex()[..32].to_owned()
}

fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1))
}

/// A field value of ours, which is always ASCII without control characters.
fn field(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests;

//! What a recorded answer becomes for one request: status, header fields, and which bytes of the body. Pure decisions;
//! no file is opened here.
//!
//! Who asks for a part, or under a condition, gets what [`Representation`] makes of the recorded answer; everybody else
//! gets that as it was recorded. Nothing is added to the recorded header fields but framing.

use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{self, CONTENT_LENGTH},
};
use percent_encoding::{CONTROLS, utf8_percent_encode};

pub use crate::representation::BodyPlan;
use crate::{
    inventory::{self, Body, Entry, Headers, Hop},
    proxy::hop_by_hop,
    representation::{Partial, Representation},
};

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

/// The answer to a request with `method` and `headers` that is recorded in `entry`, whose body has `size` bytes.
pub fn respond(entry: &Entry, size: u64, method: &Method, headers: &HeaderMap) -> ResponsePlan {
    let recorded = recorded_headers(&entry.headers, entry.body.as_ref());
    let status = status(entry.status);
    let representation = Representation { url: &entry.url, status, headers: &recorded, size: Some(size) };
    match representation.partial(method, headers) {
        Some(Partial { status, headers, body }) => ResponsePlan { status, headers, body, is_whole: false },
        None => whole(entry, status, size, method, recorded),
    }
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
        for (name, _) in recorded.iter().filter(|(name, _)| inventory::is_about_the_bytes(name)) {
            headers.remove(name);
        }
    }
    headers
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
    } else {
        // It can be written by hand.
        hop_by_hop::say_length_once(&mut headers);
    }
    let is_whole = method != Method::HEAD;
    let body = if has_no_content || !is_whole { BodyPlan::None } else { BodyPlan::Bytes(0..size) };
    ResponsePlan { status, headers, body, is_whole }
}

#[cfg(test)]
mod tests;

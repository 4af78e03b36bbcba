//! What somebody else recorded, an exchange at a time.

use http::{HeaderMap, Method, StatusCode};

use crate::{inventory::request_body::BodyDigest, store::spool::Spooled, url::NormalizedUrl};

/// One request with its answer, as somebody else recorded them.
#[derive(Debug)]
pub struct Retold {
    /// The request's method.
    pub method: Method,
    /// The request's URL.
    pub url: NormalizedUrl,
    /// The request's header fields, credentials included.
    pub asked: HeaderMap,
    /// The digests of the request body, none for an empty one.
    pub request_body: Vec<BodyDigest>,
    /// The status code.
    pub status: StatusCode,
    /// The answer's header fields.
    pub headers: HeaderMap,
    /// Whether the body was decoded, so that neither its coding nor what its headers say of the bytes holds any more.
    pub is_decoded: bool,
    /// Whether somebody else gets the same bytes under this URL, as far as the source of this knows.
    pub is_public: bool,
    /// The whole body; `None` is an empty one; or why it is not known.
    pub body: Result<Option<Spooled>, String>,
}

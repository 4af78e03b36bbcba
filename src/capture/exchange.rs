//! One request and what became of it, as the journal keeps it.

use std::{fmt, path::PathBuf};

use data_encoding::BASE64;
use http::Method;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    inventory::{Headers, request_body::BodyDigest},
    store::hash::NixHash,
    url::NormalizedUrl,
};

/// A request that an origin was asked, with its outcome. Holds no credential.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// When the request came, counted from the start of the capture.
    pub arrival: u64,
    /// How many requests had come when the answer's head was passed on: the later ones can have followed its
    /// `Location`.
    pub answered: u64,
    /// The request's method.
    #[serde(serialize_with = "write_method", deserialize_with = "read_method")]
    pub method: Method,
    /// The request's URL, without credentials.
    pub url: NormalizedUrl,
    /// The names of the query parameters that were taken out of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bared_of: Vec<String>,
    /// The digests of the request body in every form that it has; none of an empty one.
    pub request_body: Vec<BodyDigest>,
    /// What the client accepted, where it said so: some servers choose by that and do not say so by `Vary`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept: Option<String>,
    /// What the origin answered, or why that is not recorded.
    pub outcome: Outcome,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A whole answer.
    Answered(Answer),
    /// Nothing that may or can be recorded.
    LeftOut(LeftOut),
}

/// A whole answer of an origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The end-to-end headers worth keeping.
    pub headers: Headers,
    /// The request headers that `Vary` names, with their values.
    pub varied: Vec<(String, String)>,
    /// Whether anybody gets this answer, and later, too. It depended on nothing that only this client has: no
    /// credentials, no `Vary: *`, no media type that it asked for by name. The client did not ask for the newest, and
    /// the connection's closing did not have to mark the end.
    pub anonymous: bool,
    /// The body; `None` is an empty one.
    pub body: Option<RecordedBody>,
}

/// The bytes of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedBody {
    /// Their hash.
    pub hash: NixHash,
    /// Their number.
    pub size: u64,
    /// Where they are until the capture ends.
    pub bytes: RecordedBytes,
}

/// Where an answer's bytes are until the capture ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordedBytes {
    /// In the journal itself.
    Inline(#[serde(serialize_with = "write_base64", deserialize_with = "read_base64")] Vec<u8>),
    /// In a spool file.
    Spooled(PathBuf),
}

/// Why an answer is not recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeftOut {
    /// The request carried credentials, and no `--allow-private` pattern covers its URL.
    NeededCredentials(String),
    /// The answer did not arrive whole, or the origin could not be asked.
    Failed(String),
    /// The answer cannot stand for the whole representation (206, 304).
    NotWhole(u16),
    /// buildproxy could not store it.
    NotStored(String),
    /// What would be written looks like a long-lived key: what it looks like, and where it is.
    Secret(String, String),
    /// It is not what `--only` names.
    NotSelected,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeededCredentials(name) => write!(f, "the request carried credentials (`{name}`)"),
            Self::Failed(reason) => f.write_str(reason),
            Self::NotWhole(status) => write!(f, "the origin answered {status}, which is not the whole"),
            Self::NotStored(reason) => write!(f, "it could not be stored: {reason}"),
            Self::Secret(what, place) => write!(f, "{place} has what looks like {what}"),
            Self::NotSelected => f.write_str("`--only` does not name it, and the inventory does not have it"),
        }
    }
}

impl Exchange {
    /// The status code, where there is an answer.
    pub fn status(&self) -> Option<u16> {
        match &self.outcome {
            Outcome::Answered(answer) => Some(answer.status),
            Outcome::LeftOut(_) => None,
        }
    }

    /// Where the answer sends the client: the `Location` of a redirect (RFC 9110 §15.4), resolved.
    pub fn redirect_target(&self) -> Option<NormalizedUrl> {
        let Outcome::Answered(answer) = &self.outcome else {
            return None;
        };
        let is_redirect = matches!(answer.status, 301 | 302 | 303 | 307 | 308);
        self.url.join(answer.headers.get("location").filter(|_| is_redirect)?).ok()
    }
}

// Serde attributes fix these signatures.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn write_method<S: Serializer>(method: &Method, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(method.as_str())
}

fn read_method<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Method, D::Error> {
    Method::from_bytes(String::deserialize(deserializer)?.as_bytes()).map_err(D::Error::custom)
}

fn write_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64.encode(bytes))
}

fn read_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    BASE64.decode(String::deserialize(deserializer)?.as_bytes()).map_err(D::Error::custom)
}

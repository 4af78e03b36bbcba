//! A request's body as part of the request key: its digest, in the form in which an entry has it compared.

mod canonical;
mod digest;
pub mod pkt_line;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub use self::digest::RequestDigest;
use crate::store::hash::NixHash;

/// What of a request body is compared. Content codings such as gzip are undone first, in every form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum BodyForm {
    /// Its bytes.
    Bytes,
    /// `form`: the pairs of `application/x-www-form-urlencoded`, sorted by name; the values of one name keep their order.
    Form,
    /// `git`: what git's pkt-lines ask for, without who asks.
    Git,
    /// `json`: the JSON value, as RFC 8785 writes it: neither spacing nor the order of members counts.
    Json,
}

/// The digest of a request body that is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BodyDigest {
    /// What was hashed. Digests of different forms are never equal.
    pub form: BodyForm,
    /// The hash.
    pub hash: NixHash,
}

/// A text that names no form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no form of a request body; hint: it is one of `form`, `git`, `json`, or left out")]
pub struct UnknownForm(String);

impl BodyForm {
    /// All forms but the bytes.
    const CANONICAL: [Self; 3] = [Self::Form, Self::Git, Self::Json];

    /// The name that `request-body-as` has for it; the bytes have none.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Bytes => None,
            Self::Form => Some("form"),
            Self::Git => Some("git"),
            Self::Json => Some("json"),
        }
    }

    /// The bytes that are hashed for `body`; `None` where it does not have this form.
    fn canonical(self, body: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Bytes => Some(body.to_vec()),
            Self::Form => canonical::form(body),
            Self::Git => pkt_line::canonical(body),
            Self::Json => canonical::json(body),
        }
    }
}

impl FromStr for BodyForm {
    type Err = UnknownForm;

    fn from_str(name: &str) -> Result<Self, UnknownForm> {
        let form = Self::CANONICAL.into_iter().find(|form| form.name() == Some(name));
        form.ok_or_else(|| UnknownForm(name.to_owned()))
    }
}

impl BodyDigest {
    /// The digest of `body` as it is; `body` has no content coding and is not empty.
    pub fn of_bytes(body: &[u8]) -> Self {
        Self { form: BodyForm::Bytes, hash: NixHash::sha256(body) }
    }
}

impl fmt::Display for BodyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.form.name() {
            None => write!(f, "{}", self.hash),
            Some(form) => write!(f, "{} as {form}", self.hash),
        }
    }
}

//! A request as it is looked up.

use http::{HeaderMap, Method};

use crate::{
    inventory::request_body::{BodyDigest, BodyForm},
    url::NormalizedUrl,
};

/// What a request is looked up by.
#[derive(Debug, Clone)]
pub struct RequestKey<'a> {
    /// The method.
    pub method: &'a Method,
    /// The URL, with all its query parameters.
    pub url: &'a NormalizedUrl,
    /// All header fields.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: RequestBody,
}

/// What is known of a request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestBody {
    /// It has no bytes.
    Empty,
    /// Its digests in every form that it has, that of its bytes first.
    Digests(Vec<BodyDigest>),
    /// It has bytes. Which ones makes no difference where no entry [depends on them](super::Index::depends_on_body).
    Unhashed,
}

impl RequestBody {
    /// The body in every way in which an entry can have recorded it.
    pub(super) fn recorded(&self) -> impl Iterator<Item = Option<&BodyDigest>> + Clone {
        let (empty, digests) = match self {
            Self::Empty => (Some(None), &[][..]),
            Self::Digests(digests) => (None, digests.as_slice()),
            Self::Unhashed => (None, &[][..]),
        };
        empty.into_iter().chain(digests.iter().map(Some))
    }

    /// What an entry of the form `form`, or else of the bytes, has to record so that it is for this body: nothing for an
    /// empty one. `None` where that is not known.
    pub fn of_form(&self, form: Option<BodyForm>) -> Option<Option<BodyDigest>> {
        match self {
            Self::Empty => Some(None),
            Self::Digests(digests) => {
                Some(digests.iter().find(|digest| Some(digest.form) == form).or(digests.first()).copied())
            }
            Self::Unhashed => None,
        }
    }
}

/// As request bodies are hashed: an empty one has no digest.
impl From<Vec<BodyDigest>> for RequestBody {
    fn from(digests: Vec<BodyDigest>) -> Self {
        if digests.is_empty() { Self::Empty } else { Self::Digests(digests) }
    }
}

/// The value of a request header as entries record it: several fields joined with commas (RFC 9110 §5.2), `""` where
/// there is none.
pub fn field_value(headers: &HeaderMap, name: &str) -> String {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    values.join(", ").trim().to_owned()
}

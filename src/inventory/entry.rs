//! An inventory as data: what was asked, what was answered, where the bytes are. No I/O.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, Method};
use serde::{Serialize, Serializer};

use super::{request_body::BodyDigest, rules::MatchRules};
use crate::{
    store::{
        hash::NixHash,
        path::{FileIngestionMethod, StorePath, StorePathName, build_ca_path},
    },
    url::NormalizedUrl,
};

/// Everything that one build may fetch.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Inventory {
    /// Rules for comparing requests.
    pub match_rules: MatchRules,
    /// The entries, in the order of the file.
    pub entries: Vec<Entry>,
}

/// One request and its recorded response.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// The request's method.
    pub method: Method,
    /// The request's URL; of a redirect chain the first.
    pub url: NormalizedUrl,
    /// Which URLs the entry is for.
    pub url_match: UrlMatch,
    /// The digest of the request body; `None` matches only an empty one.
    pub request_body: Option<BodyDigest>,
    /// Request headers that are part of the key (those that the response's `Vary` names); names in lower case, an
    /// absent header equals `""`.
    pub request_headers: BTreeMap<String, String>,
    /// Nix systems that the entry is for; empty means all.
    pub systems: Vec<String>,
    /// The redirects on the way to the final response.
    pub redirects: Vec<Hop>,
    /// The final response's status code.
    pub status: u16,
    /// The final response's end-to-end headers.
    pub headers: Headers,
    /// The final response's body; `None` is an empty one.
    pub body: Option<Body>,
}

impl Entry {
    /// An entry for a `GET` of `url` that was answered with an empty 200.
    pub fn get(url: NormalizedUrl) -> Self {
        Self {
            method: Method::GET,
            url,
            url_match: UrlMatch::Exact,
            request_body: None,
            request_headers: BTreeMap::new(),
            systems: Vec::new(),
            redirects: Vec::new(),
            status: 200,
            headers: Headers::default(),
            body: None,
        }
    }

    /// The body's size in bytes, where it is pinned.
    pub fn body_size(&self) -> Option<u64> {
        self.body.as_ref().map_or(Some(0), |body| body.size)
    }
}

/// Which URLs an entry is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum UrlMatch {
    /// Its own.
    #[default]
    Exact,
    /// Every URL that starts with its own, where no other entry answers; the longest counts.
    Prefix,
}

/// One redirect of a chain.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Hop {
    /// The 3xx status code.
    pub status: u16,
    /// The `Location` as the origin sent it.
    pub location: String,
    /// The other end-to-end headers.
    pub headers: Headers,
}

impl Hop {
    /// A redirect to `location` that has no other headers.
    pub fn new(status: u16, location: impl Into<String>) -> Self {
        Self { status, location: location.into(), headers: Headers::default() }
    }
}

/// The bytes of a final response.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Body {
    /// The hash of the bytes as sent. Only a `store-path` body can do without.
    pub hash: Option<NixHash>,
    /// The number of bytes. Only a `store-path` body can do without.
    pub size: Option<u64>,
    /// The store path name. Every `fetch` body has one.
    pub name: Option<StorePathName>,
    /// Where the bytes are.
    pub source: Source,
}

impl Body {
    /// Bytes of `source` of which nothing is known yet: neither hash nor size nor name.
    pub fn new(source: Source) -> Self {
        Self { hash: None, size: None, name: None, source }
    }

    /// The store path that `fetchurl` gives these bytes, where they have a name and a hash.
    pub fn store_path(&self) -> Option<StorePath> {
        let (name, hash) = (self.name.as_ref()?, self.hash.as_ref()?);
        Some(build_ca_path(name, FileIngestionMethod::Flat, hash))
    }
}

/// Where a body's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Anyone can download them again: from this URL, or from the entry's own.
    Fetch(Option<String>),
    /// A file beside the inventory, relative to its folder.
    File(String),
    /// Written in the inventory itself.
    Text(String),
    /// A file inside a store path.
    StorePath {
        /// `/nix/store/<digest>-<name>`, with or without a path below it.
        path: String,
        /// The NAR hash of the whole store path.
        nar_hash: Option<NixHash>,
    },
}

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

/// Whether the field `name`, in lower case, says something about the bytes of a body: a validator or a digest.
pub fn is_about_the_bytes(name: &str) -> bool {
    ABOUT_THE_BYTES.iter().any(|known| *known == name || (known.ends_with('-') && name.starts_with(known)))
}

/// Header fields: lower-case names in alphabetical order, each with its values in the order they came.
///
/// Names and values are valid as HTTP has them (RFC 9110 §5), so that writing them to a connection cannot fail; and kept
/// as hyper takes them, so that it costs next to nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(HeaderName, HeaderValue)>);

/// Why a header field cannot be in an inventory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Not a token (RFC 9110 §5.1).
    #[error("`{0}` is not a header name")]
    Name(String),
    /// A control character (RFC 9110 §5.5).
    #[error("the value of header `{0}` has a character that HTTP does not allow")]
    Value(String),
}

impl Headers {
    /// Adds a field behind those of the same name.
    ///
    /// # Errors
    /// Where HTTP does not allow the name or the value.
    pub fn append(&mut self, name: &str, value: &str) -> Result<(), HeaderError> {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| HeaderError::Name(name.to_owned()))?;
        let valid = HeaderValue::from_bytes(value.as_bytes());
        let value = valid.map_err(|_| HeaderError::Value(name.as_str().to_owned()))?;
        self.append_to(name, value);
        Ok(())
    }

    /// The same for what is known to be valid. `value` is UTF-8.
    pub(super) fn append_to(&mut self, name: HeaderName, value: HeaderValue) {
        let end = self.0.partition_point(|(other, _)| other.as_str() <= name.as_str());
        self.0.insert(end, (name, value));
    }

    /// The first value of `name`, which is in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other.as_str() == name).map(|(_, value)| text(value))
    }

    /// Removes the fields called `name` and gives the first value.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        let value = self.get(name)?.to_owned();
        self.retain(|other| other != name);
        Some(value)
    }

    /// Keeps the fields whose name, in lower case, `wanted` accepts.
    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.0.retain(|(name, _)| wanted(name.as_str()));
    }

    /// Gives each value that `with` has another one for that one; tells whether there was such. What HTTP does not allow as
    /// a value stays out.
    pub(crate) fn replace(&mut self, with: impl Fn(&str) -> Option<String>) -> bool {
        let before = self.0.clone();
        self.0 = Vec::with_capacity(before.len());
        let mut is_replaced = false;
        for (name, value) in before {
            let new = with(text(&value));
            is_replaced |= new.is_some();
            match new.map(|new| HeaderValue::from_bytes(new.as_bytes())) {
                None => self.0.push((name, value)),
                Some(Ok(new)) => self.0.push((name, new)),
                Some(Err(_)) => {}
            }
        }
        is_replaced
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        let of_name = self.0.chunk_by(|(a, _), (b, _)| a == b);
        of_name.map(|fields| (fields[0].0.as_str(), fields.iter().map(|(_, value)| text(value)).collect()))
    }

    /// As hyper takes them.
    pub fn to_header_map(&self) -> http::HeaderMap {
        // With room for what every answer has, too.
        let mut map = http::HeaderMap::with_capacity(self.0.len() + 1);
        for (name, value) in &self.0 {
            map.append(name.clone(), value.clone());
        }
        map
    }
}

/// The text that a value was made of.
fn text(value: &HeaderValue) -> &str {
    std::str::from_utf8(value.as_bytes()).unwrap_or_default()
}

/// A map from each name to its values, whatever their number.
impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_sorted_by_name_and_keep_their_order() {
        let mut headers = Headers::default();
        for (name, value) in [("X-b", "2"), ("etag", "\"ä\""), ("x-B", "1"), ("accept-ranges", "bytes"), ("x-b", "2")]
        {
            headers.append(name, value).unwrap();
        }
        let listed: Vec<_> = headers.iter().collect();
        assert_eq!(listed, [("accept-ranges", vec!["bytes"]), ("etag", vec!["\"ä\""]), ("x-b", vec!["2", "1", "2"])]);
        assert_eq!(
            serde_json::to_string(&headers).unwrap(),
            r#"{"accept-ranges":["bytes"],"etag":["\"ä\""],"x-b":["2","1","2"]}"#
        );
        assert_eq!((headers.get("x-b"), headers.get("x")), (Some("2"), None));
        assert_eq!(headers.to_header_map().get_all("x-b").iter().count(), 3);
        assert_eq!((headers.remove("x-b").as_deref(), headers.remove("x-b")), (Some("2"), None));
        assert_eq!(headers.append("a b", "1"), Err(HeaderError::Name("a b".to_owned())));
        assert_eq!(headers.append("a", "1\n"), Err(HeaderError::Value("a".to_owned())));
    }
}

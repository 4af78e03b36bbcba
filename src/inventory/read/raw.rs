//! An inventory as it is written, key by key: docs/inventory.md is made from what stands here (`reference.rs`).

use std::collections::BTreeMap;

use http::Method;
use serde::{Deserialize, Deserializer, de};

use super::{SyntaxError, headers, rules::RawMatch, unknown_version};
use crate::{
    inventory::{
        entry::{Body, Entry, Headers, Hop, Inventory, Source, UrlMatch},
        request_body::{BodyDigest, BodyForm},
    },
    store::{hash::NixHash, path::StorePathName},
    text::is_deceptive,
    url::NormalizedUrl,
};

/// Everything.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawInventory {
    /// The version of the format; there is only `1`.
    version: i64,
    /// Rules for comparing requests, below.
    ///
    /// Absent: no rules.
    #[serde(default)]
    r#match: RawMatch,
    /// What was asked and what was answered, below.
    ///
    /// Absent: none.
    #[serde(default)]
    entry: Vec<Entry>,
}

impl RawInventory {
    pub(super) fn into_inventory(self, text: &str) -> Result<Inventory, SyntaxError> {
        match unknown_version(Some(self.version), text) {
            Some(error) => Err(error),
            None => Ok(Inventory { match_rules: self.r#match.into(), entries: self.entry }),
        }
    }
}

/// One request and its answer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawEntry {
    /// The request's method.
    ///
    /// Absent: `"GET"`.
    #[serde(default, deserialize_with = "method")]
    method: Method,
    /// The request's `http` or `https` URL; of a redirect chain the first one.
    url: NormalizedUrl,
    /// `"prefix"`: for every URL that starts with `url`, where no other entry answers; the longest one counts.
    ///
    /// Absent: `"exact"`.
    #[serde(default)]
    r#match: RawUrlMatch,
    /// The digest of the request's body, with gzip or deflate undone: `"sha256-…"`.
    ///
    /// Absent: the body is empty.
    request_body: Option<NixHash>,
    /// What the digest is of: the pairs of a form, sorted by name; what a git client wants, whatever its version; the JSON
    /// value as RFC 8785 writes it.
    ///
    /// Absent: the bytes themselves.
    #[serde(default, deserialize_with = "body_form")]
    request_body_as: Option<BodyForm>,
    /// Request headers that the answer depends on (those that its `Vary` names); an absent one equals `""`.
    ///
    /// Absent: `{}`.
    #[serde(default, deserialize_with = "headers::of_request")]
    request_headers: BTreeMap<String, String>,
    /// The Nix systems that the entry is for: `["x86_64-linux"]`.
    ///
    /// Absent: every system.
    #[serde(default)]
    systems: Vec<System>,
    /// The redirects on the way to the answer, in their order, below.
    ///
    /// Absent: `[]`.
    #[serde(default)]
    redirects: Vec<RawHop>,
    /// The answer's status code.
    ///
    /// Absent: `200`.
    #[serde(default = "ok", deserialize_with = "final_status")]
    status: u16,
    /// The answer's end-to-end headers; an array of texts where a header repeats.
    ///
    /// Absent: `{}`.
    #[serde(default)]
    headers: Headers,
    /// The answer's body, below.
    ///
    /// Absent: an empty body.
    body: Option<Body>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
enum RawUrlMatch {
    #[default]
    Exact,
    Prefix,
}

/// A redirect on the way.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawHop {
    /// The redirect's status code.
    #[serde(deserialize_with = "redirect_status")]
    status: u16,
    /// Its `Location`, as the origin sent it.
    #[serde(deserialize_with = "location")]
    location: String,
    /// Its other end-to-end headers, as above.
    ///
    /// Absent: `{}`.
    #[serde(default)]
    headers: Headers,
}

/// The bytes of an answer, and one place that they come from.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawBody {
    /// The hash of the bytes as sent, without transfer coding: `"sha256-…"` or `"sha512-…"`.
    ///
    /// Absent: has to be there, but with `store-path`.
    hash: Option<NixHash>,
    /// The number of bytes.
    ///
    /// Absent: has to be there, but with `store-path`.
    size: Option<u64>,
    /// The name in the store path, which follows from it and `hash`: `"foo-1.0.tar.gz"`.
    ///
    /// Absent: has to be there for a download.
    name: Option<StorePathName>,
    /// The URL that Nix downloads it from.
    ///
    /// Absent: the entry's own `url`.
    fetch: Option<String>,
    /// A file beside the inventory, by its path from there: `"inventory.bodies/NAME"`.
    file: Option<String>,
    /// The bytes themselves, where they are UTF-8 of at most 4 KiB.
    text: Option<String>,
    /// A file inside of a store path: `"/nix/store/…-name/some/file"`.
    store_path: Option<String>,
    /// With `store-path`: the NAR hash of the whole store path, which `verify` compares.
    ///
    /// Absent: not checked.
    nar_hash: Option<NixHash>,
}

/// A system's name, checked where it stands.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct System(String);

impl TryFrom<String> for System {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        plain("a system's name", &name).map(|()| Self(name))
    }
}

fn ok() -> u16 {
    200
}

/// Names of files and systems are shown, compared and copied by people.
fn plain(what: &str, text: &str) -> Result<(), String> {
    match text.chars().find(|&character| is_deceptive(character)) {
        Some(character) => Err(format!(
            "{what} has the character U+{:04X}, which nothing shows as it is; hint: leave it out",
            character as u32
        )),
        None => Ok(()),
    }
}

fn method<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Method, D::Error> {
    let name = String::deserialize(deserializer)?;
    Method::from_bytes(name.as_bytes()).map_err(|_| de::Error::custom(format!("`{name}` is not a method")))
}

fn body_form<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BodyForm>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(de::Error::custom)
}

fn final_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let status = u16::deserialize(deserializer)?;
    let message = || format!("{status} is not the status of a final response: it has to be 200 to 599");
    (200..=599).contains(&status).then_some(status).ok_or_else(|| de::Error::custom(message()))
}

fn redirect_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let status = u16::deserialize(deserializer)?;
    let message = || format!("{status} is not the status of a redirect: it has to be 300 to 399");
    (300..=399).contains(&status).then_some(status).ok_or_else(|| de::Error::custom(message()))
}

fn location<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let location = String::deserialize(deserializer)?;
    Headers::default().append("location", &location).map_err(de::Error::custom)?;
    Ok(location)
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawEntry::deserialize(deserializer)?;
        let hop = |hop: RawHop| Hop { status: hop.status, location: hop.location, headers: hop.headers };
        let request_body = match (raw.request_body, raw.request_body_as) {
            (None, Some(_)) => {
                return Err(de::Error::custom(
                    "`request-body-as` says how `request-body` is compared, which is missing",
                ));
            }
            (hash, form) => hash.map(|hash| BodyDigest { form: form.unwrap_or(BodyForm::Bytes), hash }),
        };
        Ok(Entry {
            method: raw.method,
            url: raw.url,
            url_match: match raw.r#match {
                RawUrlMatch::Exact => UrlMatch::Exact,
                RawUrlMatch::Prefix => UrlMatch::Prefix,
            },
            request_body,
            request_headers: raw.request_headers,
            systems: raw.systems.into_iter().map(|system| system.0).collect(),
            redirects: raw.redirects.into_iter().map(hop).collect(),
            status: raw.status,
            headers: raw.headers,
            body: raw.body,
        })
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawBody::deserialize(deserializer)?.check().map_err(de::Error::custom)
    }
}

impl RawBody {
    fn check(self) -> Result<Body, String> {
        let is_store_path = self.store_path.is_some();
        let named = [
            self.fetch.map(|url| Source::Fetch(Some(url))),
            self.file.map(Source::File),
            self.text.map(Source::Text),
            self.store_path.map(|path| Source::StorePath { path, nar_hash: self.nar_hash }),
        ];
        let mut sources = named.into_iter().flatten();
        let source = sources.next().unwrap_or(Source::Fetch(None));
        if sources.next().is_some() {
            return Err("a body has one source: keep one of `fetch`, `file`, `text`, `store-path`".to_owned());
        }
        if !is_store_path && self.nar_hash.is_some() {
            return Err("`nar-hash` goes with `store-path` only".to_owned());
        }
        if !is_store_path && (self.hash.is_none() || self.size.is_none()) {
            let missing = if self.hash.is_none() { "hash" } else { "size" };
            return Err(format!("the body has no `{missing}`; hint: only a `store-path` body can do without one"));
        }
        if self.size.is_some_and(|size| i64::try_from(size).is_err()) {
            return Err("the body's `size` is more than TOML and Nix can count".to_owned());
        }
        if let Source::Fetch(Some(place)) | Source::File(place) | Source::StorePath { path: place, .. } = &source {
            plain("where the body is", place)?;
        }
        match &source {
            Source::Fetch(_) if self.name.is_none() => {
                return Err("the body has no `name`, so it has no store path; hint: \
                            add `name = \"…\"`, by custom the last path segment of the URL"
                    .to_owned());
            }
            Source::Fetch(Some(url)) => drop(url.parse::<NormalizedUrl>().map_err(|error| error.to_string())?),
            _ => {}
        }
        Ok(Body { hash: self.hash, size: self.size, name: self.name, source })
    }
}

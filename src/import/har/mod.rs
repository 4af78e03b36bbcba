//! HAR 1.2, as browsers and mitmproxy write it: read an exchange at a time, none of which is kept here.
//!
//! The format keeps texts as texts, decoded; `content` says which bytes are taken for what was sent. Everything else is
//! left out with its reason.

mod content;
mod raw;

use std::{fmt, io::Read, path::Path};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use self::{
    content::{Bytes, Content, Setting},
    raw::{Raw, whole},
};
use crate::{
    capture::Retold,
    inventory::request_body::{BodyDigest, BodyForm, RequestDigest},
    store::{hash::NixHash, spool::Spooled},
    url::{NormalizedUrl, without_userinfo},
};

/// How much is shown of a URL that is none of HTTP's, in characters: one with `data:` has all that it stands for in it.
const SHOWN: usize = 60;

/// An exchange that cannot be taken from the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unheard {
    /// Method and URL, as the file has them.
    pub request: String,
    /// Why.
    pub reason: String,
    /// Whether nothing is missing without it: it never was a request.
    pub is_needless: bool,
}

impl Unheard {
    /// What is missing.
    pub fn new(request: impl Into<String>, reason: impl ToString) -> Self {
        Self { request: request.into(), reason: reason.to_string(), is_needless: false }
    }
}

/// Reads a HAR file and gives its exchanges to `each`, one after another: no more than one is in memory. Bodies that are
/// not in the file itself are in `folder`.
///
/// # Errors
/// Where it is no HAR file, with line and column. What came before was given to `each` then.
pub fn read(
    input: impl Read,
    folder: Option<&Path>,
    mut each: impl FnMut(Result<Retold, Unheard>),
) -> serde_json::Result<()> {
    let mut file = serde_json::Deserializer::from_reader(input);
    let mut setting = Setting { folder: folder.map(Path::to_owned), ..Setting::default() };
    Member { path: &["log", "entries"], setting: &mut setting, each: &mut each }.deserialize(&mut file)?;
    file.end()
}

/// The value of the member that `path` leads to: an array of exchanges.
struct Member<'a, F> {
    path: &'static [&'static str],
    setting: &'a mut Setting,
    each: &'a mut F,
}

impl<'de, F: FnMut(Result<Retold, Unheard>)> DeserializeSeed<'de> for Member<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.path {
            [] => deserializer.deserialize_seq(self),
            _ => deserializer.deserialize_map(self),
        }
    }
}

impl<'de, F: FnMut(Result<Retold, Unheard>)> Visitor<'de> for Member<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.path {
            [] => f.write_str("the array `log.entries`"),
            [name, ..] => write!(f, "an object with `{name}`, as HAR files have it"),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((wanted, rest)) = self.path.split_first() else {
            return Err(A::Error::custom("`log.entries` is no array"));
        };
        let mut found = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == *wanted && found {
                return Err(A::Error::custom(format_args!("`{wanted}` is there twice")));
            }
            if name == *wanted {
                found = true;
                map.next_value_seed(Member { path: rest, setting: &mut *self.setting, each: &mut *self.each })?;
                continue;
            }
            match (name.as_str(), rest.is_empty()) {
                // It comes before the entries, in HAR's own order and in that of the alphabet.
                ("creator", true) => {
                    self.setting.counts_texts = map.next_value::<Creator>()?.name.as_deref() == Some("Playwright");
                }
                ("version", true) => {
                    let version: String = map.next_value()?;
                    if !version.is_empty() && version.split('.').next() != Some("1") {
                        return Err(A::Error::custom(format_args!("HAR {version}, and only HAR 1 is known")));
                    }
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if found { Ok(()) } else { Err(A::Error::custom(format_args!("no `{wanted}`: this is no HAR file"))) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(entry) = entries.next_element::<RawEntry>()? {
            (self.each)(entry.heard(self.setting));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Creator {
    name: Option<String>,
}

#[derive(Deserialize)]
struct RawEntry {
    request: RawRequest,
    response: Option<RawResponse>,
    #[serde(rename = "_buildproxy", default)]
    ours: Ours,
}

/// What buildproxy's own exports say beyond HAR.
#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
struct Ours {
    source: Option<String>,
    request_body: Option<NixHash>,
    request_body_as: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRequest {
    method: String,
    url: Raw,
    headers: Option<Vec<Field>>,
    /// Internet Explorer has an object in place of an array of one.
    cookies: Option<Box<RawValue>>,
    post_data: Option<Content>,
    body_size: Option<f64>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawResponse {
    status: Option<f64>,
    headers: Option<Vec<Field>>,
    content: Option<Content>,
    /// Chrome's word for what went wrong.
    #[serde(rename = "_error")]
    error: Option<Raw>,
    /// Playwright's.
    #[serde(rename = "_failureText")]
    failure: Option<Raw>,
}

#[derive(Deserialize)]
struct Field {
    name: Raw,
    value: Option<Raw>,
}

impl RawEntry {
    fn heard(self, setting: &Setting) -> Result<Retold, Unheard> {
        let Self { request, response, ours } = self;
        let shown = format!("{} {}", request.method, without_userinfo(&request.url.to_text()));
        let unheard = |reason: String| Unheard::new(shown.clone(), reason);
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|_| unheard(format!("`{}` is no method", request.method)))?;
        if method == Method::CONNECT {
            return Err(unheard("it opened a tunnel; what went through it has entries of its own".to_owned()));
        }
        if let Some((reason, is_needless)) = of_scheme(&request.url.to_text()) {
            let start: String = shown.chars().take(SHOWN).collect();
            let mark = if start.len() < shown.len() { "…" } else { "" };
            return Err(Unheard { is_needless, ..Unheard::new(start + mark, reason) });
        }
        let url: NormalizedUrl = request.url.to_text().parse().map_err(|error| unheard(format!("{error}")))?;
        let response = response.unwrap_or_default();
        let status = response.answered().map_err(&unheard)?;
        let asked = request.asked();
        let request_body = match ours.digest() {
            Some(digest) => digest,
            None => Content::posted(request.post_data, whole(request.body_size), &asked, setting).map(|bytes| {
                let mut digest = RequestDigest::new(&asked);
                digest.update(&bytes);
                digest.finish()
            }),
        };
        let request_body = request_body.map_err(&unheard)?;
        let headers = fields(response.headers.as_deref());
        let content = response.content.unwrap_or_default();
        let body = content.answer(&method, status, &headers, setting);
        let is_certain = !matches!(body, Ok(Some(Bytes { are_certain: false, .. })));
        let is_decoded = matches!(body, Ok(Some(_))) && content.is_decoded(&headers);
        let is_public = ours.source.is_none_or(|source| source == "fetch") && is_certain;
        let body = body.map(|body| body.map(|found| Spooled::in_memory(found.bytes)));
        Ok(Retold { method, url, asked, request_body, status, headers, is_decoded, is_public, body })
    }
}

impl RawRequest {
    /// Its header fields. Credentials that are somewhere else are among them, but for what they are: the answer is for who
    /// had them.
    fn asked(&self) -> HeaderMap {
        let mut asked = fields(self.headers.as_deref());
        let cookies = self.cookies.as_ref().map(|cookies| cookies.get().split_whitespace().collect::<String>());
        if cookies.is_some_and(|cookies| !matches!(cookies.as_str(), "[]" | "{}" | "null")) {
            asked.entry(header::COOKIE).or_insert(HeaderValue::from_static("-"));
        }
        if without_userinfo(&self.url.to_text()) != self.url.to_text() {
            asked.entry(header::AUTHORIZATION).or_insert(HeaderValue::from_static("-"));
        }
        asked
    }
}

/// Why a URL is none of HTTP's, and whether no request was made for it.
fn of_scheme(url: &str) -> Option<(&'static str, bool)> {
    match url.split_once(':')?.0.to_ascii_lowercase().as_str() {
        "data" | "blob" | "about" => Some(("the browser has it without a request", true)),
        "ws" | "wss" => Some(("it is a WebSocket, which can be neither recorded nor replayed", false)),
        _ => None,
    }
}

impl RawResponse {
    /// Its status, where it is an answer that came whole.
    fn answered(&self) -> Result<StatusCode, String> {
        let failures = [&self.failure, &self.error].into_iter().flatten().map(Raw::to_text);
        if let Some(failure) = failures.into_iter().find(|failure| !failure.is_empty()) {
            let hint = match failure.contains("ERR_ABORTED") {
                true => " (the browser broke it off, or made a download of it, of which it keeps no body here)",
                false => "",
            };
            return Err(format!("it failed: {failure}{hint}"));
        }
        let status = whole(self.status).and_then(|status| u16::try_from(status).ok());
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        status.ok_or_else(|| "it was not answered".to_owned())
    }
}

impl Ours {
    /// The digest of a request body that the file does not have.
    fn digest(&self) -> Option<Result<Vec<BodyDigest>, String>> {
        let hash = self.request_body?;
        let form = match &self.request_body_as {
            None => Ok(BodyForm::Bytes),
            Some(name) => name.parse().map_err(|error| format!("{error}")),
        };
        Some(form.map(|form| vec![BodyDigest { form, hash }]))
    }
}

/// Header fields, without HTTP/2's pseudo-headers and what HTTP does not allow. Browsers put several values of one name
/// on lines of one.
fn fields(fields: Option<&[Field]>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for field in fields.unwrap_or_default().iter().filter(|field| !field.name.as_bytes().starts_with(b":")) {
        let (Ok(name), Some(value)) = (HeaderName::from_bytes(field.name.as_bytes()), &field.value) else { continue };
        for value in value.as_bytes().split(|&byte| byte == b'\n') {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                map.append(name.clone(), value);
            }
        }
    }
    map
}

#[cfg(test)]
mod tests;

//! HAR 1.2, as browsers and mitmproxy write it.
//!
//! The format keeps texts as texts, decoded; so bytes are only taken where they are certain: where the text has as many
//! of them as the file says, in UTF-8 or, where that fits, in Latin-1. Everything else is left out with its reason.

use std::{borrow::Cow, fmt, io::Read};

use data_encoding::BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::{
    inventory::request_body::{BodyDigest, BodyForm, RequestDigest},
    store::hash::NixHash,
    url::{NormalizedUrl, without_userinfo},
};

/// One exchange of a HAR file.
#[derive(Debug)]
pub struct Heard {
    /// The request's method.
    pub method: Method,
    /// The request's URL.
    pub url: NormalizedUrl,
    /// The request's header fields.
    pub asked: HeaderMap,
    /// The digests of the request body, none for an empty one; or why they are not known.
    pub request_body: Result<Vec<BodyDigest>, String>,
    /// The status code.
    pub status: StatusCode,
    /// The answer's header fields.
    pub headers: HeaderMap,
    /// Whether the body was decoded before it was written to the file.
    pub is_decoded: bool,
    /// Whether the file does not say that others get another answer.
    pub is_public: bool,
    /// The whole body, `None` where there is none; or why it is not known.
    pub body: Result<Option<Vec<u8>>, String>,
}

/// An exchange that cannot be taken from the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unheard {
    /// Method and URL, as the file has them.
    pub request: String,
    /// Why.
    pub reason: String,
}

/// Reads a HAR file and gives its exchanges to `each`, one after another: no more than one is in memory.
///
/// # Errors
/// Where it is no HAR file, with line and column. What came before was given to `each` then.
pub fn read(input: impl Read, mut each: impl FnMut(Result<Heard, Unheard>)) -> serde_json::Result<()> {
    let mut file = serde_json::Deserializer::from_reader(input);
    Member { path: &["log", "entries"], each: &mut each }.deserialize(&mut file)?;
    file.end()
}

/// The value of the member that `path` leads to: an array of exchanges.
struct Member<'a, F> {
    path: &'static [&'static str],
    each: &'a mut F,
}

impl<'de, F: FnMut(Result<Heard, Unheard>)> DeserializeSeed<'de> for Member<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.path {
            [] => deserializer.deserialize_seq(self),
            _ => deserializer.deserialize_map(self),
        }
    }
}

impl<'de, F: FnMut(Result<Heard, Unheard>)> Visitor<'de> for Member<'_, F> {
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
            if name != *wanted || found {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            found = true;
            map.next_value_seed(Member { path: rest, each: &mut *self.each })?;
        }
        if found { Ok(()) } else { Err(A::Error::custom(format_args!("no `{wanted}`: this is no HAR file"))) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(entry) = entries.next_element::<RawEntry>()? {
            (self.each)(entry.heard());
        }
        Ok(())
    }
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
    #[serde(default)]
    headers: Vec<Field>,
    #[serde(default)]
    cookies: Vec<IgnoredAny>,
    post_data: Option<RawContent>,
    body_size: Option<f64>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawResponse {
    status: f64,
    headers: Vec<Field>,
    content: RawContent,
    #[serde(rename = "_error")]
    error: Option<Raw>,
}

/// The content of an answer, or what was posted.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawContent {
    size: Option<f64>,
    compression: Option<f64>,
    text: Option<Raw>,
    encoding: Option<String>,
    mime_type: Option<Raw>,
    params: Option<Vec<IgnoredAny>>,
    /// Whether the text still has its content coding: in buildproxy's own exports.
    #[serde(rename = "_encoded")]
    is_encoded: bool,
}

#[derive(Deserialize)]
struct Field {
    name: Raw,
    value: Raw,
}

/// A string of the file. mitmproxy, which is Python, has for each byte that is no UTF-8 half of a surrogate pair, which is
/// no text: it is that byte again here.
enum Raw {
    Text(String),
    Bytes(Vec<u8>),
}

impl Raw {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }

    fn to_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.as_bytes())
    }

    fn of(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|error| Self::Bytes(with_bytes(error.as_bytes())), Self::Text)
    }
}

/// `text` with bytes in place of the code points U+DC80 to U+DCFF, which are ED B2 80 to ED B3 BF.
fn with_bytes(mut text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    while let Some((&first, rest)) = text.split_first() {
        text = match text {
            [0xed, half @ (0xb2 | 0xb3), low @ 0x80..=0xbf, rest @ ..] => {
                bytes.push(if *half == 0xb2 { *low } else { *low + 0x40 });
                rest
            }
            _ => {
                bytes.push(first);
                rest
            }
        };
    }
    bytes
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Raw, E> {
                Ok(Raw::of(bytes.to_vec()))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Raw, E> {
                Ok(Raw::of(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

impl RawEntry {
    fn heard(self) -> Result<Heard, Unheard> {
        let Self { request, response, ours } = self;
        let shown = format!("{} {}", request.method, without_userinfo(&request.url.to_text()));
        let unheard = |reason: String| Unheard { request: shown.clone(), reason };
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|_| unheard(format!("`{}` is no method", request.method)))?;
        if method == Method::CONNECT {
            return Err(unheard("it opened a tunnel; what went through it has entries of its own".to_owned()));
        }
        let url: NormalizedUrl = request.url.to_text().parse().map_err(|error| unheard(format!("{error}")))?;
        let response = response.unwrap_or_default();
        let status = whole(Some(response.status)).and_then(|status| u16::try_from(status).ok());
        let Some(status) = status.and_then(|status| StatusCode::from_u16(status).ok()) else {
            let error = response.error.filter(|error| !error.as_bytes().is_empty());
            let failed = |error: Raw| format!("it failed: {}", error.to_text());
            return Err(unheard(error.map_or("it was not answered".to_owned(), failed)));
        };
        let mut asked = fields(&request.headers);
        if !request.cookies.is_empty() && !asked.contains_key(header::COOKIE) {
            // Whatever they were: the answer is for who had them.
            asked.insert(header::COOKIE, HeaderValue::from_static("-"));
        }
        let headers = fields(&response.headers);
        let body = response.content.answer(&method, status);
        let is_coded = headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
        let is_decoded = is_coded && !response.content.is_encoded && matches!(body, Ok(Some(_)));
        let request_body = ours.digest().unwrap_or_else(|| {
            let posted = posted(request.post_data, whole(request.body_size));
            posted.map(|bytes| {
                let mut digest = RequestDigest::new(&asked);
                digest.update(&bytes);
                digest.finish()
            })
        });
        let is_public = ours.source.is_none_or(|source| source == "fetch");
        Ok(Heard { method, url, asked, request_body, status, headers, is_decoded, is_public, body })
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

impl RawContent {
    /// The bytes of an answer.
    fn answer(&self, method: &Method, status: StatusCode) -> Result<Option<Vec<u8>>, String> {
        let size = whole(self.size);
        let is_bodiless = *method == Method::HEAD || matches!(status.as_u16(), 100..=199 | 204 | 304);
        if is_bodiless {
            return Ok(None);
        }
        let is_empty = self.text.as_ref().is_none_or(|text| text.as_bytes().is_empty());
        if is_empty && (size == Some(0) || status.is_redirection()) {
            return Ok(None);
        }
        let Some(text) = self.text.as_ref().filter(|_| !is_empty || size.is_some()) else {
            return Err("the file does not have its body: export it with content".to_owned());
        };
        // mitmproxy counts what was sent, others what it was decoded to.
        let compression = self.compression.filter(|compression| compression.fract() == 0.0);
        let decoded = self.size.zip(compression).and_then(|(size, compression)| whole(Some(size + compression)));
        let sizes: Vec<u64> = size.into_iter().chain(decoded).collect();
        let bytes = self.bytes(text, &sizes)?;
        Ok((!bytes.is_empty()).then_some(bytes))
    }

    /// The bytes that `text` stands for, of which there are as many as one of `sizes` says.
    fn bytes(&self, text: &Raw, sizes: &[u64]) -> Result<Vec<u8>, String> {
        let fits = |length: usize| sizes.is_empty() || sizes.contains(&(length as u64));
        let differs = |length: usize| {
            let size = sizes.first().copied().unwrap_or_default();
            format!("the file has {length} bytes of its body, and says that it has {size}: it may be cut short")
        };
        match self.encoding.as_deref() {
            None | Some("") => {}
            Some(base64) if base64.eq_ignore_ascii_case("base64") => {
                let code: Vec<u8> =
                    text.as_bytes().iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
                let bytes = BASE64.decode(&code).map_err(|error| format!("its body is no base64: {error}"))?;
                return if fits(bytes.len()) { Ok(bytes) } else { Err(differs(bytes.len())) };
            }
            Some(other) => return Err(format!("its body is written as `{other}`, which is not known")),
        }
        let text = match text {
            Raw::Text(text) => text,
            Raw::Bytes(bytes) if !sizes.is_empty() && fits(bytes.len()) => return Ok(bytes.clone()),
            Raw::Bytes(bytes) => return Err(differs(bytes.len())),
        };
        if !sizes.is_empty() {
            let with_mark = || format!("\u{feff}{text}").into_bytes();
            let candidates = [Some(text.as_bytes().to_vec()), latin1(text), Some(with_mark())];
            let found = candidates.into_iter().flatten().find(|bytes| fits(bytes.len()));
            return found.ok_or_else(|| differs(text.len()));
        }
        let kind = self.mime_type.as_ref().map(|kind| kind.to_text().to_ascii_lowercase()).unwrap_or_default();
        let is_utf8 = kind.contains("utf-8") || kind.contains("utf8") || !kind.contains("charset");
        match text.is_ascii() || is_utf8 && !text.contains(char::REPLACEMENT_CHARACTER) {
            true => Ok(text.as_bytes().to_vec()),
            false => Err("the file has its body as text, which does not tell the bytes".to_owned()),
        }
    }
}

/// The bytes of a request body.
fn posted(content: Option<RawContent>, size: Option<u64>) -> Result<Vec<u8>, String> {
    let absent = || "the file does not have the body of the request".to_owned();
    let Some(content) = content else {
        return if size.unwrap_or(0) == 0 { Ok(Vec::new()) } else { Err(absent()) };
    };
    match &content.text {
        Some(text) => {
            let sizes: Vec<u64> = size.into_iter().collect();
            content.bytes(text, &sizes).map_err(|error| error.replace("its body", "the request's body"))
        }
        None if size.unwrap_or(0) == 0 && content.params.as_ref().is_none_or(Vec::is_empty) => Ok(Vec::new()),
        None => Err(absent()),
    }
}

/// The bytes of `text` in ISO 8859-1, where it has them all.
fn latin1(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect()
}

/// A number of the file that counts something; none where it says that it does not know.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(number: Option<f64>) -> Option<u64> {
    // Up to 2^53 every whole number is exact.
    number.filter(|number| number.fract() == 0.0 && (0.0..9.0e15).contains(number)).map(|number| number as u64)
}

/// Header fields, without HTTP/2's pseudo-headers and what HTTP does not allow. Browsers put several values of one name
/// on lines of one.
fn fields(fields: &[Field]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for field in fields.iter().filter(|field| !field.name.as_bytes().starts_with(b":")) {
        let Ok(name) = HeaderName::from_bytes(field.name.as_bytes()) else { continue };
        for value in field.value.as_bytes().split(|&byte| byte == b'\n') {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                map.append(name.clone(), value);
            }
        }
    }
    map
}

#[cfg(test)]
mod tests;

//! URL normalisation: the one place where two URLs are made comparable.
//!
//! Two texts get one [`NormalizedUrl`] where RFC 3986 §6.2.2 and §6.2.3 and the WHATWG URL standard say that they
//! mean the same: case of scheme and host, IDNA, IPv4 and IPv6 spellings, default ports, a trailing dot of the host,
//! dot segments, an empty path, percent-encoded unreserved characters, and the case of percent-encoding. Fragments
//! never reach a server, userinfo is a credential: both are left out. Everything else stays as it is: the order of
//! query parameters, `%2F`, doubled slashes, an empty query. `tests/conformance` asks real servers whether they agree.
//!
//! In one thing the URL standard is not followed: a backslash in a path is no slash but what `%5C` is.

use std::{borrow::Cow, fmt, str::FromStr};

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::{Host, Url};

use crate::store::path::StorePathName;

/// An absolute `http` or `https` URL in its comparable form.
///
/// ```
/// use buildproxy::NormalizedUrl;
///
/// let url: NormalizedUrl = "HTTPS://Example.ORG.:443/a/../%7euser?q=%2f#top".parse()?;
/// assert_eq!(url.as_str(), "https://example.org/~user?q=%2F");
/// # Ok::<(), buildproxy::UrlError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NormalizedUrl(String);

/// Why a text is no URL that a build can fetch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// The URL standard refuses it.
    #[error("`{url}` is not a URL: {source}")]
    Invalid {
        /// The text without userinfo.
        url: String,
        /// What the parser said.
        source: url::ParseError,
    },
    /// A scheme other than `http` and `https`; the text without userinfo.
    #[error("`{0}` is not an http or https URL")]
    Scheme(String),
}

impl NormalizedUrl {
    /// A URL that is nobody's (RFC 6761 §6.4).
    pub(crate) fn nobody() -> Self {
        Self("http://nobody.invalid/".to_owned())
    }

    /// Resolves `reference`, a `Location`, against this URL (RFC 9110 §10.2.2).
    ///
    /// # Errors
    /// Where the result is no http or https URL.
    pub fn join(&self, reference: &str) -> Result<Self, UrlError> {
        let invalid = |source| UrlError::Invalid { url: without_userinfo(reference), source };
        let base = Url::parse(&self.0).map_err(invalid)?;
        Self::try_from(base.join(&with_encoded_backslashes(reference)).map_err(invalid)?)
    }

    /// The URL as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Scheme, host and port, without the `/` behind them.
    pub fn origin(&self) -> &str {
        &self.0[..self.0.len() - self.after_origin().len()]
    }

    /// Path and query.
    fn after_origin(&self) -> &str {
        let start = self.0.find("://").map_or(0, |at| at + 3);
        self.0[start..].find(['/', '?']).map_or("", |at| &self.0[start + at..])
    }

    /// Host and, where it is not the scheme's default, port.
    pub fn authority(&self) -> &str {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        rest.split(['/', '?']).next().unwrap_or(rest)
    }

    /// The path without the query, percent-encoded.
    pub fn path(&self) -> &str {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        let path = rest.find('/').map_or("/", |start| &rest[start..]);
        path.split('?').next().unwrap_or(path)
    }

    /// The query without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.0.split_once('?').map(|(_, query)| query)
    }

    /// The URL without the query parameters whose name `ignored` accepts; the others keep their order.
    #[must_use]
    pub fn without_query_parameters(&self, ignored: impl Fn(&str) -> bool) -> Self {
        let Some((base, query)) = self.0.split_once('?') else {
            return self.clone();
        };
        let name = |parameter: &str| decoded_parameter(parameter.split('=').next().unwrap_or(parameter));
        let all = query.split('&').count();
        let kept: Vec<&str> = query.split('&').filter(|parameter| !ignored(&name(parameter))).collect();
        match kept.len() {
            n if n == all => self.clone(),
            0 => Self(base.to_owned()),
            _ => Self(format!("{base}?{}", kept.join("&"))),
        }
    }

    /// The URL with an empty query where it has none.
    #[must_use]
    pub(crate) fn with_query(self) -> Self {
        if self.query().is_some() { self } else { Self(self.0 + "?") }
    }

    /// The store path name of what is fetched from here: the last path segment, percent-decoded.
    pub fn store_path_name(&self) -> StorePathName {
        let segment = self.path().rsplit('/').next().unwrap_or("");
        StorePathName::sanitized(&percent_decode_str(segment).decode_utf8_lossy())
    }
}

impl TryFrom<Url> for NormalizedUrl {
    type Error = UrlError;

    fn try_from(mut url: Url) -> Result<Self, UrlError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(UrlError::Scheme(without_userinfo(url.as_str())));
        }
        url.set_fragment(None);
        let invalid = |source| UrlError::Invalid { url: without_userinfo(url.as_str()), source };
        let host = match url.host().ok_or(url::ParseError::EmptyHost).map_err(invalid)? {
            Host::Domain(domain) => {
                let domain = domain.strip_suffix('.').unwrap_or(domain);
                // No label of a name is empty; without its last dot `h..` would mean `h.`, and that `h`.
                if domain.is_empty() || domain.ends_with('.') {
                    return Err(invalid(url::ParseError::EmptyHost));
                }
                domain.to_owned()
            }
            address => address.to_string(),
        };
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let path = normalize_percent_encoding(url.path());
        let query = url.query().map(|query| format!("?{}", normalize_percent_encoding(query))).unwrap_or_default();
        Ok(Self(format!("{}://{host}{port}{path}{query}", url.scheme())))
    }
}

impl FromStr for NormalizedUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if is_normal(text) { Ok(Self(text.to_owned())) } else { parse(text) }
    }
}

/// Mostly the text that was given.
impl TryFrom<String> for NormalizedUrl {
    type Error = UrlError;

    fn try_from(text: String) -> Result<Self, UrlError> {
        if is_normal(&text) { Ok(Self(text)) } else { parse(&text) }
    }
}

fn parse(text: &str) -> Result<NormalizedUrl, UrlError> {
    let url = Url::parse(&with_encoded_backslashes(text))
        .map_err(|source| UrlError::Invalid { url: without_userinfo(text), source })?;
    NormalizedUrl::try_from(url)
}

impl fmt::Display for NormalizedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for NormalizedUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NormalizedUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Whether `text` surely is a URL in its comparable form. Of what is not made of the commonest characters this says
/// nothing: parsing takes five times as long, and most URLs that are recorded and asked for need none.
fn is_normal(text: &str) -> bool {
    let (rest, default_port) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (rest, "443"),
        (_, Some(rest)) => (rest, "80"),
        _ => return false,
    };
    let Some(end) = rest.find('/') else { return false };
    let (authority, rest) = rest.split_at(end);
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, port) = authority.split_once(':').unwrap_or((authority, "1"));
    is_normal_host(host)
        && is_normal_port(port)
        && port != default_port
        // No dot segments; a name that starts with a dot is rare enough.
        && !path.contains("/.")
        && is_normal_part(path, &PATH)
        && is_normal_part(query, &QUERY)
}

/// Whether this is a name in lower case which IDNA leaves as it is, and no number, which could be an IPv4 address.
fn is_normal_host(host: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with("xn--")
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    host.split('.').all(is_label)
        && host.rsplit('.').next().is_some_and(|last| last.starts_with(|first: char| first.is_ascii_lowercase()))
}

fn is_normal_port(port: &str) -> bool {
    !port.starts_with('0')
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse().is_ok_and(|port: u16| port > 0)
}

/// Whether a path or query has only what is allowed in it as it is, which `plain` says of each byte, and codes in upper
/// case of bytes that need one.
fn is_normal_part(part: &str, plain: &[bool; 256]) -> bool {
    let mut rest = part.as_bytes();
    while let Some(special) = rest.iter().position(|&byte| !plain[byte as usize]) {
        let [b'%', high, low, after @ ..] = &rest[special..] else { return false };
        let digit = |byte: u8| char::from(byte).to_digit(16).filter(|_| !byte.is_ascii_lowercase());
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { return false };
        if u8::try_from(high << 4 | low).is_ok_and(is_unreserved) {
            return false;
        }
        rest = after;
    }
    true
}

/// What stands for itself in a path: unreserved characters, sub-delimiters, `/`, `:`, `@` (RFC 3986 §3.3).
const PATH: [bool; 256] = table(b"!$&'()*+,;=/:@");
/// The same in a query (RFC 3986 §3.4), where the URL standard encodes a `'`.
const QUERY: [bool; 256] = table(b"!$&()*+,;=/:@?");

/// Unreserved characters and these.
const fn table(more: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = is_unreserved(byte as u8);
        byte += 1;
    }
    let mut place = 0;
    while place < more.len() {
        table[more[place] as usize] = true;
        place += 1;
    }
    table
}

/// RFC 3986 §2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The name of a query parameter, of which `raw` is the spelling in a URL.
pub fn decoded_parameter(raw: &str) -> String {
    percent_decode_str(&raw.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// `target` for people: a URL or an authority as it was asked for, without userinfo, which is a credential.
///
/// It need not be valid. What has neither scheme nor leading `/` is an authority to its end, since a `/` in it can be
/// one of a password.
pub fn without_userinfo(target: &str) -> String {
    let start = match target.find("//") {
        Some(0) => 2,
        Some(slashes) if target[..slashes].ends_with(':') => slashes + 2,
        _ => 0,
    };
    let (scheme, rest) = target.split_at(start);
    let is_path = start == 0 && rest.starts_with('/');
    let end = if start == 0 && !is_path { rest.len() } else { rest.find(['/', '?', '#']).unwrap_or(rest.len()) };
    let host = rest[..end].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}{}", &rest[host..])
}

/// `text` with the backslashes of its path percent-encoded. The URL standard reads them as slashes, as a browser does
/// before it asks; to a server that is asked for one it is a character of the name, as `%5C` is.
pub fn with_encoded_backslashes(text: &str) -> Cow<'_, str> {
    let is_scheme = |start: &str| start.strip_suffix(':').is_some_and(|name| !name.contains(['/', '?', '#', ':']));
    let path = match text.find("//").filter(|&slashes| slashes == 0 || is_scheme(&text[..slashes])) {
        Some(slashes) => {
            let authority = slashes + 2;
            text[authority..].find(['/', '?', '#', '\\']).map_or(text.len(), |end| authority + end)
        }
        None => 0,
    };
    let end = text[path..].find(['?', '#']).map_or(text.len(), |at| path + at);
    if !text[path..end].contains('\\') {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}{}{}", &text[..path], text[path..end].replace('\\', "%5C"), &text[end..]))
}

/// Decodes the percent-encoded unreserved characters and writes the other codes in upper case
/// (RFC 3986 §6.2.2.1, §6.2.2.2). A `%` that starts no code stays, and what is decoded behind it never makes it one:
/// `%%34%31` is not `%41`.
fn normalize_percent_encoding(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    let mut behind_stray = 0;
    let mut rest = text;
    while let Some(start) = rest.find('%') {
        output.push_str(&rest[..start]);
        let code = rest.get(start + 1..start + 3).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(byte) = code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) else {
            output.push('%');
            behind_stray = output.len() + 2;
            rest = &rest[start + 1..];
            continue;
        };
        let unreserved = is_unreserved(byte);
        let makes_a_code = output.len() < behind_stray && byte.is_ascii_hexdigit();
        if unreserved && !makes_a_code {
            output.push(char::from(byte));
        } else {
            output.push_str(&format!("%{byte:02X}"));
        }
        rest = &rest[start + 3..];
    }
    output.push_str(rest);
    output
}

#[cfg(test)]
mod tests;

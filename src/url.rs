//! URL normalisation: the one place where two URLs are made comparable.
//!
//! Two texts get one [`NormalizedUrl`] where RFC 3986 §6.2.2 and §6.2.3 and the WHATWG URL standard say that they
//! mean the same: case of scheme and host, IDNA, IPv4 and IPv6 spellings, default ports, a trailing dot of the host,
//! dot segments, an empty path, percent-encoded unreserved characters, and the case of percent-encoding. Fragments
//! never reach a server, userinfo is a credential: both are left out. Everything else stays as it is: the order of
//! query parameters, `%2F`, doubled slashes, an empty query.

use std::{fmt, str::FromStr};

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::{Host, Url};

use crate::store::path::StorePathName;

/// An absolute `http` or `https` URL in its comparable form.
///
/// ```
/// use buildproxy::url::NormalizedUrl;
///
/// let url: NormalizedUrl = "HTTPS://Example.ORG.:443/a/../%7euser?q=%2f#top".parse()?;
/// assert_eq!(url.as_str(), "https://example.org/~user?q=%2F");
/// # Ok::<(), buildproxy::url::UrlError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NormalizedUrl(String);

/// Why a text is no URL that a build can fetch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    /// Resolves `reference`, a `Location`, against this URL (RFC 9110 §10.2.2).
    ///
    /// # Errors
    /// Where the result is no http or https URL.
    pub fn join(&self, reference: &str) -> Result<Self, UrlError> {
        let invalid = |source| UrlError::Invalid { url: without_userinfo(reference), source };
        let base = Url::parse(&self.0).map_err(invalid)?;
        Self::try_from(base.join(reference).map_err(invalid)?)
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
        let name = |parameter: &str| {
            let raw = parameter.split('=').next().unwrap_or(parameter);
            percent_decode_str(&raw.replace('+', " ")).decode_utf8_lossy().into_owned()
        };
        let all = query.split('&').count();
        let kept: Vec<&str> = query.split('&').filter(|parameter| !ignored(&name(parameter))).collect();
        match kept.len() {
            n if n == all => self.clone(),
            0 => Self(base.to_owned()),
            _ => Self(format!("{base}?{}", kept.join("&"))),
        }
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
                if domain.is_empty() {
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
        let url = Url::parse(text).map_err(|source| UrlError::Invalid { url: without_userinfo(text), source })?;
        Self::try_from(url)
    }
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
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
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

/// Decodes the percent-encoded unreserved characters and writes the other codes in upper case
/// (RFC 3986 §6.2.2.1, §6.2.2.2). A `%` that starts no code stays.
fn normalize_percent_encoding(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('%') {
        output.push_str(&rest[..start]);
        let code = rest.get(start + 1..start + 3).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(byte) = code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) else {
            output.push('%');
            rest = &rest[start + 1..];
            continue;
        };
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
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
mod tests {
    use super::*;

    fn normalized(text: &str) -> String {
        text.parse::<NormalizedUrl>().unwrap().to_string()
    }

    #[test]
    fn spellings_of_one_url_become_one_text() {
        for spelling in [
            "http://example.org/~a/b?x=1",
            "HTTP://EXAMPLE.org:80/%7Ea/b?x=1",
            "http://example.org./~a/./c/../b?x=1#fragment",
            "http://user:secret@example.org/%7ea/b?x=%31",
        ] {
            assert_eq!(normalized(spelling), "http://example.org/~a/b?x=1", "{spelling}");
        }
        assert_eq!(normalized("https://[0:0::1]:443"), "https://[::1]/");
        assert_eq!(normalized("http://bücher.example/"), "http://xn--bcher-kva.example/");
        assert_eq!(normalized("http://h/%zz%2f%"), "http://h/%zz%2F%");
    }

    #[test]
    fn urls_that_servers_tell_apart_stay_apart() {
        for (a, b) in [
            ("http://h/a", "https://h/a"),
            ("http://h/a", "http://h:8080/a"),
            ("http://h/a", "http://h/A"),
            ("http://h/a", "http://h/a/"),
            ("http://h/a", "http://h//a"),
            ("http://h/a", "http://h/a?"),
            ("http://h/a%2Fb", "http://h/a/b"),
            ("http://h/?a=1&b=2", "http://h/?b=2&a=1"),
        ] {
            assert_ne!(normalized(a), normalized(b));
        }
    }

    #[test]
    fn other_schemes_and_broken_urls_are_refused() {
        for text in ["ftp://h/a", "/path", "http://", "http://./", "http://a b/", "file:///etc/passwd"] {
            assert!(text.parse::<NormalizedUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_people_see_has_no_userinfo() {
        for (target, shown) in [
            ("http://u:s3cret@h.test/@scope/a?b@c", "http://h.test/@scope/a?b@c"),
            ("http://u:s3@cret@h.test:1", "http://h.test:1"),
            ("ftp://u:s3cret@h.test?x", "ftp://h.test?x"),
            ("//u:s3cret@h.test/a", "//h.test/a"),
            ("u:s3cret@h.test:80", "h.test:80"),
            ("u:s3/cret@h.test", "h.test"),
            ("u:s3//cret@h.test", "h.test"),
            ("/@scope/a", "/@scope/a"),
            ("*", "*"),
        ] {
            assert_eq!(without_userinfo(target), shown, "{target}");
        }
        for text in ["ftp://u:s3cret@h/", "http://u:s3cret@h h/", "http://u:s3cret@./"] {
            assert!(!text.parse::<NormalizedUrl>().unwrap_err().to_string().contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn ignored_query_parameters_go_and_the_rest_keeps_its_order() {
        let without = |text: &str| {
            let url: NormalizedUrl = text.parse().unwrap();
            url.without_query_parameters(|name| name.starts_with("X-Amz-")).to_string()
        };
        assert_eq!(without("http://h/a?z=1&X-Amz-Date=2&b=3"), "http://h/a?z=1&b=3");
        assert_eq!(without("http://h/a?X%2DAmz-Date=2"), "http://h/a");
        assert_eq!(without("http://h/a?"), "http://h/a?");
    }

    #[test]
    fn the_store_path_name_is_the_last_segment_decoded() {
        let name = |text: &str| text.parse::<NormalizedUrl>().unwrap().store_path_name().to_string();
        assert_eq!(name("http://h/a/foo-1.0.tar.gz?raw=1"), "foo-1.0.tar.gz");
        assert_eq!(name("http://h/a%20b%2Fc"), "a-b-c");
        assert_eq!(name("http://h/dir/"), "source");
        assert_eq!(name("http://h/.hidden"), "hidden");
        assert_eq!(name("http://h"), "source");
    }

    proptest::proptest! {
        #[test]
        fn normalising_twice_changes_nothing(rest in "[ -~]{0,40}") {
            if let Ok(url) = format!("http://example.org/{rest}").parse::<NormalizedUrl>() {
                proptest::prop_assert_eq!(url.as_str().parse::<NormalizedUrl>(), Ok(url.clone()));
            }
        }
    }
}

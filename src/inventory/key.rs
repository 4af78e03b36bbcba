//! What makes two requests the same: the key that entries are grouped, merged and checked by.

use std::{borrow::Cow, cmp::Ordering, collections::BTreeMap};

use http::Method;

use super::{
    entry::{Entry, Inventory, UrlMatch},
    redirect::becomes_get,
    request_body::BodyDigest,
    rules::{Comparison, MatchRules, UsedRule},
};
use crate::url::NormalizedUrl;

/// Makes keys under an inventory's rules.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    comparison: Comparison,
}

/// A request, without what the rules ignore.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    method: Method,
    url: NormalizedUrl,
    url_match: UrlMatch,
    request_body: Option<BodyDigest>,
    request_headers: BTreeMap<String, String>,
}

impl Keys {
    /// Under `rules`.
    pub fn new(rules: &MatchRules) -> Self {
        Self { comparison: Comparison::new(rules) }
    }

    /// The key of the request that `entry` answers. A header that is recorded as empty is part of it: it wants a
    /// request without that header.
    pub fn of(&self, entry: &Entry) -> Key {
        Key {
            method: entry.method.clone(),
            url: match entry.url_match {
                UrlMatch::Exact => self.comparable(&entry.url),
                UrlMatch::Prefix => self.prefixed(&entry.url),
            },
            url_match: entry.url_match,
            request_body: entry.request_body,
            request_headers: entry.request_headers.clone(),
        }
    }

    /// The key of every entry, in their order.
    pub fn of_all(&self, inventory: &Inventory) -> Vec<Key> {
        inventory.entries.iter().map(|entry| self.of(entry)).collect()
    }

    /// The key of the request that a client makes when `key` is answered with the redirect `status` to `url`.
    pub fn redirected(&self, key: &Key, status: u16, url: &NormalizedUrl) -> Key {
        let becomes_get = becomes_get(status, &key.method);
        Key {
            method: if becomes_get { Method::GET } else { key.method.clone() },
            url: self.comparable(url),
            url_match: UrlMatch::Exact,
            request_body: key.request_body.filter(|_| !becomes_get),
            request_headers: key.request_headers.clone(),
        }
    }

    /// Whether an entry with the key `prefix`, which is for every URL that starts with its own, answers the request of
    /// `entry` as well.
    pub fn covers(&self, prefix: &Key, entry: &Entry) -> bool {
        let recorded = |name: &String| entry.request_headers.get(name).map_or("", String::as_str);
        entry.url_match == UrlMatch::Exact
            && prefix.covers_url(&entry.method, &self.prefixed(&entry.url))
            && prefix.request_body == entry.request_body
            && prefix.request_headers.iter().all(|(name, value)| recorded(name) == value)
    }

    /// The text of which the URL of an entry for a prefix has to be the start.
    pub fn prefixed(&self, url: &NormalizedUrl) -> NormalizedUrl {
        self.comparison.prefixed(url)
    }

    /// The URL as the rules have it.
    pub fn comparable(&self, url: &NormalizedUrl) -> NormalizedUrl {
        self.compared(url).into_owned()
    }

    /// The URL as the rules have it: mostly as it is.
    pub fn compared<'a>(&self, url: &'a NormalizedUrl) -> Cow<'a, NormalizedUrl> {
        self.comparison.comparable(url)
    }

    /// The rules that make a difference to `url`.
    pub fn used(&self, url: &NormalizedUrl) -> Vec<UsedRule> {
        self.comparison.used(url)
    }
}

/// The order of entries in the file: variants of one URL lie together, whatever their parameters that do not count.
impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let body = |key: &Self| key.request_body.map(|digest| (digest.hash.to_string(), digest.form));
        (self.url.cmp(&other.url))
            .then_with(|| self.url_match.cmp(&other.url_match))
            .then_with(|| self.method.as_str().cmp(other.method.as_str()))
            .then_with(|| self.request_headers.cmp(&other.request_headers))
            .then_with(|| body(self).cmp(&body(other)))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Key {
    /// The request's method, and its URL as far as it counts.
    pub fn method_and_url(&self) -> (Method, NormalizedUrl) {
        (self.method.clone(), self.url.clone())
    }

    /// Whether this is a `GET`.
    pub fn is_get(&self) -> bool {
        self.method == Method::GET
    }

    /// Whether this is the key of an entry for a prefix, of `method`, or of the `GET` that stands in for a `HEAD`, and
    /// `url`, as [`Keys::prefixed`] has it, starts with that.
    pub fn covers_url(&self, method: &Method, url: &NormalizedUrl) -> bool {
        self.url_match == UrlMatch::Prefix
            && (self.method == *method || (self.is_get() && *method == Method::HEAD))
            && url.as_str().starts_with(self.url.as_str())
    }

    /// The number of bytes of the URL, as far as it counts: of several prefixes the longest answers.
    pub fn url_length(&self) -> usize {
        self.url.as_str().len()
    }

    /// The same request without header fields.
    #[must_use]
    pub fn without_headers(&self) -> Self {
        Self { request_headers: BTreeMap::new(), ..self.clone() }
    }

    /// The key of the `GET` whose entry answers this `HEAD`; `None` for any other method.
    pub fn of_get(&self) -> Option<Self> {
        (self.method == Method::HEAD).then(|| Self { method: Method::GET, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(method: Method, url: &str) -> Entry {
        Entry { method, ..Entry::get(url.parse().unwrap()) }
    }

    fn keys() -> Keys {
        Keys::new(&MatchRules::ignoring(&["X-Amz-*"]))
    }

    #[test]
    fn ignored_parameters_make_no_difference_and_all_else_does() {
        let keys = keys();
        let plain = entry(Method::GET, "http://h/a?b=1");
        let mut other = entry(Method::GET, "http://h/a?b=1&X-Amz-Date=3");
        assert_eq!(keys.of(&plain), keys.of(&other));
        other.request_headers.insert("accept".to_owned(), String::new());
        assert_ne!(keys.of(&plain), keys.of(&other));
        assert_ne!(keys.of(&plain), keys.of(&entry(Method::POST, "http://h/a?b=1")));
    }

    #[test]
    fn a_redirect_changes_the_method_as_rfc_9110_says() {
        let keys = keys();
        let mut post = entry(Method::POST, "http://h/a");
        post.request_body = Some(BodyDigest::of_bytes(b"x"));
        let target: NormalizedUrl = "http://h/b".parse().unwrap();
        let after = |status| keys.redirected(&keys.of(&post), status, &target);
        let get = keys.of(&entry(Method::GET, "http://h/b"));
        assert_eq!([after(301), after(302), after(303)], [get.clone(), get.clone(), get]);
        assert_eq!(after(307), after(308));
        assert_eq!((after(307).method, after(307).request_body), (Method::POST, post.request_body));
    }
}

//! What makes two requests the same: the key that entries are grouped, merged and checked by.

use std::{cmp::Ordering, collections::BTreeMap};

use globset::{Glob, GlobSet, GlobSetBuilder};
use http::Method;

use super::{
    entry::{Entry, Inventory, MatchRules},
    redirect::becomes_get,
};
use crate::{store::hash::NixHash, url::NormalizedUrl};

/// Makes keys under an inventory's rules.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    ignored: GlobSet,
}

/// A pattern of `[match] ignore-query` that is no glob.
#[derive(Debug, thiserror::Error)]
#[error("ignore-query: `{pattern}` is not a pattern")]
pub struct BadGlob {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    source: globset::Error,
}

/// A request, without what the rules ignore.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    method: Method,
    url: NormalizedUrl,
    request_body: Option<NixHash>,
    request_headers: BTreeMap<String, String>,
}

impl Keys {
    /// The rules of `rules`; patterns that are no globs are left out, being findings of their own.
    pub fn new(rules: &MatchRules) -> Self {
        // Together they can still be refused, for their size.
        Self::of_patterns(rules.ignore_query.iter().filter(|text| Glob::new(text).is_ok())).unwrap_or_default()
    }

    /// The rules of `rules`.
    ///
    /// # Errors
    /// Where a pattern is no glob.
    pub fn strict(rules: &MatchRules) -> Result<Self, BadGlob> {
        Self::of_patterns(rules.ignore_query.iter())
    }

    fn of_patterns<'a>(patterns: impl Iterator<Item = &'a String> + Clone) -> Result<Self, BadGlob> {
        let bad = |pattern: String| move |source| BadGlob { pattern, source };
        let mut ignored = GlobSetBuilder::new();
        for pattern in patterns.clone() {
            ignored.add(Glob::new(pattern).map_err(bad(pattern.clone()))?);
        }
        let all = || patterns.map(String::as_str).collect::<Vec<_>>().join(", ");
        Ok(Self { ignored: ignored.build().map_err(|source| BadGlob { pattern: all(), source })? })
    }

    /// The key of the request that `entry` answers. A header that is recorded as empty is part of it: it wants a
    /// request without that header.
    pub fn of(&self, entry: &Entry) -> Key {
        Key {
            method: entry.method.clone(),
            url: self.comparable(&entry.url),
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
            request_body: key.request_body.filter(|_| !becomes_get),
            request_headers: key.request_headers.clone(),
        }
    }

    /// The URL without the parameters that the rules ignore.
    pub fn comparable(&self, url: &NormalizedUrl) -> NormalizedUrl {
        url.without_query_parameters(|name| self.ignored.is_match(name))
    }
}

/// The order of entries in the file: variants of one URL lie together, whatever their parameters that do not count.
impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let body = |key: &Self| key.request_body.map(|hash| hash.to_string());
        (self.url.cmp(&other.url))
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
        Keys::new(&MatchRules { ignore_query: vec!["X-Amz-*".to_owned(), "[".to_owned()] })
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
        post.request_body = Some(NixHash::sha256(b"x"));
        let target: NormalizedUrl = "http://h/b".parse().unwrap();
        let after = |status| keys.redirected(&keys.of(&post), status, &target);
        let get = keys.of(&entry(Method::GET, "http://h/b"));
        assert_eq!([after(301), after(302), after(303)], [get.clone(), get.clone(), get]);
        assert_eq!(after(307), after(308));
        assert_eq!((after(307).method, after(307).request_body), (Method::POST, post.request_body));
    }
}

//! The rules of the `[match]` table: what makes two different URLs one.
//!
//! Both the URL that is asked and those that are recorded are put into one comparable form: first every `rewrite` rule,
//! in their order, then `ignore-query`. So it makes no difference on which side of a rule a recorded URL is.

use std::{borrow::Cow, fmt};

use globset::{Glob, GlobMatcher};
use regex::Regex;

use crate::url::NormalizedUrl;

/// The longest URL that a rewrite rule makes, in bytes: rules that double it must not fill the memory.
const LONGEST_URL: usize = 64 << 10;

/// Rules for comparing requests: the `[match]` table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MatchRules {
    /// Globs over the names of query parameters that are not part of the key.
    pub(crate) ignore_query: Vec<Glob>,
    /// Replacements in URLs.
    pub(crate) rewrite: Vec<Rewrite>,
}

impl MatchRules {
    /// Adds the query parameter `name` to `ignore_query`, unless a pattern there has it; tells whether it did.
    pub fn ignore(&mut self, name: &str) -> bool {
        let has = |glob: &Glob| glob.compile_matcher().is_match(name);
        // A name that is no pattern even when it is escaped is none that a glob could match.
        let new = Glob::new(&literal(name)).ok().filter(|_| !self.ignore_query.iter().any(has));
        let is_new = new.is_some();
        self.ignore_query.extend(new);
        is_new
    }
}

/// The glob that matches `text` alone.
pub fn literal(text: &str) -> String {
    // A backslash is no special character of globs for `escape`, but it is for the matcher.
    globset::escape(text).replace('\\', r"[\]")
}

#[cfg(test)]
impl MatchRules {
    /// `ignore-query` alone.
    pub(crate) fn ignoring(patterns: &[&str]) -> Self {
        let ignore_query = patterns.iter().map(|pattern| Glob::new(pattern).unwrap()).collect();
        Self { ignore_query, rewrite: Vec::new() }
    }
}

/// A replacement in URLs: `{ from = "REGEX", to = "TEXT" }`.
#[derive(Debug, Clone)]
pub struct Rewrite {
    /// What is replaced, wherever the normalised URL has it.
    pub from: Regex,
    /// What takes its place; `$1` or `${name}` is what a group of `from` matched, `$$` is a `$`.
    pub to: String,
}

impl PartialEq for Rewrite {
    fn eq(&self, other: &Self) -> bool {
        self.from.as_str() == other.from.as_str() && self.to == other.to
    }
}

/// One rule that took part in an answer, as the log names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum UsedRule {
    /// The rewrite rule with this number, counted from 1.
    Rewrite(usize),
    /// This pattern of `ignore-query`.
    IgnoreQuery(String),
    /// The entry is for every URL that starts with its own.
    Prefix,
    /// The request body was compared in the form of this name.
    RequestBodyAs(&'static str),
}

impl fmt::Display for UsedRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rewrite(number) => write!(f, "rewrite {number}"),
            Self::IgnoreQuery(pattern) => write!(f, "ignore-query {pattern}"),
            Self::Prefix => f.write_str("match prefix"),
            Self::RequestBodyAs(form) => write!(f, "request-body-as {form}"),
        }
    }
}

/// The rules, ready to be applied.
#[derive(Debug, Clone, Default)]
pub(super) struct Comparison {
    ignored: Vec<GlobMatcher>,
    rewrite: Vec<Rewrite>,
}

impl Comparison {
    pub(super) fn new(rules: &MatchRules) -> Self {
        let ignored = rules.ignore_query.iter().map(Glob::compile_matcher).collect();
        Self { ignored, rewrite: rules.rewrite.clone() }
    }

    /// The form in which URLs are compared.
    pub(super) fn comparable<'a>(&self, url: &'a NormalizedUrl) -> Cow<'a, NormalizedUrl> {
        self.without_ignored(self.rewritten(url, |_| {}))
    }

    /// The text of which the URL of an entry for a prefix has to be the start: the comparable one, but a query of which
    /// nothing is left is an empty query, so that `http://h/a?` is a prefix of it.
    pub(super) fn prefixed(&self, url: &NormalizedUrl) -> NormalizedUrl {
        let rewritten = self.rewritten(url, |_| {});
        let has_query = rewritten.query().is_some();
        let comparable = self.without_ignored(rewritten).into_owned();
        if has_query { comparable.with_query() } else { comparable }
    }

    fn without_ignored<'a>(&self, url: Cow<'a, NormalizedUrl>) -> Cow<'a, NormalizedUrl> {
        if self.ignored.is_empty() || url.query().is_none() {
            return url;
        }
        Cow::Owned(url.without_query_parameters(|name| self.ignored.iter().any(|glob| glob.is_match(name))))
    }

    /// The rules that change `url`.
    pub(super) fn used(&self, url: &NormalizedUrl) -> Vec<UsedRule> {
        let mut used = Vec::new();
        let rewritten = self.rewritten(url, |number| used.push(UsedRule::Rewrite(number)));
        let ignores =
            |glob: &&GlobMatcher| rewritten.without_query_parameters(|name| glob.is_match(name)) != *rewritten;
        let ignored = self.ignored.iter().filter(ignores);
        used.extend(ignored.map(|glob| UsedRule::IgnoreQuery(glob.glob().glob().to_owned())));
        used
    }

    /// What the rewrite rules make of `url`. One that would make something else than a URL of it, or one longer than
    /// [`LONGEST_URL`], does not apply.
    fn rewritten<'a>(&self, url: &'a NormalizedUrl, mut used: impl FnMut(usize)) -> Cow<'a, NormalizedUrl> {
        let mut url = Cow::Borrowed(url);
        for (rule, number) in self.rewrite.iter().zip(1..) {
            let Cow::Owned(text) = rule.from.replace_all(url.as_str(), rule.to.as_str()) else { continue };
            if text.len() > LONGEST_URL {
                continue;
            }
            if let Some(changed) = text.parse().ok().filter(|changed| changed != &*url) {
                used(number);
                url = Cow::Owned(changed);
            }
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(ignored: &[&str], rewrite: &[(&str, &str)]) -> Comparison {
        let rule = |(from, to): &(&str, &str)| Rewrite { from: Regex::new(from).unwrap(), to: (*to).to_owned() };
        Comparison::new(&MatchRules {
            ignore_query: ignored.iter().map(|pattern| Glob::new(pattern).unwrap()).collect(),
            rewrite: rewrite.iter().map(rule).collect(),
        })
    }

    #[test]
    fn rules_apply_in_their_order_and_those_that_did_are_named() {
        let rules = comparison(
            &["X-Amz-*", "_"],
            &[
                ("^https?://mirror[0-9]+\\.test/", "https://origin.test/"),
                ("^https://origin\\.test/old/", "https://origin.test/new/"),
                ("/build-[0-9]+-(?<arch>[a-z]+)", "/build-$arch"),
            ],
        );
        for (url, expected, used) in [
            ("https://h.test/a?x=1", "https://h.test/a?x=1", ""),
            ("http://mirror7.test/a", "https://origin.test/a", "rewrite 1"),
            ("http://mirror7.test/old/a?_=1&b", "https://origin.test/new/a?b", "rewrite 1, rewrite 2, ignore-query _"),
            ("http://h.test/build-1-x/build-22-y/a", "http://h.test/build-x/build-y/a", "rewrite 3"),
            ("http://h.test/?X-Amz-Date=1&X-Amz-Key=2", "http://h.test/", "ignore-query X-Amz-*"),
        ] {
            let asked = url.parse().unwrap();
            assert_eq!(rules.comparable(&asked).as_str(), expected);
            let names: Vec<String> = rules.used(&asked).iter().map(ToString::to_string).collect();
            assert_eq!(names.join(", "), used, "{url}");
            assert_eq!(rules.comparable(&rules.comparable(&asked)).as_str(), expected, "once more changes nothing");
        }
    }

    #[test]
    fn a_rewritten_url_is_normalised_and_what_is_no_url_stays_as_it_was() {
        let rules = comparison(&[], &[("/x/", "/%7eu/../"), ("^http:", "ftp:")]);
        assert_eq!(rules.comparable(&"http://h.test/x/a".parse().unwrap()).as_str(), "http://h.test/a");
        assert_eq!(rules.used(&"http://h.test/a".parse().unwrap()), []);
    }

    #[test]
    fn rules_that_double_a_url_come_to_an_end() {
        let rules = comparison(&[], &[("^.+$", "$0$0"); 64]);
        assert!(rules.comparable(&"http://h.test/".parse().unwrap()).as_str().len() <= LONGEST_URL);
    }

    #[test]
    fn a_query_that_is_ignored_is_an_empty_one_for_a_prefix() {
        let rules = comparison(&["_"], &[]);
        for (url, text) in [
            ("http://h/a?_=1", "http://h/a?"),
            ("http://h/a?_=1&b", "http://h/a?b"),
            ("http://h/a?", "http://h/a?"),
            ("http://h/a", "http://h/a"),
        ] {
            assert_eq!(rules.prefixed(&url.parse().unwrap()).as_str(), text);
        }
    }
}

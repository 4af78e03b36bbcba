//! The `[match]` table as it is written: each pattern is checked where it stands, so that an error names its line.

use globset::{Glob, GlobSet};
use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use crate::inventory::{MatchRules, Rewrite};

/// The longest pattern of `ignore-query`, in bytes: deep nesting is recursion for who reads it.
const LONGEST_PATTERN: usize = 200;

/// What one regular expression may take up, in bytes.
const MAX_REGEX: usize = 1 << 20;

/// Rules for comparing requests.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawMatch {
    /// Globs over the names of query parameters that do not count: `["X-Amz-*", "_"]`; each has at most 200 bytes.
    ///
    /// Absent: `[]`.
    #[serde(default)]
    ignore_query: Vec<QueryPattern>,
    /// Replacements in URLs, applied in this order.
    ///
    /// Absent: `[]`.
    #[serde(default)]
    rewrite: Vec<RawRewrite>,
}

impl From<RawMatch> for MatchRules {
    fn from(raw: RawMatch) -> Self {
        let rewrite = |rule: RawRewrite| Rewrite { from: rule.from.0, to: rule.to };
        Self {
            ignore_query: raw.ignore_query.into_iter().map(|pattern| pattern.0).collect(),
            rewrite: raw.rewrite.into_iter().map(rewrite).collect(),
        }
    }
}

/// A rule of `rewrite`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRewrite {
    /// A regular expression; what it matches in the normalised URL is replaced, wherever it occurs. One that matches an
    /// empty text is refused.
    from: UrlRegex,
    /// What takes its place; `$1` or `${name}` is what a group of `from` matched, `$$` is a `$`.
    to: String,
}

/// A glob, checked where it stands so that an error names its line.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct QueryPattern(Glob);

impl TryFrom<String> for QueryPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.len() > LONGEST_PATTERN {
            return Err(format!("a pattern of {} bytes; hint: it can have {LONGEST_PATTERN}", text.len()));
        }
        let reason = |error: globset::Error| format!("`{text}` is not a pattern: {}", error.kind());
        let glob = Glob::new(&text).map_err(reason)?;
        // Only a set says whether the expression that the glob stands for can be had; a matcher alone would panic.
        GlobSet::builder().add(glob.clone()).build().map_err(reason)?;
        Ok(Self(glob))
    }
}

/// A regular expression, checked where it stands.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct UrlRegex(Regex);

impl TryFrom<String> for UrlRegex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // The last line of the error's own drawing says what is wrong.
        let reason = |error: regex::Error| {
            error.to_string().lines().last().map_or(String::new(), |line| line.trim_start_matches("error: ").to_owned())
        };
        let regex = RegexBuilder::new(&text).size_limit(MAX_REGEX).build();
        let regex = regex.map_err(|error| format!("`{text}` is not a regular expression: {}", reason(error)))?;
        match regex.is_match("") {
            true => Err(format!("`{text}` also matches an empty text; hint: write what it is to replace")),
            false => Ok(Self(regex)),
        }
    }
}

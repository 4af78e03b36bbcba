//! The lint for secrets: texts that look like long-lived keys, which an inventory, being committed, must not have.
//!
//! Only shapes that issuers made to be recognised count, and where a person would write an example in the same shape, the rest
//! has to be as random as a key is. So digests, UUIDs and the signatures of redirects, which expire, are none.

use std::{borrow::Cow, ops::Range, sync::LazyLock};

use regex::Regex;

use crate::inventory::{Entry, Source};

/// What a text looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    name: &'static str,
    /// The group `secret` is the part that has to be random; without it the match is enough.
    pattern: &'static str,
}

/// Before a token there is no character that could be a part of it: a piece of a digest in base64 is no token.
macro_rules! token {
    ($pattern:literal) => {
        concat!(r"(?:^|[^0-9A-Za-z_+-])(?<token>", $pattern, r")(?:$|[^0-9A-Za-z_+-])")
    };
}

/// By their issuers' documentation.
const SHAPES: [Shape; 17] = [
    Shape {
        name: "a private key",
        // With the start of the key behind it: documents that only speak of keys have none.
        pattern: r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[nr])*(?:[A-Z][A-Za-z-]+: [^\n]*(?:\s|\\[nr])*)*(?<secret>[0-9A-Za-z+/=]{40})",
    },
    Shape { name: "a token of GitHub", pattern: token!(r"gh[pousr]_(?<secret>[0-9A-Za-z]{36,255})") },
    Shape { name: "a token of GitHub", pattern: token!(r"github_pat_(?<secret>[0-9A-Za-z_]{50,255})") },
    Shape { name: "a token of GitLab", pattern: token!(r"gl(?:pat|dt|rt|ptt|cbt)-(?<secret>[0-9A-Za-z_.-]{20,64})") },
    Shape { name: "an access key of Amazon", pattern: token!(r"AKIA(?<secret>[2-7A-Z]{16})") },
    Shape { name: "a token of Slack", pattern: token!(r"xox[abeoprs]-(?<secret>[0-9A-Za-z-]{24,255})") },
    Shape { name: "a token of npm", pattern: token!(r"npm_(?<secret>[0-9A-Za-z]{36})") },
    Shape { name: "a token of crates.io", pattern: token!(r"cio(?<secret>[0-9A-Za-z]{32})") },
    Shape { name: "a token of RubyGems", pattern: token!(r"rubygems_(?<secret>[0-9a-f]{48})") },
    Shape { name: "a token of Docker", pattern: token!(r"dckr_[op]at_(?<secret>[0-9A-Za-z_-]{27,32})") },
    Shape { name: "a token of Hugging Face", pattern: token!(r"hf_(?<secret>[0-9A-Za-z]{34})") },
    Shape { name: "a key of JFrog", pattern: token!(r"AKCp(?<secret>[0-9A-Za-z]{69})") },
    Shape {
        name: "a token of Anaconda",
        // In the path of its URLs.
        pattern: r"/t/(?<token>[a-z]{2}-(?<secret>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}))/",
    },
    Shape { name: "a token of PyPI", pattern: token!(r"pypi-AgE(?<secret>[0-9A-Za-z_-]{60,255})") },
    Shape {
        name: "an API key (`sk-…`)",
        pattern: token!(r"sk-(?:[a-z]+[0-9]{0,2}-)+(?<secret>[0-9A-Za-z_-]{32,255})"),
    },
    Shape { name: "an API key (`sk-…`)", pattern: token!(r"sk-(?<secret>[0-9A-Za-z]{48})") },
    Shape {
        name: "a password in a URL",
        pattern: r"(?<token>[a-z]{2,12}://[^\s/:@?#]{1,128}:(?<secret>[^\s/:@?#]{8,128})@)[0-9A-Za-z\[]",
    },
];

/// Bits of a character, at least, on average, that the characters of a key have by their own frequency. Those of 36 random
/// ones have about 4.6, `xxxxxxxx` none, words less than 3.3. `n` characters cannot have more than `log2(n)`, and of 16
/// random ones some are equal: so it is no more than that less [`REPETITIONS`].
const LEAST_ENTROPY: f64 = 3.3;
const REPETITIONS: f64 = 1.3;

/// The same for a password, which is shorter: eight different characters have 3.
const LEAST_OF_PASSWORD: f64 = 2.75;

/// Query parameters in which an access key's name stands beside a signature: a name alone opens nothing.
const NAMES_OF_KEYS: [&str; 3] = ["x-amz-credential=", "awsaccesskeyid=", "googleaccessid="];

static COMPILED: LazyLock<Vec<(&'static str, Regex)>> = LazyLock::new(|| {
    let compiled = |shape: &Shape| {
        // The patterns are the constants above, and every test of this file compiles all of them.
        #[allow(clippy::expect_used)]
        (shape.name, Regex::new(shape.pattern).expect("the pattern is one"))
    };
    SHAPES.iter().map(compiled).collect()
});

/// What every such text has somewhere: one quick look spares most texts the others.
static MARKS: LazyLock<Regex> = LazyLock::new(|| {
    // As above.
    #[allow(clippy::expect_used)]
    Regex::new(
        "-----BEGIN |gh[pousr]_|github_pat_|gl(?:pat|dt|rt|ptt|cbt)-|AKIA|xox[abeoprs]-|npm_|pypi-|cio|rubygems_|dckr_|hf_|AKCp|/t/[a-z]{2}-|sk-|://[^/\\s]{9,}@",
    )
    .expect("the pattern is one")
});

/// Something that looks like a secret, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// What it looks like: `a token of GitHub`.
    pub what: &'static str,
    /// The part of the entry: `the URL`, `header x-y`, `the body`.
    pub place: String,
}

/// The first thing in `text` that looks like a long-lived key, and where it is there.
pub fn find(text: &str) -> Option<(&'static str, Range<usize>)> {
    if !MARKS.is_match(text) {
        return None;
    }
    COMPILED.iter().find_map(|(what, pattern)| {
        let found = pattern.captures_iter(text).find(|found| is_secret(what, found, text))?;
        let whole = found.name("token").or_else(|| found.get(0))?;
        Some((*what, whole.range()))
    })
}

fn is_secret(what: &str, found: &regex::Captures, text: &str) -> bool {
    let Some(secret) = found.name("secret") else { return true };
    let length = f64::from(u16::try_from(secret.len()).unwrap_or(u16::MAX));
    let least = match what.contains("password") {
        true => LEAST_OF_PASSWORD,
        false => LEAST_ENTROPY.min(length.log2() - REPETITIONS),
    };
    let start = found.name("token").map_or(secret.start(), |token| token.start());
    let before = text[..start].to_ascii_lowercase();
    let is_name = NAMES_OF_KEYS.iter().any(|name| before.ends_with(name));
    // Words joined by hyphens have one case and no digits.
    let has = |wanted: fn(&u8) -> bool| secret.as_str().bytes().any(|byte| wanted(&byte));
    let (upper, lower, digit) = (has(u8::is_ascii_uppercase), has(u8::is_ascii_lowercase), has(u8::is_ascii_digit));
    let is_mixed = what.contains("Amazon") || upper && lower || digit && (upper || lower);
    let is_example = secret.as_str().ends_with("EXAMPLE");
    !is_name && !is_example && is_mixed && entropy(secret.as_str()) >= least
}

/// Shannon's entropy of the characters of `text` by their own frequency, in bits a character.
fn entropy(text: &str) -> f64 {
    let mut counts = std::collections::HashMap::new();
    text.chars().for_each(|character| *counts.entry(character).or_insert(0u32) += 1);
    let total = f64::from(counts.values().sum::<u32>());
    counts.values().map(|count| f64::from(*count) / total).map(|share| -share * share.log2()).sum()
}

/// `text` with `…` in the place of everything that looks like a secret.
pub fn redacted(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    // Each step takes one out, so it comes to an end.
    while let Some((_, range)) = find(&text) {
        text.to_mut().replace_range(range, "…");
    }
    text
}

/// What looks like a secret in all that `entry` itself says; of its body what is written into the inventory.
pub fn in_entry(entry: &Entry) -> Option<Suspect> {
    let at = |place: &str, text: &str| find(text).map(|(what, _)| Suspect { what, place: place.to_owned() });
    let in_headers = |headers: &crate::inventory::Headers| {
        headers.iter().find_map(|(name, values)| values.iter().find_map(|value| at(&format!("header `{name}`"), value)))
    };
    let in_body = || match &entry.body.as_ref()?.source {
        Source::Text(text) => at("the body", text),
        Source::Fetch(Some(url)) => at("`fetch`", url),
        _ => None,
    };
    let in_hops =
        || entry.redirects.iter().find_map(|hop| at("a redirect", &hop.location).or_else(|| in_headers(&hop.headers)));
    at("the URL", entry.url.as_str())
        .or_else(|| {
            entry.request_headers.iter().find_map(|(name, value)| at(&format!("request header `{name}`"), value))
        })
        .or_else(in_hops)
        .or_else(|| in_headers(&entry.headers))
        .or_else(in_body)
}

/// Bytes of a file beside the inventory that are looked at. Keys are in texts, and texts are small.
pub const MOST_BYTES: u64 = 1 << 20;

/// The same for the bytes of a body, where they are a text.
pub fn in_bytes(bytes: &[u8]) -> Option<Suspect> {
    let text = std::str::from_utf8(bytes).ok()?;
    find(text).map(|(what, _)| Suspect { what, place: "the body".to_owned() })
}

#[cfg(test)]
mod tests;

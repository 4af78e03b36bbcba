//! The recorded URLs that look most like one that was not recorded, and what differs.

use std::{cmp::Reverse, fmt};

use crate::{
    credentials::is_hidden,
    inventory::index::{EntryId, Index},
    text::printable,
    url::{NormalizedUrl, decoded_parameter},
};

/// URLs that are looked at, which bounds what one miss costs.
const SCANNED: usize = 50_000;

/// URLs whose edit distance is computed.
const COMPARED: usize = 48;

/// URLs that are shown.
const SHOWN: usize = 3;

/// Query parameters that are compared.
const PARAMETERS: usize = 60;

/// Bytes of a URL that take part in the edit distance, which takes time in proportion to their square.
const COMPARED_BYTES: usize = 300;

/// A recorded URL that was nearly asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Near {
    /// The URL.
    pub url: String,
    /// An entry that it leads to.
    pub entry: EntryId,
    /// How it differs from what was asked; never empty.
    pub differences: Vec<Difference>,
}

/// One part in which a recorded URL differs from what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// `http` or `https`.
    Scheme(String),
    /// Host or port.
    Host(String),
    /// The path.
    Path(String),
    /// The order of query parameters alone.
    QueryOrder,
    /// A query parameter, as it was asked and as it was recorded; `None` is without it.
    Query {
        /// The name as it is in the URL, percent-encoded.
        name: String,
        /// The value asked for.
        asked: Option<String>,
        /// The recorded value.
        recorded: Option<String>,
    },
}

impl Near {
    /// The names of the query parameters, decoded, where nothing else differs.
    pub fn only_query_parameters(&self) -> Option<Vec<String>> {
        let name = |difference: &Difference| match difference {
            Difference::Query { name, .. } => Some(decoded_parameter(name)),
            _ => None,
        };
        self.differences.iter().map(name).collect()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_credential = |name: &str, value: &str| is_hidden(&decoded_parameter(name), &decoded_parameter(value));
        let value = |name: &str, value: &Option<String>, hidden: &'static str| match value.as_deref() {
            Some(value) if is_credential(name, value) => hidden.to_owned(),
            Some(value) => printable(&format!("{value:?}")),
            None => "without it".to_owned(),
        };
        match self {
            Self::Scheme(scheme) => write!(f, "recorded with the scheme {scheme}"),
            Self::Host(host) => write!(f, "recorded from the host {}", printable(host)),
            Self::Path(path) => write!(f, "recorded with the path {}", printable(path)),
            Self::QueryOrder => f.write_str("recorded with its query parameters in another order"),
            Self::Query { name, asked, recorded } => {
                let another = if asked.is_some() { "another one" } else { "a credential" };
                let (asked, recorded) = (value(name, asked, "a credential"), value(name, recorded, another));
                write!(f, "query parameter `{}`: asked {asked}, recorded {recorded}", printable(name))
            }
        }
    }
}

/// The recorded URLs nearest to `asked`, which is none of them; the nearest first.
pub fn nearest(index: &Index, asked: &NormalizedUrl) -> Vec<Near> {
    let asked = index.comparable(asked);
    let text = asked.as_str();
    let mut found: Vec<(usize, &str, EntryId)> = index
        .recorded_urls()
        .take(SCANNED)
        .map(|(url, entry)| (shared(text.as_bytes(), url.as_bytes()), url, entry))
        .collect();
    if found.len() > COMPARED {
        found.select_nth_unstable_by_key(COMPARED, |(shared, ..)| Reverse(*shared));
        found.truncate(COMPARED);
    }
    let mut near: Vec<(u8, usize, Near)> = found
        .into_iter()
        .filter_map(|(_, url, entry)| {
            let recorded: NormalizedUrl = url.parse().ok()?;
            let distance = strsim::levenshtein(head(text), head(url));
            let differences = differences(&asked, &recorded);
            let class = class(&asked, &recorded);
            let alike = class < 2 || 2 * distance <= head(text).len().max(head(url).len());
            alike.then(|| (class, distance, Near { url: url.to_owned(), entry, differences }))
        })
        .collect();
    near.sort_by_key(|(class, distance, near)| (*class, *distance, near.entry));
    near.into_iter().map(|(.., near)| near).take(SHOWN).collect()
}

/// Bytes that two texts begin and end with in common.
fn shared(a: &[u8], b: &[u8]) -> usize {
    let same = |(a, b): &(&u8, &u8)| a == b;
    a.iter().zip(b).take_while(same).count() + a.iter().rev().zip(b.iter().rev()).take_while(same).count()
}

/// The part of a URL that is compared. Normalised URLs are ASCII, so any place is one to cut at.
fn head(url: &str) -> &str {
    url.get(..COMPARED_BYTES).unwrap_or(url)
}

/// The same file with another query, then the same host or the same file on another host, then the rest.
fn class(a: &NormalizedUrl, b: &NormalizedUrl) -> u8 {
    match (a.authority() == b.authority(), a.path() == b.path()) {
        (true, true) => 0,
        (true, false) => 1,
        (false, true) if a.path() != "/" => 1,
        (false, _) => 2,
    }
}

fn differences(asked: &NormalizedUrl, recorded: &NormalizedUrl) -> Vec<Difference> {
    let mut found = Vec::new();
    let scheme = |url: &NormalizedUrl| url.as_str().split(':').next().unwrap_or("").to_owned();
    if scheme(asked) != scheme(recorded) {
        found.push(Difference::Scheme(scheme(recorded)));
    }
    if asked.authority() != recorded.authority() {
        found.push(Difference::Host(recorded.authority().to_owned()));
    }
    if asked.path() != recorded.path() {
        found.push(Difference::Path(recorded.path().to_owned()));
    }
    if asked.query() != recorded.query() {
        found.extend(query_differences(asked.query(), recorded.query()));
    }
    found
}

fn query_differences(asked: Option<&str>, recorded: Option<&str>) -> Vec<Difference> {
    let (asked, recorded) = (parameters(asked), parameters(recorded));
    let value = |list: &[(String, String)], name: &str| {
        let values: Vec<&str> = list.iter().filter(|(known, _)| known == name).map(|(_, v)| v.as_str()).collect();
        (!values.is_empty()).then(|| values.join("&"))
    };
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in asked.iter().chain(&recorded) {
        if !names.contains(&name) && names.len() < PARAMETERS {
            names.push(name);
        }
    }
    let mut found: Vec<Difference> = names
        .into_iter()
        .map(|name| (name, value(&asked, name), value(&recorded, name)))
        .filter(|(_, asked, recorded)| asked != recorded)
        .map(|(name, asked, recorded)| Difference::Query { name: name.clone(), asked, recorded })
        .collect();
    if found.is_empty() {
        found.push(Difference::QueryOrder);
    }
    found
}

/// Names and values as they are in the URL. No query has no parameters; an empty one has one without a name.
fn parameters(query: Option<&str>) -> Vec<(String, String)> {
    let split = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        (name.to_owned(), value.to_owned())
    };
    query.map_or_else(Vec::new, |query| query.split('&').map(split).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::inventory::{Entry, Inventory};

    fn index(urls: &[&str]) -> Index {
        let entries = urls.iter().map(|url| Entry::get(url.parse().unwrap())).collect();
        Index::new(Arc::new(Inventory { entries, ..Inventory::default() }), "any").unwrap()
    }

    fn near(urls: &[&str], asked: &str) -> Vec<(String, String)> {
        let near = nearest(&index(urls), &asked.parse().unwrap());
        let text =
            |differences: &[Difference]| differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        near.iter().map(|near| (near.url.clone(), text(&near.differences))).collect()
    }

    fn pair(url: &str, differences: &str) -> (String, String) {
        (url.to_owned(), differences.to_owned())
    }

    #[test]
    fn the_same_file_with_another_query_comes_first() {
        let recorded = ["http://h/a.tar?v=1&sig=x", "http://h/b.tar?v=2&sig=y", "http://mirror/a.tar?v=2&sig=y"];
        let found = near(&recorded, "http://h/a.tar?v=2&sig=y");
        let query = r#"query parameter `v`: asked "2", recorded "1"; query parameter `sig`: asked a credential, recorded another one"#;
        assert_eq!(found[0], pair(recorded[0], query));
        assert_eq!(found[1], pair(recorded[1], "recorded with the path /b.tar"));
        assert_eq!(found[2], pair(recorded[2], "recorded from the host mirror"));
    }

    #[test]
    fn every_part_that_differs_is_named() {
        for (recorded, asked, expected) in [
            ("https://h/a", "http://h/a", "recorded with the scheme https"),
            ("http://h:81/a", "http://h/a", "recorded from the host h:81"),
            ("http://h/a?x", "http://h/a", r#"query parameter `x`: asked without it, recorded """#),
            ("http://h/a", "http://h/a?x=1", r#"query parameter `x`: asked "1", recorded without it"#),
            ("http://h/a?x=1&y=2", "http://h/a?y=2&x=1", "recorded with its query parameters in another order"),
            ("http://h/a", "http://h/a?", r#"query parameter ``: asked "", recorded without it"#),
        ] {
            assert_eq!(near(&[recorded], asked), [pair(recorded, expected)], "{asked}");
        }
    }

    #[test]
    fn what_has_nothing_in_common_is_not_shown() {
        assert!(near(&["https://example.org/a/long/path/file.tar.gz"], "http://h/").is_empty());
        assert!(near(&[], "http://h/").is_empty());
    }

    #[test]
    fn the_nearest_of_many_is_found_soon() {
        let mut urls: Vec<String> = (0..20_000).map(|n| format!("http://h/pkg/{n}/file.tar")).collect();
        urls.push("http://h/pkg/name-1.0/file.tar.gz".to_owned());
        let index = index(&urls.iter().map(String::as_str).collect::<Vec<_>>());
        let start = std::time::Instant::now();
        let found = nearest(&index, &"http://h/pkg/name-1.1/file.tar.gz".parse().unwrap());
        assert_eq!(found[0].url, "http://h/pkg/name-1.0/file.tar.gz");
        assert!(start.elapsed().as_millis() < 500, "{:?}", start.elapsed());
    }
}

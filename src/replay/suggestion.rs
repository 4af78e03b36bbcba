//! What to paste into the inventory so that a miss is answered: a rule where only the URL's spelling differs, else an
//! entry with the recorded answer that comes nearest.

use std::collections::HashSet;

use globset::Glob;
use http::Method;
use regex::Regex;

use super::nearest::{Difference, Near};
use crate::{
    inventory::{
        Entry, Keys, MatchRules, Rewrite, Source,
        index::{Index, MissReason, RequestKey, field_value},
        request_body::BodyForm,
        toml_of_entry, toml_of_rules,
    },
    text::printable,
    url::NormalizedUrl,
};

/// URLs that a rule is tried on. With more, the check would take longer than a miss may.
const CHECKED: usize = 20_000;

/// Longest suggestion, in bytes; a longer one would be mostly a body.
const LONGEST: usize = 1500;

/// TOML that makes replay answer `asked` as its nearest recorded request; `None` where that would be a guess.
pub fn suggestion(index: &Index, asked: &RequestKey<'_>, reason: &MissReason, near: &[Near]) -> Option<String> {
    let toml = match reason {
        MissReason::NoSuchUrl => {
            let rule = rule(&index.comparable(asked.url), near.first()?)?;
            toml_of_rules(Some(rule).filter(|rule| keeps_apart(index, rule)).as_ref()?)
        }
        _ => toml_of_entry(&entry_for(index, asked, reason)?),
    };
    let is_plain = toml.lines().all(|line| printable(line) == line && !line.contains(char::REPLACEMENT_CHARACTER));
    (toml.len() <= LONGEST && is_plain).then_some(toml)
}

/// Whether all that is recorded has an answer of its own under `rule`, too: where it makes one URL of two, what differs
/// does matter.
fn keeps_apart(index: &Index, rule: &MatchRules) -> bool {
    let keys = Keys::new(rule);
    let mut seen = HashSet::new();
    let comparable = |url: &str| url.parse().map_or_else(|_| url.to_owned(), |url| keys.comparable(&url).to_string());
    index.recorded_urls().take(CHECKED + 1).enumerate().all(|(n, (url, _))| n < CHECKED && seen.insert(comparable(url)))
}

/// The rule that makes one URL of `asked` and the recorded one.
fn rule(asked: &NormalizedUrl, near: &Near) -> Option<MatchRules> {
    let recorded: NormalizedUrl = near.url.parse().ok()?;
    if let Some(names) = near.only_query_parameters() {
        if names.iter().any(String::is_empty) {
            return None;
        }
        let pattern = |name: String| Glob::new(&globset::escape(&name)).ok();
        return Some(MatchRules {
            ignore_query: names.into_iter().map(pattern).collect::<Option<_>>()?,
            ..<_>::default()
        });
    }
    let rewrite = match &near.differences[..] {
        [Difference::Path(_)] => other_folder(asked, &recorded)?,
        differences if differences.iter().all(|d| matches!(d, Difference::Scheme(_) | Difference::Host(_))) => {
            (format!("^{}/", regex::escape(asked.origin())), format!("{}/", recorded.origin()))
        }
        _ => return None,
    };
    let (from, to) = rewrite;
    let rewrite = Rewrite { from: Regex::new(&from).ok()?, to: to.replace('$', "$$") };
    Some(MatchRules { rewrite: vec![rewrite], ..MatchRules::default() })
}

/// Where one folder of the path has another name: any name is taken for the recorded one. Another file is another file.
fn other_folder(asked: &NormalizedUrl, recorded: &NormalizedUrl) -> Option<(String, String)> {
    let segments = |url: &NormalizedUrl| url.path().split('/').map(str::to_owned).collect::<Vec<_>>();
    let (of_asked, of_recorded) = (segments(asked), segments(recorded));
    let mut differing = (0..of_asked.len()).filter(|&at| of_asked.get(at) != of_recorded.get(at));
    let (at, None) = (differing.next()?, differing.next()) else { return None };
    if of_asked.len() != of_recorded.len() || at + 1 == of_asked.len() {
        return None;
    }
    let before = format!("{}{}/", recorded.origin(), of_recorded[..at].join("/"));
    Some((format!("^{}[^/]+/", regex::escape(&before)), format!("{before}{}/", of_recorded[at])))
}

/// The recorded entry that comes nearest, made one for `asked`.
fn entry_for(index: &Index, asked: &RequestKey<'_>, reason: &MissReason) -> Option<Entry> {
    let (id, step) = index.nearest_answer(asked)?;
    let mut entry = Entry::clone(&index.peek(id));
    // What a HEAD says has no body, and what git asks for is not to be told from its digest.
    let is_of_git = entry.request_body.is_some_and(|digest| digest.form == BodyForm::Git);
    if (entry.method == Method::HEAD && *asked.method != Method::HEAD) || is_of_git {
        return None;
    }
    if step > 0 {
        // A chain leads here: what answers is the rest of it.
        entry.url = asked.url.clone();
        entry.redirects.drain(..(step as usize).min(entry.redirects.len()));
    }
    if entry.body.as_ref().is_some_and(|body| body.source == Source::Fetch(None)) && *asked.method != Method::GET {
        // Nix fetches by GET, from where that gives these bytes.
        let url = entry.url.to_string();
        entry.body.iter_mut().for_each(|body| body.source = Source::Fetch(Some(url.clone())));
    }
    entry.request_body = asked.body.of_form(entry.request_body.map(|digest| digest.form))?;
    entry.method = asked.method.clone();
    let names = entry.request_headers.keys().cloned().collect::<Vec<_>>();
    entry.request_headers = names.into_iter().map(|name| (name.clone(), field_value(asked.headers, &name))).collect();
    if let MissReason::OtherSystem { .. } = reason {
        entry.systems = vec![index.system().to_owned()];
    }
    Some(entry)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderMap;

    use super::*;
    use crate::{
        inventory::{Body, Hop, Inventory, index::RequestBody, parse, request_body::BodyDigest},
        replay::nearest::nearest,
        store::hash::NixHash,
    };

    fn entry(url: &str) -> Entry {
        let hash = Some(NixHash::sha256(b"answer"));
        let body = Body { hash, size: Some(6), name: None, source: Source::Text("answer".to_owned()) };
        Entry { body: Some(body), ..Entry::get(url.parse().unwrap()) }
    }

    fn index(entries: Vec<Entry>, match_rules: MatchRules) -> Index {
        Index::new(Arc::new(Inventory { entries, match_rules }), "x86_64-linux").unwrap()
    }

    /// What is suggested for a request, after checking that with it the request is answered.
    fn suggested(
        entries: Vec<Entry>,
        method: &Method,
        url: &str,
        headers: &HeaderMap,
        body: RequestBody,
    ) -> Option<String> {
        let url = url.parse().unwrap();
        let key = RequestKey { method, url: &url, headers, body };
        let without = index(entries.clone(), MatchRules::default());
        let reason = without.look_up(&key).unwrap_err();
        let toml = suggestion(&without, &key, &reason, &nearest(&without, &url))?;
        let pasted = parse(&format!("version = 1\n\n{toml}")).unwrap_or_else(|error| panic!("{error}\n{toml}"));
        let with = index([entries, pasted.entries].concat(), pasted.match_rules);
        assert!(with.look_up(&key).is_ok(), "{toml}");
        Some(toml)
    }

    fn get(recorded: &str, asked: &str) -> Option<String> {
        suggested(vec![entry(recorded)], &Method::GET, asked, &HeaderMap::new(), RequestBody::Empty)
    }

    #[test]
    fn another_spelling_of_the_url_gets_a_rule() {
        for (recorded, asked, expected) in [
            ("http://h/a?v=1&t=1", "http://h/a?v=1&t=2&z[]=3", r#"ignore-query = ["t", "z[[][]]"]"#),
            ("http://h/a", "http://h/a?f%5Bx%5D=3&a+b=1", r#"ignore-query = ["f[[]x[]]", "a b"]"#),
            (
                "http://h/a?1=1&2=2&3=3&4=4&5=5&6=6&7=7&8=8",
                "http://h/a",
                r#"ignore-query = ["1", "2", "3", "4", "5", "6", "7", "8"]"#,
            ),
            (
                "https://h.test/a/b",
                "http://m.test:81/a/b",
                r#"rewrite = [{ from = "^http://m\\.test:81/", to = "https://h.test/" }]"#,
            ),
            (
                "http://h/b/2024-01/f.tar",
                "http://h/b/2025-07/f.tar",
                r#"rewrite = [{ from = "^http://h/b/[^/]+/", to = "http://h/b/2024-01/" }]"#,
            ),
            (
                "http://h/$x/1/f",
                "http://h/$x/2/f",
                r#"rewrite = [{ from = "^http://h/\\$x/[^/]+/", to = "http://h/$$x/1/" }]"#,
            ),
        ] {
            assert_eq!(get(recorded, asked), Some(format!("[match]\n{expected}\n")), "{asked}");
        }
    }

    #[test]
    fn another_file_is_not_taken_for_the_recorded_one() {
        for asked in ["http://h/b/g.tar", "http://h/c/x/f.tar", "http://other/y", "http://h/c/f.tar?x=1"] {
            assert_eq!(get("http://h/b/f.tar", asked), None, "{asked}");
        }
    }

    #[test]
    fn another_method_body_or_header_gets_an_entry_with_the_nearest_answer() {
        let mut recorded = Entry { method: Method::POST, ..entry("http://h/api") };
        recorded.request_body = Some(BodyDigest { form: BodyForm::Json, ..BodyDigest::of_bytes(b"{}") });
        recorded.request_headers.insert("accept".to_owned(), "a/b".to_owned());
        let asked = BodyDigest { form: BodyForm::Json, ..BodyDigest::of_bytes(b"[]") };
        let body = RequestBody::Digests(vec![BodyDigest::of_bytes(b"[ ]"), asked]);
        let headers = HeaderMap::from_iter([(http::header::ACCEPT, "c/d".parse().unwrap())]);
        let toml =
            suggested(vec![entry("http://h/api"), recorded], &Method::POST, "http://h/api", &headers, body).unwrap();
        assert!(toml.starts_with("[[entry]]\nmethod = \"POST\"\nurl = \"http://h/api\"\nrequest-body = "), "{toml}");
        assert!(toml.contains(&asked.hash.to_string()) && toml.contains("request-body-as = \"json\""), "{toml}");
        assert!(toml.contains("{ accept = \"c/d\" }") && toml.contains("text = \"answer\""), "{toml}");

        let options =
            suggested(vec![entry("http://h/a")], &Method::OPTIONS, "http://h/a", &HeaderMap::new(), RequestBody::Empty);
        assert!(options.unwrap().starts_with("[[entry]]\nmethod = \"OPTIONS\"\n"));
        let elsewhere = Entry { systems: vec!["armv7l-linux".to_owned()], ..entry("http://h/a") };
        let here = suggested(vec![elsewhere], &Method::GET, "http://h/a", &HeaderMap::new(), RequestBody::Empty);
        assert!(here.unwrap().contains("systems = [\"x86_64-linux\"]"));
    }

    #[test]
    fn no_rule_makes_one_answer_of_two() {
        let ask = |recorded: &[&str], asked: &str| {
            let entries = recorded.iter().map(|url| entry(url)).collect();
            suggested(entries, &Method::GET, asked, &HeaderMap::new(), RequestBody::Empty)
        };
        assert_eq!(ask(&["http://h/a?page=1", "http://h/a?page=2"], "http://h/a?page=3"), None);
        assert_eq!(ask(&["http://h/v1/x", "http://h/v2/x"], "http://h/v3/x"), None);
        assert_eq!(ask(&["http://h/a/info", "http://h/b/info", "http://h/c"], "http://h/d/info"), None);
        assert_eq!(ask(&["http://h/a", "http://m/a"], "http://o/a"), Some(rewrite_to_h()));
        assert_eq!(ask(&["http://h/t"], "http://h/t?"), None);
    }

    fn rewrite_to_h() -> String {
        "[match]\nrewrite = [{ from = \"^http://o/\", to = \"http://h/\" }]\n".to_owned()
    }

    #[test]
    fn what_a_head_said_and_what_git_asked_is_no_answer_to_something_else() {
        let ask = |recorded: Entry, method: &Method, body: RequestBody| {
            suggested(vec![recorded], method, "http://h/a", &HeaderMap::new(), body)
        };
        let head = Entry { method: Method::HEAD, body: None, ..entry("http://h/a") };
        assert_eq!(ask(head, &Method::GET, RequestBody::Empty), None);
        let digest = |form, bytes: &[u8]| BodyDigest { form, ..BodyDigest::of_bytes(bytes) };
        let fetch =
            Entry { method: Method::POST, request_body: Some(digest(BodyForm::Git, b"fetch")), ..entry("http://h/a") };
        let asked = vec![digest(BodyForm::Bytes, b"ls"), digest(BodyForm::Git, b"ls")];
        assert_eq!(ask(fetch, &Method::POST, asked.into()), None);
    }

    #[test]
    fn the_rest_of_a_chain_answers_what_the_chain_leads_to() {
        let mut chain = entry("http://h/a");
        let hop = |location: &str| Hop { status: 302, location: location.to_owned(), headers: <_>::default() };
        chain.redirects = vec![hop("/b"), hop("/c")];
        let toml = suggested(vec![chain], &Method::POST, "http://h/b", &HeaderMap::new(), RequestBody::Empty).unwrap();
        assert!(toml.contains("url = \"http://h/b\"") && toml.contains("/c") && !toml.contains("\"/b\""), "{toml}");
    }

    #[test]
    fn an_answer_that_would_fill_the_screen_is_not_shown() {
        let mut long = entry("http://h/a");
        long.body.as_mut().unwrap().source = Source::Text("x".repeat(2000));
        assert_eq!(suggested(vec![long], &Method::PUT, "http://h/a", &HeaderMap::new(), RequestBody::Empty), None);
    }
}

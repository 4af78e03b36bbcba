//! What to paste into the inventory so that a miss is answered: a rule where only the URL's spelling differs, else an
//! entry with the recorded answer that comes nearest.

use globset::Glob;
use http::Method;
use regex::Regex;

use super::nearest::{Difference, Near};
use crate::{
    inventory::{
        Entry, MatchRules, Rewrite, Source,
        index::{Index, MissReason, RequestKey, field_value},
        toml_of_entry, toml_of_rules,
    },
    text::printable,
    url::NormalizedUrl,
};

/// Longest suggestion, in bytes; a longer one would be mostly a body.
const LONGEST: usize = 1500;

/// TOML that makes replay answer `asked` as its nearest recorded request; `None` where that would be a guess.
pub fn suggestion(index: &Index, asked: &RequestKey<'_>, reason: &MissReason, near: &[Near]) -> Option<String> {
    let toml = match reason {
        MissReason::NoSuchUrl => toml_of_rules(&rule(&index.comparable(asked.url), near.first()?)?),
        _ => toml_of_entry(&entry_for(index, asked, reason)?),
    };
    let is_plain = toml.lines().all(|line| printable(line) == line);
    (toml.len() <= LONGEST && is_plain).then_some(toml)
}

/// The rule that makes one URL of `asked` and the recorded one.
fn rule(asked: &NormalizedUrl, near: &Near) -> Option<MatchRules> {
    let recorded: NormalizedUrl = near.url.parse().ok()?;
    if let Some(names) = near.only_query_parameters() {
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
    let mut entry = index.entry(id).clone();
    if step > 0 {
        // A chain leads here: what answers is the rest of it.
        entry.url = asked.url.clone();
        entry.redirects.drain(..step as usize);
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
        inventory::{
            Body, Hop, Inventory,
            index::{Answer, RequestBody},
            parse,
            request_body::{BodyDigest, BodyForm},
        },
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
        let found = with.look_up(&key).map(|matches| with.answer(matches.visits[0]));
        assert!(matches!(found, Ok(Answer::Final(_) | Answer::Hop(..))), "{toml}");
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

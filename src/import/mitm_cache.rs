//! Lock files of mitm-cache, and the shorter form that nixpkgs has of them for Gradle.
//!
//! A lock file maps URLs to `hash`, `text` or `redirect`. The shorter form is expanded by `gradle` and `metadata`.

mod gradle;
mod metadata;
mod version;

use globset::Glob;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

use self::gradle::{Expanded, Shorter};
use super::listed::{List, Listed, ListedBody};
use crate::{inventory::MatchRules, url::NormalizedUrl};

/// The only version there is.
const VERSION: u64 = 1;

/// Reads a lock file.
///
/// # Errors
/// What is wrong with it, with line and column where it is no JSON.
pub fn read(text: &str) -> Result<List, String> {
    let file: Map<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if file.get("!version").and_then(Value::as_u64) != Some(VERSION) {
        let version = file.get("!version").map_or("none".to_owned(), Value::to_string);
        return Err(format!("`!version` is {version}, and only lock files of version {VERSION} are known"));
    }
    // mitm-cache looks up and records URLs without their query.
    let every = Glob::new("*").map_err(|error| error.to_string())?;
    let match_rules = MatchRules { ignore_query: vec![every], rewrite: Vec::new() };
    let mut list = List { match_rules, ..List::default() };
    let mut shorter = Shorter::default();
    for (name, value) in file.iter().filter(|(name, _)| !name.starts_with('!')) {
        match value.as_object().filter(|answer| ["hash", "text", "redirect"].iter().any(|key| is_text(answer, key))) {
            Some(answer) => add(&mut list, name, answer),
            None => shorter.add(name, value),
        }
    }
    for (url, answer) in shorter.expand() {
        match answer {
            Ok(Expanded::Hash(hash)) => add_hash(&mut list, &url, &hash),
            Ok(Expanded::Text(text)) => {
                add_answer(&mut list, &url, StatusCode::OK, HeaderMap::new(), ListedBody::Text(text));
            }
            Err(reason) => list.drop(&url, reason),
        }
    }
    Ok(list)
}

fn is_text(answer: &Map<String, Value>, key: &str) -> bool {
    answer.get(key).is_some_and(Value::is_string)
}

fn add(list: &mut List, url: &str, answer: &Map<String, Value>) {
    let text = |key: &str| answer.get(key).and_then(Value::as_str);
    match (text("hash"), text("text"), text("redirect")) {
        (Some(hash), _, _) => add_hash(list, url, hash),
        (_, Some(text), _) => {
            let body = if text.is_empty() { ListedBody::Empty } else { ListedBody::Text(text.to_owned()) };
            add_answer(list, url, StatusCode::OK, HeaderMap::new(), body);
        }
        (_, _, Some(target)) => match HeaderValue::from_str(target) {
            Ok(target) => {
                let headers = HeaderMap::from_iter([(header::LOCATION, target)]);
                add_answer(list, url, StatusCode::FOUND, headers, ListedBody::Empty);
            }
            Err(_) => list.drop(url, "where it redirects to is no value of a header"),
        },
        (None, None, None) => list.drop(url, "it has neither `hash` nor `text` nor `redirect`"),
    }
}

fn add_hash(list: &mut List, url: &str, hash: &str) {
    match (url.parse::<NormalizedUrl>(), hash.parse()) {
        (Ok(parsed), Ok(hash)) => {
            let body = ListedBody::Hash { urls: vec![url.to_owned()], name: parsed.store_path_name(), hash };
            add_answer(list, url, StatusCode::OK, HeaderMap::new(), body);
        }
        (Err(error), _) => list.drop(url, error),
        (_, Err(error)) => list.drop(url, error),
    }
}

fn add_answer(list: &mut List, url: &str, status: StatusCode, headers: HeaderMap, body: ListedBody) {
    match url.parse() {
        Ok(parsed) => list.add(url, Listed { url: parsed, status, headers, body }),
        Err(error) => list.drop(url, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

    #[test]
    fn a_lock_file_is_a_list_of_answers() {
        let list = read(&format!(
            r#"{{"!version": 1, "https://h/a.jar": {{"hash": "{HASH}"}}, "https://h/b": {{"text": "x"}},
                "https://h/c": {{"redirect": "https://h/d"}}, "https://h/e": {{"hash": "md5-x"}}, "h/f": {{"text": ""}},
                "https://u:secret@h/g": {{"hash": "{HASH}"}}}}"#
        ))
        .unwrap();
        let urls: Vec<&str> = list.answers.iter().map(|answer| answer.url.as_str()).collect();
        assert_eq!(urls, ["https://h/a.jar", "https://h/b", "https://h/c"]);
        assert_eq!(list.answers[1].body, ListedBody::Text("x".to_owned()));
        assert_eq!(
            (list.answers[2].status, &list.answers[2].headers["location"]),
            (StatusCode::FOUND, &"https://h/d".parse().unwrap())
        );
        let dropped: Vec<&str> = list.dropped.iter().map(|one| one.request.as_str()).collect();
        assert_eq!(dropped, ["GET https://h/e", "GET h/f", "GET https://h/g"]);
        assert_eq!(list.match_rules, MatchRules::ignoring(&["*"]));
    }

    #[test]
    fn the_shorter_form_of_gradle_is_expanded() {
        let list = read(&format!(
            r#"{{"!comment": "x", "!version": 1, "https://h": {{
                "m2/org#lib/1.0": {{"jar": "{HASH}", "pom": "{HASH}"}},
                "m2/org/lib/maven-metadata": {{"xml": {{"groupId": "org"}}}},
                "m2/org#lib": {{"jar": "{HASH}"}}
            }}}}"#
        ))
        .unwrap();
        let urls: Vec<&str> = list.answers.iter().map(|answer| answer.url.as_str()).collect();
        let folder = "https://h/m2/org/lib";
        let expected =
            ["1.0/lib-1.0.jar", "1.0/lib-1.0.pom", "maven-metadata.xml"].map(|file| format!("{folder}/{file}"));
        assert_eq!(urls, expected);
        assert!(matches!(&list.answers[2].body, ListedBody::Text(text) if text.contains("<version>1.0</version>")));
        assert_eq!(list.dropped[0].request, "GET https://h/m2/org#lib.jar");
    }

    #[test]
    fn what_is_no_lock_file_is_refused() {
        for (text, says) in [("[]", "line 1"), ("{}", "none"), (r#"{"!version": 2}"#, "`!version` is 2")] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert_eq!(read(r#"{"!version": 1, "https://h/a": 7, "https://h/b": {}}"#).unwrap().dropped.len(), 2);
    }
}

use super::*;
use crate::{
    inventory::{Body, Hop, MatchRules, to_toml},
    store::{hash::NixHash, path::StorePathName},
};

const SYSTEM: &str = "x86_64-linux";

fn entry(url: &str, text: &str) -> Entry {
    let mut entry = Entry::get(url.parse().unwrap());
    entry.body = Some(Body {
        hash: Some(NixHash::sha256(text.as_bytes())),
        size: Some(text.len() as u64),
        name: None,
        source: Source::Text(text.to_owned()),
    });
    entry
}

fn with_header(mut entry: Entry, value: &str) -> Entry {
    entry.headers.append("x", value).unwrap();
    entry
}

fn old(entries: &[Entry]) -> Inventory {
    Inventory { entries: entries.to_vec(), ..Inventory::default() }
}

#[test]
fn an_equal_answer_keeps_its_old_headers_and_hops() {
    let mut before = with_header(entry("http://h/a", "1"), "old");
    let hop = |location: &str| Hop { status: 302, location: location.to_owned(), headers: Default::default() };
    before.redirects = vec![hop("/b?sig=1")];
    let mut now = with_header(entry("http://h/a", "1"), "new");
    now.redirects = vec![hop("/b?sig=2")];
    let (merged, changes) = merge_capture(&old(&[before.clone()]), vec![now], &[], SYSTEM, false);
    assert_eq!((merged.entries, changes), (vec![before], vec![]));
}

#[test]
fn what_an_entry_for_a_prefix_answers_is_not_added() {
    let mut prefix = entry("http://h/stamp?", "same");
    prefix.url_match = UrlMatch::Prefix;
    let own = entry("http://h/stamp?own", "1");
    let before = old(&[prefix.clone(), own.clone()]);
    let captured = vec![entry("http://h/stamp?1", "x"), entry("http://h/stamp?own", "2"), entry("http://h/b", "b")];
    let (merged, changes) = merge_capture(&before, captured, &[], SYSTEM, true);
    let texts: Vec<_> = merged.entries.iter().map(|entry| entry.url.to_string()).collect();
    assert_eq!(texts, ["http://h/stamp?", "http://h/stamp?own", "http://h/b"]);
    assert_eq!(merged.entries[0], prefix, "it was asked, so pruning keeps it");
    assert_ne!(merged.entries[1], own);
    let kinds: Vec<_> = changes.iter().map(|change| change.kind).collect();
    assert_eq!(kinds, [ChangeKind::Covered, ChangeKind::Replaced, ChangeKind::Added]);
}

#[test]
fn pruning_keeps_the_prefix_that_answers() {
    let prefix = |url: &str| Entry { url_match: UrlMatch::Prefix, ..entry(url, "same") };
    let mut before = old(&[prefix("http://h/a"), prefix("http://h/a/b"), prefix("http://h/c?"), prefix("http://h/d")]);
    before.match_rules = MatchRules::ignoring(&["_"]);
    let head = Entry { method: Method::HEAD, ..entry("http://h/c?_=2", "") };
    let captured = vec![entry("http://h/a/b/1", "x"), head];
    let in_vain = (Method::GET, "http://h/d/1".parse().unwrap());
    let (merged, changes) = merge_capture(&before, captured, &[in_vain], SYSTEM, true);
    let urls: Vec<_> = merged.entries.iter().map(|entry| entry.url.as_str()).collect();
    assert_eq!(urls, ["http://h/a/b", "http://h/c?", "http://h/d"]);
    let kinds: Vec<_> = changes.iter().map(|change| change.kind).collect();
    assert_eq!(kinds, [ChangeKind::Covered, ChangeKind::Covered, ChangeKind::Pruned]);
}

#[test]
fn answers_without_a_body_differ_by_what_their_headers_lead_to() {
    let answer = |method: Method, status: u16, headers: &[(&str, &str)]| {
        let mut entry = Entry { method, status, ..Entry::get("http://h/a".parse().unwrap()) };
        headers.iter().for_each(|(name, value)| entry.headers.append(name, value).unwrap());
        entry
    };
    let redirect = |location: &str| answer(Method::GET, 302, &[("location", location)]);
    assert!(!redirect("/b").has_same_answer(&redirect("/c")));
    let with_stub = |location: &str| Entry { body: entry("http://h/a", "moved").body, ..redirect(location) };
    assert!(!with_stub("/b").has_same_answer(&with_stub("/c")));
    let head =
        |length: &str, date: &str| answer(Method::HEAD, 200, &[("content-length", length), ("last-modified", date)]);
    assert!(!head("1", "x").has_same_answer(&head("2", "x")));
    assert!(head("1", "x").has_same_answer(&head("1", "y")), "other headers are volatile");
    let created = |location: &str| {
        let mut created = Entry { status: 201, ..entry("http://h/a", "1") };
        created.headers.append("location", location).unwrap();
        created
    };
    assert!(created("/b").has_same_answer(&created("/c")), "its body is what it says");
}

#[test]
fn a_key_asked_again_replaces_its_whole_sequence_and_others_stay() {
    let before = [entry("http://h/a", "1"), entry("http://h/a", "2"), entry("http://h/other", "3")];
    let (merged, changes) = merge_capture(&old(&before), vec![entry("http://h/a", "2")], &[], SYSTEM, false);
    assert_eq!(merged.entries, vec![before[2].clone(), before[1].clone()]);
    assert_eq!(changes, vec![Change { request: "GET http://h/a".to_owned(), kind: ChangeKind::Replaced }]);
}

#[test]
fn an_answer_that_is_now_one_of_several_is_not_fetched_any_more() {
    let mut before = entry("http://h/a", "1");
    let body = before.body.as_mut().unwrap();
    (body.source, body.name) = (Source::Fetch(None), Some(StorePathName::new("a").unwrap()));
    let now = vec![entry("http://h/a", "1"), entry("http://h/a", "2")];
    let (merged, _) = merge_capture(&old(&[before]), now.clone(), &[], SYSTEM, false);
    assert_eq!(merged.entries, now);
}

#[test]
fn pruning_drops_what_was_not_asked() {
    let before = [entry("http://h/a", "1"), entry("http://h/b", "2")];
    let (merged, changes) = merge_capture(&old(&before), vec![before[0].clone()], &[], SYSTEM, true);
    assert_eq!(merged.entries, vec![before[0].clone()]);
    assert_eq!(changes[0].kind, ChangeKind::Pruned);
}

#[test]
fn entries_of_other_systems_are_not_touched() {
    let mut both = entry("http://h/a", "1");
    both.systems = vec![SYSTEM.to_owned(), "aarch64-linux".to_owned()];
    let (merged, _) = merge_capture(&old(&[both]), vec![entry("http://h/a", "2")], &[], SYSTEM, true);
    let systems: Vec<_> = merged.entries.iter().map(|entry| entry.systems.clone()).collect();
    assert_eq!(systems, [vec!["aarch64-linux".to_owned()], vec![SYSTEM.to_owned()]]);
}

#[test]
fn a_redirect_not_followed_does_not_replace_the_chain_that_starts_with_it() {
    let mut chain = entry("http://h/a", "1");
    chain.redirects = vec![Hop { status: 302, location: "/b".to_owned(), headers: Default::default() }];
    let mut alone = Entry::get("http://h/a".parse().unwrap());
    alone.status = 302;
    alone.headers.append("location", "/b").unwrap();
    let (merged, changes) = merge_capture(&old(&[chain.clone()]), vec![alone], &[], SYSTEM, false);
    assert_eq!((merged.entries, changes), (vec![chain], vec![]));
}

#[test]
fn a_parameter_that_is_ignored_makes_no_new_key() {
    let mut old = old(&[entry("http://h/a?sig=1", "1")]);
    old.match_rules = MatchRules::ignoring(&["sig"]);
    let (merged, changes) = merge_capture(&old, vec![entry("http://h/a?sig=2", "1")], &[], SYSTEM, false);
    assert_eq!((merged, changes), (old, vec![]));
}

fn on(system: &str, entry: Entry) -> Entry {
    Entry { systems: vec![system.to_owned()], ..entry }
}

fn head(url: &str) -> Entry {
    Entry { method: Method::HEAD, ..Entry::get(url.parse().unwrap()) }
}

#[test]
fn a_key_of_another_system_gets_an_entry_for_this_one() {
    let theirs = on("aarch64-linux", entry("http://h/a", "1"));
    for text in ["1", "2"] {
        let captured = vec![entry("http://h/a", text)];
        let (merged, changes) = merge_capture(&old(std::slice::from_ref(&theirs)), captured, &[], SYSTEM, true);
        assert_eq!(merged.entries, [theirs.clone(), on(SYSTEM, entry("http://h/a", text))]);
        assert_eq!(changes[0].kind, ChangeKind::Added);
    }
}

#[test]
fn pruning_takes_an_entry_from_this_system_alone() {
    let mut both = on("aarch64-linux", entry("http://h/a", "1"));
    both.systems.push(SYSTEM.to_owned());
    let (merged, _) = merge_capture(&old(&[both]), vec![], &[], SYSTEM, true);
    assert_eq!(merged.entries, [on("aarch64-linux", entry("http://h/a", "1"))]);
}

#[test]
fn a_head_needs_no_entry_where_the_get_is_recorded() {
    let mut before = old(&[entry("http://h/a?sig=1", "1")]);
    before.match_rules = MatchRules::ignoring(&["sig"]);
    let (merged, changes) = merge_capture(&before, vec![head("http://h/a?sig=2")], &[], SYSTEM, true);
    assert_eq!((merged, changes), (before.clone(), vec![]), "and it counts as asked for its GET");
    before.entries = vec![];
    let captured = vec![head("http://h/a?sig=2"), entry("http://h/a?sig=1", "1")];
    let (merged, _) = merge_capture(&before, captured, &[], SYSTEM, false);
    assert_eq!(merged.entries, [entry("http://h/a?sig=1", "1")]);
}

#[test]
fn a_head_goes_when_the_get_is_captured() {
    let mut both = on("aarch64-linux", head("http://h/a"));
    both.systems.push(SYSTEM.to_owned());
    let captured = vec![entry("http://h/a", "1")];
    let (merged, changes) = merge_capture(&old(&[both]), captured.clone(), &[], SYSTEM, false);
    assert_eq!(merged.entries, [on("aarch64-linux", head("http://h/a")), captured[0].clone()]);
    assert_eq!(changes[0], Change { request: "HEAD http://h/a".to_owned(), kind: ChangeKind::Replaced });
}

#[test]
fn what_was_asked_but_not_recorded_is_neither_pruned_nor_replaced() {
    let mut before = old(&[entry("http://h/a?sig=1", "1"), entry("http://h/head", "2"), entry("http://h/b", "3")]);
    before.match_rules = MatchRules::ignoring(&["sig"]);
    let asked = [(Method::GET, "http://h/a?sig=2"), (Method::HEAD, "http://h/head"), (Method::POST, "http://h/b")];
    let asked = asked.map(|(method, url)| (method, url.parse().unwrap()));
    let (merged, changes) = merge_capture(&before, vec![], &asked, SYSTEM, true);
    assert_eq!(merged.entries, before.entries[..2]);
    assert_eq!(changes, [Change { request: "GET http://h/b".to_owned(), kind: ChangeKind::Pruned }]);
}

#[test]
fn what_somebody_put_in_place_of_the_origins_bytes_stays() {
    let mut patched = entry("http://h/a", "1");
    let source = Source::StorePath { path: "/nix/store/x-patched".to_owned(), nar_hash: None };
    patched.body = Some(Body { hash: None, size: None, name: None, source });
    let (merged, changes) = merge_capture(&old(&[patched.clone()]), vec![entry("http://h/a", "2")], &[], SYSTEM, true);
    assert_eq!((merged.entries, changes), (vec![patched], vec![]));
}

#[test]
fn merging_the_same_capture_again_changes_no_byte() {
    let captured = || vec![entry("http://h/b", "1"), entry("http://h/a", "2"), entry("http://h/b", "3")];
    let (first, _) = merge_capture(&Inventory::default(), captured(), &[], SYSTEM, false);
    let (second, changes) = merge_capture(&first, captured(), &[], SYSTEM, false);
    assert_eq!(to_toml(&second), to_toml(&first));
    assert_eq!(changes, vec![]);
}

//! Merging what a capture recorded into the inventory that is already there.
//!
//! A key that was asked again gets the new sequence of answers; one that was not asked stays. Where an answer is the
//! same as before, the old headers and redirects stay too, so that dates and signatures that change with every
//! request make no difference to the file.

use std::collections::{HashMap, HashSet};

use http::Method;

use super::{
    entry::{Entry, Inventory, Source, UrlMatch},
    key::{Key, Keys},
};
use crate::url::NormalizedUrl;

impl Entry {
    /// Whether `other` answers the same: status, bytes, and whether it took redirects.
    ///
    /// Headers change with every request, and do not count, but for those that are all of an answer: the `location` of
    /// a redirect or of an answer without a body, and the `content-length` that a `HEAD` asked for.
    pub fn has_same_answer(&self, other: &Entry) -> bool {
        let bytes = |entry: &Entry| entry.body.as_ref().map(|body| (body.hash, body.size));
        let same = |name: &str| self.headers.get(name) == other.headers.get(name);
        let needs_location = self.body.is_none() || (300..400).contains(&self.status);
        self.status == other.status
            && bytes(self) == bytes(other)
            && self.redirects.is_empty() == other.redirects.is_empty()
            && (!needs_location || same("location"))
            && (self.method != Method::HEAD || same("content-length"))
    }

    /// Whether the entry is for `system`.
    pub fn is_for(&self, system: &str) -> bool {
        self.systems.is_empty() || self.systems.iter().any(|one| one == system)
    }
}

/// What a merge did to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key's method and URL, for people.
    pub request: String,
    /// What happened.
    pub kind: ChangeKind,
}

/// What can happen to a key in a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// The key is new.
    Added,
    /// The key's answers differ from those before and replace them, or a `HEAD` is now answered from the `GET`.
    Replaced,
    /// The build did not ask for the key and pruning was wanted.
    Pruned,
    /// An entry for all URLs that start with its own answers the key, which is therefore not added.
    Covered,
}

/// Merges the entries that a capture on `system` recorded into `old`. `unrecorded` is what the build asked for and the
/// capture could not record: it replaces nothing.
///
/// With `prune`, keys that were not asked go. The order is that of `old`, then of the capture.
pub fn merge_capture(
    old: &Inventory,
    captured: Vec<Entry>,
    unrecorded: &[(Method, NormalizedUrl)],
    system: &str,
    prune: bool,
) -> (Inventory, Vec<Change>) {
    let keys = Keys::new(&old.match_rules);
    let mut asked = Asked::new(&keys, unrecorded);
    let mut changes = Vec::new();
    let for_system = || old.entries.iter().filter(|entry| entry.is_for(system));
    let (covered, captured) = asked.covered(&keys, captured, for_system());
    changes.extend(covered.iter().map(|entry| Change { request: describe(entry), kind: ChangeKind::Covered }));
    asked.add(&keys, captured, &gets(&keys, for_system()));

    let mut entries = Vec::new();
    let mut before: HashMap<Key, Vec<&Entry>> = HashMap::new();
    let mut elsewhere: HashSet<Key> = HashSet::new();
    for entry in &old.entries {
        let key = keys.of(entry);
        if !entry.is_for(system) {
            elsewhere.insert(key);
            entries.push(entry.clone());
        } else if asked.position.contains_key(&key) {
            before.entry(key).or_default().push(entry);
        } else if let Some(kind) = asked.end_of(&key, prune) {
            changes.push(Change { request: describe(entry), kind });
            entries.extend(without(entry, system));
        } else {
            entries.push(entry.clone());
        }
    }
    for (key, sequence) in asked.sequences {
        let before = before.remove(&key).unwrap_or_default();
        let limited = elsewhere.contains(&key) || before.iter().any(|old| !old.systems.is_empty());
        let request = describe(&sequence[0]);
        let (sequence, kind) = merge_sequence(&before, sequence, limited.then_some(system));
        if let Some(kind) = kind {
            changes.push(Change { request, kind });
            entries.extend(before.iter().filter_map(|old| without(old, system)));
        }
        entries.extend(sequence);
    }
    (Inventory { match_rules: old.match_rules.clone(), entries }, changes)
}

/// What a build asked for.
struct Asked {
    /// What was recorded, in the order in which it was first asked.
    sequences: Vec<(Key, Vec<Entry>)>,
    /// Where each key is in `sequences`.
    position: HashMap<Key, usize>,
    /// What was asked and has no entry of its own.
    unrecorded: HashSet<(Method, NormalizedUrl)>,
}

impl Asked {
    fn new(keys: &Keys, unrecorded: &[(Method, NormalizedUrl)]) -> Self {
        let mut asked = Self { sequences: Vec::new(), position: HashMap::new(), unrecorded: HashSet::new() };
        for (method, url) in unrecorded {
            let url = keys.comparable(url);
            if method == Method::HEAD {
                // What would have answered it.
                asked.unrecorded.insert((Method::GET, url.clone()));
            }
            asked.unrecorded.insert((method.clone(), url));
        }
        asked
    }

    /// Divides what was recorded into what an old entry for all URLs that start with its own answers, which was put
    /// there because these requests differ each time, and the rest. What has an old entry of its own is of the rest.
    fn covered<'a>(
        &mut self,
        keys: &Keys,
        captured: Vec<Entry>,
        old: impl Iterator<Item = &'a Entry> + Clone,
    ) -> (Vec<Entry>, Vec<Entry>) {
        let prefixes: Vec<Key> =
            old.clone().filter(|entry| entry.url_match == UrlMatch::Prefix).map(|entry| keys.of(entry)).collect();
        if prefixes.is_empty() {
            return (Vec::new(), captured);
        }
        let exact: HashSet<Key> = old.map(|entry| keys.of(entry)).collect();
        captured.into_iter().partition(|entry| {
            let key = keys.of(entry);
            let covering = prefixes.iter().find(|prefix| prefix.covers(&key) && !exact.contains(&key));
            // It was asked, so that pruning keeps it.
            self.unrecorded.extend(covering.map(Key::method_and_url));
            covering.is_some()
        })
    }

    /// Adds what was recorded. A `HEAD` needs no entry where there is the `GET`, among those or in `old_gets`.
    fn add(&mut self, keys: &Keys, captured: Vec<Entry>, old_gets: &HashSet<Key>) {
        let new_gets = gets(keys, &captured);
        for entry in captured {
            let key = keys.of(&entry);
            if let Some(get) = key.of_get().filter(|get| new_gets.contains(get) || old_gets.contains(get)) {
                self.unrecorded.insert(get.method_and_url());
                continue;
            }
            let index = *self.position.entry(key).or_insert_with_key(|key| {
                self.sequences.push((key.clone(), Vec::new()));
                self.sequences.len() - 1
            });
            self.sequences[index].1.push(entry);
        }
    }

    /// Why an old entry that has no new sequence goes; `None` where it stays.
    fn end_of(&self, key: &Key, prune: bool) -> Option<ChangeKind> {
        if key.of_get().is_some_and(|get| self.position.contains_key(&get)) {
            return Some(ChangeKind::Replaced);
        }
        (prune && !self.unrecorded.contains(&key.method_and_url())).then_some(ChangeKind::Pruned)
    }
}

fn gets<'a>(keys: &Keys, entries: impl IntoIterator<Item = &'a Entry>) -> HashSet<Key> {
    entries.into_iter().filter(|entry| entry.method == Method::GET).map(|entry| keys.of(entry)).collect()
}

/// What the other systems that `old` is listed for still need of it.
fn without(old: &Entry, system: &str) -> Option<Entry> {
    let systems: Vec<String> = old.systems.iter().filter(|one| *one != system).cloned().collect();
    (!systems.is_empty()).then(|| Entry { systems, ..old.clone() })
}

/// One key's new sequence; for the system `only` where other systems have one of their own.
fn merge_sequence(before: &[&Entry], now: Vec<Entry>, only: Option<&str>) -> (Vec<Entry>, Option<ChangeKind>) {
    let is_first_hop_of_old = |entry: &Entry| {
        let hop = before.first().and_then(|old| old.redirects.first());
        hop.is_some_and(|hop| {
            hop.status == entry.status && Some(hop.location.as_str()) == entry.headers.get("location")
        })
    };
    let same = before.len() == now.len() && before.iter().zip(&now).all(|(old, new)| old.has_same_answer(new));
    let followed = !before.is_empty() && now.iter().all(is_first_hop_of_old);
    if same || followed || before.iter().any(|old| is_override(old)) {
        return (before.iter().map(|&old| old.clone()).collect(), None);
    }
    let kind = if before.is_empty() { ChangeKind::Added } else { ChangeKind::Replaced };
    let sequence = now.into_iter().map(|mut new| {
        if let Some(old) = before.iter().find(|old| old.has_same_answer(&new)) {
            new.headers.clone_from(&old.headers);
            new.redirects.clone_from(&old.redirects);
            // Where it was put by hand it stays; but what now changes from request to request is not to be fetched.
            if !is_fetched(old) || is_fetched(&new) {
                new.body.clone_from(&old.body);
            }
        }
        new.systems = only.map(str::to_owned).into_iter().collect();
        new
    });
    (sequence.collect(), Some(kind))
}

fn is_fetched(entry: &Entry) -> bool {
    entry.body.as_ref().is_some_and(|body| matches!(body.source, Source::Fetch(_)))
}

/// Whether somebody put other bytes there than those of the origin: captures pin theirs by hash.
fn is_override(entry: &Entry) -> bool {
    entry.body.as_ref().is_some_and(|body| body.hash.is_none())
}

fn describe(entry: &Entry) -> String {
    format!("{} {}", entry.method, entry.url)
}

#[cfg(test)]
mod tests {
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
        let head = |length: &str, date: &str| {
            answer(Method::HEAD, 200, &[("content-length", length), ("last-modified", date)])
        };
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
        let (merged, changes) =
            merge_capture(&old(&[patched.clone()]), vec![entry("http://h/a", "2")], &[], SYSTEM, true);
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
}

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
    pub(crate) fn has_same_answer(&self, other: &Entry) -> bool {
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
#[derive(Default)]
struct Asked {
    /// What was recorded, in the order in which it was first asked.
    sequences: Vec<(Key, Vec<Entry>)>,
    /// Where each key is in `sequences`.
    position: HashMap<Key, usize>,
    /// What was asked and has no entry of its own.
    unrecorded: HashSet<(Method, NormalizedUrl)>,
    /// What was asked in vain, with the text of which an entry's prefix has to be the start.
    prefixed: Vec<(Method, NormalizedUrl)>,
}

impl Asked {
    fn new(keys: &Keys, unrecorded: &[(Method, NormalizedUrl)]) -> Self {
        let mut asked = Self::default();
        for (method, url) in unrecorded {
            asked.prefixed.push((method.clone(), keys.prefixed(url)));
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
            let covering = prefixes.iter().filter(|prefix| keys.covers(prefix, entry) && !exact.contains(&key));
            let covering = covering.max_by_key(|prefix| prefix.url_length());
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
        let was_asked = || self.prefixed.iter().any(|(method, url)| key.covers_url(method, url));
        (prune && !self.unrecorded.contains(&key.method_and_url()) && !was_asked()).then_some(ChangeKind::Pruned)
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
mod tests;

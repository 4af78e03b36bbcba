//! Merging what a capture recorded into the inventory that is already there.
//!
//! A key that was asked again gets the new sequence of answers; one that was not asked stays. Where an answer is the
//! same as before, the old headers and redirects stay too, so that dates and signatures that change with every
//! request make no difference to the file.

use std::collections::HashMap;

use http::Method;

use super::{
    entry::{Entry, Inventory},
    key::{Key, Keys},
};

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
    /// The key's answers differ from those before and replace them.
    Replaced,
    /// The build did not ask for the key and pruning was wanted.
    Pruned,
}

/// Merges the entries that a capture on `system` recorded into `old`.
///
/// With `prune`, keys that were not asked go. The result is in canonical order.
pub fn merge_capture(old: &Inventory, captured: Vec<Entry>, system: &str, prune: bool) -> (Inventory, Vec<Change>) {
    let keys = Keys::new(&old.match_rules);
    let mut asked: Vec<(Key, Vec<Entry>)> = Vec::new();
    let mut position: HashMap<Key, usize> = HashMap::new();
    for entry in captured {
        let index = *position.entry(keys.of(&entry)).or_insert_with_key(|key| {
            asked.push((key.clone(), Vec::new()));
            asked.len() - 1
        });
        asked[index].1.push(entry);
    }

    let (mut entries, mut changes) = (Vec::new(), Vec::new());
    let mut before: HashMap<Key, Vec<&Entry>> = HashMap::new();
    for entry in &old.entries {
        let key = keys.of(entry);
        if entry.is_for(system) && position.contains_key(&key) {
            before.entry(key).or_default().push(entry);
        } else if prune && entry.is_for(system) {
            changes.push(Change { request: describe(entry), kind: ChangeKind::Pruned });
        } else {
            entries.push(entry.clone());
        }
    }
    for (key, sequence) in asked {
        let before = before.remove(&key).unwrap_or_default();
        let request = describe(&sequence[0]);
        let (sequence, kind) = merge_sequence(&before, sequence, system, &mut entries);
        changes.extend(kind.map(|kind| Change { request, kind }));
        entries.extend(sequence);
    }
    (Inventory { match_rules: old.match_rules.clone(), entries }, changes)
}

/// One key's new sequence. What other systems still need of the old one goes to `others`.
fn merge_sequence(
    before: &[&Entry],
    now: Vec<Entry>,
    system: &str,
    others: &mut Vec<Entry>,
) -> (Vec<Entry>, Option<ChangeKind>) {
    let is_first_hop_of_old = |entry: &Entry| {
        let hop = before.first().and_then(|old| old.redirects.first());
        hop.is_some_and(|hop| {
            hop.status == entry.status && Some(hop.location.as_str()) == entry.headers.get("location")
        })
    };
    let same = before.len() == now.len() && before.iter().zip(&now).all(|(old, new)| old.has_same_answer(new));
    if same || now.iter().all(is_first_hop_of_old) && !before.is_empty() {
        return (before.iter().map(|&old| old.clone()).collect(), None);
    }
    if before.is_empty() {
        return (now, Some(ChangeKind::Added));
    }
    let shared = before.iter().any(|old| old.systems.len() > 1);
    for old in before.iter().filter(|old| old.systems.len() > 1) {
        let mut old = (*old).clone();
        old.systems.retain(|one| one != system);
        others.push(old);
    }
    let sequence = now.into_iter().map(|mut new| {
        if let Some(old) = before.iter().find(|old| old.has_same_answer(&new)) {
            new.headers.clone_from(&old.headers);
            new.redirects.clone_from(&old.redirects);
            new.body.clone_from(&old.body);
        }
        if shared || before.iter().any(|old| !old.systems.is_empty()) {
            new.systems = vec![system.to_owned()];
        }
        new
    });
    (sequence.collect(), Some(ChangeKind::Replaced))
}

fn describe(entry: &Entry) -> String {
    format!("{} {}", entry.method, entry.url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inventory::{Body, Hop, Source, to_toml},
        store::hash::NixHash,
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
        let (merged, changes) = merge_capture(&old(&[before.clone()]), vec![now], SYSTEM, false);
        assert_eq!((merged.entries, changes), (vec![before], vec![]));
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
        let (merged, changes) = merge_capture(&old(&before), vec![entry("http://h/a", "2")], SYSTEM, false);
        assert_eq!(merged.entries, vec![before[2].clone(), before[1].clone()]);
        assert_eq!(changes, vec![Change { request: "GET http://h/a".to_owned(), kind: ChangeKind::Replaced }]);
    }

    #[test]
    fn pruning_drops_what_was_not_asked() {
        let before = [entry("http://h/a", "1"), entry("http://h/b", "2")];
        let (merged, changes) = merge_capture(&old(&before), vec![before[0].clone()], SYSTEM, true);
        assert_eq!(merged.entries, vec![before[0].clone()]);
        assert_eq!(changes[0].kind, ChangeKind::Pruned);
    }

    #[test]
    fn entries_of_other_systems_are_not_touched() {
        let mut both = entry("http://h/a", "1");
        both.systems = vec![SYSTEM.to_owned(), "aarch64-linux".to_owned()];
        let (merged, _) = merge_capture(&old(&[both]), vec![entry("http://h/a", "2")], SYSTEM, true);
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
        let (merged, changes) = merge_capture(&old(&[chain.clone()]), vec![alone], SYSTEM, false);
        assert_eq!((merged.entries, changes), (vec![chain], vec![]));
    }

    #[test]
    fn a_parameter_that_is_ignored_makes_no_new_key() {
        let mut old = old(&[entry("http://h/a?sig=1", "1")]);
        old.match_rules.ignore_query = vec!["sig".to_owned()];
        let (merged, changes) = merge_capture(&old, vec![entry("http://h/a?sig=2", "1")], SYSTEM, false);
        assert_eq!((merged, changes), (old, vec![]));
    }

    #[test]
    fn merging_the_same_capture_again_changes_no_byte() {
        let captured = || vec![entry("http://h/b", "1"), entry("http://h/a", "2"), entry("http://h/b", "3")];
        let (first, _) = merge_capture(&Inventory::default(), captured(), SYSTEM, false);
        let (second, changes) = merge_capture(&first, captured(), SYSTEM, false);
        assert_eq!(to_toml(&second), to_toml(&first));
        assert_eq!(changes, vec![]);
    }
}

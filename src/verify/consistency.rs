//! The entries against the format's rules and against each other; redirects are in [`redirects`](super::redirects).

use std::collections::HashMap;

use super::{
    compare::{common_systems, same_bytes, system_set},
    finding::{Finding, FindingKind},
};
use crate::inventory::{Entry, Inventory, Key, Keys, Source, Why};

/// All findings about `inventory` that need no look at its bodies or redirect chains.
pub(super) fn check(inventory: &Inventory) -> Vec<Finding> {
    let keys = Keys::new(&inventory.match_rules).of_all(inventory);
    let of_entry = |(index, entry): (usize, &Entry)| {
        let kinds = bad_statuses(entry).into_iter().chain(not_fetchable(entry));
        kinds.map(move |kind| (index, kind)).collect::<Vec<_>>()
    };
    let mut found: Vec<(usize, FindingKind)> = inventory.entries.iter().enumerate().flat_map(of_entry).collect();
    found.extend(repeated_answers(&inventory.entries, &keys));
    found.extend(overlapping_systems(&inventory.entries, &keys));

    found.into_iter().map(|(index, kind)| finding(inventory, index, kind)).collect()
}

/// A finding about the entry `index`.
pub(super) fn finding(inventory: &Inventory, index: usize, kind: FindingKind) -> Finding {
    let url = inventory.entries.get(index).map(|entry| entry.url.to_string()).unwrap_or_default();
    Finding { entry: Some(index), url, kind }
}

/// Status codes that cannot be: the final one has three digits from 200 on, since a 1xx is followed by another
/// (RFC 9110 §15.2); hops redirect (§15.4).
fn bad_statuses(entry: &Entry) -> Vec<FindingKind> {
    let hops = entry.redirects.iter().map(|hop| hop.status);
    let bad_hop = hops.filter(|&status| !redirects_on(status)).map(|status| FindingKind::BadHopStatus { status });
    let bad = (!(200..=599).contains(&entry.status)).then_some(FindingKind::BadStatus { status: entry.status });
    bad_hop.chain(bad).collect()
}

/// Whether a client that is answered with `status` asks for the `Location`.
pub(super) fn redirects_on(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// A body that Nix is to fetch from the entry's own URL, though `fetchurl` would send another request than the one
/// recorded, or would not keep its answer. A `fetch` with a URL of its own stands for itself.
fn not_fetchable(entry: &Entry) -> Option<FindingKind> {
    if !entry.body.as_ref().is_some_and(|body| body.source == Source::Fetch(None)) {
        return None;
    }
    // A header that has to be absent is one that Nix does not send either.
    let keyed = entry.request_headers.iter().any(|(_, value)| !value.is_empty());
    let reasons = Why::not_askable(entry).filter(|why| keyed || *why != Why::RequestHeaders);
    let reasons: Vec<String> = reasons.map(|why| why.reason().to_owned()).collect();
    (!reasons.is_empty()).then_some(FindingKind::NotFetchable { reasons })
}

/// Entries that answer like the one before them in their sequence: the second is never noticed.
fn repeated_answers(entries: &[Entry], keys: &[Key]) -> Vec<(usize, FindingKind)> {
    let mut last = HashMap::new();
    let mut found = Vec::new();
    for (index, (entry, key)) in entries.iter().zip(keys).enumerate() {
        let previous = last.insert((key, system_set(entry)), index);
        if let Some(previous) = previous.filter(|&previous| same_answer(&entries[previous], entry)) {
            found.push((index, FindingKind::RepeatsPrevious { previous }));
        }
    }
    found
}

fn same_answer(a: &Entry, b: &Entry) -> bool {
    a.status == b.status
        && a.headers == b.headers
        && a.redirects == b.redirects
        && same_bytes(a.body.as_ref(), b.body.as_ref())
}

/// Entries with one key for overlapping, but not equal systems: on some systems they are a sequence, on others not.
/// Each is reported with the first such entry before it.
fn overlapping_systems(entries: &[Entry], keys: &[Key]) -> Vec<(usize, FindingKind)> {
    let mut earlier: HashMap<&Key, Vec<usize>> = HashMap::new();
    let mut found = Vec::new();
    for (index, (entry, key)) in entries.iter().zip(keys).enumerate() {
        let before = earlier.entry(key).or_default();
        let clash = before.iter().find_map(|&other| {
            let common = common_systems(&entries[other].systems, &entry.systems)?;
            let systems = common.into_iter().map(str::to_owned).collect();
            let differ = system_set(&entries[other]) != system_set(entry);
            differ.then_some(FindingKind::OverlappingSystems { other, systems })
        });
        found.extend(clash.map(|kind| (index, kind)));
        // One entry for each list of systems is enough to compare with: long sequences stay cheap.
        if !before.iter().any(|&other| system_set(&entries[other]) == system_set(entry)) {
            before.push(index);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::{
        inventory::{Body, Hop, MatchRules, request_body::BodyDigest},
        store::hash::NixHash,
    };

    fn entry(path: &str, body: &str) -> Entry {
        let body = Body {
            hash: Some(NixHash::sha256(body.as_bytes())),
            size: Some(body.len() as u64),
            name: None,
            source: Source::Text(body.to_owned()),
        };
        Entry { body: Some(body), ..Entry::get(format!("http://h/{path}").parse().unwrap()) }
    }

    fn for_systems(systems: &[&str]) -> Entry {
        Entry { systems: systems.iter().map(|name| (*name).to_owned()).collect(), ..entry("a", "a") }
    }

    fn check_entries(entries: Vec<Entry>) -> Vec<(Option<usize>, FindingKind)> {
        let inventory = Inventory { entries, ..Inventory::default() };
        check(&inventory).into_iter().map(|finding| (finding.entry, finding.kind)).collect()
    }

    #[test]
    fn an_answer_that_repeats_the_one_before_it_is_found() {
        let found = check_entries(vec![entry("a", "1"), entry("b", "1"), entry("a", "1"), entry("a", "2")]);
        assert_eq!(found, [(Some(2), FindingKind::RepeatsPrevious { previous: 0 })]);
        assert_eq!(check_entries(vec![entry("a", "1"), entry("a", "2"), entry("a", "1")]), []);
        let mut other_headers = entry("a", "1");
        other_headers.headers.append("etag", "\"2\"").unwrap();
        assert_eq!(check_entries(vec![entry("a", "1"), other_headers]), []);
    }

    #[test]
    fn ignored_query_parameters_do_not_hide_a_repetition() {
        let entries = vec![entry("a?_=1", "1"), entry("a?_=2", "1")];
        assert_eq!(check_entries(entries.clone()), []);
        let match_rules = MatchRules::ignoring(&["_"]);
        assert_eq!(check(&Inventory { match_rules, entries }).len(), 1);
    }

    #[test]
    fn systems_of_one_key_are_equal_or_disjoint() {
        assert_eq!(check_entries(vec![for_systems(&["x"]), for_systems(&["y"])]), []);
        let found = check_entries(vec![for_systems(&["x", "y"]), for_systems(&["y", "z"])]);
        let systems = vec!["y".to_owned()];
        assert_eq!(found, [(Some(1), FindingKind::OverlappingSystems { other: 0, systems })]);
        let found = check_entries(vec![for_systems(&["x"]), for_systems(&[])]);
        assert!(matches!(found[..], [(Some(1), FindingKind::OverlappingSystems { other: 0, .. })]));
        let sequence = Entry { body: None, ..for_systems(&["y", "x"]) };
        assert_eq!(check_entries(vec![for_systems(&["x", "y"]), sequence]), []);
    }

    #[test]
    fn statuses_that_end_no_response_or_do_not_redirect_are_found() {
        for status in [0, 99, 100, 103, 199, 600, 999] {
            let found = check_entries(vec![Entry { status, ..entry("a", "a") }]);
            assert_eq!(found, [(Some(0), FindingKind::BadStatus { status })]);
        }
        for status in [200, 204, 302, 404, 599] {
            assert_eq!(check_entries(vec![Entry { status, ..entry("a", "a") }]), []);
        }
        let hop = |status| Hop { status, location: "/b".to_owned(), headers: Default::default() };
        let redirects = [300, 301, 302, 303, 304, 305, 307, 308, 200].map(hop).to_vec();
        let found = check_entries(vec![Entry { redirects, ..entry("a", "a") }]);
        let bad = [300, 304, 305, 200].map(|status| (Some(0), FindingKind::BadHopStatus { status }));
        assert_eq!(found, bad);
    }

    #[test]
    fn fetch_is_only_for_what_nix_gets_again() {
        let fetched = |change: &dyn Fn(&mut Entry)| {
            let mut entry = entry("a", "a");
            if let Some(body) = &mut entry.body {
                body.source = Source::Fetch(None);
            }
            change(&mut entry);
            not_fetchable(&entry).map(|kind| kind.to_string()).unwrap_or_default()
        };
        assert_eq!(fetched(&|_| {}), "");
        assert!(fetched(&|entry| entry.method = Method::POST).contains("is no GET"));
        assert!(fetched(&|entry| entry.status = 404).contains("status is not 200"));
        assert!(fetched(&|entry| entry.request_body = Some(BodyDigest::of_bytes(b"x"))).contains("has a body"));
        let keyed = |value: &'static str| {
            move |entry: &mut Entry| {
                entry.request_headers.insert("accept".to_owned(), value.to_owned());
            }
        };
        assert!(fetched(&keyed("a/b")).contains("request headers"));
        assert_eq!(fetched(&keyed("")), "");
        assert!(fetched(&|entry| entry.headers.append("content-encoding", "gzip").unwrap()).contains("content coding"));
        let elsewhere = |entry: &mut Entry| {
            entry.status = 404;
            entry.body.as_mut().unwrap().source = Source::Fetch(Some("https://h/b".to_owned()));
        };
        assert_eq!(fetched(&elsewhere), "");
    }
}

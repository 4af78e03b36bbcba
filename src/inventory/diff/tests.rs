use proptest::prelude::*;

use super::*;
use crate::{inventory::to_toml, store::hash::NixHash};

fn entry(url: &str, status: u16) -> Entry {
    Entry { status, ..Entry::get(url.parse().unwrap()) }
}

fn for_systems(systems: &[&str], entry: Entry) -> Entry {
    Entry { systems: systems.iter().map(|&system| system.to_owned()).collect(), ..entry }
}

fn inventory(entries: &[Entry]) -> Inventory {
    Inventory { entries: entries.to_vec(), ..Inventory::default() }
}

fn fields(before: &[Entry], after: &[Entry]) -> Vec<String> {
    let (before, after) = (inventory(before), inventory(after));
    let diff = diff(&before, &after);
    let names = diff.entries.iter().flat_map(|step| match step {
        Step::Added(entry) => vec![format!("+{}", entry.status)],
        Step::Removed(entry) => vec![format!("-{}", entry.status)],
        Step::Changed { fields, .. } => fields.iter().map(|change| change.field.clone()).collect(),
    });
    names.collect()
}

#[test]
fn each_field_is_named_that_differs() {
    let full = |hash: &[u8], etag: &str, location: &str| {
        let mut entry = entry("http://h/a", 200);
        let source = Source::Fetch(None);
        entry.body =
            Some(Body { hash: Some(NixHash::sha256(hash)), size: Some(hash.len() as u64), name: None, source });
        entry.headers.append("etag", etag).unwrap();
        let hop = Hop { status: 302, location: location.to_owned(), headers: Headers::default() };
        entry.redirects = vec![hop];
        entry
    };
    let before = full(b"1", "x", "/b");
    assert_eq!(fields(std::slice::from_ref(&before), &[full(b"22", "x", "/b")]), ["hash", "size"]);
    assert_eq!(fields(std::slice::from_ref(&before), &[full(b"1", "y", "/c")]), ["header etag", "redirect 1 location"]);
    assert_eq!(fields(std::slice::from_ref(&before), &[for_systems(&["x"], before.clone())]), ["systems"]);
    assert_eq!(fields(std::slice::from_ref(&before), &[entry("http://h/a", 200)]).len(), 6);
    assert_eq!(fields(std::slice::from_ref(&before), &[]), ["-200"]);
    assert_eq!(fields(&[], &[before]), ["+200"]);
}

#[test]
fn what_means_the_same_is_no_difference() {
    let (a, b) = (entry("http://h/a", 404), entry("http://h/b", 200));
    assert_eq!(fields(&[a.clone(), b.clone()], &[b, a.clone()]), [""; 0], "the order of requests");
    let both = for_systems(&["x", "y"], a.clone());
    let each = [for_systems(&["y"], a.clone()), for_systems(&["x"], a)];
    assert_eq!(fields(&[both], &each), [""; 0], "one entry for two systems");
}

#[test]
fn the_order_of_a_sequence_counts_even_where_systems_overlap() {
    let (one, two) = (entry("http://h/a", 404), entry("http://h/a", 200));
    assert_eq!(fields(&[one.clone(), two.clone()], &[two.clone(), one.clone()]), ["+200", "-200"]);
    let two = for_systems(&["x"], two);
    assert!(!fields(&[one.clone(), two.clone()], &[two, one]).is_empty());
}

#[test]
fn one_answer_more_in_a_sequence_is_one_difference_wherever_it_is() {
    let sequence = |statuses: &[u16]| statuses.iter().map(|status| entry("http://h/a", *status)).collect::<Vec<_>>();
    let before = sequence(&[200, 404, 410]);
    assert_eq!(fields(&before, &sequence(&[500, 200, 404, 410])), ["+500"]);
    assert_eq!(fields(&before, &sequence(&[200, 410])), ["-404"]);
    assert_eq!(fields(&before, &sequence(&[200, 500, 410, 501])), ["status", "+501"]);
}

#[test]
fn rules_are_compared_by_what_they_do() {
    let rules = |ignored: &[&str], rewrite: &[&str]| {
        let rule = |from: &&str| Rewrite { from: from.parse().unwrap(), to: String::new() };
        Inventory {
            match_rules: MatchRules { rewrite: rewrite.iter().map(rule).collect(), ..MatchRules::ignoring(ignored) },
            ..Inventory::default()
        }
    };
    assert!(diff(&rules(&["a", "b"], &["x"]), &rules(&["b", "a"], &["x"])).is_empty());
    let (before, after) = (rules(&["a"], &["x", "y"]), rules(&["b"], &["y", "x"]));
    let changed: Vec<String> = diff(&before, &after).rules.into_iter().map(|change| change.field).collect();
    assert_eq!(changed, ["ignore-query", "ignore-query", "rewrite 1", "rewrite 2"]);
}

/// The entries that one system gets, in the canonical text.
fn view(inventory: &Inventory, system: &str) -> String {
    let entries = inventory.entries.iter().filter(|entry| entry.is_for(system));
    let entries = entries.map(|entry| Entry { systems: Vec::new(), ..entry.clone() }).collect();
    let mut match_rules = inventory.match_rules.clone();
    match_rules.ignore_query.sort_by_key(|glob| glob.glob().to_owned());
    to_toml(&Inventory { match_rules, entries })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let url = prop::sample::select(vec!["http://h/a", "http://h/a?_=1", "http://h/b"]);
    let systems = prop::collection::vec(prop::sample::select(vec!["x", "y"]), 0..3);
    (url, 200u16..202, systems, any::<bool>(), 0..4u8).prop_map(|(url, status, systems, header, body)| {
        let mut entry = for_systems(&systems, entry(url, status));
        if header {
            entry.headers.append("etag", "1").unwrap();
        }
        let source = match body {
            0 => return entry,
            1 => Source::Text("t".to_owned()),
            2 => Source::Fetch(Some("http://h/c".to_owned())),
            _ => Source::File("f".to_owned()),
        };
        entry.body = Some(Body { hash: Some(NixHash::sha256(b"t")), size: Some(1), name: None, source });
        entry
    })
}

fn any_inventory() -> impl Strategy<Value = Inventory> {
    (prop::collection::vec(any_entry(), 0..4), any::<bool>()).prop_map(|(entries, ignores)| Inventory {
        match_rules: if ignores { MatchRules::ignoring(&["_"]) } else { MatchRules::default() },
        entries,
    })
}

proptest! {
    #[test]
    fn a_diff_is_empty_where_every_system_gets_the_same_and_only_there(a in any_inventory(), b in any_inventory()) {
        let same = ["x", "y", "z"].into_iter().all(|system| view(&a, system) == view(&b, system));
        prop_assert_eq!(diff(&a, &b).is_empty(), same, "{}\n{}", to_toml(&a), to_toml(&b));
        prop_assert!(diff(&a, &a).is_empty());
    }

    #[test]
    fn a_change_of_one_entry_is_seen(mut a in any_inventory(), other in any_entry(), place in any::<prop::sample::Index>()) {
        let before = a.clone();
        if !a.entries.is_empty() {
            let place = place.index(a.entries.len());
            a.entries[place] = other;
        }
        let same = ["x", "y", "z"].into_iter().all(|system| view(&a, system) == view(&before, system));
        prop_assert_eq!(diff(&before, &a).is_empty(), same);
        prop_assert_eq!(diff(&a, &before).is_empty(), same);
    }
}

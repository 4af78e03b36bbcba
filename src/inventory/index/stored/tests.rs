use std::sync::Arc;

use http::{HeaderMap, Method};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::inventory::{
    Entry, Headers, Hop, MatchRules, UrlMatch,
    compiled::HEADER_LENGTH,
    index::{RequestBody, RequestKey},
    request_body::BodyDigest,
    write::to_toml_in_order,
};

const SYSTEM: &str = "x86_64-linux";
const METHODS: [Method; 3] = [Method::GET, Method::HEAD, Method::POST];

/// Entries that share URLs, lead to each other, differ in what is ignored, and are for several systems.
fn inventories() -> impl Strategy<Value = Inventory> {
    let path = || "[ab]{0,2}(\\?(x|y|_)=[12])?";
    let hop = (prop::sample::select(vec![301_u16, 303, 307]), path());
    let entry = (0..3_usize, path(), any::<bool>(), vec(hop, 0..3), 0..3_usize, 0..3_usize, 0..4_usize);
    (any::<bool>(), vec(entry, 0..12)).prop_map(|(ignores, entries)| {
        let match_rules = MatchRules::ignoring(if ignores { &["_"] } else { &[] });
        let entry = |(method, path, is_prefix, hops, body, accept, system): (
            usize,
            String,
            bool,
            Vec<(u16, String)>,
            _,
            _,
            _,
        )| {
            let hop = |(status, path): (u16, String)| Hop {
                status,
                location: format!("/{path}"),
                headers: Headers::default(),
            };
            let mut entry = Entry::get(format!("http://h/{path}").parse().unwrap());
            entry.method = METHODS[method].clone();
            entry.url_match = if is_prefix { UrlMatch::Prefix } else { UrlMatch::Exact };
            entry.redirects = hops.into_iter().map(hop).collect();
            entry.request_body = (body > 0).then(|| BodyDigest::of_bytes(&[body as u8]));
            entry.request_headers = (0..accept).map(|n| (format!("x-{n}"), n.to_string())).collect();
            entry.systems = if system == 0 { vec!["aarch64-linux".to_owned()] } else { Vec::new() };
            entry
        };
        Inventory { match_rules, entries: entries.into_iter().map(entry).collect() }
    })
}

/// Everything that can be asked of `index`, as text.
fn answers(index: &Index) -> String {
    let mut answers = String::new();
    let tails = ["", "?", "?x=1", "?x=2", "?y=1", "?_=1", "?x=1&_=2"];
    let paths = ["", "a", "b", "aa", "ab", "ba", "bb", "abb"].iter().flat_map(|path| tails.map(|tail| (path, tail)));
    for url in paths.map(|(path, tail)| format!("http://h/{path}{tail}").parse().unwrap()) {
        for method in &METHODS {
            for body in [RequestBody::Empty, RequestBody::Digests(vec![BodyDigest::of_bytes(&[1])])] {
                let headers: HeaderMap =
                    [(http::HeaderName::from_static("x-0"), "0".parse().unwrap())].into_iter().collect();
                let key = RequestKey { method, url: &url, headers: &headers, body };
                answers += &format!("{:?} {:?}\n", index.nearest_answer(&key), index.depends_on_body(method, &url));
                answers += &match index.look_up(&key) {
                    Ok(found) => {
                        let visits = found.visits.iter();
                        let entries = visits.map(|&visit| {
                            (index.answer(visit), index.is_revisiting(visit.entry), index.used_rules(&url, visit))
                        });
                        format!("{found:?} {:?}\n", entries.collect::<Vec<_>>())
                    }
                    Err(reason) => format!("{reason:?}\n"),
                };
            }
        }
    }
    let entries: Vec<_> = index.entries().map(|id| (id, index.peek(id), index.next_in_sequence(id))).collect();
    answers + &format!("{entries:?}\n{:?}", index.recorded_urls().collect::<Vec<_>>())
}

fn compiled(inventory: &Inventory) -> Vec<u8> {
    let recorded = Recorded::divided(to_toml_in_order(inventory)).unwrap();
    let Ok(index) = build::build(recorded, SYSTEM) else { panic!("what is written is read") };
    index.compile().unwrap()
}

fn parts(bytes: &[u8]) -> Parts {
    compiled::read(&bytes[..HEADER_LENGTH], &mut &bytes[HEADER_LENGTH..]).unwrap()
}

proptest! {
    #[test]
    fn a_compiled_inventory_answers_like_the_inventory(inventory in inventories()) {
        let bytes = compiled(&inventory);
        prop_assert_eq!(&compiled(&inventory), &bytes, "the same bytes every time");
        let in_memory = Index::new(Arc::new(inventory.clone()), SYSTEM).unwrap();
        prop_assert_eq!(in_memory.compile().unwrap(), &bytes[..]);
        let index = read(parts(&bytes)).unwrap();
        prop_assert_eq!(answers(&index), answers(&in_memory));
        prop_assert_eq!(index.compile().unwrap(), bytes);
        prop_assert_eq!(crate::inventory::parse(index.recorded.text()), Ok(inventory));
    }

    #[test]
    fn numbers_that_contradict_each_other_are_refused_or_harmless(
        inventory in inventories(),
        place in any::<prop::sample::Index>(),
        number in prop_oneof![0..40_u32, any::<u32>()],
    ) {
        let mut parts = parts(&compiled(&inventory));
        let place = place.index(parts.numbers.len());
        parts.numbers[place] = number;
        // Whatever it answers, it comes to an end.
        let _ = read(parts).map(|index| answers(&index).len());
    }
}

#[test]
fn tables_that_are_too_short_are_refused() {
    let whole =
        parts(&compiled(&Inventory { entries: vec![Entry::get("http://h/".parse().unwrap())], ..<_>::default() }));
    for length in 0..whole.numbers.len() {
        let cut = Parts { numbers: whole.numbers[..length].to_vec(), ..parts(&compiled::write(&whole).unwrap()) };
        assert!(matches!(read(cut), Err(CompiledError::Inconsistent)), "{length} numbers");
    }
}

#[test]
fn an_entry_that_is_none_is_told_from_the_others() {
    let mut parts =
        parts(&compiled(&Inventory { entries: vec![Entry::get("http://h/".parse().unwrap())], ..<_>::default() }));
    parts.text = parts.text.replace("[[entry]]", "[[antry]]");
    let index = read(parts).unwrap();
    assert!(!index.entry(EntryId(0)).is_readable() && !index.peek(EntryId(0)).is_readable());
}

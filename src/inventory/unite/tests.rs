use proptest::prelude::*;

use super::*;
use crate::{
    inventory::{Body, Rewrite, Source, diff, to_toml},
    store::hash::NixHash,
};

fn entry(url: &str, text: &str) -> Entry {
    let source = Source::Text(text.to_owned());
    let body = Body { hash: Some(NixHash::sha256(text.as_bytes())), size: Some(text.len() as u64), name: None, source };
    Entry { body: Some(body), ..Entry::get(url.parse().unwrap()) }
}

fn for_systems(systems: &[&str], entry: Entry) -> Entry {
    Entry { systems: systems.iter().map(|&system| system.to_owned()).collect(), ..entry }
}

fn input(systems: &[&str], entries: &[Entry]) -> Input {
    let inventory = Inventory { entries: entries.to_vec(), ..Inventory::default() };
    Input { name: systems.join(","), systems: systems.iter().map(|&name| name.to_owned()).collect(), inventory }
}

/// URL path, text and systems of each entry.
fn shown(inputs: &[Input], prefer: &[usize]) -> Vec<String> {
    let united = unite(inputs, prefer).unwrap_or_else(|conflicts| panic!("{conflicts:?}"));
    let shown = united.into_inventory().entries.into_iter().map(|entry| {
        let Some(Source::Text(text)) = entry.body.map(|body| body.source) else { unreachable!() };
        format!("{} {text} {}", entry.url.path(), entry.systems.join(",")).trim_end().to_owned()
    });
    shown.collect()
}

#[test]
fn captures_of_two_systems_share_what_agrees_and_list_the_rest() {
    let x = input(&["x"], &[entry("http://h/same", "1"), entry("http://h/own", "2"), entry("http://h/x", "3")]);
    let y = input(&["y"], &[entry("http://h/same", "1"), entry("http://h/own", "4")]);
    let expected = ["/own 2 x", "/own 4 y", "/same 1", "/x 3 x"];
    assert_eq!(shown(&[x.clone(), y.clone()], &[]), expected);
    assert_eq!(shown(&[y, x], &[]), ["/own 4 y", "/own 2 x", "/same 1", "/x 3 x"]);
}

#[test]
fn a_third_system_joins_those_that_answer_the_same() {
    let before = [
        for_systems(&["x"], entry("http://h/own", "2")),
        for_systems(&["y"], entry("http://h/own", "4")),
        entry("http://h/same", "1"),
    ];
    let new = input(&["z"], &[entry("http://h/own", "4"), entry("http://h/same", "1"), entry("http://h/z", "5")]);
    let expected = ["/own 2 x", "/own 4 y,z", "/same 1", "/z 5 z"];
    assert_eq!(shown(&[input(&[], &before), new.clone()], &[]), expected);
    assert_eq!(shown(&[input(&["x", "y"], &before), new], &[]), expected);
}

#[test]
fn a_contradiction_is_a_conflict_until_a_side_is_chosen() {
    let one = input(&[], &[entry("http://h/a", "1")]);
    let other = input(&[], &[entry("http://h/a", "2"), entry("http://h/b", "3")]);
    let both = [one, other];
    let conflicts = unite(&both, &[]).unwrap_err();
    assert_eq!(conflicts.len(), 1);
    assert_eq!((conflicts[0].about.as_str(), conflicts[0].sides.len()), ("GET http://h/a", 2));
    assert_eq!(shown(&both, &[0]), ["/a 1", "/b 3"]);
    assert_eq!(shown(&both, &[1]), ["/a 2", "/b 3"]);
}

#[test]
fn of_three_sides_the_first_choice_counts_that_has_an_answer() {
    let with = |a: &str, b: Option<&str>| {
        let b = b.map(|text| entry("http://h/b", text));
        input(&[], &[Some(entry("http://h/a", a)), b].into_iter().flatten().collect::<Vec<_>>())
    };
    let three = [with("1", Some("1")), with("2", Some("2")), with("3", None)];
    let about = |prefer| unite(&three, prefer).unwrap_err().into_iter().map(|one| one.about).collect::<Vec<_>>();
    assert_eq!(about(&[]).len(), 2);
    assert_eq!(about(&[2]), ["GET http://h/b"]);
    assert_eq!(shown(&three, &[2, 1]), ["/a 3", "/b 2"]);
}

#[test]
fn an_answer_for_all_systems_is_kept_for_those_that_are_named_where_another_is_chosen_for_one() {
    let all = input(&[], &[entry("http://h/a", "1"), for_systems(&["y"], entry("http://h/b", "1"))]);
    let one = input(&["x"], &[entry("http://h/a", "2")]);
    let united = unite(&[all.clone(), one.clone()], &[1]).unwrap();
    assert_eq!(united.narrowed, ["GET http://h/a"]);
    assert_eq!(shown(&[all, one], &[1]), ["/a 2 x", "/b 1 y"]);
}

#[test]
fn a_sequence_is_kept_whole() {
    let x = input(&["x"], &[entry("http://h/a", "1"), entry("http://h/a", "2")]);
    let y = input(&["y"], &[entry("http://h/a", "1")]);
    assert_eq!(shown(&[x.clone(), y], &[]), ["/a 1 x", "/a 2 x", "/a 1 y"]);
    let same = input(&["y"], &x.inventory.entries);
    assert_eq!(shown(&[x, same], &[]), ["/a 1", "/a 2"]);
}

#[test]
fn the_first_input_gives_headers_where_answers_agree() {
    let with = |etag: &str| {
        let mut entry = entry("http://h/a", "1");
        entry.headers.append("etag", etag).unwrap();
        entry
    };
    let united = unite(&[input(&["x"], &[with("1")]), input(&["y"], &[with("2")])], &[]).unwrap();
    assert_eq!(united.entries, [(0, with("1"))]);
}

#[test]
fn bodies_that_are_not_pinned_are_the_same_where_they_are_in_the_same_place() {
    let at = |path: &str| {
        let source = Source::StorePath { path: path.to_owned(), nar_hash: None };
        let body = Some(Body { hash: None, size: None, name: None, source });
        Entry { body, ..Entry::get("http://h/a".parse().unwrap()) }
    };
    assert!(unite(&[input(&[], &[at("/a")]), input(&[], &[at("/b")])], &[]).is_err());
    assert!(unite(&[input(&["x"], &[at("/a")]), input(&["y"], &[at("/a")])], &[]).is_ok());
}

#[test]
fn rules_are_united_unless_their_order_would_be_guessed() {
    let with = |ignored: &[&str], rewrite: &[&str]| {
        let rule = |from: &&str| Rewrite { from: from.parse().unwrap(), to: String::new() };
        let mut input = input(&[], &[]);
        let rewrite = rewrite.iter().map(rule).collect();
        input.inventory.match_rules = MatchRules { rewrite, ..MatchRules::ignoring(ignored) };
        input
    };
    let united = unite(&[with(&["a"], &["x"]), with(&["b", "a"], &["z", "x"])], &[]).unwrap().match_rules;
    assert_eq!(united, with(&["a", "b"], &["z", "x"]).inventory.match_rules);
    let differing = [with(&[], &["x", "y"]), with(&[], &["y", "x"])];
    assert!(unite(&differing, &[]).unwrap_err()[0].can_choose);
    assert_eq!(unite(&differing, &[0]).unwrap().match_rules, differing[0].inventory.match_rules);
}

#[test]
fn rules_that_would_make_one_sequence_of_two_requests_are_a_conflict() {
    let two = [entry("http://h/a?s=1", "1"), entry("http://h/a?s=2", "2")];
    let mut ignoring = input(&[], &[entry("http://h/b", "1")]);
    ignoring.inventory.match_rules = MatchRules::ignoring(&["s"]);
    let conflicts = unite(&[input(&[], &two), ignoring.clone()], &[0]).unwrap_err();
    assert!(!conflicts[0].can_choose && conflicts[0].sides.iter().all(|side| side.input == 0), "{conflicts:?}");
    let same = [entry("http://h/a?s=1", "1"), entry("http://h/a?s=2", "1")];
    assert_eq!(shown(&[input(&[], &same), ignoring], &[]), ["/a 1", "/b 1"]);
}

fn any_input() -> impl Strategy<Value = Input> {
    let url = prop::sample::select(vec!["http://h/a", "http://h/b", "http://h/c"]);
    let systems = prop::sample::select(vec![vec![], vec!["x"], vec!["y"]]);
    let entries = (url, "[12]", systems).prop_map(|(url, text, systems)| for_systems(&systems, entry(url, &text)));
    let systems = prop::sample::select(vec![vec![], vec!["x"], vec!["y"], vec!["x", "z"]]);
    (prop::collection::vec(entries, 0..4), systems).prop_map(|(entries, systems)| input(&systems, &entries))
}

/// What an input answers a system, and a system that nobody names.
fn answers(input: &Input, system: &str) -> Vec<Entry> {
    let of = |entry: &Entry| if entry.systems.is_empty() { input.systems.clone() } else { entry.systems.clone() };
    let entries = input.inventory.entries.iter().filter(|entry| {
        let systems = of(entry);
        systems.is_empty() || systems.iter().any(|one| one == system)
    });
    entries.map(|entry| Entry { systems: Vec::new(), ..entry.clone() }).collect()
}

proptest! {
    #[test]
    fn an_inventory_united_with_itself_is_the_same_bytes(one in any_input()) {
        let one = Input { systems: Vec::new(), ..one };
        let united = unite(&[one.clone(), one.clone()], &[]).unwrap().into_inventory();
        prop_assert_eq!(to_toml(&united), to_toml(&one.inventory));
    }

    #[test]
    fn the_order_of_inputs_makes_no_difference(one in any_input(), other in any_input()) {
        let there = unite(&[one.clone(), other.clone()], &[]);
        let back = unite(&[other, one], &[]);
        match (there, back) {
            (Ok(there), Ok(back)) => {
                let (there, back) = (there.into_inventory(), back.into_inventory());
                prop_assert!(diff(&there, &back).is_empty(), "{}\n{}", to_toml(&there), to_toml(&back));
            }
            (Err(there), Err(back)) => prop_assert_eq!(there.len(), back.len()),
            (there, back) => prop_assert!(false, "{:?}\n{:?}", there, back),
        }
    }

    #[test]
    fn every_system_gets_what_it_was_recorded_with(one in any_input(), other in any_input()) {
        let inputs = [one, other];
        if let Ok(united) = unite(&inputs, &[]) {
            let narrowed = united.narrowed.clone();
            let united = input(&[], &united.into_inventory().entries);
            for system in ["x", "y", "z"] {
                for path in ["/a", "/b", "/c"] {
                    if narrowed.contains(&format!("GET http://h{path}")) {
                        continue;
                    }
                    let of = |input: &Input| -> Vec<Entry> {
                        answers(input, system).into_iter().filter(|entry| entry.url.path() == path).collect()
                    };
                    // What somebody recorded is what there is now; what nobody did may come from those who agree.
                    for recorded in inputs.iter().map(of).filter(|recorded| !recorded.is_empty()) {
                        prop_assert_eq!(of(&united), recorded, "{} {}", system, path);
                    }
                }
            }
        }
    }
}

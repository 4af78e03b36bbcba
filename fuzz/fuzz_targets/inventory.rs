//! An inventory, TOML or JSON: what is read is written so that it is read as the same again.

#![no_main]

use buildproxy_fuzz::inventory::{Inventory, parse, read::parse_whole, to_toml};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match parse(text) {
        Ok(inventory) => {
            assert_eq!(parse_whole(text).as_ref(), Ok(&inventory), "the pieces say what the whole says");
            check(&inventory);
        }
        Err(error) => {
            let lines = text.split('\n').count();
            assert!((1..=lines).contains(&error.line), "line {} of {lines}", error.line);
            let line = text.split('\n').nth(error.line - 1).unwrap_or_default();
            assert!((1..=line.chars().count() + 1).contains(&error.column), "column {} of {line:?}", error.column);
            let _shown = error.to_string();
        }
    }
});

fn check(inventory: &Inventory) {
    let canonical = to_toml(inventory);
    let again = parse(&canonical).unwrap_or_else(|error| panic!("what was written is read: {error}\n{canonical}"));
    assert_eq!(to_toml(&again), canonical, "writing is canonical");
    // Entries are sorted in writing; none is lost, added or altered.
    assert_eq!(again.match_rules, inventory.match_rules);
    let mut left = again.entries;
    for entry in &inventory.entries {
        let place = left.iter().position(|other| other == entry);
        left.swap_remove(place.unwrap_or_else(|| panic!("{entry:?} is not in\n{canonical}")));
    }
    assert!(left.is_empty(), "{left:?} came from nowhere");
}

//! What is written for Nix, for a shell and for a terminal is one string for each text, and reads back as the same.

#![no_main]

use std::collections::BTreeMap;

use buildproxy_fuzz::{
    export::nix::to_fetchurl,
    inventory::{Entry, Inventory, Source, parse},
    text::{is_deceptive, printable, printable_json, printable_lines, shell_quoted},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    shell(text);
    shown(text);
    if let Ok(inventory) = parse(text) {
        check(&inventory);
    }
});

fn check(inventory: &Inventory) {
    let system = inventory.entries.iter().flat_map(|entry| &entry.systems).next().map_or("x", String::as_str);
    let (nix, _) = to_fetchurl(inventory, system);
    let strings = strings(&nix);
    let mut urls = BTreeMap::new();
    for group in strings.chunks(4) {
        let [key, url, _name, hash] = group else { panic!("{} strings in\n{nix}", strings.len()) };
        assert!(urls.insert(key, (url, hash)).is_none(), "{key} twice in\n{nix}");
    }
    for (key, (url, hash)) in urls {
        let is_it = |entry: &Entry| {
            let Some(body) = &entry.body else { return false };
            let Source::Fetch(from) = &body.source else { return false };
            let from = from.as_deref().unwrap_or(entry.url.as_str());
            entry.url.as_str() == key && from == url && body.hash.is_some_and(|known| known.to_string() == *hash)
        };
        assert!(inventory.entries.iter().any(is_it), "{key} came from nowhere:\n{nix}");
    }
}

/// The strings of a Nix expression, read as Nix reads them; all between them is what is written for every inventory.
fn strings(nix: &str) -> Vec<String> {
    let mut strings = Vec::new();
    let code = nix.lines().skip(1).collect::<Vec<_>>().join("\n");
    let mut rest = code.as_str();
    while let Some((before, behind)) = rest.split_once('"') {
        let known = ["{", "fetchurl", "}:", "=", "url", "name", "hash", ";", "};"];
        assert!(before.split_whitespace().all(|word| known.contains(&word)), "{before:?} in\n{nix}");
        let mut value = String::new();
        let mut characters = behind.char_indices().peekable();
        let end = loop {
            let (at, character) = characters.next().expect("the string ends");
            match character {
                '"' => break at,
                '\\' => value.push(match characters.next().expect("an escape").1 {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    other => other,
                }),
                '$' => {
                    assert!(characters.peek().is_none_or(|(_, next)| *next != '{'), "an expression in\n{nix}");
                    value.push('$');
                }
                other => value.push(other),
            }
        };
        strings.push(value);
        rest = &behind[end + 1..];
    }
    strings
}

/// A word of a shell, read as a shell reads what has single quotes and backslashes.
fn shell(text: &str) {
    let quoted = shell_quoted(text);
    let (mut value, mut inside) = (String::new(), false);
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '\'' => inside = !inside,
            other if inside => value.push(other),
            '\\' => value.push(characters.next().expect("what is escaped")),
            other => panic!("{other:?} stands for itself in {quoted}"),
        }
    }
    assert!(!inside);
    assert_eq!(value, text);
}

fn shown(text: &str) {
    assert!(!printable(text).chars().any(is_deceptive));
    let lines = printable_lines(text);
    assert!(!lines.chars().any(|character| is_deceptive(character) && !matches!(character, '\n' | '\t')));
    assert_eq!(lines.split('\n').count(), text.split('\n').count());
    let json = serde_json::to_string(text).unwrap();
    assert_eq!(serde_json::from_str::<String>(&printable_json(&json)).unwrap(), text);
}

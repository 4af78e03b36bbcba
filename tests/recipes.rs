//! The recipes name tests that exist, and no host but the one for examples.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{fs, path::Path};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_recipe_names_tests_that_exist() {
    let recipes = read("docs/recipes.md");
    for recipe in recipes.split("\n## ").skip(1) {
        let title = recipe.lines().next().unwrap_or_default();
        let is_name = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        let pairs = recipe.split('`').filter_map(|code| code.split_once("::"));
        let named: Vec<_> = pairs.filter(|(file, test)| is_name(file) && is_name(test)).collect();
        assert!(!named.is_empty(), "{title} has no test");
        for (file, test) in named {
            let source = read(&format!("tests/{file}.rs"));
            assert!(source.contains(&format!("fn {test}(")), "{title}: no {test} in tests/{file}.rs");
        }
    }
}

#[test]
fn examples_are_on_the_host_for_examples() {
    let recipes = read("docs/recipes.md");
    let hosts: Vec<_> =
        recipes.split("https://").skip(1).map(|rest| rest.split(['/', ' ', '`']).next().unwrap()).collect();
    assert!(!hosts.is_empty() && hosts.iter().all(|host| *host == "example.org"), "{hosts:?}");
}

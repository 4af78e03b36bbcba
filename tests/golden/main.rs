//! All that the program says, as pages that can be read: its helps, its summaries, and each of its errors.
//!
//! `SNAPSHOTS=overwrite cargo test --locked --test golden` writes what it says today.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod help;
mod page;
mod texts;

use std::{collections::BTreeSet, sync::Mutex, thread};

use texts::{For, Said};

/// The page that `GOLDEN` names, or all.
fn wanted() -> Vec<String> {
    let name = std::env::var("GOLDEN").ok();
    page::names().into_iter().filter(|page| name.as_ref().is_none_or(|name| name == page)).collect()
}

#[test]
fn what_is_said_is_what_the_pages_have() {
    let (queue, wrong) = (Mutex::new(wanted().into_iter()), Mutex::new(Vec::new()));
    let next = || queue.lock().unwrap().next();
    // As many at a time as a small machine has something to do for.
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some(name) = next() {
                    let result = page::check(&name);
                    wrong.lock().unwrap().extend(result.err());
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap().join("\n");
    assert!(
        wrong.is_empty(),
        "{wrong}\n\nhint: where that is meant, SNAPSHOTS=overwrite cargo test --locked --test golden"
    );
}

/// What is neither on a page nor in a unit test: how it begins, and why.
const EXCEPTIONS: &[(&str, &[&str])] = &[
    ("on a terminal alone", &["watch", "at http://{}/"]),
    (
        "only where the kernel refuses what it grants everybody",
        &[
            "cannot take over signals",
            "cannot wait for a signal",
            "cannot wait for the command",
            "cannot go to the background",
            "cannot name the network",
            "cannot stay the same user",
            "cannot start the access log",
            "the environment is too large",
        ],
    ),
    ("on other systems than Linux", &["--isolate needs the namespaces of Linux"]),
    (
        "an action within `cannot … FILE`; tests/faults has each call of a capture fail",
        &["make the folder", "make a journal in", "keep a journal in", "read the folder", "move a finished body to"],
    ),
    (
        "said of a failure that was said before, or to a client that has left",
        &[
            "a batch is still",
            "the batch was lost",
            "an earlier write failed",
            "buildproxy dropped this exchange",
            "the body was given up",
            "it was given up",
            "the shared download failed",
            "the body ended early",
        ],
    ),
    (
        "a race, with a test of its own that wins it",
        &[
            "a file got shorter while it was sent",
            "a store file got shorter while it was sent",
            "it got shorter while it was sent",
            "it had {size} bytes, and has",
            "a link was put into its path",
            "the origin answered before it had read",
            "buildproxy: the request's body is not whole",
            "its bytes are gone",
            "cannot lay out files",
            "it was never answered",
            "cannot write the journal",
            "it is written more slowly than requests come",
            "nobody takes the rest",
        ],
    ),
    (
        "needs minutes, gigabytes or thousands of connections",
        &[
            "not asked, because {host} had not answered",
            "it has more than {most} bytes",
            "it has more than {} MiB",
            "other bodies are",
            "  and {} more that are not listed",
            "{} are open, and more would leave no",
        ],
    ),
    (
        "cannot come there, but the compiler wants a word",
        &[
            "`log.entries` is no array",
            "its `groupId` is no text",
            "it has neither `hash` nor",
            "there is no URL for it",
        ],
    ),
    (
        "not for people",
        &[
            " at line {} column {}",
            "import urllib.request",
            "a page of `buildproxy doctor`",
            "default-src 'none'",
            "-----BEGIN",
            "builtins.toFile",
            "var buildproxy-values",
        ],
    ),
];

#[test]
fn every_text_of_the_source_is_on_a_page_or_in_a_unit_test() {
    let texts = texts::all();
    let pages = page::names().into_iter().map(|name| page::read(&name));
    let tests = texts.iter().filter(|text| text.is_for == For::Test).map(|text| text.value.clone());
    let said = Said::new(pages.chain(tests));
    let starts = || EXCEPTIONS.iter().flat_map(|(_, starts)| *starts);
    let mut exceptions: BTreeSet<&str> = starts().copied().collect();
    let mut missing = Vec::new();
    let groups = texts::by_pieces(texts.iter().filter(|text| text.is_said()));
    assert!(groups.len() > 600, "only {} texts found: the search is broken", groups.len());
    // What the source has at several places is said several times.
    for (pieces, texts) in groups.iter().filter(|(pieces, texts)| said.times(pieces) < texts.len()) {
        match starts().find(|start| texts[0].value.starts_with(**start)) {
            Some(start) => drop(exceptions.remove(start)),
            None => {
                let places = texts.iter().map(|text| &*text.place).collect::<Vec<_>>().join(", ");
                missing.push(format!("{places}: {:?}, {} times", texts[0].value, said.times(pieces)));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "no page and no unit test has\n{}\n\nhint: add a command to a page of tests/golden that makes it say that",
        missing.join("\n")
    );
    assert!(exceptions.is_empty(), "these are no exceptions any more: {exceptions:?}");
}

#[test]
fn a_text_that_nothing_shows_is_found() {
    let said = Said::new(["error: cannot read a: no\n".to_owned()].into_iter());
    let times = |value: &str| {
        let text = texts::Text { place: String::new(), value: value.to_owned(), is_for: For::Error };
        texts::by_pieces([text].iter()).keys().map(|pieces| said.times(pieces)).sum::<usize>()
    };
    assert_eq!(times("cannot read {}: {error}"), 1);
    for value in ["cannot read {}; hint: {}", "cannot write {}: {error}", "read {path} cannot"] {
        assert_eq!(times(value), 0, "{value}");
    }
}

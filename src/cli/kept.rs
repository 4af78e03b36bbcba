//! What commands say of what they put into an inventory: which bodies are not fetched again and why, which are too large for
//! version control, what got several answers, and what requests are compared without; and the globs that hints name.

use std::collections::{BTreeMap, BTreeSet};

use super::output;
use crate::{
    capture::{LeftOut, Omission, Sequence},
    inventory::{self, Entry, Source, Why},
    secrets,
    text::printable,
};

/// The size in bytes from which a file beside the inventory is pointed out: every clone of the repository gets each version
/// of it, for ever.
const LARGE_FILE: u64 = 5 << 20;

/// The size in bytes of all files beside the inventory from which that is.
const LARGE_TOTAL: u64 = 50 << 20;

/// How many are kept for which reason, the most first.
pub fn reasons(kept: &BTreeMap<Why, usize>) -> Vec<String> {
    let mut kept: Vec<(Why, usize)> = kept.iter().map(|(why, count)| (*why, *count)).collect();
    kept.sort_by_key(|(why, count)| (std::cmp::Reverse(*count), *why));
    kept.iter().map(|(why, count)| format!("           {count} kept: {}", why.reason())).collect()
}

/// What is too large to be committed, of what was `recorded` and of all that is `beside` the inventory, in bytes.
pub fn large(recorded: &[Entry], beside: u64) -> Vec<String> {
    let mut warnings = Vec::new();
    for entry in recorded {
        let Some(body) = &entry.body else { continue };
        let (Source::File(_), Some(size @ LARGE_FILE..)) = (&body.source, body.size) else { continue };
        let (url, size) = (printable(entry.url.as_str()), output::bytes(size));
        warnings.push(format!("{url} is kept as a file of {size}"));
    }
    if beside > LARGE_TOTAL {
        warnings.push(format!("the files beside the inventory have {}", output::bytes(beside)));
    }
    if let Some(last) = warnings.last_mut() {
        last.push_str(
            "\n  hint: before you commit that to git: `buildproxy move --to store-path URL-GLOB` puts it into the Nix store, \
             from where `buildproxy push` shares it",
        );
    }
    warnings
}

/// The requests that `--only` does not name and that the inventory could not answer, each once.
pub fn passed_through(left_out: &[Omission]) -> Vec<String> {
    let others = left_out.iter().filter(|omission| omission.reason == LeftOut::NotSelected);
    let lines: BTreeSet<String> = others
        .map(|Omission { method, url, reason }| {
            printable(&format!(
                "{method} {} was passed on and is not recorded: {reason}",
                secrets::redacted(url.as_str())
            ))
        })
        .collect();
    lines.into_iter().collect()
}

/// The requests that were answered in different ways, which in another order, or once more, the next build may ask again.
pub fn sequences(sequences: &[Sequence]) -> Vec<String> {
    let line = |Sequence { method, url, answers, accepted }: &Sequence| {
        let request = secrets::redacted(url.as_str());
        let line = format!(
            "{method} {request} got {answers} different answers; replay gives them in that order, and then the last"
        );
        let said = |accept: &String| if accept.is_empty() { "none".to_owned() } else { format!("`{accept}`") };
        let hint = match &accepted[..] {
            [] => String::new(),
            several => format!(
                "\n  hint: the requests differ in `Accept` ({}), of which the answers' `Vary` says nothing: if that is why, write \
                 `request-headers = {{ accept = \"…\" }}` into each of its entries, with what belongs to it",
                printable(&several.iter().map(said).collect::<Vec<_>>().join(", "))
            ),
        };
        printable(&line) + &hint
    };
    sequences.iter().map(line).collect()
}

/// Says which query parameters are now left out of the comparison of requests.
pub fn say_ignored(names: &[String]) {
    for name in names {
        let name = printable(name);
        let what = format!("`{name}`, a credential: no entry has it, and requests are compared without it");
        output::done("ignoring", what);
    }
}

/// The glob that matches `text`, with a `*` in the place of what looks like a secret: what is printed may be kept in a log.
pub fn glob_without_secrets(text: &str) -> String {
    inventory::literal_glob(&secrets::redacted(text)).replace('…', "*")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{inventory::Body, store::hash::NixHash};

    fn of_size(size: u64, source: Source) -> Entry {
        let body = Body { hash: Some(NixHash::sha256(b"x")), size: Some(size), name: None, source };
        Entry { body: Some(body), ..Entry::get("http://h/a".parse().unwrap()) }
    }

    #[test]
    fn only_what_git_would_get_is_too_large_for_it() {
        let file = |size| of_size(size, Source::File("inventory.bodies/a".to_owned()));
        assert_eq!(large(&[file(LARGE_FILE - 1), of_size(1 << 40, Source::Fetch(None))], LARGE_TOTAL), [""; 0]);
        let warnings = large(&[file(LARGE_FILE), file(1)], LARGE_TOTAL + 1);
        assert_eq!(warnings.len(), 2);
        assert!(warnings[1].starts_with("the files beside the inventory have 50.00 MiB\n"), "{warnings:?}");
        assert!(warnings[0].contains("5.00 MiB") && warnings[1].contains("move --to store-path"), "{warnings:?}");
    }

    #[test]
    fn reasons_are_grouped_and_the_most_frequent_is_first() {
        let kept = BTreeMap::from([(Why::Status, 1), (Why::Page, 3)]);
        let lines = reasons(&kept);
        assert!(lines[0].trim_start().starts_with("3 kept: an HTML page") && lines.len() == 2, "{lines:?}");
    }
}

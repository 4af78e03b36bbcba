//! Comparing entries: their systems and their bytes.

use std::collections::BTreeSet;

use crate::inventory::{Body, Entry};

/// The systems that both lists are for; an empty list means all. `None` where there is none.
pub(super) fn common_systems<'a>(a: &'a [String], b: &'a [String]) -> Option<Vec<&'a str>> {
    let names = |list: &'a [String]| list.iter().map(String::as_str);
    match (a.is_empty(), b.is_empty()) {
        (true, true) => Some(vec!["every system"]),
        (true, false) => Some(names(b).collect()),
        (false, true) => Some(names(a).collect()),
        (false, false) => {
            let common: Vec<_> = names(a).filter(|name| names(b).any(|other| other == *name)).collect();
            (!common.is_empty()).then_some(common)
        }
    }
}

/// The systems of `entry` without order and repetition.
pub(super) fn system_set(entry: &Entry) -> BTreeSet<&str> {
    entry.systems.iter().map(String::as_str).collect()
}

/// Whether two bodies are the same bytes, as far as that can be told without reading them.
pub(super) fn same_bytes(a: Option<&Body>, b: Option<&Body>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => match (a.hash, b.hash) {
            (Some(x), Some(y)) => x == y,
            _ => a.source == b.source,
        },
        (None, None) => true,
        (Some(body), None) | (None, Some(body)) => body.size == Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_systems_means_all_of_them() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(common_systems(&list(&["a", "b"]), &list(&["b", "c"])), Some(vec!["b"]));
        assert_eq!(common_systems(&list(&["a"]), &list(&["b"])), None);
        assert_eq!(common_systems(&list(&[]), &list(&["b"])), Some(vec!["b"]));
        assert!(common_systems(&[], &[]).is_some());
    }
}

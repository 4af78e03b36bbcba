//! An inventory against its bodies and against itself: everything that is wrong, not only the first.
//!
//! `bodies` looks at the bytes: there, of the right size, with the right hash. `consistency` and `redirects` look at
//! the entries alone, for what replay could not answer, or would answer differently from what was meant.

mod bodies;
mod compare;
mod consistency;
mod finding;
mod hashing;
mod names;
mod private;
mod redirects;
mod registration;

pub use finding::{Finding, FindingKind};
pub use names::read_despite_names;

use crate::inventory::{BodyFiles, Inventory};

/// Checks all of `inventory`, the bodies on as many threads as there are cores. `progress` is told, on the calling
/// thread, how many bytes more were hashed.
///
/// The findings are in the order of the file; those about the whole inventory come first. None means that it is good.
pub fn verify(inventory: &Inventory, files: &BodyFiles, progress: &dyn Fn(u64)) -> Vec<Finding> {
    let mut findings = consistency::check(inventory);
    findings.extend(redirects::check(inventory));
    findings.extend(private::check(inventory, files));
    findings.extend(bodies::check(inventory, files, progress));
    findings.sort_by_key(|finding| finding.entry);
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inventory::{Body, Entry, Source},
        store::{Stores, embedded::EmbeddedStore, hash::NixHash},
    };

    #[test]
    fn all_findings_come_at_once_in_the_order_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let stores = Stores::new(None, EmbeddedStore::new(folder.path().join("store")));
        let files = BodyFiles { inventory_dir: folder.path().to_owned(), stores };
        let text = |text: &str, of: &str| {
            let source = Source::Text(text.to_owned());
            Some(Body { hash: Some(NixHash::sha256(of.as_bytes())), size: Some(1), name: None, source })
        };
        let entry = |path: &str| Entry::get(format!("http://h/{path}").parse().unwrap());
        let entries = vec![
            Entry { body: text("b", "a"), ..entry("a") },
            Entry { status: 99, ..entry("b") },
            Entry { body: text("a", "a"), ..entry("c") },
        ];
        let inventory = Inventory { entries, ..Inventory::default() };
        let findings = verify(&inventory, &files, &|_| {});
        assert_eq!(findings.iter().map(|finding| finding.entry).collect::<Vec<_>>(), [Some(0), Some(1)]);
    }
}

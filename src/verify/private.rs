//! What looks like a secret in an inventory that somebody else, or an older buildproxy, wrote.

use super::{consistency::finding, finding::Finding, finding::FindingKind};
use crate::{
    inventory::{Body, BodyFiles, Inventory, Located, Source},
    secrets::{self, Suspect},
    store::regular,
};

/// A finding for each entry that has something that looks like a long-lived key, in itself or in a file beside it.
pub(super) fn check(inventory: &Inventory, files: &BodyFiles) -> Vec<Finding> {
    let suspects = inventory.entries.iter().enumerate().filter_map(|(index, entry)| {
        let suspect = secrets::in_entry(entry).or_else(|| beside(entry.body.as_ref()?, files))?;
        Some((index, FindingKind::Secret { what: suspect.what, place: suspect.place }))
    });
    suspects.map(|(index, kind)| redacted(finding(inventory, index, kind))).collect()
}

fn beside(body: &Body, files: &BodyFiles) -> Option<Suspect> {
    if !matches!(body.source, Source::File(_)) || body.size.is_none_or(|size| size > secrets::MOST_BYTES) {
        return None;
    }
    // What is missing, or too large now, is found by others.
    match files.locate(body).ok()? {
        Located::Beside(path) | Located::Store(path) if files.check_size(body, &path).is_ok() => {
            secrets::in_bytes(&regular::read(&path, secrets::MOST_BYTES).ok()?)
        }
        _ => None,
    }
}

/// The finding without the secret, where the URL itself has it: logs are kept.
fn redacted(finding: Finding) -> Finding {
    Finding { url: secrets::redacted(&finding.url).into_owned(), ..finding }
}

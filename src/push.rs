//! What has to be in the Nix store before an inventory's closure can be copied to a binary cache.

use std::collections::HashSet;

use crate::{
    capture,
    fetch::{self, Outside},
    inventory::{Body, BodyFiles, Inventory, Source},
    store::{
        nix::{NixError, NixStore},
        path::StorePath,
    },
};

/// What an inventory's closure is made of.
#[derive(Debug, Default)]
pub struct Closure {
    /// The store objects: bodies that are fetched, and what `store-path` bodies lie in.
    pub objects: Vec<StorePath>,
    /// Those that have yet to be put into the Nix store.
    pub outside: Vec<Outside>,
    /// What is nowhere, or not as it has to be.
    pub missing: Vec<Missing>,
}

/// A body that cannot be copied.
#[derive(Debug)]
pub struct Missing {
    /// The entry's URL.
    pub url: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// Looks for all that `inventory` has in stores. Bodies beside it or in it travel with it.
///
/// # Errors
/// Where Nix cannot be asked.
pub fn closure(inventory: &Inventory, files: &BodyFiles, nix: &NixStore) -> Result<Closure, NixError> {
    let (outside, _) = fetch::outside(inventory, files, nix)?;
    let bodies = inventory.entries.iter().filter_map(|entry| Some((entry, entry.body.as_ref()?)));
    let wanted: Vec<_> = bodies.filter(|(_, body)| is_in_store(body)).collect();
    let all: Vec<StorePath> = wanted.iter().filter_map(|(_, body)| capture::object(body)).collect();
    let mut there = nix.valid(&all)?;
    there.extend(outside.iter().map(|body| body.path.clone()));
    let (mut closure, mut seen) = (Closure { outside, ..Closure::default() }, HashSet::new());
    for (entry, body) in wanted {
        match capture::object(body) {
            Some(object) if !seen.insert(object.clone()) => {}
            Some(object) if there.contains(&object) => closure.objects.push(object),
            object => {
                let reason = reason(body, object.as_ref(), files);
                closure.missing.push(Missing { url: entry.url.to_string(), reason });
            }
        }
    }
    closure.objects.sort();
    Ok(closure)
}

fn is_in_store(body: &Body) -> bool {
    matches!(body.source, Source::Fetch(_) | Source::StorePath { .. })
}

/// Why `body` is in no store in the way that it has to be.
fn reason(body: &Body, object: Option<&StorePath>, files: &BodyFiles) -> String {
    match (files.locate(body), object) {
        (Err(error), _) => error.to_string(),
        (Ok(_), Some(object)) if matches!(body.source, Source::StorePath { .. }) => format!(
            "{path} is not registered in the Nix store: build it, or run `nix-store --realise {path}`",
            path = object.to_absolute_path()
        ),
        (Ok(_), Some(object)) => format!(
            "{} is there, but not with the bytes that the inventory pins: `buildproxy verify` says what to do",
            object.to_absolute_path()
        ),
        (Ok(_), None) => "the body has no store path: correct `store-path`, or add name and hash".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_without_a_store_path_says_what_to_add() {
        let files =
            BodyFiles { inventory_dir: ".".into(), stores: crate::store::Stores::open(Some("/none".into()), false) };
        let body = Body { hash: None, size: None, name: None, source: Source::Text(String::new()) };
        let text = "the body has no store path: correct `store-path`, or add name and hash";
        assert_eq!(reason(&body, None, &files), text);
    }
}

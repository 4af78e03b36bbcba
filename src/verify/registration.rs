//! Bodies in the Nix store against what Nix itself has registered of them.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::Path,
};

use super::finding::FindingKind;
use crate::{
    capture,
    inventory::{Body, Source, replace_in_nix_store},
    store::{
        Stores,
        hash::NixHash,
        nix::{Registration, flat_content_address},
        path::StorePath,
    },
};

/// A store object in the Nix store that a body is, or lies in.
pub(super) struct Seen {
    /// The entry that is reported.
    pub(super) entry: usize,
    /// The object.
    pub(super) object: StorePath,
    /// The content address that it has to have, where the inventory says.
    content_address: Option<String>,
    remedy: String,
}

impl Seen {
    /// The object that `body`, found at `file`, is or lies in, where that is in the Nix store.
    pub(super) fn new(entry: usize, body: &Body, file: &Path, stores: &Stores) -> Option<Self> {
        let object = capture::object(body)?;
        let in_nix = object.to_path(stores.nix_store_dir()?);
        // What lies in a store path was found by resolving links. Where the inventory itself is in the store, what is beside
        // it has no store path there.
        let is_there = match body.source {
            Source::StorePath { .. } => fs::symlink_metadata(&in_nix).is_ok(),
            _ => file == in_nix,
        };
        let (content_address, remedy) = match (&body.source, body.hash) {
            (Source::StorePath { .. }, _) => {
                let path = object.to_absolute_path();
                (None, format!("build it, or run `nix-store --realise {path}`"))
            }
            (_, hash) => (
                hash.map(|hash| flat_content_address(&hash)),
                "run `buildproxy fetch`, which has Nix take it".to_owned(),
            ),
        };
        is_there.then_some(Self { entry, object, content_address, remedy })
    }

    /// What is wrong with the registration, as far as that can be told without reading the object.
    pub(super) fn check(&self, registrations: &Registrations) -> Option<FindingKind> {
        let registrations = registrations.0.as_ref()?;
        let path = self.object.to_absolute_path();
        let Some(registration) = registrations.get(&self.object) else {
            return Some(FindingKind::NotRegistered { path, remedy: self.remedy.clone() });
        };
        // What came from a cache may have none.
        let registered = registration.content_address.clone()?;
        let expected = self.content_address.clone()?;
        let remedy = replace_in_nix_store(&self.object);
        (registered != expected).then_some(FindingKind::WrongContentAddress { path, registered, expected, remedy })
    }
}

/// What Nix has registered; nothing where there is no Nix, or no database.
pub(super) struct Registrations(Option<HashMap<StorePath, Registration>>);

impl Registrations {
    /// Asks for all of `objects` in few processes.
    pub(super) fn of<'a>(objects: impl Iterator<Item = &'a StorePath>, stores: &Stores) -> Self {
        let objects: Vec<StorePath> = objects.collect::<BTreeSet<_>>().into_iter().cloned().collect();
        let nix = stores.nix_store().filter(|_| !objects.is_empty());
        let asked = nix.map(|nix| nix.registrations(&objects)).transpose();
        Self(asked.map(Option::flatten).unwrap_or_else(|error| {
            tracing::warn!("bodies are not compared with what Nix has registered: {error}");
            None
        }))
    }

    /// The registered hash of the archive of `object`.
    pub(super) fn nar_hash(&self, object: &StorePath) -> Option<NixHash> {
        self.0.as_ref()?.get(object)?.nar_hash
    }
}

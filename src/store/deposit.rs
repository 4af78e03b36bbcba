//! Where new bodies go: to the Nix store as long as it takes them, else to the embedded one.

use std::{
    collections::HashSet,
    fmt,
    path::{Path, PathBuf},
};

use super::{
    Stores,
    embedded::{EmbeddedStore, StoreError, has},
    hash::NixHash,
    nix::{NixError, NixStore},
    path::StorePath,
};

/// A body on its way to a store.
#[derive(Debug, Clone)]
pub struct NewBody<'a> {
    /// The store path that it gets.
    pub path: StorePath,
    /// Its hash.
    pub hash: NixHash,
    /// Its size in bytes.
    pub size: u64,
    /// Where it is.
    pub bytes: Bytes<'a>,
}

/// Where a body on its way to a store is.
#[derive(Debug, Clone, Copy)]
pub enum Bytes<'a> {
    /// In memory.
    Memory(&'a [u8]),
    /// In this file, which stays.
    File(&'a Path),
}

/// Why the Nix store is not written, or not any more.
#[derive(Debug)]
pub enum Refusal {
    /// Nix did not take a body.
    Nix(NixError),
    /// There is no room for the files that Nix is given.
    NoScratch(std::io::Error),
    /// Nix holds a body for valid that is not there with its bytes.
    Damaged(PathBuf),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nix(error) => error.fmt(f),
            Self::NoScratch(error) => write!(f, "cannot make a temporary folder: {error}"),
            Self::Damaged(file) => {
                write!(f, "{} is registered, but does not have its bytes: see `buildproxy verify`", file.display())
            }
        }
    }
}

/// Puts new bodies into stores, and remembers which went to the Nix store.
#[derive(Debug)]
pub struct Deposit {
    nix: Option<NixStore>,
    embedded: EmbeddedStore,
    in_nix: HashSet<StorePath>,
    refusal: Option<Refusal>,
}

impl Deposit {
    /// For the stores that are written.
    pub fn new(stores: &Stores) -> Self {
        Self::into_nix(stores.nix_store(), stores.embedded().clone())
    }

    /// For the Nix store `nix`, where there is one, and `embedded`.
    pub fn into_nix(nix: Option<NixStore>, embedded: EmbeddedStore) -> Self {
        Self { nix, embedded, in_nix: HashSet::new(), refusal: None }
    }

    /// The embedded store.
    pub fn embedded(&self) -> &EmbeddedStore {
        &self.embedded
    }

    /// The Nix store, where there is one that still takes bodies.
    pub fn nix(&self) -> Option<&NixStore> {
        self.nix.as_ref().filter(|_| self.refusal.is_none())
    }

    /// Where it does not take them any more: why, where they are, and what to do.
    pub fn warning(&self) -> Option<String> {
        let (refusal, embedded) = (self.refusal.as_ref()?, self.embedded.dir().display());
        let which = if self.in_nix.is_empty() { "bodies are" } else { "other bodies are" };
        Some(format!(
            "{which} in {embedded}, because the Nix store did not take them: {refusal}\n  hint: when it does, \
             `buildproxy fetch` puts them there; `--no-nix-store` leaves it out"
        ))
    }

    /// Why it does not take them any more.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// Leaves the Nix store out from here on, because of `error`.
    pub fn refuse(&mut self, error: NixError) {
        self.refusal = Some(Refusal::Nix(error));
    }

    /// Whether `path` is in the Nix store by what was added here.
    pub fn is_in_nix(&self, path: &StorePath) -> bool {
        self.in_nix.contains(path)
    }

    /// How many bodies are.
    pub fn count_in_nix(&self) -> usize {
        self.in_nix.len()
    }

    /// Puts `bodies` into the Nix store, many at a time. What it does not take is not in it afterwards, and has to go to
    /// the embedded store.
    pub fn add(&mut self, bodies: &[NewBody]) {
        let Some(nix) = self.nix().cloned() else { return };
        if let Err(refusal) = self.try_add(&nix, bodies) {
            tracing::debug!("the Nix store takes no more bodies: {refusal}");
            self.refusal = Some(refusal);
        }
    }

    fn try_add(&mut self, nix: &NixStore, bodies: &[NewBody]) -> Result<(), Refusal> {
        let mut known = HashSet::new();
        let new = bodies.iter().filter(|body| !self.in_nix.contains(&body.path) && known.insert(&body.path));
        let new: Vec<NewBody> = new.cloned().collect();
        let paths: Vec<StorePath> = new.iter().map(|body| body.path.clone()).collect();
        let valid = nix.valid(&paths).map_err(Refusal::Nix)?;
        let (there, absent): (Vec<_>, Vec<_>) = new.into_iter().partition(|body| valid.contains(&body.path));
        // What went away meanwhile is found missing where it is looked for again.
        let absent: Vec<_> = absent.into_iter().filter(NewBody::is_there).collect();
        if !absent.is_empty() {
            let scratch = self.embedded.temporary_spool().map_err(Refusal::NoScratch)?;
            let (added, result) = nix.add(&absent, scratch.path());
            self.in_nix.extend(added);
            result.map_err(Refusal::Nix)?;
        }
        for body in there {
            let file = body.path.to_path(nix.dir());
            if !has(&file, body.size, &body.hash) {
                return Err(Refusal::Damaged(file));
            }
            self.in_nix.insert(body.path);
        }
        Ok(())
    }

    /// Gives, and forgets, those bodies that a garbage collection has taken since they were added, before anything kept
    /// them.
    pub fn forget_collected(&mut self) -> HashSet<StorePath> {
        let is_collected = |path: &StorePath| self.nix.as_ref().is_some_and(|nix| nix.file(path).is_none());
        self.in_nix.extract_if(|path| is_collected(path)).collect()
    }

    /// Puts `body` into the embedded store, unless the Nix store has it; a file is moved there, if it can be.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn store(&self, body: &NewBody) -> Result<(), StoreError> {
        if self.is_in_nix(&body.path) {
            return Ok(());
        }
        let name = &body.path.name();
        match body.bytes {
            Bytes::Memory(bytes) => self.embedded.insert_pinned(bytes, &body.hash, name),
            Bytes::File(file) => self.embedded.adopt(file, &body.hash, body.size, name),
        }
        .map(drop)
    }
}

impl NewBody<'_> {
    fn is_there(&self) -> bool {
        match self.bytes {
            Bytes::Memory(_) => true,
            Bytes::File(file) => file.exists(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_without_room_for_what_nix_is_given_says_so() {
        let refusal = Refusal::NoScratch(std::io::Error::other("no"));
        assert_eq!(refusal.to_string(), "cannot make a temporary folder: no");
    }
}

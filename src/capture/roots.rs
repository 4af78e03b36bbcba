//! What keeps an inventory's bodies in the Nix store: one object that refers to all of them, and a garbage collector's root
//! for that beside the inventory.
//!
//! The root is a link in `.buildproxy/`, which Nix knows of: when the inventory's folder goes, so does what it kept.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::journal::{FolderLock, JournalError, JournalFolder};
use crate::{
    inventory::{Body, Inventory, Source},
    store::{
        nix::{NixError, NixStore},
        path::{STORE_DIR, StorePath, StorePathName},
    },
};

/// What the names of roots end in; before it is the inventory's.
const SUFFIX: &str = ".root";

/// The store objects that the bodies of `inventory` are, or lie in.
pub fn objects(inventory: &Inventory) -> BTreeSet<StorePath> {
    inventory.entries.iter().filter_map(|entry| object(entry.body.as_ref()?)).collect()
}

/// The store object that `body` is, or lies in, where it can be in a store.
pub fn object(body: &Body) -> Option<StorePath> {
    match &body.source {
        Source::StorePath { path, .. } => {
            let inside = path.strip_prefix(STORE_DIR)?.strip_prefix('/')?;
            StorePath::from_base_name(inside.split('/').next()?).ok()
        }
        Source::Fetch(_) | Source::File(_) => body.store_path(),
        Source::Text(_) => None,
    }
}

/// Keeps what is valid in the Nix store of the bodies of `inventory`, which is the one that `folder` is for, as long as that
/// is there. Gives the object that refers to it all; `None` where there is nothing.
///
/// # Errors
/// Where Nix does not make the object or the root. What was kept before is then kept still.
pub fn keep(
    nix: &NixStore,
    inventory: &Inventory,
    folder: &JournalFolder,
    _lock: &FolderLock,
) -> Result<Option<StorePath>, NixError> {
    let root = folder.path().join(format!("{}{SUFFIX}", folder.inventory()));
    if let Err(error) = remove_stale(folder.path()) {
        tracing::debug!("cannot look for roots of inventories that are gone: {error}");
    }
    let wanted: Vec<StorePath> = objects(inventory).into_iter().collect();
    let name = StorePathName::sanitized(&format!("buildproxy-{}", folder.inventory()));
    let attempt = || {
        let valid = nix.valid(&wanted)?;
        let paths: Vec<StorePath> = wanted.iter().filter(|path| valid.contains(path)).cloned().collect();
        if paths.is_empty() {
            // Where it stays, it keeps what nobody needs; nothing is lost.
            let _ = fs::remove_file(&root);
            return Ok(None);
        }
        let object = nix.list_object(&name, &paths)?;
        nix.add_root(&object, &absolute(&root)).map(|()| Some(object))
    };
    // A collection can take the object, or what it refers to, before the root is there: then it is made once more.
    attempt().or_else(|_| attempt())
}

/// Why nothing keeps the bodies of an inventory.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// Nix does not do it.
    #[error(transparent)]
    Nix(#[from] NixError),
    /// There is no room beside the inventory.
    #[error(transparent)]
    Beside(#[from] JournalError),
}

/// The same for the inventory in `file`, unless others capture into it: then it waits. Does nothing for one that is itself in
/// the store, where nothing can be beside it.
///
/// # Errors
/// As [`keep`], and where nothing can be written beside the inventory.
pub fn keep_beside(nix: &NixStore, inventory: &Inventory, file: &Path) -> Result<Option<StorePath>, KeepError> {
    let is_in_store = |dir: &Path| dir.canonicalize().is_ok_and(|dir| file.starts_with(dir));
    if objects(inventory).is_empty() || is_in_store(nix.dir()) || is_in_store(Path::new(STORE_DIR)) {
        return Ok(None);
    }
    let folder = JournalFolder::create(file)?;
    let lock = folder.lock()?;
    Ok(keep(nix, inventory, &folder, &lock)?)
}

/// What to say where [`keep`] failed.
pub fn not_kept(error: &dyn std::error::Error) -> String {
    format!(
        "nothing keeps the bodies from the garbage collection of Nix: {error}\n  hint: `buildproxy fetch` tries again, and \
         gets what was collected"
    )
}

/// Nix remembers a root by its path, so it has to be a whole one.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Removes the roots in `folder` whose inventory, in the folder above, does not exist any more.
fn remove_stale(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(inventory) = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)) else { continue };
        let is_gone = matches!(folder.join("..").join(inventory).try_exists(), Ok(false));
        if is_gone && entry.file_type()?.is_symlink() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{inventory::Entry, store::hash::NixHash};

    #[test]
    fn bodies_in_stores_are_objects_and_texts_are_none() {
        let body = |source| Body {
            hash: Some(NixHash::sha256(b"b")),
            size: Some(1),
            name: StorePathName::new("b").ok(),
            source,
        };
        let package = "0000000000000000000000000000000a-package";
        let inside = |path: &str| body(Source::StorePath { path: path.to_owned(), nar_hash: None });
        let fetched = body(Source::Fetch(None));
        let bodies = [
            fetched.clone(),
            body(Source::File("b".to_owned())),
            body(Source::Text("b".to_owned())),
            inside(&format!("/nix/store/{package}/share/b")),
            inside("/nix/store/short"),
            inside("/elsewhere"),
        ];
        let entry = |body| Entry { body: Some(body), ..Entry::get("http://h/".parse().unwrap()) };
        let inventory = Inventory { entries: bodies.into_iter().map(entry).collect(), ..Inventory::default() };
        let expected = [StorePath::from_base_name(package).unwrap(), fetched.store_path().unwrap()];
        assert_eq!(objects(&inventory), BTreeSet::from(expected));
    }

    #[test]
    fn only_roots_of_inventories_that_are_gone_are_removed() {
        let beside = tempfile::tempdir().unwrap();
        let folder = beside.path().join(".buildproxy");
        fs::create_dir(&folder).unwrap();
        fs::write(beside.path().join("a.toml"), "").unwrap();
        fs::write(folder.join("file.root"), "").unwrap();
        for name in ["a.toml.root", "b.toml.root", "link"] {
            std::os::unix::fs::symlink("/nix/store/object", folder.join(name)).unwrap();
        }
        remove_stale(&folder).unwrap();
        let mut left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a.toml.root", "file.root", "link"]);
    }
}

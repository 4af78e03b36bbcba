//! Bodies that travel with an inventory: written in it as text, or in files beside it.

mod carry;

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    inventory::{self, Entry, Inventory, Source},
    store::{deposit::Bytes, hash::NixHash, path::StorePathName, regular},
};

pub use carry::Moving;

/// Longest body, in bytes, that is written into the inventory itself.
pub const MAX_TEXT: u64 = 4096;

/// The body as the text that TOML and Nix can both hold.
pub fn as_text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() as u64 <= MAX_TEXT)?;
    let is_plain = text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'));
    is_plain.then(|| text.to_owned())
}

/// The name of the file with these bytes, of a body called `name`: one content has one file, whatever else has that name.
pub fn file_name(hash: &NixHash, name: &StorePathName) -> StorePathName {
    StorePathName::sanitized(&format!("{}-{name}", &hash.to_nix32()[..8]))
}

/// The size in bytes of all files beside `inventory`, each once, as it says.
pub fn bytes(inventory: &Inventory) -> u64 {
    let sizes: HashMap<&str, u64> =
        inventory.entries.iter().filter_map(|entry| Some((file(entry)?, entry.body_size().unwrap_or(0)))).collect();
    sizes.values().sum()
}

/// The folder for the files: `inventory.bodies` beside `inventory.toml`.
#[derive(Debug)]
pub struct BesideFolder {
    folder: PathBuf,
    /// Its name, as entries write it.
    name: String,
}

/// Why a file beside the inventory cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct Unwritable {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl BesideFolder {
    /// The folder of the inventory at `path`; touches no file.
    pub fn of(path: &Path) -> Self {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("{stem}.bodies");
        Self { folder: path.with_file_name(&name), name }
    }

    /// The file called `name` as entries write it.
    pub fn relative(&self, name: &str) -> String {
        format!("{}/{name}", self.name)
    }

    /// Where that is.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes the file called `name`, whole or not at all.
    ///
    /// # Errors
    /// Where the folder cannot be made or written to.
    pub fn write(&self, name: &str, bytes: Bytes<'_>) -> Result<(), Unwritable> {
        let path = self.path_of(name);
        let failed = |source| Unwritable { path: path.clone(), source };
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let attributes = self.path_of(".gitattributes");
        if !attributes.exists() {
            // Line endings are part of the hash.
            inventory::write_atomically(&attributes, &mut &b"* -text\n"[..]).map_err(failed)?;
        }
        match bytes {
            Bytes::Memory(mut bytes) => inventory::write_atomically(&path, &mut bytes).map_err(failed),
            Bytes::File(file) => {
                let mut file = regular::open(file).map_err(failed)?;
                inventory::write_atomically(&path, &mut file).map_err(failed)
            }
        }
    }

    /// Removes those files of this folder that `before` refers to and `now` does not.
    pub fn remove_unused<'a>(&self, before: impl IntoIterator<Item = &'a Entry>, now: &[Entry]) {
        let used: HashSet<&str> = now.iter().filter_map(file).collect();
        for file in before.into_iter().filter_map(file).filter(|file| !used.contains(file)) {
            let name = file.strip_prefix(&self.name).and_then(|rest| rest.strip_prefix('/'));
            if let Some(name) = name.filter(|name| !name.contains('/') && *name != "..") {
                // A file that stays is no harm: nothing refers to it.
                let _ = fs::remove_file(self.path_of(name));
            }
        }
    }
}

/// The file beside the inventory that `entry` refers to.
fn file(entry: &Entry) -> Option<&str> {
    match &entry.body.as_ref()?.source {
        Source::File(file) => Some(file),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Body;

    #[test]
    fn a_text_is_short_and_plain_utf_8() {
        assert_eq!(as_text("line\r\n\tä".as_bytes()).as_deref(), Some("line\r\n\tä"));
        for bytes in [&b"a\0"[..], b"\x1b[0m", b"\xff", &[b'x'; 4097]] {
            assert_eq!(as_text(bytes), None);
        }
    }

    #[test]
    fn only_files_that_nothing_refers_to_any_more_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let beside = BesideFolder::of(&folder.path().join("inventory.toml"));
        for name in ["a", "b"] {
            beside.write(name, Bytes::Memory(b"x")).unwrap();
        }
        fs::write(folder.path().join("c"), "x").unwrap();
        let entry = |file: &str| {
            let source = Source::File(file.to_owned());
            let body = Body { hash: None, size: None, name: None, source };
            Entry { body: Some(body), ..Entry::get("http://h/".parse().unwrap()) }
        };
        let before = ["inventory.bodies/a", "inventory.bodies/b", "c", "inventory.bodies/../c"].map(entry);
        beside.remove_unused(&before, &[entry("inventory.bodies/b")]);
        let left = |name: &str| beside.path_of(name).exists();
        assert_eq!((left("a"), left("b"), folder.path().join("c").exists()), (false, true, true));
        assert_eq!(fs::read(beside.path_of(".gitattributes")).unwrap(), b"* -text\n");
    }
}

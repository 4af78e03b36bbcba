//! Gives bodies another source: their bytes stay what they are, and so do their hashes.
//!
//! First everything is looked at and [planned](plan), then the new places get the bytes, then the inventory is written, and
//! only then old files go. So whatever fails, the inventory is true.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    beside::{self, BesideFolder, MAX_TEXT, Unwritable},
    capture::{self, FolderLock, JournalFolder},
    fetch::{self, Wanted},
    inventory::{self, Body, BodyFiles, Entry, Inventory, Located, Source, Why, pinned_by_redirect},
    store::{
        deposit::{Bytes, Deposit, NewBody},
        embedded::StoreError,
        hash::{HashAlgo, Hasher, NixHash, hash_file},
        nar,
        path::{FileIngestionMethod, StorePath, build_ca_path},
        regular,
    },
};

/// Where bytes are to come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Everybody downloads them again.
    Fetch,
    /// A file beside the inventory.
    File,
    /// The inventory itself.
    Text,
    /// A store path, which `push` shares.
    StorePath,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fetch => "fetch",
            Self::File => "file",
            Self::Text => "text",
            Self::StorePath => "store-path",
        })
    }
}

/// A body whose bytes were found, and what becomes of it.
#[derive(Debug, Clone)]
pub struct Move {
    /// The entry, counted from 0.
    pub entry: usize,
    /// The entry's URL.
    pub url: String,
    /// What has to be asked before, where it is to be fetched.
    pub wanted: Option<Wanted>,
    /// Where it was until then.
    from: Target,
    body: Body,
    /// The store path of the bytes, wherever they are.
    path: StorePath,
    hash: NixHash,
    size: u64,
    bytes: Found,
}

/// Where the bytes are now.
#[derive(Debug, Clone)]
enum Found {
    Memory(Vec<u8>),
    File(PathBuf),
}

impl Found {
    fn bytes(&self) -> Bytes<'_> {
        match self {
            Self::Memory(bytes) => Bytes::Memory(bytes),
            Self::File(file) => Bytes::File(file),
        }
    }
}

/// Why a body stays where it is.
#[derive(Debug, Serialize)]
pub struct Obstacle {
    /// The entry's URL.
    pub url: String,
    /// What is in the way, and what to do.
    pub reason: String,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.url, self.reason)
    }
}

/// Why moving failed half-way. The inventory is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RelocateError {
    /// A file beside the inventory cannot be written.
    #[error(transparent)]
    Beside(#[from] Unwritable),
    /// The store does not take a body.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A body cannot be copied on its way to the store.
    #[error("cannot copy {}: {source}", path.display())]
    Copy {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A body in the store cannot be hashed.
    #[error(transparent)]
    Nar(#[from] nar::NarError),
    /// The inventory cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Inventory {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What moving `picked` entries of the inventory at `path` to `to` takes; nothing for those that are there already. Looks at
/// all bytes, and writes nothing.
pub fn plan(
    inventory: &Inventory,
    path: &Path,
    picked: &[usize],
    to: Target,
    files: &BodyFiles,
) -> Vec<Result<Move, Obstacle>> {
    let bodies = picked.iter().filter_map(|&index| {
        let entry = inventory.entries.get(index)?;
        Some((index, entry, entry.body.as_ref()?))
    });
    let folder = BesideFolder::of(path);
    let plan = |(index, entry, body): (usize, &Entry, &Body)| match target_of(body) == to {
        true => None,
        false => Some(plan_one(index, entry, body, to, files, &folder).map_err(|reason| {
            let url = entry.url.to_string();
            Obstacle { url, reason }
        })),
    };
    bodies.filter_map(plan).collect()
}

/// The same to where a capture would keep the bytes: in the inventory where they are a short text, else beside it.
pub fn plan_to_keep(
    inventory: &Inventory,
    path: &Path,
    picked: &[usize],
    files: &BodyFiles,
) -> Vec<Result<Move, Obstacle>> {
    let keep = |index: &usize| {
        let mut texts = plan(inventory, path, &[*index], Target::Text, files);
        match texts.pop() {
            Some(Err(_)) => plan(inventory, path, &[*index], Target::File, files),
            text => text.into_iter().collect(),
        }
    };
    picked.iter().flat_map(keep).collect()
}

fn target_of(body: &Body) -> Target {
    match body.source {
        Source::Fetch(_) => Target::Fetch,
        Source::File(_) => Target::File,
        Source::Text(_) => Target::Text,
        Source::StorePath { .. } => Target::StorePath,
    }
}

fn plan_one(
    index: usize,
    entry: &Entry,
    body: &Body,
    to: Target,
    files: &BodyFiles,
    folder: &BesideFolder,
) -> Result<Move, String> {
    let (Some(hash), Some(size)) = (body.hash, body.size) else {
        return Err(
            "the body has no hash or no size, so nobody can tell whether its bytes are right: add both".to_owned()
        );
    };
    let bytes = find(body, hash, size, files)?;
    // What moves on gives other bytes after the next release, whatever it gives today.
    let pinned = pinned_by_redirect(entry).map(|url| url.to_string());
    let name = body.name.clone().unwrap_or_else(|| entry.url.store_path_name());
    let path = build_ca_path(&name, FileIngestionMethod::Flat, &hash);
    let moved = |name, source| Body { hash: Some(hash), size: Some(size), name, source };
    let from = target_of(body);
    let body = match to {
        Target::Text => moved(None, Source::Text(text(&bytes, size)?)),
        Target::File => moved(None, Source::File(folder.relative(beside::file_name(&hash, &name).as_str()))),
        Target::Fetch => {
            let reasons: Vec<&str> = Why::not_askable(entry).map(Why::reason).collect();
            if !reasons.is_empty() {
                return Err(format!("Nix cannot fetch it: {}", reasons.join(", and ")));
            }
            moved(Some(name), Source::Fetch(pinned.clone()))
        }
        Target::StorePath => {
            // Its NAR hash is that of the file that is in the store by then.
            moved(None, Source::StorePath { path: path.to_absolute_path(), nar_hash: None })
        }
    };
    let origin = pinned.unwrap_or_else(|| entry.url.to_string());
    let wanted = (to == Target::Fetch).then(|| fetch::wanted_from(entry, origin)).flatten();
    Ok(Move { entry: index, url: entry.url.to_string(), wanted, from, body, path, hash, size, bytes })
}

/// The bytes of `body`, checked.
fn find(body: &Body, hash: NixHash, size: u64, files: &BodyFiles) -> Result<Found, String> {
    let path = match files.locate(body).map_err(|error| error.to_string())? {
        Located::Text(text) => {
            let bytes = text.as_bytes().to_vec();
            let mut hasher = Hasher::new(hash.algo());
            hasher.update(&bytes);
            return match hasher.finish() == hash {
                true => Ok(Found::Memory(bytes)),
                false => Err("the text does not have its hash: correct one of them".to_owned()),
            };
        }
        Located::Store(path) | Located::Beside(path) => path,
    };
    files.check_size(body, &path).map_err(|error| error.to_string())?;
    let hashed = regular::open(&path).and_then(|file| hash_file(&file, hash.algo(), |_| {}));
    match hashed {
        Ok(found) if found == hash => {}
        Ok(found) => {
            let remedy = files.remedy(body, &path);
            return Err(format!("{} has hash {found} instead of {hash}; {remedy}", path.display()));
        }
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    }
    if size > MAX_TEXT {
        return Ok(Found::File(path));
    }
    regular::read(&path, MAX_TEXT)
        .map(Found::Memory)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn text(bytes: &Found, size: u64) -> Result<String, String> {
    let text = match bytes {
        Found::Memory(bytes) => beside::as_text(bytes),
        Found::File(_) => None,
    };
    text.ok_or_else(|| {
        format!("{size} bytes are no text for the inventory, which is UTF-8 of at most {MAX_TEXT}: move it to `file`")
    })
}

/// The inventory of which bodies are moved, and its folder, which nobody else changes meanwhile.
pub struct Place<'a> {
    /// The inventory's file.
    pub path: &'a Path,
    /// Where its bodies are.
    pub files: &'a BodyFiles,
    /// The folder beside it.
    pub folder: &'a JournalFolder,
    /// What keeps others away.
    pub lock: &'a FolderLock,
}

/// Gives the bodies of `moves` their places and writes the inventory. Gives that, and what to say where the Nix store has
/// not got what it should.
///
/// # Errors
/// Where something cannot be written; the inventory is as it was then.
pub fn apply(before: &Inventory, moves: &[Move], place: &Place) -> Result<(Inventory, Option<String>), RelocateError> {
    let folder = BesideFolder::of(place.path);
    let mut now = before.clone();
    let is_stored = |one: &&Move| matches!(one.body.source, Source::Fetch(_) | Source::StorePath { .. });
    let stored: Vec<&Move> = moves.iter().filter(is_stored).collect();
    let warning = store(&stored, place.files)?;
    let mut written = Vec::new();
    let result = moves.iter().try_for_each(|one| {
        let mut body = one.body.clone();
        match &mut body.source {
            Source::File(file) => {
                let name = file.rsplit('/').next().unwrap_or_default();
                let is_new = !folder.path_of(name).exists();
                folder.write(name, one.bytes.bytes())?;
                written.extend(is_new.then(|| folder.path_of(name)));
            }
            Source::StorePath { nar_hash, .. } => {
                if let Some(file) = place.files.stores.find_whole(&one.path, one.size, &one.hash) {
                    *nar_hash = Some(nar::hash_with(&file, HashAlgo::Sha256, |_| {})?);
                }
            }
            Source::Fetch(_) | Source::Text(_) => {}
        }
        now.entries[one.entry].body = Some(body);
        Ok(())
    });
    let result = result.and_then(|()| {
        let failed = |source| RelocateError::Inventory { path: place.path.to_owned(), source };
        inventory::write(&now, place.path).map_err(failed)
    });
    if let Err(error) = result {
        // Where the folder could not be synced, the new inventory is there all the same, and refers to them.
        if !inventory::read(place.path).is_ok_and(|there| there == now) {
            // What stays is no harm: nothing refers to it.
            written.iter().for_each(|file| drop(fs::remove_file(file)));
        }
        return Err(error);
    }
    folder.remove_unused(&before.entries, &now.entries);
    let kept = match place.files.stores.nix_store() {
        Some(nix) if !stored.is_empty() => capture::keep(&nix, &now, place.folder, place.lock).map(drop),
        _ => Ok(()),
    };
    Ok((now, warning.or_else(|| kept.err().map(|error| capture::not_kept(&error)))))
}

/// Puts bodies into the stores, where they are not there yet, as a capture does. The files that they are in stay.
fn store(moves: &[&Move], files: &BodyFiles) -> Result<Option<String>, RelocateError> {
    if moves.is_empty() {
        return Ok(None);
    }
    let mut deposit = Deposit::new(&files.stores);
    deposit.embedded().prepare()?;
    deposit.add(&moves.iter().map(|one| one.new_body(one.bytes.bytes())).collect::<Vec<_>>());
    for one in moves {
        let is_there = files.stores.embedded().find(&one.path).is_some();
        match &one.bytes {
            _ if deposit.is_in_nix(&one.path) => {}
            // The embedded store moves files, and the inventory still refers to this one.
            Found::File(file) if !is_there => {
                let failed = |source| RelocateError::Copy { path: file.clone(), source };
                let scratch = deposit.embedded().temporary_spool().map_err(failed)?;
                let copy = scratch.path().join("body");
                fs::copy(file, &copy).map_err(failed)?;
                deposit.store(&one.new_body(Bytes::File(&copy)))?;
            }
            Found::File(_) => {}
            Found::Memory(bytes) => deposit.store(&one.new_body(Bytes::Memory(bytes)))?,
        }
    }
    Ok(deposit.warning())
}

impl Move {
    /// What the body's source was.
    pub fn from(&self) -> Target {
        self.from
    }

    /// What the body's source becomes.
    pub fn target(&self) -> Target {
        target_of(&self.body)
    }

    fn new_body<'a>(&self, bytes: Bytes<'a>) -> NewBody<'a> {
        NewBody { path: self.path.clone(), hash: self.hash, size: self.size, bytes }
    }
}

/// What changed in the inventory's text, as `diff -u` shows it.
pub fn diff(before: &Inventory, now: &Inventory) -> String {
    let (before, now) = (inventory::to_toml(before), inventory::to_toml(now));
    similar::TextDiff::from_lines(&before, &now).unified_diff().context_radius(3).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_copied_or_written_is_named() {
        let source = || io::Error::other("no");
        let error = RelocateError::Copy { path: "a".into(), source: source() };
        assert_eq!(error.to_string(), "cannot copy a: no");
        let error = RelocateError::Inventory { path: "a".into(), source: source() };
        assert_eq!(error.to_string(), "cannot write a: no");
    }
}

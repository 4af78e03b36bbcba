//! The embedded store: a folder of bodies under the names that `/nix/store` would give them, for machines and
//! containers without Nix.
//!
//! Every file appears under its final name by `rename(2)`, whole and on disk, or not at all. So any number of
//! processes can write one store at once, and a killed one leaves nothing but a temporary file.

use std::{
    ffi::OsString,
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::{
    claim::{self, Claim, claim, sweep},
    hash::{NixHash, hash_file},
    path::{FileIngestionMethod, StorePath, StorePathName, build_ca_path},
    regular,
};

/// What the names of temporary files start with; no store path does.
const TEMPORARY_PREFIX: &str = ".tmp-";

/// The folder of unfinished bodies, a folder for each process that has some, inside the store so that they are on its file system.
const SPOOL_FOLDER: &str = ".spool";

/// What can go wrong when a store is written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store's folder cannot be made.
    #[error("cannot create the store {}: {source}; hint: choose another folder with --store DIR or BUILDPROXY_STORE", dir.display())]
    Create {
        /// The store's folder.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The store's folder is there, but takes no files.
    #[error("cannot write to the store {}: {source}; hint: make it writable, or choose another folder with --store DIR or BUILDPROXY_STORE", dir.display())]
    NotWritable {
        /// The store's folder.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// One file cannot be read, written or renamed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A spool file is not what its writer said it was.
    #[error("cannot take {} into the store: it has {size} bytes where {expected} were received", path.display())]
    SpoolSize {
        /// The spool file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The size in bytes that goes with its hash.
        expected: u64,
    },
}

/// Makes the closure that wraps an [`io::Error`] about one file.
fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + use<'a> {
    move |source| StoreError::File { action, path: path.to_owned(), source }
}

/// A folder of bodies, named as in `/nix/store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedStore {
    dir: PathBuf,
}

/// A folder for unfinished bodies. Dropping it removes it.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
    _claim: Claim,
}

impl Scratch {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = claim::remove(&self.folder) {
            // The next one that writes to the store tries again.
            tracing::debug!("cannot remove {}: {error}", self.folder.display());
        }
    }
}

impl EmbeddedStore {
    /// The store in `dir`; touches no file.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The store's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a capture session keeps its unfinished bodies: on the store's own file system, so that taking one in is
    /// a rename. Touches no file.
    pub fn spool_dir(&self, session: &str) -> PathBuf {
        self.dir.join(SPOOL_FOLDER).join(session)
    }

    /// Makes a folder for unfinished bodies that nobody needs after its owner's death. Dropping it removes it.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn temporary_spool(&self) -> io::Result<Scratch> {
        let parent = self.dir.join(SPOOL_FOLDER);
        fs::create_dir_all(&parent)?;
        let folder = tempfile::Builder::new().prefix("fetch-").tempdir_in(parent)?;
        let claim = claim(folder.path(), None)?;
        Ok(Scratch { folder: folder.keep(), _claim: claim })
    }

    /// Makes the store's folder and proves that it takes files, before anything is downloaded that would have to go
    /// there. Removes the unfinished bodies that killed processes left behind and that no journal needs.
    ///
    /// # Errors
    /// Where the folder cannot be made or is not writable; the message names it and a way out.
    pub fn prepare(&self) -> Result<(), StoreError> {
        create_folders(&self.dir).map_err(|source| StoreError::Create { dir: self.dir.clone(), source })?;
        self.temporary()?.close().map_err(|source| StoreError::NotWritable { dir: self.dir.clone(), source })?;
        sweep(&self.dir.join(SPOOL_FOLDER));
        Ok(())
    }

    /// Where `path` is, or would be.
    pub fn path_of(&self, path: &StorePath) -> PathBuf {
        path.to_path(&self.dir)
    }

    /// The file of `path`, where the store has it. Links are no bodies: they could lead out of the store.
    pub fn find(&self, path: &StorePath) -> Option<PathBuf> {
        regular_file(self.path_of(path))
    }

    /// Writes `bytes` under the store path that they have as a fixed output called `name`.
    ///
    /// # Errors
    /// Where the file cannot be written; nothing is left under the final name then.
    #[cfg(test)]
    pub(crate) fn insert_bytes(&self, bytes: &[u8], name: &StorePathName) -> Result<StorePath, StoreError> {
        self.insert_pinned(bytes, &NixHash::sha256(bytes), name)
    }

    /// Writes `bytes`, whose hash of whatever algorithm is `hash`, under the store path that they have as a fixed output
    /// of that hash called `name`.
    ///
    /// # Errors
    /// Where the file cannot be written; nothing is left under the final name then.
    pub fn insert_pinned(&self, bytes: &[u8], hash: &NixHash, name: &StorePathName) -> Result<StorePath, StoreError> {
        let path = build_ca_path(name, FileIngestionMethod::Flat, hash);
        let target = self.path_of(&path);
        if !has(&target, bytes.len() as u64, hash) {
            let mut file = self.temporary()?;
            file.write_all(bytes).map_err(failed("write", &target))?;
            self.publish(file, &target)?;
        }
        Ok(path)
    }

    /// Takes a finished spool file into the store. On one file system that is a rename, without a second write; else
    /// a copy. The spool file is gone afterwards.
    ///
    /// Where the store has those bytes already they stay, and then the spool file can be absent, so that a recovery can
    /// repeat what a killed process did. A file with other bytes is damaged, and is replaced.
    ///
    /// # Errors
    /// Where the spool file does not have `size` bytes, or cannot be moved.
    pub fn adopt(&self, file: &Path, hash: &NixHash, size: u64, name: &StorePathName) -> Result<StorePath, StoreError> {
        let path = build_ca_path(name, FileIngestionMethod::Flat, hash);
        let target = self.path_of(&path);
        if has(&target, size, hash) {
            remove_if_there(file)?;
            return Ok(path);
        }
        seal(file, size)?;
        match fs::rename(file, &target) {
            Ok(()) => sync_folder(&self.dir)?,
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                self.copy_in(file, &target)?;
                remove_if_there(file)?;
            }
            Err(error) => return Err(failed("move a finished body to", &target)(error)),
        }
        Ok(path)
    }

    /// Copies `file` to `target` by way of a temporary file in the store.
    fn copy_in(&self, file: &Path, target: &Path) -> Result<(), StoreError> {
        let mut source = File::open(file).map_err(failed("open", file))?;
        let mut copy = self.temporary()?;
        io::copy(&mut source, copy.as_file_mut()).map_err(failed("write", target))?;
        self.publish(copy, target)
    }

    /// Gives a written temporary file its final name, once its bytes are on disk.
    fn publish(&self, file: NamedTempFile, target: &Path) -> Result<(), StoreError> {
        make_read_only(file.as_file()).map_err(failed("write", target))?;
        file.as_file().sync_all().map_err(failed("write", target))?;
        file.persist(target).map_err(|error| failed("write", target)(error.error))?;
        sync_folder(&self.dir)
    }

    fn temporary(&self) -> Result<NamedTempFile, StoreError> {
        tempfile::Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .tempfile_in(&self.dir)
            .map_err(|source| StoreError::NotWritable { dir: self.dir.clone(), source })
    }
}

/// The embedded store's folder where none is named: `$XDG_DATA_HOME/buildproxy/store`, else
/// `$HOME/.local/share/buildproxy/store`.
pub fn default_dir() -> PathBuf {
    default_dir_from(std::env::var_os("XDG_DATA_HOME"), std::env::home_dir())
}

/// A relative `XDG_DATA_HOME` is invalid and ignored (XDG Base Directory Specification); without a home the path starts
/// at `/`, and [`EmbeddedStore::prepare`] says what is wrong with it.
fn default_dir_from(data_home: Option<OsString>, home: Option<PathBuf>) -> PathBuf {
    let data_home = data_home.map(PathBuf::from).filter(|dir| dir.is_absolute());
    let home = home.filter(|dir| dir.is_absolute()).unwrap_or_else(|| PathBuf::from("/"));
    data_home.unwrap_or_else(|| home.join(".local/share")).join("buildproxy/store")
}

/// `path`, where it is a regular file and no link to one.
pub(super) fn regular_file(path: PathBuf) -> Option<PathBuf> {
    fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()).then_some(path)
}

/// Whether `path` is a file with these bytes. Only one of the right size is read.
pub(super) fn has(path: &Path, size: u64, hash: &NixHash) -> bool {
    let has_size = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == size);
    let hashed = || hash_file(&regular::open(path)?, hash.algo(), |_| {});
    has_size && hashed().is_ok_and(|found| found == *hash)
}

/// Checks the spool file's size, makes it read-only and waits until it is on disk, so that the rename behind it can
/// never show an incomplete file, not even after a power cut.
fn seal(path: &Path, expected: u64) -> Result<(), StoreError> {
    let file = File::open(path).map_err(failed("open", path))?;
    let size = file.metadata().map_err(failed("open", path))?.len();
    if size != expected {
        return Err(StoreError::SpoolSize { path: path.to_owned(), size, expected });
    }
    make_read_only(&file).and_then(|()| file.sync_all()).map_err(failed("write", path))
}

/// As in `/nix/store`: readable for all, writable for no one.
fn make_read_only(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o444))
}

/// Makes the folder `dir`, and those that it is in, so that they are there after a power cut as well.
fn create_folders(dir: &Path) -> io::Result<()> {
    let new: Vec<&Path> = dir.ancestors().take_while(|folder| !folder.exists()).collect();
    fs::create_dir_all(dir)?;
    let parents = new.iter().filter_map(|folder| folder.parent());
    let mut parents = parents.map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    parents.try_for_each(|parent| File::open(parent)?.sync_all())
}

fn sync_folder(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|folder| folder.sync_all()).map_err(failed("write", dir))
}

fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;

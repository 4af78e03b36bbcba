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

use tempfile::{NamedTempFile, TempDir};

use super::{
    claim::{Claim, claim, sweep},
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
    #[error("cannot create the store {}: {source}; choose another folder with --store DIR or BUILDPROXY_STORE", dir.display())]
    Create {
        /// The store's folder.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The store's folder is there, but takes no files.
    #[error("cannot write to the store {}: {source}; make it writable, or choose another folder with --store DIR or BUILDPROXY_STORE", dir.display())]
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
    pub fn temporary_spool(&self) -> io::Result<(TempDir, Claim)> {
        let parent = self.dir.join(SPOOL_FOLDER);
        fs::create_dir_all(&parent)?;
        let folder = tempfile::Builder::new().prefix("fetch-").tempdir_in(parent)?;
        let claim = claim(folder.path(), None)?;
        Ok((folder, claim))
    }

    /// Makes the store's folder and proves that it takes files, before anything is downloaded that would have to go
    /// there. Removes the unfinished bodies that killed processes left behind and that no journal needs.
    ///
    /// # Errors
    /// Where the folder cannot be made or is not writable; the message names it and a way out.
    pub fn prepare(&self) -> Result<(), StoreError> {
        fs::create_dir_all(&self.dir).map_err(|source| StoreError::Create { dir: self.dir.clone(), source })?;
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
    pub fn insert_bytes(&self, bytes: &[u8], name: &StorePathName) -> Result<StorePath, StoreError> {
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
mod tests {
    use super::*;
    use crate::store::hash::{HashAlgo, Hasher};

    fn store() -> (tempfile::TempDir, EmbeddedStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::new(folder.path().join("data/store"));
        store.prepare().unwrap();
        (folder, store)
    }

    fn name(text: &str) -> StorePathName {
        StorePathName::new(text).unwrap()
    }

    /// Writes `bytes` as a finished spool file.
    fn spool_file(store: &EmbeddedStore, file: &str, bytes: &[u8]) -> PathBuf {
        let dir = store.spool_dir("session");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(file), bytes).unwrap();
        dir.join(file)
    }

    fn names_in(dir: &Path) -> Vec<OsString> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).filter(|name| name != SPOOL_FOLDER).collect()
    }

    #[test]
    fn bytes_get_the_store_path_of_their_hash_and_are_read_only() {
        let (_folder, store) = store();
        let path = store.insert_bytes(b"hello", &name("hello.txt")).unwrap();
        assert_eq!(path, build_ca_path(&name("hello.txt"), FileIngestionMethod::Flat, &NixHash::sha256(b"hello")));
        let file = store.find(&path).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"hello");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o444);
        assert_eq!(store.insert_bytes(b"hello", &name("hello.txt")).unwrap(), path);
        assert_eq!(names_in(store.dir()).len(), 1, "no temporary file is left");
    }

    #[test]
    fn adopting_moves_the_file_without_writing_it_again() {
        use std::os::unix::fs::MetadataExt;
        let (_folder, store) = store();
        let spooled = spool_file(&store, "1", b"body");
        let inode = fs::metadata(&spooled).unwrap().ino();
        let path = store.adopt(&spooled, &NixHash::sha256(b"body"), 4, &name("b")).unwrap();
        let metadata = fs::metadata(store.find(&path).unwrap()).unwrap();
        assert_eq!(metadata.ino(), inode);
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o444);
        assert!(!spooled.exists());
    }

    #[test]
    fn adopting_again_keeps_what_is_there_even_when_the_spool_file_is_gone() {
        let (_folder, store) = store();
        let hash = NixHash::sha256(b"body");
        let path = store.insert_bytes(b"body", &name("b")).unwrap();
        let spooled = spool_file(&store, "1", b"body");
        assert_eq!(store.adopt(&spooled, &hash, 4, &name("b")).unwrap(), path);
        assert!(!spooled.exists());
        assert_eq!(store.adopt(&spooled, &hash, 4, &name("b")).unwrap(), path);
    }

    #[test]
    fn a_damaged_file_is_replaced() {
        let (_folder, store) = store();
        let path = store.insert_bytes(b"body", &name("b")).unwrap();
        let file = store.path_of(&path);
        for damaged in [b"bo".as_slice(), b"bodY"] {
            let damage = || {
                fs::remove_file(&file).unwrap();
                fs::write(&file, damaged).unwrap();
            };
            damage();
            let spooled = spool_file(&store, "1", b"body");
            store.adopt(&spooled, &NixHash::sha256(b"body"), 4, &name("b")).unwrap();
            assert_eq!(fs::read(&file).unwrap(), b"body");
            damage();
            store.insert_bytes(b"body", &name("b")).unwrap();
            assert_eq!(fs::read(&file).unwrap(), b"body");
        }
    }

    #[test]
    fn bytes_can_be_pinned_by_another_algorithm() {
        let (_folder, store) = store();
        let mut hasher = Hasher::new(HashAlgo::Sha512);
        hasher.update(b"body");
        let hash = hasher.finish();
        let path = store.insert_pinned(b"body", &hash, &name("b")).unwrap();
        assert_eq!(path, build_ca_path(&name("b"), FileIngestionMethod::Flat, &hash));
        assert_eq!(fs::read(store.find(&path).unwrap()).unwrap(), b"body");
    }

    #[test]
    fn a_spool_file_of_the_wrong_size_stays_outside() {
        let (_folder, store) = store();
        let spooled = spool_file(&store, "1", b"bod");
        let error = store.adopt(&spooled, &NixHash::sha256(b"body"), 4, &name("b")).unwrap_err();
        assert!(error.to_string().contains("has 3 bytes where 4 were received"), "{error}");
        assert!(names_in(store.dir()).is_empty());
    }

    #[test]
    fn a_spool_file_of_another_file_system_is_copied() {
        let Ok(other) = tempfile::tempdir_in("/dev/shm") else { return };
        let (_folder, store) = store();
        let spooled = other.path().join("1");
        fs::write(&spooled, b"body").unwrap();
        let path = store.adopt(&spooled, &NixHash::sha256(b"body"), 4, &name("b")).unwrap();
        assert_eq!(fs::read(store.find(&path).unwrap()).unwrap(), b"body");
        assert!(!spooled.exists());
        assert_eq!(names_in(store.dir()).len(), 1, "no temporary file is left");
    }

    #[test]
    fn readers_never_see_a_part_while_many_write_one_body() {
        let (_folder, store) = store();
        let bytes = vec![7; 300_000];
        let hash = NixHash::sha256(&bytes);
        let target = store.path_of(&build_ca_path(&name("b"), FileIngestionMethod::Flat, &hash));
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let (store, bytes) = (&store, &bytes);
                scope.spawn(move || {
                    let spooled = spool_file(store, &writer.to_string(), bytes);
                    store.adopt(&spooled, &hash, bytes.len() as u64, &name("b")).unwrap();
                });
            }
            scope.spawn(|| {
                while fs::metadata(&target).is_err() {
                    std::thread::yield_now();
                }
                assert_eq!(fs::read(&target).unwrap(), bytes);
            });
        });
    }

    #[test]
    fn links_and_folders_are_no_bodies() {
        let (_folder, store) = store();
        let path = build_ca_path(&name("b"), FileIngestionMethod::Flat, &NixHash::sha256(b"b"));
        std::os::unix::fs::symlink("/etc/passwd", store.path_of(&path)).unwrap();
        assert_eq!(store.find(&path), None);
        fs::remove_file(store.path_of(&path)).unwrap();
        fs::create_dir(store.path_of(&path)).unwrap();
        assert_eq!(store.find(&path), None);
    }

    #[test]
    fn a_store_that_cannot_be_written_is_named_with_a_way_out() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), b"").unwrap();
        let dir = folder.path().join("file/store");
        let message = EmbeddedStore::new(dir.clone()).prepare().unwrap_err().to_string();
        assert!(message.contains(dir.to_str().unwrap()) && message.contains("--store DIR"), "{message}");
    }

    #[test]
    fn the_default_folder_follows_xdg_and_then_home() {
        let dir = |data: Option<&str>, home: Option<&str>| {
            default_dir_from(data.map(OsString::from), home.map(PathBuf::from)).display().to_string()
        };
        assert_eq!(dir(Some("/data"), Some("/home/a")), "/data/buildproxy/store");
        assert_eq!(dir(Some("data"), Some("/home/a")), "/home/a/.local/share/buildproxy/store");
        assert_eq!(dir(None, Some("/home/a")), "/home/a/.local/share/buildproxy/store");
        assert_eq!(dir(Some(""), None), "/.local/share/buildproxy/store");
    }
}

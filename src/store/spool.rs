//! A body on its way to disk: hashed as it passes, kept in memory while it is small, else in a file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::hash::{HashAlgo, Hasher, NixHash};

/// Bodies up to this many bytes stay in memory, unless a spool is told otherwise. Most answers of package registries are smaller, and a file costs more
/// than they do.
pub const SPOOL_MEMORY: usize = 64 * 1024;

/// An unfinished body. Dropping it removes its file.
///
/// The calls block: asynchronous code runs them with `spawn_blocking`.
pub struct Spool {
    path: PathBuf,
    hasher: Hasher,
    size: u64,
    memory: usize,
    sink: Sink,
}

enum Sink {
    Memory(Vec<u8>),
    File(File),
    /// A write failed: the rest would be a body with a hole.
    Broken,
}

/// A finished body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spooled {
    /// The hash of all bytes.
    pub hash: NixHash,
    /// The number of bytes.
    pub size: u64,
    /// The bytes, or where they are.
    pub content: SpooledContent,
}

/// Where a finished body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpooledContent {
    /// In memory: no more bytes than the spool may keep there.
    Memory(Vec<u8>),
    /// In this file, which belongs to whoever holds this value.
    File(PathBuf),
}

impl Spooled {
    /// A body that is in memory as a whole.
    pub fn in_memory(bytes: Vec<u8>) -> Self {
        Self { hash: NixHash::sha256(&bytes), size: bytes.len() as u64, content: SpooledContent::Memory(bytes) }
    }
}

impl Spool {
    /// An empty body, hashed with SHA-256. Where it gets larger than [`SPOOL_MEMORY`] it goes to the new file `path`,
    /// whose folder is made when it is needed.
    pub fn new(path: PathBuf) -> Self {
        Self::with(path, HashAlgo::Sha256, SPOOL_MEMORY)
    }

    /// An empty body, hashed with `algo`, of which at most `memory` bytes stay in memory.
    pub fn with(path: PathBuf, algo: HashAlgo, memory: usize) -> Self {
        Self { path, hasher: Hasher::new(algo), size: 0, memory, sink: Sink::Memory(Vec::new()) }
    }

    /// The number of bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds `data`.
    ///
    /// # Errors
    /// Where the file cannot be made (it must not exist) or written. The body is lost then: its file is removed, and
    /// every further call fails.
    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        if let Err(error) = self.sink_to(data) {
            self.remove_file();
            self.sink = Sink::Broken;
            return Err(io::Error::new(error.kind(), format!("cannot write {}: {error}", self.path.display())));
        }
        self.hasher.update(data);
        self.size += data.len() as u64;
        Ok(())
    }

    fn sink_to(&mut self, data: &[u8]) -> io::Result<()> {
        match &mut self.sink {
            Sink::Memory(bytes) if bytes.len() + data.len() <= self.memory => bytes.extend_from_slice(data),
            Sink::Memory(bytes) => {
                let bytes = std::mem::take(bytes);
                let mut file = create(&self.path)?;
                let start = file.write_all(&bytes);
                // From here on the file is this spool's, and goes with it.
                self.sink = Sink::File(file);
                start?;
                return self.sink_to(data);
            }
            Sink::File(file) => file.write_all(data)?,
            Sink::Broken => return Err(io::Error::other("an earlier write failed")),
        }
        Ok(())
    }

    /// Ends the body. Its file is synced when it is taken into a store.
    ///
    /// # Errors
    /// Where an earlier [`write`](Self::write) failed.
    pub fn finish(mut self) -> io::Result<Spooled> {
        if matches!(self.sink, Sink::Broken) {
            return Err(io::Error::other("an earlier write failed"));
        }
        let content = match std::mem::replace(&mut self.sink, Sink::Broken) {
            Sink::Memory(bytes) => SpooledContent::Memory(bytes),
            _ => SpooledContent::File(std::mem::take(&mut self.path)),
        };
        Ok(Spooled { hash: self.hasher.clone().finish(), size: self.size, content })
    }

    fn remove_file(&self) {
        if matches!(self.sink, Sink::File(_)) {
            // Nothing can be done about a file that will not go; its session's folder is cleared later.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.remove_file();
    }
}

/// Makes the new file `path`, for its owner alone: what is spooled may turn out to be private.
fn create(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match (open(), path.parent()) {
        (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(folder)?;
            open()
        }
        (result, _) => result,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_small_body_never_touches_the_disk() {
        let folder = folder();
        let mut spool = Spool::new(folder.path().join("session/1"));
        spool.write(b"hello ").unwrap();
        spool.write(b"world").unwrap();
        let hash = NixHash::sha256(b"hello world");
        let content = SpooledContent::Memory(b"hello world".to_vec());
        assert_eq!(spool.finish().unwrap(), Spooled { hash, size: 11, content });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_large_body_goes_to_a_private_file_with_the_same_hash() {
        let folder = folder();
        let path = folder.path().join("session/1");
        let mut spool = Spool::new(path.clone());
        let chunk = vec![b'x'; SPOOL_MEMORY];
        spool.write(&chunk).unwrap();
        assert!(!path.exists(), "exactly the limit is still in memory");
        spool.write(b"y").unwrap();
        spool.write(&chunk).unwrap();
        let whole = [chunk.as_slice(), b"y", &chunk].concat();
        let spooled = spool.finish().unwrap();
        assert_eq!((spooled.hash, spooled.size), (NixHash::sha256(&whole), whole.len() as u64));
        assert_eq!(spooled.content, SpooledContent::File(path.clone()));
        assert_eq!(fs::read(&path).unwrap(), whole);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn algorithm_and_memory_can_be_chosen() {
        let folder = folder();
        let path = folder.path().join("1");
        let mut spool = Spool::with(path.clone(), HashAlgo::Sha512, 4);
        spool.write(b"hell").unwrap();
        assert!(!path.exists());
        spool.write(b"o").unwrap();
        let spooled = spool.finish().unwrap();
        let mut hasher = Hasher::new(HashAlgo::Sha512);
        hasher.update(b"hello");
        assert_eq!((spooled.hash, spooled.content), (hasher.finish(), SpooledContent::File(path.clone())));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_unfinished_body_takes_its_file_with_it() {
        let folder = folder();
        let path = folder.path().join("1");
        let mut spool = Spool::new(path.clone());
        spool.write(&vec![0; SPOOL_MEMORY + 1]).unwrap();
        assert!(path.exists());
        drop(spool);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_there_is_neither_overwritten_nor_removed() {
        let folder = folder();
        let path = folder.path().join("1");
        fs::write(&path, "another's").unwrap();
        let mut spool = Spool::new(path.clone());
        let error = spool.write(&vec![0; SPOOL_MEMORY + 1]).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(spool.write(b"more").is_err() && spool.finish().is_err(), "a broken body is never finished");
        assert_eq!(fs::read(&path).unwrap(), b"another's");
    }

    proptest::proptest! {
        #[test]
        fn any_split_gives_the_same_body(sizes in proptest::collection::vec(0usize..30_000, 0..8)) {
            let folder = folder();
            let mut spool = Spool::new(folder.path().join("1"));
            let mut whole = Vec::new();
            for (n, size) in sizes.into_iter().enumerate() {
                let chunk = vec![n as u8; size];
                spool.write(&chunk).unwrap();
                whole.extend(chunk);
            }
            let spooled = spool.finish().unwrap();
            proptest::prop_assert_eq!(spooled.hash, NixHash::sha256(&whole));
            let content = match spooled.content {
                SpooledContent::Memory(bytes) => bytes,
                SpooledContent::File(path) => fs::read(path).unwrap(),
            };
            proptest::prop_assert_eq!(content, whole);
        }
    }
}

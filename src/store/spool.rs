//! A body on its way to disk: hashed as it passes, kept in memory while it is small, else in a file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IoSlice, Write},
    ops::Range,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

#[cfg(target_os = "linux")]
use {rustix::fs::Advice, std::num::NonZeroU64};

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
        self.write_all(&[data])
    }

    /// Adds `chunks`, one behind the other, by as few writes as can be.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_all(&mut self, chunks: &[impl AsRef<[u8]>]) -> io::Result<()> {
        let length = chunks.iter().map(|chunk| chunk.as_ref().len()).sum();
        if let Err(error) = self.sink_to(chunks, length) {
            self.remove_file();
            self.sink = Sink::Broken;
            return Err(io::Error::new(error.kind(), format!("cannot write {}: {error}", self.path.display())));
        }
        chunks.iter().for_each(|chunk| self.hasher.update(chunk.as_ref()));
        self.size += length as u64;
        Ok(())
    }

    fn sink_to(&mut self, chunks: &[impl AsRef<[u8]>], length: usize) -> io::Result<()> {
        match &mut self.sink {
            Sink::Memory(bytes) if bytes.len() + length <= self.memory => {
                chunks.iter().for_each(|chunk| bytes.extend_from_slice(chunk.as_ref()));
            }
            Sink::Memory(bytes) => {
                let bytes = std::mem::take(bytes);
                let mut file = create(&self.path)?;
                let start = file.write_all(&bytes);
                // From here on the file is this spool's, and goes with it.
                self.sink = Sink::File(file);
                start?;
                return self.sink_to(chunks, length);
            }
            Sink::File(file) => {
                write_all(file, chunks)?;
                write_out(file, self.size..self.size + length as u64);
            }
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

/// Writes `chunks` with one system call, as far as the system takes them: many short writes cost a file system more than
/// twice as much (0.41 s of processor time for a GiB by 30 KB each, 0.17 s by 1 MiB).
fn write_all(file: &mut File, chunks: &[impl AsRef<[u8]>]) -> io::Result<()> {
    let mut slices: Vec<IoSlice> = chunks.iter().map(|chunk| IoSlice::new(chunk.as_ref())).collect();
    let mut rest = slices.as_mut_slice();
    // Empty ones go first, so that nothing written is an error.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Starts to write to the disk what was added, 32 MiB at a time, so that syncing the file at its end is soon done: a whole
/// capture of 1 GiB took 1.0 s instead of 1.1 to 1.5.
#[cfg(target_os = "linux")]
fn write_out(file: &File, added: Range<u64>) {
    const STEP: u64 = 32 << 20;
    let (from, to) = (added.start / STEP * STEP, added.end / STEP * STEP);
    // The advice drops pages that are on the disk already. Those just written are only sent there: they stay in memory.
    // Where the advice is not taken, syncing takes longer.
    let _ = NonZeroU64::new(to - from).map(|length| rustix::fs::fadvise(file, from, Some(length), Advice::DontNeed));
}

/// Other systems have no call for it.
#[cfg(not(target_os = "linux"))]
fn write_out(_: &File, _: Range<u64>) {}

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

    #[test]
    fn more_chunks_than_one_system_call_takes_are_all_written() {
        let folder = folder();
        let path = folder.path().join("1");
        let mut spool = Spool::new(path.clone());
        let chunks: Vec<Vec<u8>> = (0..5000u32).map(|n| n.to_le_bytes()[..n as usize % 5].repeat(20)).collect();
        spool.write_all(&chunks[..2000]).unwrap();
        spool.write_all(&chunks[2000..]).unwrap();
        spool.write_all(&[b"", b""]).unwrap();
        let (whole, spooled) = (chunks.concat(), spool.finish().unwrap());
        assert_eq!((spooled.hash, spooled.size), (NixHash::sha256(&whole), whole.len() as u64));
        assert_eq!(fs::read(&path).unwrap(), whole);
    }

    #[test]
    fn a_body_that_is_written_out_on_the_way_is_whole() {
        let folder = folder();
        let path = folder.path().join("1");
        let mut spool = Spool::new(path.clone());
        let chunk: Vec<u8> = (0..1_000_003u32).map(|n| n.to_le_bytes()[1]).collect();
        (0..70).for_each(|_| spool.write(&chunk).unwrap());
        let spooled = spool.finish().unwrap();
        assert_eq!(spooled.hash, NixHash::sha256(&chunk.repeat(70)));
        assert_eq!(NixHash::sha256(&fs::read(&path).unwrap()), spooled.hash);
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

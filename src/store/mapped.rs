//! Store files, mapped into memory one window at a time: the one file with `unsafe` code.
//!
//! A window is a [`Bytes`] that owns its mapping and unmaps it when it is dropped, so however large a file is, no more
//! than the windows in flight count as the process's memory. Nothing is read here: a transport that hands the window
//! to `sendfile(2)` never touches its pages at all.
//!
//! **Store files only.** Touching a mapped page beyond the end of its file is a `SIGBUS`, which ends the process. Files
//! in a store are read-only and never shortened; all others are read with [`FileBody::read`](super::stream::FileBody::read).
#![allow(unsafe_code)]

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use bytes::Bytes;
use memmap2::{Advice, Mmap, MmapOptions};

use super::{regular, state::FileState};

/// From how many bytes on a part of a file is worth mapping and sending by `sendfile(2)`; less is read and written.
/// A request took the server so many µs of its processor, mapped and sent or read and written (medians of 3 in one run):
/// on 16 connections 29 and 22 with 64 KiB, 33 and 29 with 128 KiB, 41 and 40 with 256 KiB, 62 and 69 with 512 KiB; on
/// one, 42 and 43, 48 and 49, 56 and 61, 64 and 91.
pub const SENDFILE_FROM: usize = 256 << 10;

/// An open file of a store. Clones share the descriptor.
#[derive(Debug, Clone)]
pub struct StoreFile {
    file: Arc<File>,
    path: Arc<PathBuf>,
    length: u64,
    state: FileState,
    watch: Watch,
}

/// Which file, and what the system said.
#[derive(Debug, thiserror::Error)]
#[error("cannot open {}: {source}", path.display())]
struct CannotOpen {
    path: PathBuf,
    source: io::Error,
}

/// Who is told that a window cannot be sent because of its file: by then, whoever asked for the window can be gone.
#[derive(Clone, Default)]
pub struct Watch(Option<Arc<Told>>);

/// What is called.
type Told = dyn Fn(&io::Error) + Send + Sync;

impl Watch {
    /// Has `told` called.
    pub fn by(told: impl Fn(&io::Error) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(told)))
    }

    /// Tells.
    pub fn tell(&self, error: &io::Error) {
        if let Some(told) = &self.0 {
            told(error);
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.0.is_some()).finish()
    }
}

impl StoreFile {
    /// Opens the regular file `path`.
    ///
    /// # Errors
    /// Where it cannot be opened, or is a folder, link, device or pipe.
    pub fn open(path: &Path) -> io::Result<Self> {
        let cannot = |source: io::Error| io::Error::new(source.kind(), CannotOpen { path: path.to_owned(), source });
        let file = regular::open(path).map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        let (file, path) = (Arc::new(file), Arc::new(path.to_owned()));
        Ok(Self { file, path, length: metadata.len(), state: FileState::of(&metadata), watch: Watch::default() })
    }

    /// The size in bytes when the file was opened.
    #[allow(clippy::len_without_is_empty)] // A size, not a collection.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// The same, with `watch` told of its windows that cannot be sent because of the file.
    #[must_use]
    pub fn watched(self, watch: Watch) -> Self {
        Self { watch, ..self }
    }

    /// What it was like when it was opened.
    pub fn state(&self) -> &FileState {
        &self.state
    }

    /// The file itself, for `sendfile(2)`.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Where the file was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Maps `length` bytes from `offset` on; any offset, aligned to a page or not.
    ///
    /// # Errors
    /// Where the file is shorter than that by now, or the system refuses the mapping.
    pub fn window(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let cannot = |kind, what: &dyn std::fmt::Display| {
            io::Error::new(kind, format!("cannot map {}: {what}", self.path.display()))
        };
        let end = offset.saturating_add(length as u64);
        let size = self.file.metadata().map_err(|error| cannot(error.kind(), &error))?.len();
        if size < end {
            let what = format!("it is short: {size} of {end} bytes");
            return Err(cannot(io::ErrorKind::UnexpectedEof, &what));
        }
        if length == 0 {
            return Ok(Bytes::new());
        }
        let mut options = MmapOptions::new();
        options.offset(offset).len(length);
        // SAFETY: the mapping is read-only and lies within the file, as was just checked. Its bytes must not change
        // and the file must not shrink while it lives: a file of a store is mode 0444 and complete before it gets its
        // name, and is replaced by rename, never written to, so both hold for everyone who does not break the store on
        // purpose. What remains is root (or the store's owner, after chmod) truncating the file in place between the
        // check and the last read: who reads the window then gets SIGBUS, which cannot be excluded with a mapping. The
        // connection that windows are made for never does: it sends the file (`proxy::sendfile`).
        let map = unsafe { options.map(&*self.file) }.map_err(|error| cannot(error.kind(), &error))?;
        // Only a hint for pages that are not in memory yet; a kernel that ignores it is as good.
        let _ = map.advise(Advice::Sequential);
        let range = FileRange { file: Arc::clone(&self.file), offset, length, watch: self.watch.clone() };
        Ok(Bytes::from_owner(Window::new(map, range)))
    }
}

/// A part of a file.
#[derive(Debug, Clone)]
pub struct FileRange {
    /// The file.
    pub file: Arc<File>,
    /// Where the part starts, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub length: usize,
    /// Who is told where it cannot be sent because of the file.
    pub watch: Watch,
}

/// The first of `slices` that is part of a mapped window: its number, and where it is in a file.
pub fn first_file(slices: &[IoSlice<'_>]) -> Option<(usize, FileRange)> {
    let live = live();
    if live.is_empty() {
        return None;
    }
    slices.iter().enumerate().find_map(|(number, slice)| Some((number, file_behind(&live, slice)?)))
}

/// Where `slice` is in a file, where it is part of a window.
fn file_behind(live: &BTreeMap<usize, FileRange>, slice: &[u8]) -> Option<FileRange> {
    let address = slice.as_ptr().addr();
    let (start, window) = live.range(..=address).next_back()?;
    // What lies in a window that lives lies in it as a whole: nothing else can have these addresses.
    let within = address - start;
    let offset = window.offset + within as u64;
    (within < window.length).then(|| FileRange { offset, length: slice.len(), ..window.clone() })
}

/// The windows that live, by their first address.
static LIVE: RwLock<BTreeMap<usize, FileRange>> = RwLock::new(BTreeMap::new());

fn live() -> RwLockReadGuard<'static, BTreeMap<usize, FileRange>> {
    // The map is whole between any two of its methods.
    LIVE.read().unwrap_or_else(PoisonError::into_inner)
}

fn live_mut() -> RwLockWriteGuard<'static, BTreeMap<usize, FileRange>> {
    LIVE.write().unwrap_or_else(PoisonError::into_inner)
}

/// A mapping that can be recognised by its addresses while it lives.
struct Window(Mmap);

impl Window {
    fn new(map: Mmap, range: FileRange) -> Self {
        live_mut().insert(map.as_ptr().addr(), range);
        Self(map)
    }
}

impl AsRef<[u8]> for Window {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // Before it is unmapped: from then on, another mapping can have its addresses.
        live_mut().remove(&self.0.as_ptr().addr());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    #[test]
    fn a_window_starts_anywhere_and_ends_at_the_last_byte() {
        let bytes: Vec<u8> = (0..20_000u32).map(|n| n.to_le_bytes()[1]).collect();
        let (_folder, path) = file(&bytes);
        let file = StoreFile::open(&path).unwrap();
        assert_eq!(file.len(), 20_000);
        for (offset, length) in [(0, 20_000), (0, 1), (4096, 4096), (4097, 5000), (19_999, 1), (1, 19_999), (20_000, 0)]
        {
            let window = file.window(offset as u64, length).unwrap();
            assert_eq!(window, bytes[offset..offset + length], "{offset} {length}");
        }
    }

    #[test]
    fn a_window_outlives_the_handle_and_the_name() {
        let (folder, path) = file(b"hello");
        let window = StoreFile::open(&path).unwrap().window(1, 3).unwrap();
        drop(folder);
        assert_eq!(window, &b"ell"[..]);
    }

    #[test]
    fn a_window_beyond_the_end_is_an_error_and_no_fault() {
        let (_folder, path) = file(b"hello");
        let file = StoreFile::open(&path).unwrap();
        let message = file.window(3, 3).unwrap_err().to_string();
        assert!(message.contains("short: 5 of 6 bytes") && message.contains(path.to_str().unwrap()), "{message}");
        assert!(file.window(u64::MAX, 1).is_err());
        File::options().write(true).open(&path).unwrap().set_len(2).unwrap();
        assert_eq!(file.window(0, 5).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn folders_pipes_and_absent_files_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let message = |path: &Path| StoreFile::open(path).unwrap_err().to_string();
        assert!(message(&pipe).starts_with(&format!("cannot open {}: ", pipe.display())));
        assert!(message(folder.path()).ends_with("not a regular file"));
        #[cfg(target_os = "linux")]
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        #[cfg(target_os = "linux")]
        assert!(message(&pipe).ends_with("not a regular file"));
    }

    fn in_file(slice: &[u8]) -> Option<FileRange> {
        let found = first_file(&[IoSlice::new(b"memory"), IoSlice::new(slice)])?;
        assert_eq!(found.0, 1);
        Some(found.1)
    }

    #[test]
    fn a_slice_of_a_window_is_known_by_its_place_in_the_file_while_the_window_lives() {
        let bytes: Vec<u8> = (0..50_000u32).map(|n| n.to_le_bytes()[1]).collect();
        let (_folder, path) = file(&bytes);
        let file = StoreFile::open(&path).unwrap();
        let (first, second) = (file.window(100, 20_000).unwrap(), file.window(8192, 30_000).unwrap());
        for (window, start) in [(&first, 100), (&second, 8192)] {
            for (from, to) in [(0, window.len()), (1, 2), (5000, 12_000), (window.len() - 1, window.len())] {
                let range = in_file(&window[from..to]).unwrap();
                assert_eq!((range.offset, range.length), (start + from as u64, to - from));
                assert_eq!(range.file.metadata().unwrap().len(), 50_000);
            }
        }
        assert!(in_file(&bytes[..100]).is_none(), "memory of another kind");
        let address = first.as_ptr().addr();
        drop(first);
        assert!(live().get(&address).is_none());
        assert!(in_file(&second).is_some());
    }

    #[test]
    fn what_cannot_be_mapped_is_named_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "abc").unwrap();
        let error = StoreFile::open(&path).unwrap().window(0, 7).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot map {}: it is short: 3 of 7 bytes", path.display()));
    }
}

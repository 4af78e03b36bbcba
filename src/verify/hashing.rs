//! Hashes bodies on every core.

use std::{
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use super::finding::FindingKind;
use crate::{
    inventory::replace_in_nix_store,
    store::{
        hash::{HashAlgo, Hasher, HashingReader, NixHash, hash_file},
        nar,
        path::StorePath,
        regular,
    },
};

/// Bytes that are told of at once: few enough for a bar that moves, enough that telling takes no time from hashing.
const STEP: u64 = 8 << 20;

/// A body that is there and has its size, or the tree that it is in: what is left is to hash it.
pub(super) struct Task {
    /// The entry that is reported.
    pub(super) entry: usize,
    /// What to hash.
    pub(super) path: PathBuf,
    /// The object in the Nix store that it is.
    pub(super) object: Option<StorePath>,
    /// Bytes to hash, roughly: a tree's size is not known.
    pub(super) size: u64,
    /// The recorded hash.
    pub(super) expected: NixHash,
    /// The NAR hash that Nix has registered of it.
    pub(super) registered: Option<NixHash>,
    /// How to hash it.
    pub(super) what: What,
    /// What to do where it differs.
    pub(super) remedy: String,
}

/// What a hash is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// The bytes of one file.
    File,
    /// The archive of a tree.
    Nar,
}

/// What a thread tells the one that waits.
enum Report {
    Bytes(u64),
    Found(usize, FindingKind),
}

/// Hashes on every core, and reports on this thread: findings by entry, and bytes to `progress`.
pub(super) fn run(tasks: &[Task], progress: &dyn Fn(u64)) -> Vec<(usize, FindingKind)> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(tasks.len());
    let next = AtomicUsize::new(0);
    let (sender, reports) = mpsc::channel();
    let mut found = Vec::new();
    thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || work(tasks, next, &sender));
        }
        drop(sender);
        for report in reports {
            match report {
                Report::Bytes(count) => progress(count),
                Report::Found(index, kind) => found.push((index, kind)),
            }
        }
    });
    found
}

fn work(tasks: &[Task], next: &AtomicUsize, reports: &mpsc::Sender<Report>) {
    while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
        let mut told = Told { reports, held: 0 };
        if let Some(kind) = task.run(&mut told) {
            // The receiver lives as long as the threads do.
            let _ = reports.send(Report::Found(task.entry, kind));
        }
    }
}

/// Gathers progress, because archives are hashed in very small pieces.
struct Told<'a> {
    reports: &'a mpsc::Sender<Report>,
    held: u64,
}

impl Told<'_> {
    fn add(&mut self, count: u64) {
        self.held += count;
        if self.held >= STEP {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let _ = self.reports.send(Report::Bytes(std::mem::take(&mut self.held)));
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Task {
    fn run(&self, told: &mut Told) -> Option<FindingKind> {
        let (path, expected, remedy) = (self.path.display().to_string(), self.expected, self.remedy.clone());
        let told = |count| told.add(count);
        let unreadable = |error: io::Error| format!("cannot read {path}: {error}");
        let hashes = match (self.what, self.registered) {
            (What::File, None) => regular::open(&self.path)
                .and_then(|file| hash_file(&file, expected.algo(), told))
                .map(|hash| (hash, None))
                .map_err(unreadable),
            (What::File, Some(registered)) => flat_and_nar(&self.path, expected.algo(), registered.algo(), told)
                .map(|(flat, nar)| (flat, Some(nar)))
                .map_err(unreadable),
            (What::Nar, _) => nar::hash_with(&self.path, expected.algo(), told)
                .map(|hash| (hash, Some(hash)))
                .map_err(|error| error.to_string()),
        };
        match (hashes, self.what, self.registered) {
            (Err(reason), ..) => Some(FindingKind::BodyUnreadable { reason }),
            (Ok((hash, _)), What::File, _) if hash != expected => {
                Some(FindingKind::WrongHash { file: path, hash, expected, remedy })
            }
            (Ok((hash, _)), What::Nar, _) if hash != expected => {
                Some(FindingKind::WrongNarHash { path, hash, expected, remedy })
            }
            (Ok((_, Some(hash))), _, Some(registered)) if hash.algo() == registered.algo() && hash != registered => {
                let remedy = self.object.as_ref().map(|object| match self.what {
                    What::File => replace_in_nix_store(object),
                    What::Nar => format!("run `nix-store --repair-path {}`", object.to_absolute_path()),
                });
                let remedy = remedy.unwrap_or_default();
                Some(FindingKind::WrongRegistration { path, hash, registered, remedy })
            }
            (Ok(_), ..) => None,
        }
    }
}

/// The hash of a file by `flat`, and that of its archive by `nar`, by reading it once.
fn flat_and_nar(
    path: &Path,
    flat: HashAlgo,
    nar: HashAlgo,
    mut progress: impl FnMut(u64),
) -> io::Result<(NixHash, NixHash)> {
    let file = regular::open(path)?;
    let metadata = file.metadata()?;
    let (executable, size) = (metadata.permissions().mode() & 0o100 != 0, metadata.len());
    let mut archive = Hasher::new(nar);
    let mut writer = nar::writer::Writer::new(&mut archive)?;
    writer.enter(b"", &nar::Node::File { executable, size })?;
    let mut contents = HashingReader::new(file, flat);
    let (mut buffer, mut position) = (vec![0; READ], 0);
    loop {
        match contents.read(&mut buffer) {
            Ok(0) if position == size => break,
            Ok(0) => return Err(io::Error::other(format!("it had {size} bytes, and has {position} now"))),
            Ok(count) => {
                writer.contents(&buffer[..count])?;
                position += count as u64;
                progress(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    writer.leave()?;
    Ok((contents.finish(), archive.finish()))
}

/// Bytes that one read asks for: they are still in the processor's own cache when they are hashed twice.
const READ: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        fs::{self, File},
    };

    use super::*;

    #[test]
    fn what_went_since_it_was_planned_is_a_finding_and_the_others_are_hashed_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let good = folder.path().join("good");
        fs::write(&good, vec![7; 20 << 20]).unwrap();
        let task = |entry, path: PathBuf, what| {
            let expected = NixHash::sha256(&vec![7; 20 << 20]);
            let (object, registered, remedy) = (None, None, "look".to_owned());
            Task { entry, path, object, size: 0, expected, registered, what, remedy }
        };
        let tasks = [
            task(0, folder.path().join("gone"), What::File),
            task(1, folder.path().to_owned(), What::File),
            task(2, folder.path().join("gone"), What::Nar),
            task(3, good, What::File),
        ];
        let told = Cell::new(0);
        let mut found = run(&tasks, &|count| told.set(told.get() + count));
        found.sort_by_key(|(entry, _)| *entry);
        let messages: Vec<String> = found.iter().map(|(_, kind)| kind.to_string()).collect();
        assert_eq!(found.iter().map(|(entry, _)| *entry).collect::<Vec<_>>(), [0, 1, 2], "{messages:?}");
        for (message, name) in messages.iter().zip(["gone", "", "gone"]) {
            let path = folder.path().join(name).display().to_string();
            assert!(message.contains(&format!("cannot read {}", path.trim_end_matches('/'))), "{message}");
        }
        // The archive of nothing still has the first words of one.
        assert!((20 << 20..(20 << 20) + 100).contains(&told.get()), "{}", told.get());
    }
    #[test]
    fn both_hashes_of_a_file_are_those_of_reading_it_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for (length, mode) in [(0, 0o444), (1, 0o444), (8, 0o555), (300_001, 0o444), (131_072, 0o755)] {
            fs::write(&path, (0..length).map(|n: u32| (n / 7 % 251) as u8).collect::<Vec<_>>()).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            for flat in [HashAlgo::Sha256, HashAlgo::Sha512] {
                let expected = hash_file(&File::open(&path).unwrap(), flat, |_| {}).unwrap();
                let mut told = 0;
                let hashes = flat_and_nar(&path, flat, HashAlgo::Sha256, |count| told += count).unwrap();
                assert_eq!(hashes, (expected, nar::hash(&path).unwrap()), "{length} {mode:o}");
                assert_eq!(told, u64::from(length));
            }
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_registered_hash_of_other_bytes_is_a_finding_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "body").unwrap();
        let (expected, nar) = (NixHash::sha256(b"body"), nar::hash(&path).unwrap());
        let found = |expected, registered, what| {
            let (path, object, remedy) = (path.clone(), None, String::new());
            let task = Task { entry: 0, path, object, size: 4, expected, registered: Some(registered), what, remedy };
            run(&[task], &|_| {}).into_iter().map(|(_, kind)| kind).next()
        };
        assert_eq!(found(expected, nar, What::File), None);
        assert_eq!(found(nar, nar, What::Nar), None);
        for (expected, what) in [(expected, What::File), (nar, What::Nar)] {
            let wrong = found(expected, NixHash::sha256(b""), what);
            assert!(matches!(wrong, Some(FindingKind::WrongRegistration { hash, .. }) if hash == nar), "{wrong:?}");
        }
        let altered = found(NixHash::sha256(b"other"), nar, What::File);
        assert!(matches!(altered, Some(FindingKind::WrongHash { .. })), "{altered:?}");
    }
}

//! Hashes bodies on every core.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use super::finding::FindingKind;
use crate::store::{
    hash::{HashAlgo, Hasher, NixHash},
    nar,
};

/// Bytes that are read, and told of, at once.
const CHUNK: usize = 1 << 20;

/// A body that is there and has its size, or the tree that it is in: what is left is to hash it.
pub(super) struct Task {
    /// The entry that is reported.
    pub(super) entry: usize,
    /// What to hash.
    pub(super) path: PathBuf,
    /// Bytes to hash, roughly: a tree's size is not known.
    pub(super) size: u64,
    /// The recorded hash.
    pub(super) expected: NixHash,
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
    let mut buffer = vec![0; CHUNK];
    while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
        let mut told = Told { reports, held: 0 };
        if let Some(kind) = task.run(&mut buffer, &mut told) {
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
        if self.held >= CHUNK as u64 {
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
    fn run(&self, buffer: &mut [u8], told: &mut Told) -> Option<FindingKind> {
        let (path, expected, remedy) = (self.path.display().to_string(), self.expected, self.remedy.clone());
        let hash = match self.what {
            What::File => hash_file(&self.path, expected.algo(), buffer, told)
                .map_err(|error| format!("cannot read {path}: {error}")),
            What::Nar => {
                nar::hash_with(&self.path, expected.algo(), |count| told.add(count)).map_err(|error| error.to_string())
            }
        };
        match (hash, self.what) {
            (Err(reason), _) => Some(FindingKind::BodyUnreadable { reason }),
            (Ok(hash), _) if hash == expected => None,
            (Ok(hash), What::File) => Some(FindingKind::WrongHash { file: path, hash, expected, remedy }),
            (Ok(hash), What::Nar) => Some(FindingKind::WrongNarHash { path, hash, expected, remedy }),
        }
    }
}

fn hash_file(path: &Path, algo: HashAlgo, buffer: &mut [u8], told: &mut Told) -> io::Result<NixHash> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new(algo);
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                told.add(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

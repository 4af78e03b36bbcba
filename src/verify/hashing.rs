//! Hashes bodies on every core.

use std::{
    fs::File,
    path::PathBuf,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use super::finding::FindingKind;
use crate::store::{
    hash::{NixHash, hash_file},
    nar,
};

/// Bytes that are told of at once: few enough for a bar that moves, enough that telling takes no time from hashing.
const STEP: u64 = 8 << 20;

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
        let hash = match self.what {
            What::File => File::open(&self.path)
                .and_then(|file| hash_file(&file, expected.algo(), told))
                .map_err(|error| format!("cannot read {path}: {error}")),
            What::Nar => nar::hash_with(&self.path, expected.algo(), told).map_err(|error| error.to_string()),
        };
        match (hash, self.what) {
            (Err(reason), _) => Some(FindingKind::BodyUnreadable { reason }),
            (Ok(hash), _) if hash == expected => None,
            (Ok(hash), What::File) => Some(FindingKind::WrongHash { file: path, hash, expected, remedy }),
            (Ok(hash), What::Nar) => Some(FindingKind::WrongNarHash { path, hash, expected, remedy }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_went_since_it_was_planned_is_a_finding_and_the_others_are_hashed_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let good = folder.path().join("good");
        std::fs::write(&good, vec![7; 20 << 20]).unwrap();
        let task = |entry, path: PathBuf, what| {
            let expected = NixHash::sha256(&vec![7; 20 << 20]);
            Task { entry, path, size: 0, expected, what, remedy: "look".to_owned() }
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
}

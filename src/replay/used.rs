//! Whether the files that a run sends stay as they were.
//!
//! What the kernel sends from a file lies in the file's own pages until the client has read it, so whoever writes to the
//! file in its place writes into an answer that is on its way; nobody can hold that up. (Files of a store are read-only,
//! and replaced where they change.) Such a run must not pass for a good one: so it is found out at its end.

use std::{
    fs,
    path::PathBuf,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use super::body::OpenBody;
use crate::{
    inventory::index::{EntryId, Index},
    store::state::FileState,
};

/// The files of a run, by entry.
#[derive(Debug)]
pub struct UsedFiles(Vec<OnceLock<Box<Used>>>);

#[derive(Debug)]
struct Used {
    path: PathBuf,
    /// When it was first opened.
    state: FileState,
    is_told: AtomicBool,
}

impl Used {
    /// The file's name, the first time that `now` is another state of it.
    fn changed(&self, now: &FileState) -> Option<String> {
        let is_news = now.was_written_to(&self.state) && !self.is_told.swap(true, Ordering::Relaxed);
        is_news.then(|| {
            format!(
                "{} was written to during the run, so what was sent of it can be wrong; run `buildproxy verify`",
                self.path.display()
            )
        })
    }
}

impl UsedFiles {
    /// For a run with as many entries as `index` knows.
    pub fn new(index: &Index) -> Self {
        Self((0..index.inventory_len()).map(|_| OnceLock::new()).collect())
    }

    /// Notes that `body` is sent for `entry`. Gives a problem where it is not as it was the first time.
    pub fn note(&self, entry: EntryId, body: &OpenBody) -> Option<String> {
        let (path, state) = (body.path()?, body.state()?);
        let new = || Box::new(Used { path: path.to_owned(), state: *state, is_told: AtomicBool::new(false) });
        self.0[entry.index()].get_or_init(new).changed(state)
    }

    /// What is not as it was, and was not told yet: the entries and the problems.
    pub fn changed(&self, index: &Index) -> Vec<(EntryId, String)> {
        let problem = |entry: EntryId| {
            let used = self.0[entry.index()].get()?;
            let now = FileState::of(&fs::metadata(&used.path).ok()?);
            Some((entry, used.changed(&now)?))
        };
        index.entries().filter_map(problem).collect()
    }
}

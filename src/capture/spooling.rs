//! A body on its way to the spool, beside its way to the client.
//!
//! Hashing and writing block, so they run on the blocking pool: a batch at a time, so that no number of slow downloads
//! can use up its threads. A small body is hashed where it is, and needs no thread at all.

use std::{
    io, mem,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use super::arriving::{Arriving, Progress};
use crate::store::spool::{SPOOL_MEMORY, Spool, Spooled, SpooledContent};

/// What is collected before it is worth a thread, in bytes.
const BATCH: usize = 256 << 10;
/// What may wait while a batch is written, in bytes; more makes the origin wait.
const MAX_WAITING: usize = 1 << 20;

/// A body on its way to the spool. Dropping it unfinished removes its file.
pub struct Spooling {
    state: State,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    progress: Progress,
    counter: Arc<AtomicU64>,
}

enum State {
    Idle(Box<Spool>),
    Writing(JoinHandle<io::Result<Box<Spool>>>),
    Failed(io::Error),
}

impl Spooling {
    /// An empty body, which others can read while it comes; where it gets large it goes to the file `path`.
    pub fn shared(path: PathBuf) -> (Self, Arriving) {
        let (progress, arriving) = Progress::new(path.clone());
        let state = State::Idle(Box::new(Spool::new(path)));
        (Self { state, waiting: Vec::new(), waiting_bytes: 0, progress, counter: Arc::default() }, arriving)
    }

    /// The same, which counts in `counter` the bytes that have come.
    pub fn counting(self, counter: Arc<AtomicU64>) -> Self {
        Self { counter, ..self }
    }

    /// What the readers of the body are told with.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Whether nothing can be recorded any more.
    pub fn has_failed(&self) -> bool {
        matches!(self.state, State::Failed(_))
    }

    /// Adds a chunk. An error of the disk shows in [`has_failed`](Self::has_failed), and when the spool is finished.
    pub async fn write(&mut self, chunk: Bytes) {
        self.progress.arrived(&chunk);
        self.counter.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        self.waiting_bytes += chunk.len();
        self.waiting.push(chunk);
        if self.waiting_bytes >= MAX_WAITING || matches!(&self.state, State::Writing(writing) if writing.is_finished())
        {
            self.wait().await;
        }
        if self.waiting_bytes >= BATCH {
            self.start_batch();
        }
    }

    /// Ends the body. Its readers come to the end when they are told that it is [recorded](Progress::whole).
    ///
    /// # Errors
    /// Where it could not be written.
    pub async fn finish(self) -> io::Result<Spooled> {
        let progress = self.progress();
        let spooled = self.finish_spool().await;
        match &spooled {
            Ok(Spooled { content: SpooledContent::Memory(bytes), .. }) => progress.stays_in_memory(bytes),
            Ok(Spooled { size, .. }) => progress.written(*size),
            Err(error) => progress.failed(error),
        }
        spooled
    }

    async fn finish_spool(mut self) -> io::Result<Spooled> {
        self.wait().await;
        if self.waiting_bytes > SPOOL_MEMORY {
            self.start_batch();
            self.wait().await;
        }
        match self.state {
            State::Idle(mut spool) => {
                for chunk in &self.waiting {
                    spool.write(chunk)?;
                }
                spool.finish()
            }
            State::Failed(error) => Err(error),
            State::Writing(_) => Err(io::Error::other("a batch is still being written")),
        }
    }

    /// Gives what waits to the blocking pool, unless a batch is already there.
    fn start_batch(&mut self) {
        if !matches!(self.state, State::Idle(_)) {
            return;
        }
        let batch = mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let placeholder = State::Failed(io::Error::other("the batch was lost"));
        if let State::Idle(mut spool) = mem::replace(&mut self.state, placeholder) {
            self.state = State::Writing(spawn_blocking(move || {
                spool.write_all(&batch)?;
                Ok(spool)
            }));
        }
    }

    /// Waits for the batch that is being written.
    async fn wait(&mut self) {
        if let State::Writing(writing) = &mut self.state {
            self.state = match writing.await.map_err(io::Error::other).flatten() {
                Ok(spool) => {
                    self.progress.written(spool.size());
                    State::Idle(spool)
                }
                Err(error) => {
                    self.progress.failed(&error);
                    State::Failed(error)
                }
            };
        }
        if self.has_failed() {
            self.waiting.clear();
            self.waiting_bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::hash::NixHash;

    async fn spooled(folder: &std::path::Path, sizes: &[usize]) -> (Spooled, Vec<u8>) {
        let mut spooling = Spooling::shared(folder.join("1")).0;
        let mut whole = Vec::new();
        for (n, &size) in sizes.iter().enumerate() {
            let chunk = vec![u8::try_from(n % 251).unwrap(); size];
            whole.extend_from_slice(&chunk);
            spooling.write(chunk.into()).await;
        }
        (spooling.finish().await.unwrap(), whole)
    }

    #[tokio::test]
    async fn batches_and_rests_make_the_whole() {
        for sizes in [vec![], vec![1], vec![SPOOL_MEMORY], vec![100_000; 50], vec![3 << 20, 5], vec![BATCH - 1, 1, 1]] {
            let folder = tempfile::tempdir().unwrap();
            let (spooled, whole) = spooled(folder.path(), &sizes).await;
            assert_eq!((spooled.hash, spooled.size), (NixHash::sha256(&whole), whole.len() as u64));
            match spooled.content {
                SpooledContent::Memory(bytes) => assert_eq!(bytes, whole),
                SpooledContent::File(path) => assert_eq!(std::fs::read(path).unwrap(), whole),
            }
        }
    }

    #[tokio::test]
    async fn a_body_that_is_given_up_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut spooling = Spooling::shared(folder.path().join("1")).0;
        spooling.write(vec![0; 1 << 20].into()).await;
        spooling.wait().await;
        assert!(folder.path().join("1").exists());
        drop(spooling);
        assert!(!folder.path().join("1").exists());
    }

    #[tokio::test]
    async fn an_error_of_the_disk_is_told_once_and_for_all() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let mut spooling = Spooling::shared(folder.path().join("file/1")).0;
        for _ in 0..20 {
            spooling.write(vec![0; 200_000].into()).await;
        }
        assert!(spooling.has_failed());
        assert!(spooling.finish().await.unwrap_err().to_string().contains("file/1"));
    }
}

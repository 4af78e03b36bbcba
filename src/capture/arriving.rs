//! A body that can be read while it still arrives.
//!
//! Its bytes are where the [spooling](super::spooling) has them: the newest ones in memory until their batch is written, the
//! others in the spool file; a small body stays in memory as a whole. A reader takes up no memory but for the bytes that
//! it is just sending, and holds nobody up. It comes to the end of the body only when that is whole and recorded; where
//! it will not be, or cannot be read, the reader breaks off.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::sync::watch;

use super::channel::{Gone, Sender};
use crate::store::stream::{FileBody, Use};

/// The side that tells what has come. When every clone is dropped without an end, the readers break off.
#[derive(Clone)]
pub struct Progress(Arc<watch::Sender<State>>);

/// A body as its readers know it.
#[derive(Clone)]
pub struct Arriving {
    state: watch::Receiver<State>,
    path: Arc<Path>,
}

#[derive(Default)]
struct State {
    /// The number of bytes that are in the file.
    in_file: u64,
    /// The number of bytes that have come.
    arrived: u64,
    /// Those that are not in the file yet, as they came.
    in_memory: VecDeque<Bytes>,
    end: End,
}

#[derive(Default)]
enum End {
    #[default]
    Open,
    /// The body is whole and recorded.
    Whole,
    Failed(String),
}

/// Where the next bytes are.
#[derive(Debug, PartialEq)]
enum Next {
    Bytes(Bytes),
    File(Range<u64>),
}

/// Why a reader came to no end.
pub enum Stopped {
    /// Its client has gone.
    ClientGone,
    /// The body will not be whole, or cannot be read.
    Broken(io::Error),
}

impl From<Gone> for Stopped {
    fn from(_: Gone) -> Self {
        Self::ClientGone
    }
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl Progress {
    /// A body of which nothing has come, and that goes to the file `path` where it gets large.
    pub fn new(path: PathBuf) -> (Self, Arriving) {
        let (sender, state) = watch::channel(State::default());
        (Self(Arc::new(sender)), Arriving { state, path: path.into() })
    }

    /// Notes that `chunk` has come.
    pub fn arrived(&self, chunk: &Bytes) {
        // A reader is only ever made from another one.
        if self.0.receiver_count() > 0 {
            self.0.send_if_modified(|state| {
                // Where the disk failed the rest still passes, and nothing would ever take it out of memory.
                let is_open = matches!(state.end, End::Open);
                if is_open {
                    state.arrived += chunk.len() as u64;
                    state.in_memory.push_back(chunk.clone());
                }
                is_open
            });
        }
    }

    /// Notes that the file holds the first `size` bytes.
    pub fn written(&self, size: u64) {
        self.0.send_modify(|state| {
            while let Some(chunk) = state.in_memory.front()
                && state.in_file + chunk.len() as u64 <= size
            {
                state.in_file += chunk.len() as u64;
                state.in_memory.pop_front();
            }
        });
    }

    /// Keeps a body that needed no file as these `bytes`; the chunks that it came in may be parts of larger ones.
    pub fn stays_in_memory(&self, bytes: &[u8]) {
        if self.0.receiver_count() > 0 {
            self.0.send_modify(|state| state.in_memory = VecDeque::from([Bytes::copy_from_slice(bytes)]));
        }
    }

    /// Ends the body as whole and recorded, unless it failed before.
    pub fn whole(&self) {
        self.end(|| End::Whole);
    }

    /// Says that the body will not be whole.
    pub fn failed(&self, reason: &dyn ToString) {
        self.end(|| End::Failed(reason.to_string()));
    }

    fn end(&self, end: impl FnOnce() -> End) {
        self.0.send_modify(|state| {
            if matches!(state.end, End::Open) {
                state.end = end();
            }
            if matches!(state.end, End::Failed(_)) {
                state.in_memory.clear();
            }
        });
    }
}

impl State {
    /// Where the bytes from `range.start` on are, as far as there are any, of a body of `size` bytes.
    fn next(&self, range: &Range<u64>, size: u64) -> Option<Next> {
        // Who has the last byte can take the body for recorded.
        let may_be_sent = if matches!(self.end, End::Whole) { size } else { self.arrived.min(size.saturating_sub(1)) };
        let end = range.end.min(may_be_sent);
        if range.start >= end {
            return None;
        }
        if range.start < self.in_file {
            return Some(Next::File(range.start..end.min(self.in_file)));
        }
        let mut start = self.in_file;
        for chunk in &self.in_memory {
            let next = start + chunk.len() as u64;
            if range.start < next {
                // Within a chunk, so it fits.
                let within = (range.start - start) as usize..(end.min(next) - start) as usize;
                return Some(Next::Bytes(chunk.slice(within)));
            }
            start = next;
        }
        None
    }
}

impl Arriving {
    /// Whether nobody will come to the end of it.
    pub fn has_failed(&self) -> bool {
        let is_given_up = || self.state.has_changed().is_err();
        match self.state.borrow().end {
            End::Open => is_given_up(),
            End::Whole => false,
            End::Failed(_) => true,
        }
    }

    /// Whether it is whole and recorded.
    pub fn is_whole(&self) -> bool {
        matches!(self.state.borrow().end, End::Whole)
    }

    /// Whether its file was taken away.
    pub fn is_lost(&self) -> bool {
        self.state.borrow().in_file > 0 && !self.path.exists()
    }

    /// Sends the bytes in `range`, of a body of `size`, to `client` as they come.
    ///
    /// # Errors
    /// Where the client leaves, or the body breaks off.
    pub async fn send(&mut self, mut range: Range<u64>, size: u64, client: &Sender) -> Result<(), Stopped> {
        let mut file = None;
        while !range.is_empty() {
            range.start = match self.next(&range, size, client).await? {
                Next::Bytes(bytes) => {
                    let end = range.start + bytes.len() as u64;
                    client.send(Frame::data(bytes)).await?;
                    end
                }
                Next::File(part) => {
                    let open: &File = match &mut file {
                        Some(file) => file,
                        none => none.insert(File::open(&self.path)?),
                    };
                    let end = part.end;
                    send_file(open, part, client).await?;
                    end
                }
            };
        }
        Ok(())
    }

    /// Waits until the byte at `range.start` is there.
    async fn next(&mut self, range: &Range<u64>, size: u64, client: &Sender) -> Result<Next, Stopped> {
        let broken = |reason: &str| Stopped::Broken(io::Error::other(format!("the shared download failed: {reason}")));
        loop {
            {
                let state = self.state.borrow_and_update();
                if let End::Failed(reason) = &state.end {
                    return Err(broken(reason));
                }
                if let Some(next) = state.next(range, size) {
                    return Ok(next);
                }
            }
            tokio::select! {
                changed = self.state.changed() => changed.map_err(|_| broken("it was given up"))?,
                () = client.closed() => return Err(Stopped::ClientGone),
            }
        }
    }
}

async fn send_file(file: &File, range: Range<u64>, client: &Sender) -> Result<(), Stopped> {
    let mut body = FileBody::read(Arc::new(file.try_clone()?), range, Use::default());
    while let Some(frame) = body.frame().await {
        client.send(frame?).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::capture::{channel, spooling::Spooling};

    /// The bytes of `range`, or nothing where the body breaks off.
    async fn read(arriving: &Arriving, range: Range<u64>, size: u64) -> Option<Vec<u8>> {
        let (sender, receiver) = channel::channel(2);
        let mut arriving = arriving.clone();
        let task = tokio::spawn(async move {
            match arriving.send(range, size, &sender).await {
                Ok(()) => sender.finish().await,
                Err(Stopped::Broken(error)) => sender.abort(error).await,
                Err(Stopped::ClientGone) => panic!("the client is here"),
            }
        });
        let body = receiver.collect().await.ok().map(|body| body.to_bytes().to_vec());
        task.await.unwrap();
        body
    }

    fn numbered(n: u8, length: usize) -> Vec<u8> {
        (0..length).map(|at| (at / 7 % 200) as u8 + n).collect()
    }

    #[tokio::test]
    async fn readers_get_the_bytes_while_they_come_from_file_and_memory() {
        for chunks in [vec![10, 1, 1000], vec![100_000; 30], vec![3 << 20, 5], vec![300_000, 20_000]] {
            let folder = tempfile::tempdir().unwrap();
            let (mut spooling, arriving) = Spooling::shared(folder.path().join("1"));
            let progress = spooling.progress();
            let whole: Vec<u8> = chunks.iter().flat_map(|&length| numbered(length as u8 % 50, length)).collect();
            let size = whole.len() as u64;
            let ranges = [0..size, 5..7, size - 1..size, size / 2..size - 1];
            let readers: Vec<_> = ranges
                .iter()
                .map(|range| {
                    let (arriving, range) = (arriving.clone(), range.clone());
                    tokio::spawn(async move { read(&arriving, range, size).await })
                })
                .collect();
            let mut rest = whole.as_slice();
            for &length in &chunks {
                let (chunk, after) = rest.split_at(length);
                spooling.write(Bytes::copy_from_slice(chunk)).await;
                tokio::task::yield_now().await;
                rest = after;
            }
            // The end is held back until somebody says that it is recorded.
            assert_eq!(read(&arriving, 0..size - 1, size).await.as_deref(), Some(&whole[..whole.len() - 1]));
            let end = tokio::time::timeout(Duration::from_millis(20), read(&arriving, size - 1..size, size));
            assert!(end.await.is_err());
            spooling.finish().await.unwrap();
            progress.whole();
            for (reader, range) in readers.into_iter().zip(&ranges) {
                let expected = &whole[range.start as usize..range.end as usize];
                assert_eq!(reader.await.unwrap().as_deref(), Some(expected), "{range:?} of {chunks:?}");
            }
            assert_eq!(read(&arriving, 0..size, size).await, Some(whole), "afterwards as well");
            assert!(!arriving.has_failed() && !arriving.is_lost());
            let is_file = std::fs::remove_file(folder.path().join("1")).is_ok();
            assert_eq!((arriving.is_lost(), arriving.has_failed()), (is_file, false));
        }
    }

    #[tokio::test]
    async fn readers_break_off_where_the_disk_fails_or_the_download_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let (mut spooling, arriving) = Spooling::shared(folder.path().join("file/1"));
        let early = {
            let arriving = arriving.clone();
            tokio::spawn(async move { read(&arriving, 0..u64::MAX - 1, u64::MAX).await })
        };
        for _ in 0..20 {
            spooling.write(vec![0; 200_000].into()).await;
        }
        assert!(spooling.has_failed() && arriving.has_failed());
        assert_eq!((early.await.unwrap(), read(&arriving, 0..10, 100).await), (None, None));

        let (mut spooling, arriving) = Spooling::shared(folder.path().join("2"));
        spooling.write(vec![0; 200].into()).await;
        assert!(!arriving.has_failed());
        assert_eq!(read(&arriving, 0..10, 100_000).await, Some(vec![0; 10]));
        drop(spooling);
        assert!(arriving.has_failed());
        assert_eq!(read(&arriving, 0..300, 100_000).await, None);
    }
}

//! Files that are not in memory yet: brought there by a thread that nobody else waits for.
//!
//! `sendfile(2)`, or touching a mapping, reads from the disk where it must, and its thread serves nobody meanwhile.

use std::{
    fs::File,
    io,
    num::NonZeroU64,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use rustix::{
    buffer::spare_capacity,
    io::{Errno, retry_on_intr},
};
use tokio::task::{JoinHandle, spawn_blocking};

/// How much of a file is looked after at once, in bytes.
const AHEAD: u64 = 4 << 20;
/// What is enough to be sent or read at once, in bytes: where less than that is left of what was looked after, the next
/// part is looked after too.
const ENOUGH: u64 = 128 << 10;
/// How far apart the places lie that are looked at, in bytes: the kernel itself reads ahead in larger steps than pages.
const STEP: usize = 512 << 10;
/// Bytes that one read asks for.
const CHUNK: usize = 256 << 10;

/// How far a file that is sent from its start to its end is in memory.
#[derive(Debug, Default)]
pub struct Ahead {
    /// The file that the rest is about.
    file: Option<Arc<File>>,
    /// What of it is in memory, as far as is known.
    in_memory: Range<u64>,
    /// What of it is on its way there.
    pending: Option<(Range<u64>, JoinHandle<io::Result<()>>)>,
}

impl Ahead {
    /// Waits until what follows `offset` is in memory. Gives the number of bytes, at most `length`.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn poll(&mut self, cx: &mut Context<'_>, file: &Arc<File>, offset: u64, length: u64) -> Poll<io::Result<u64>> {
        if !self.file.as_ref().is_some_and(|known| Arc::ptr_eq(known, file)) {
            *self = Self { file: Some(Arc::clone(file)), ..Self::default() };
        }
        while !self.in_memory.contains(&offset) || self.in_memory.end - offset < length.min(ENOUGH) {
            let wanted = offset..offset.saturating_add(length.clamp(1, AHEAD));
            self.in_memory = ready!(self.poll_range(cx, file, wanted))?;
        }
        Poll::Ready(Ok(length.min(self.in_memory.end - offset)))
    }

    /// Gives what is in memory now: `wanted`, or what was wanted before.
    fn poll_range(
        &mut self,
        cx: &mut Context<'_>,
        file: &Arc<File>,
        wanted: Range<u64>,
    ) -> Poll<io::Result<Range<u64>>> {
        if self.pending.is_none() && is_cached(file, &wanted) {
            return Poll::Ready(Ok(wanted));
        }
        let (range, bringing) = self.pending.get_or_insert_with(|| {
            let (file, range) = (Arc::clone(file), wanted.clone());
            (wanted, spawn_blocking(move || bring_in(&file, range)))
        });
        let (outcome, range) = (ready!(Pin::new(bringing).poll(cx)), range.clone());
        self.pending = None;
        Poll::Ready(outcome.unwrap_or_else(|error| Err(io::Error::other(error))).map(|()| range))
    }
}

/// Reads up to `length` bytes at `offset` where they are in memory. `None` where they have to come from the disk, and
/// where the system cannot tell.
///
/// # Errors
/// Where the file ends before.
pub fn read_cached(file: &File, offset: u64, length: usize) -> io::Result<Option<Bytes>> {
    let mut bytes = vec![0; length];
    match pread_cached(file, &mut bytes, offset) {
        Ok(0) => Err(too_short(offset)),
        Ok(read) => {
            bytes.truncate(read);
            Ok(Some(bytes.into()))
        }
        Err(_) => Ok(None),
    }
}

/// Reads exactly `length` bytes at `offset`, from wherever they have to come.
///
/// # Errors
/// Where the file ends before, or cannot be read.
pub fn read_chunk(file: &File, offset: u64, length: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let position = offset + bytes.len() as u64;
        // The capacity can be larger than asked for; what is read beyond `length` is cut off below.
        match rustix::io::pread(file, spare_capacity(&mut bytes), position) {
            Ok(0) => return Err(too_short(position)),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(length);
    Ok(bytes.into())
}

fn too_short(position: u64) -> io::Error {
    let message = format!("a file got shorter while it was sent: byte {position} is gone");
    io::Error::new(io::ErrorKind::UnexpectedEof, message)
}

/// Whether `range` is in the page cache, as far as a look here and there shows.
fn is_cached(file: &File, range: &Range<u64>) -> bool {
    let last = range.end.saturating_sub(1);
    let mut places = (range.start..last).step_by(STEP).chain([last]);
    // Where the system cannot tell, nobody is better off for asking.
    places.all(|place| !matches!(pread_cached(file, &mut [0], place), Err(Errno::AGAIN)))
}

/// Reads what is in memory, and fails with `EAGAIN` where the disk would have to be asked.
#[cfg(target_os = "linux")]
fn pread_cached(file: &File, bytes: &mut [u8], offset: u64) -> rustix::io::Result<usize> {
    let mut buffers = [io::IoSliceMut::new(bytes)];
    let now = rustix::io::ReadWriteFlags::NOWAIT;
    retry_on_intr(|| rustix::io::preadv2(file, &mut buffers, offset, now))
}

/// Other systems do not tell.
#[cfg(not(target_os = "linux"))]
fn pread_cached(_: &File, _: &mut [u8], _: u64) -> rustix::io::Result<usize> {
    Err(Errno::NOSYS)
}

/// Reads `range` into the page cache, and has the disk go on with what comes behind it.
fn bring_in(file: &File, range: Range<u64>) -> io::Result<()> {
    #[cfg(not(target_vendor = "apple"))]
    {
        // Only a hint: a file system that takes none is as good, only slower.
        let _ = rustix::fs::fadvise(file, range.start, NonZeroU64::new(2 * AHEAD), rustix::fs::Advice::WillNeed);
    }
    let (mut scratch, mut offset) = (vec![0; CHUNK], range.start);
    while offset < range.end {
        match retry_on_intr(|| rustix::io::pread(file, &mut scratch[..], offset))? {
            // That the file is short shows when it is sent.
            0 => break,
            read => offset += read as u64,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, path::PathBuf, task::Waker};

    use super::*;

    /// A file on the disk of the test itself: what is in a file system without a disk cannot be dropped from memory.
    fn file(length: usize) -> (tempfile::TempDir, PathBuf, Arc<File>, Vec<u8>) {
        let folder = tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap();
        let path = folder.path().join("file");
        let bytes: Vec<u8> = (0..length as u32).map(|n| (n / 5).to_le_bytes()[0] ^ n.to_le_bytes()[2]).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = File::open(&path).unwrap();
        (folder, path, Arc::new(file), bytes)
    }

    /// Has the kernel forget what it has in memory of `file`. `false` where it does not, or does not tell.
    fn forget(file: &File) -> bool {
        file.sync_all().unwrap();
        rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let forgotten = !is_cached(file, &(0..1));
        if !forgotten {
            println!("skipped: this file system does not tell what is in memory");
        }
        forgotten
    }

    #[test]
    fn what_is_in_memory_is_not_waited_for() {
        let (_folder, _, file, _) = file(6 << 20);
        let mut ahead = Ahead::default();
        let mut now = |offset, length| {
            let polled = ahead.poll(&mut Context::from_waker(Waker::noop()), &file, offset, length);
            let Poll::Ready(outcome) = polled else { unreachable!("waited at {offset}") };
            outcome.unwrap()
        };
        assert_eq!(now(0, 100), 100);
        assert_eq!(now(60, 40), 40, "what was looked at");
        assert_eq!(now(60, 1000), 1000, "too little was");
        assert_eq!(now(100, 6 << 20), AHEAD);
        assert_eq!(now(1 << 20, 6 << 20), AHEAD + 100 - (1 << 20), "what was looked at");
        assert_eq!(now(AHEAD, 1 << 20), 1 << 20, "too little was");
        assert_eq!(now(50, 20), 20, "before what was looked at last");
    }

    #[tokio::test]
    async fn what_is_not_in_memory_is_brought_there_while_others_go_on() {
        let (_folder, _, file, bytes) = file(9 << 20);
        if !forget(&file) {
            return;
        }
        assert!(read_cached(&file, 5 << 20, 1000).unwrap().is_none());
        let (mut ahead, mut polls, length) = (Ahead::default(), 0, 4 << 20);
        let brought = poll_fn(|cx| {
            polls += 1;
            ahead.poll(cx, &file, 1000, length)
        });
        assert_eq!(brought.await.unwrap(), length);
        assert!(polls > 1, "it was waited for");
        assert!(is_cached(&file, &(1000..1000 + length)));
        assert!(read_chunk(&file, 1000, length as usize).unwrap() == bytes[1000..1000 + length as usize]);
    }

    #[tokio::test]
    async fn what_is_known_of_one_file_is_not_taken_for_another() {
        let ((_folder, _, one, _), (_other_folder, _, other, _)) = (file(1 << 20), file(1 << 20));
        let mut ahead = Ahead::default();
        // The other can be there at once, where its thread is quicker than this one.
        for attempt in 1.. {
            if !forget(&other) {
                return;
            }
            poll_fn(|cx| ahead.poll(cx, &one, 0, 1 << 20)).await.unwrap();
            if poll_fn(|cx| Poll::Ready(ahead.poll(cx, &other, 10, 1000))).await.is_pending() {
                break;
            }
            assert!(attempt < 100, "it never has to be waited for");
        }
        // Back to the first while the other is still on its way.
        assert_eq!(poll_fn(|cx| ahead.poll(cx, &one, 20, 1000)).await.unwrap(), 1000);
        assert!(ahead.in_memory == (20..1020));
        assert_eq!(poll_fn(|cx| ahead.poll(cx, &other, 30, 1000)).await.unwrap(), 1000);
    }

    #[tokio::test]
    async fn where_a_file_is_short_shows_when_it_is_read() {
        let (_folder, path, file, bytes) = file(100_000);
        for offset in [0, 99_999, 100_000, 1 << 40, u64::MAX - 5] {
            let mut ahead = Ahead::default();
            assert_eq!(poll_fn(|cx| ahead.poll(cx, &file, offset, 5)).await.unwrap(), 5, "no error yet at {offset}");
        }
        assert_eq!(read_chunk(&file, 99_990, 10).unwrap(), bytes[99_990..]);
        // Where the system cannot tell what is in memory there is nothing to see.
        if let Some(read) = read_cached(&file, 99_990, 100).unwrap() {
            assert_eq!(read, bytes[99_990..], "as much as there is");
            assert!(read_cached(&file, 100_000, 1).is_err());
        }
        for (offset, length, gone) in [(99_990, 11, 100_000), (100_000, 1, 100_000), (1 << 40, 7, 1u64 << 40)] {
            let error = read_chunk(&file, offset, length).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            assert!(error.to_string().ends_with(&format!("byte {gone} is gone")), "{error}");
        }
        forget(&file);
        File::options().write(true).open(path).unwrap().set_len(10).unwrap();
        let mut ahead = Ahead::default();
        assert_eq!(poll_fn(|cx| ahead.poll(cx, &file, 5, 50_000)).await.unwrap(), 50_000, "it ends, and does not hang");
    }
}

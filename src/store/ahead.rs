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
/// How far apart the places lie that are looked at, in bytes: the kernel itself reads ahead in larger steps than pages.
const STEP: usize = 512 << 10;
/// Bytes that one read asks for.
const CHUNK: usize = 256 << 10;

/// How far a file that is sent from its start to its end is in memory.
#[derive(Debug, Default)]
pub struct Ahead {
    in_memory: u64,
    pending: Option<JoinHandle<io::Result<()>>>,
}

impl Ahead {
    /// Waits until what follows `offset` is in memory. Gives the number of bytes, at most `length`.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn poll(&mut self, cx: &mut Context<'_>, file: &Arc<File>, offset: u64, length: u64) -> Poll<io::Result<u64>> {
        if offset >= self.in_memory || self.in_memory - offset > AHEAD {
            let wanted = offset..offset + length.min(AHEAD);
            ready!(self.poll_range(cx, file, &wanted))?;
            self.in_memory = wanted.end;
        }
        Poll::Ready(Ok(length.min(self.in_memory - offset)))
    }

    fn poll_range(&mut self, cx: &mut Context<'_>, file: &Arc<File>, wanted: &Range<u64>) -> Poll<io::Result<()>> {
        if self.pending.is_none() && is_cached(file, wanted) {
            return Poll::Ready(Ok(()));
        }
        let bringing = self.pending.get_or_insert_with(|| {
            let (file, wanted) = (Arc::clone(file), wanted.clone());
            spawn_blocking(move || bring_in(&file, wanted))
        });
        let outcome = ready!(Pin::new(bringing).poll(cx));
        self.pending = None;
        Poll::Ready(outcome.unwrap_or_else(|error| Err(io::Error::other(error))))
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
    let message = format!("a file got shorter while it was sent: it ends at byte {position}");
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

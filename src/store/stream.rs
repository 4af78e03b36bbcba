//! A range of a file as an HTTP body: mapped where it is sent by `sendfile(2)`, read where its bytes are touched.
//!
//! Either way the length is known from the start, memory does not grow with it, and a file that turns out to be
//! shorter is an error, which cuts the connection: a client never takes a part for the whole.

use std::{
    fs::File,
    io,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{
    ahead::{Ahead, read_cached, read_chunk},
    mapped::{SENDFILE_FROM, StoreFile},
};

/// The bytes of a file from `range.start` to before `range.end`. A range beyond the end of the file is an error when the
/// end is reached, not before.
#[derive(Debug)]
pub struct FileBody {
    source: FileSource,
    rest: Range<u64>,
}

#[derive(Debug)]
enum FileSource {
    Mapped(StoreFile),
    Read { file: Arc<File>, ahead: Ahead, usage: Use, buffer: Bytes },
}

/// What becomes of the bytes of a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Use {
    /// They go to a socket as they are.
    Sent,
    /// They are encrypted or copied.
    #[default]
    Touched,
    /// The same, a frame of HTTP/2 at a time.
    Framed,
}

impl Use {
    /// What is read at once, in bytes: of frames, no part of one.
    fn read_at_once(self) -> u64 {
        let most = if self == Self::Framed { READ - READ % FRAME } else { READ };
        most as u64
    }
}

/// What a DATA frame of HTTP/2 takes for a full record of TLS: 16 KiB (RFC 8446 §5.1, and the smallest maximum of a
/// frame, RFC 9113 §4.2) without the head of the frame. Any more would be a record of a few bytes for each frame.
const FRAME: usize = (16 << 10) - 9;

/// The addresses that a mapping takes at the most, in bytes: they cost nothing, and each mapping some microseconds.
const WINDOW: u64 = 64 << 20;

/// What is read at once, in bytes. It is encrypted while it is in the processor's cache.
const READ: usize = 128 << 10;

/// Up to how many bytes it is quicker to read than to ask first whether the disk would be waited for.
const SMALL: usize = 16 << 10;

impl FileBody {
    /// A range of a store file: by mapped windows where it is large and only sent, for which their pages are never
    /// touched. What is to be encrypted is read: that took 0.8 of the processor time of encrypting from the mapping, whose
    /// pages are entered into the process one by one and taken out again; and no file that is cut short can end the
    /// process.
    pub fn stored(file: &StoreFile, range: Range<u64>, usage: Use) -> Self {
        let is_large = range.end.saturating_sub(range.start) >= SENDFILE_FROM as u64;
        let source = if usage == Use::Sent && is_large && cfg!(target_os = "linux") {
            FileSource::Mapped(file.clone())
        } else {
            FileSource::read(Arc::clone(file.file()), usage)
        };
        Self { source, rest: range }
    }

    /// A range of any file, read: at once where it is in memory, else with the help of one of tokio's blocking threads.
    /// The file's position stays where it is.
    pub fn read(file: Arc<File>, range: Range<u64>, usage: Use) -> Self {
        Self { source: FileSource::read(file, usage), rest: range }
    }

    fn left(&self) -> u64 {
        self.rest.end.saturating_sub(self.rest.start)
    }
}

impl FileSource {
    fn read(file: Arc<File>, usage: Use) -> Self {
        Self::Read { file, ahead: Ahead::default(), usage, buffer: Bytes::new() }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>, offset: u64, left: u64) -> Poll<io::Result<Bytes>> {
        match self {
            Self::Mapped(file) => {
                // Up to the next multiple, so that all but the first start on a page. At most a window, which is a usize.
                let length = (WINDOW - offset % WINDOW).min(left) as usize;
                match file.window(offset, length) {
                    Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                        // A limit of the address space (`ulimit -v`), or of mappings: reading needs none.
                        tracing::debug!("read instead: {error}");
                        *self = Self::read(Arc::clone(file.file()), Use::Sent);
                        self.poll_chunk(cx, offset, left)
                    }
                    window => Poll::Ready(window),
                }
            }
            Self::Read { file, ahead, usage, buffer } => {
                if buffer.is_empty() {
                    *buffer = ready!(poll_read(cx, file, ahead, offset, left, *usage))?;
                }
                let chunk = if *usage == Use::Framed { buffer.len().min(FRAME) } else { buffer.len() };
                Poll::Ready(Ok(buffer.split_to(chunk)))
            }
        }
    }
}

fn poll_read(
    cx: &mut Context<'_>,
    file: &Arc<File>,
    ahead: &mut Ahead,
    offset: u64,
    left: u64,
    usage: Use,
) -> Poll<io::Result<Bytes>> {
    // At most READ, which is a usize.
    let length = left.min(usage.read_at_once()) as usize;
    if length <= SMALL
        && let Some(bytes) = read_cached(file, offset, length)?
    {
        return Poll::Ready(Ok(bytes));
    }
    let in_memory = ready!(ahead.poll(cx, file, offset, left))?;
    Poll::Ready(read_chunk(file, offset, in_memory.min(length as u64) as usize))
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let left = this.left();
        if left == 0 {
            return Poll::Ready(None);
        }
        let chunk = ready!(this.source.poll_chunk(cx, this.rest.start, left))?;
        this.rest.start += chunk.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use http_body_util::BodyExt;

    use super::*;

    fn file(length: usize) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes: Vec<u8> = (0..length).map(|n| (n / 7 % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        (folder, path, bytes)
    }

    fn bodies(path: &std::path::Path, range: &Range<usize>) -> impl Iterator<Item = FileBody> {
        let stored = StoreFile::open(path).unwrap();
        let range = range.start as u64..range.end as u64;
        let all = [Use::Sent, Use::Touched, Use::Framed];
        all.into_iter().flat_map(move |usage| {
            let read = FileBody::read(Arc::clone(stored.file()), range.clone(), usage);
            [FileBody::stored(&stored, range.clone(), usage), read]
        })
    }

    #[tokio::test]
    async fn every_range_gives_its_bytes_and_their_number() {
        let (_folder, path, bytes) = file(3 * READ + 4321);
        let all = bytes.len();
        for range in
            [0..all, 0..0, 5..5, 0..1, all - 1..all, 4097..READ + 1, READ - 1..2 * READ, 777..all, 5..SMALL + 5]
        {
            for body in bodies(&path, &range) {
                assert_eq!(body.size_hint().exact(), Some(range.len() as u64));
                assert_eq!(body.is_end_stream(), range.is_empty());
                assert!(body.collect().await.unwrap().to_bytes() == bytes[range.clone()], "{range:?}");
            }
        }
    }

    #[tokio::test]
    async fn the_size_hint_counts_down_with_the_frames() {
        let (_folder, path, bytes) = file(READ + 10);
        for mut body in bodies(&path, &(3..bytes.len())) {
            let mut left = bytes.len() as u64 - 3;
            while let Some(frame) = body.frame().await {
                left -= frame.unwrap().into_data().unwrap().len() as u64;
                assert_eq!(body.size_hint().exact(), Some(left));
            }
            assert!(left == 0 && body.is_end_stream());
        }
    }

    #[tokio::test]
    async fn a_frame_of_http2_and_its_head_fill_a_record() {
        let (_folder, path, bytes) = file(70 * READ);
        let mut body = FileBody::stored(&StoreFile::open(&path).unwrap(), 0..bytes.len() as u64, Use::Framed);
        for _ in 0..bytes.len() / FRAME {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len() + 9, 16 << 10);
        }
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), bytes.len() % FRAME);
    }

    #[tokio::test]
    async fn a_file_that_gets_shorter_ends_in_an_error() {
        let (_folder, path, bytes) = file(2 * READ);
        for mut body in bodies(&path, &(0..bytes.len())).filter(|body| matches!(body.source, FileSource::Read { .. })) {
            body.frame().await.unwrap().unwrap();
            File::options().write(true).open(&path).unwrap().set_len(READ as u64 + 5).unwrap();
            let error = body.collect().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
            std::fs::write(&path, &bytes).unwrap();
        }
    }

    #[tokio::test]
    async fn a_file_that_is_shorter_than_its_range_is_not_mapped() {
        let (_folder, path, bytes) = file(2 * READ);
        let mut body = FileBody::stored(&StoreFile::open(&path).unwrap(), 0..bytes.len() as u64 + 1, Use::Sent);
        assert_eq!(body.frame().await.unwrap().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn what_the_disk_has_yet_to_bring_is_brought() {
        let (_folder, path, bytes) = file(3 << 20);
        for usage in [Use::Touched, Use::Framed] {
            let stored = StoreFile::open(&path).unwrap();
            stored.file().sync_all().unwrap();
            rustix::fs::fadvise(stored.file(), 0, None, rustix::fs::Advice::DontNeed).unwrap();
            let body = FileBody::stored(&stored, 0..bytes.len() as u64, usage);
            assert!(body.collect().await.unwrap().to_bytes() == bytes);
        }
    }

    /// Peak memory can be read only for a whole process: the test runs itself again, alone.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_gibibyte_passes_through_a_mapping_in_less_than_32_mebibytes() {
        const CHILD: &str = "BUILDPROXY_TEST_MAPPED_CHILD";
        if std::env::var_os(CHILD).is_some() {
            return touch_every_page_of_a_gibibyte();
        }
        let name = "store::stream::tests::a_gibibyte_passes_through_a_mapping_in_less_than_32_mebibytes";
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("peak"), "{text}");
    }

    #[cfg(target_os = "linux")]
    #[tokio::main(flavor = "current_thread")]
    async fn touch_every_page_of_a_gibibyte() {
        const SIZE: u64 = 1 << 30;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse");
        File::create(&path).unwrap().set_len(SIZE).unwrap();
        let mut body = FileBody::stored(&StoreFile::open(&path).unwrap(), 0..SIZE, Use::Touched);
        let mut seen = 0;
        while let Some(frame) = body.frame().await {
            let window = frame.unwrap().into_data().unwrap();
            assert!(window.iter().step_by(4096).all(|&byte| byte == 0));
            seen += window.len() as u64;
        }
        assert_eq!(seen, SIZE);
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB")).unwrap();
        let peak: u64 = peak.trim().parse().unwrap();
        println!("peak {peak} KiB");
        assert!(peak < 32 * 1024, "{peak} KiB");
    }
}

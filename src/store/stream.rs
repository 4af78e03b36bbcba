//! A range of a file as an HTTP body: mapped where the file cannot shrink, read where it could.
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
use rustix::buffer::spare_capacity;
use tokio::task::JoinHandle;

use super::mapped::{StoreFile, WINDOW};

/// Bytes that one read asks for: the hand-over to a blocking thread costs little beside it.
const CHUNK: usize = 256 * 1024;

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
    Read { file: Arc<File>, pending: Option<JoinHandle<io::Result<Bytes>>> },
}

impl FileBody {
    /// A range of a store file, by mapped windows of at most [`WINDOW`] bytes.
    pub fn mapped(file: StoreFile, range: Range<u64>) -> Self {
        Self { source: FileSource::Mapped(file), rest: range }
    }

    /// A range of any file, by reads on tokio's blocking threads. The file's position stays where it is.
    pub fn read(file: File, range: Range<u64>) -> Self {
        Self { source: FileSource::Read { file: Arc::new(file), pending: None }, rest: range }
    }

    fn left(&self) -> u64 {
        self.rest.end.saturating_sub(self.rest.start)
    }
}

impl FileSource {
    fn poll_chunk(&mut self, cx: &mut Context<'_>, offset: u64, left: u64) -> Poll<io::Result<Bytes>> {
        match self {
            Self::Mapped(file) => Poll::Ready(file.window(offset, window_length(offset, left))),
            Self::Read { file, pending } => {
                let read = pending.get_or_insert_with(|| {
                    let file = Arc::clone(file);
                    let length = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
                    tokio::task::spawn_blocking(move || read_chunk(&file, offset, length))
                });
                let chunk = ready!(Pin::new(read).poll(cx));
                *pending = None;
                Poll::Ready(chunk.unwrap_or_else(|error| Err(io::Error::other(error))))
            }
        }
    }
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

/// The length of the next window: up to the next multiple of [`WINDOW`], so that all but the first start on a page.
fn window_length(offset: u64, left: u64) -> usize {
    let aligned = WINDOW as u64 - offset % WINDOW as u64;
    // At most WINDOW, which is a usize.
    aligned.min(left) as usize
}

/// Reads exactly `length` bytes at `offset`.
fn read_chunk(file: &File, offset: u64, length: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let position = offset + bytes.len() as u64;
        // The capacity can be larger than asked for; what is read beyond `length` is cut off below.
        match rustix::io::pread(file, spare_capacity(&mut bytes), position) {
            Ok(0) => {
                let message = format!("a file got shorter while it was sent: it ends at byte {position}");
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(length);
    Ok(bytes.into())
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

    fn both(path: &std::path::Path, range: Range<u64>) -> [FileBody; 2] {
        let mapped = FileBody::mapped(StoreFile::open(path).unwrap(), range.clone());
        [mapped, FileBody::read(File::open(path).unwrap(), range)]
    }

    #[tokio::test]
    async fn every_range_gives_its_bytes_and_their_number() {
        let (_folder, path, bytes) = file(3 * WINDOW + 4321);
        let all = bytes.len();
        for range in [0..all, 0..0, 5..5, 0..1, all - 1..all, 4097..WINDOW + 1, WINDOW - 1..2 * WINDOW, 777..all] {
            for body in both(&path, range.start as u64..range.end as u64) {
                assert_eq!(body.size_hint().exact(), Some(range.len() as u64));
                assert_eq!(body.is_end_stream(), range.is_empty());
                assert!(body.collect().await.unwrap().to_bytes() == bytes[range.clone()], "{range:?}");
            }
        }
    }

    #[tokio::test]
    async fn the_size_hint_counts_down_with_the_frames() {
        let (_folder, path, bytes) = file(WINDOW + 10);
        for mut body in both(&path, 3..bytes.len() as u64) {
            let mut left = bytes.len() as u64 - 3;
            while let Some(frame) = body.frame().await {
                left -= frame.unwrap().into_data().unwrap().len() as u64;
                assert_eq!(body.size_hint().exact(), Some(left));
            }
            assert!(left == 0 && body.is_end_stream());
        }
    }

    #[tokio::test]
    async fn a_file_that_gets_shorter_ends_in_an_error() {
        let (_folder, path, bytes) = file(2 * WINDOW);
        for mut body in both(&path, 0..bytes.len() as u64) {
            body.frame().await.unwrap().unwrap();
            File::options().write(true).open(&path).unwrap().set_len(WINDOW as u64 + 5).unwrap();
            let error = body.collect().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
            std::fs::write(&path, &bytes).unwrap();
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
        let mut body = FileBody::mapped(StoreFile::open(&path).unwrap(), 0..SIZE);
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

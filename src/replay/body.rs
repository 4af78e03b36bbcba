//! From a recorded body to the bytes of a response: the one place in this room that opens files.

use std::{
    collections::VecDeque,
    error::Error,
    fs::File,
    io,
    ops::Range,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use rustix::io::Errno;
use tokio::time::{Instant, sleep};

use crate::{
    inventory::{BodyFiles, LocateError, Located, index::KeptEntry},
    representation::BodyPlan,
    store::{
        hash::NixHash,
        mapped::{StoreFile, Watch},
        regular,
        state::FileState,
        stream::{FileBody, Use},
    },
    url::NormalizedUrl,
};

/// What a system says that has none left.
const SHORTAGES: [Errno; 3] = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];

/// How long a body waits for a descriptor that other answers hold, and how often it tries.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// Why a recorded body cannot be sent. Every message says which file it is about and what to do.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is missing, short, long or unreadable.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// It was found but cannot be opened or read; the message names it.
    #[error("{0}; run `buildproxy verify`")]
    Read(#[source] io::Error),
    /// A text in the inventory has another length than its `size`.
    #[error(
        "the body's `text` has {actual} bytes but its `size` is {expected}: capture it again, or correct the inventory"
    )]
    TextSize {
        /// The recorded size in bytes.
        expected: u64,
        /// The text's length in bytes.
        actual: u64,
    },
    /// A compiled inventory with a right checksum says that an entry is where none is.
    #[error(
        "the compiled inventory contradicts itself, it has no entry where that for {url} should be: run `buildproxy \
         index` again on the inventory that it was made of"
    )]
    Entry {
        /// What was asked for.
        url: NormalizedUrl,
    },
    /// It was altered.
    #[error("{what} was altered: its hash is {actual} instead of {expected}; {remedy}")]
    Hash {
        /// The file.
        what: String,
        /// The recorded hash.
        expected: Box<NixHash>,
        /// The hash of what is there.
        actual: Box<NixHash>,
        /// What to do.
        remedy: String,
    },
}

impl BodyError {
    /// Whether the system has no descriptor or memory to open it with for now, whatever the file is like.
    fn is_shortage(&self) -> bool {
        let mut cause = self.source();
        while let Some(error) = cause {
            let errno = error.downcast_ref().and_then(io::Error::raw_os_error);
            if errno.is_some_and(|errno| SHORTAGES.iter().any(|shortage| shortage.raw_os_error() == errno)) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// A body whose size was found to be the recorded one.
#[derive(Debug, Clone)]
pub enum OpenBody {
    /// In memory.
    Text(Bytes),
    /// A store file, to be mapped.
    Mapped(StoreFile),
    /// Any other file, to be read.
    Read {
        /// The file.
        file: Arc<File>,
        /// Where it was opened.
        path: PathBuf,
        /// Its size in bytes when it was opened.
        size: u64,
        /// What else it was like then.
        state: FileState,
    },
}

impl OpenBody {
    /// No bytes.
    pub fn nothing() -> Self {
        Self::Text(Bytes::new())
    }

    /// [Opens](Self::open) the body of `entry`, and waits where others have all descriptors.
    ///
    /// # Errors
    /// Where the bytes are absent or as many as were not recorded.
    pub async fn open_in_turn(files: &BodyFiles, entry: &KeptEntry) -> Result<Self, BodyError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match Self::open(files, entry) {
                Err(error) if error.is_shortage() && Instant::now() < until => sleep(PAUSE).await,
                opened => return opened,
            }
        }
    }

    /// Finds and opens the body of `entry`. A few system calls on local files: not worth a thread.
    ///
    /// # Errors
    /// Where the bytes are absent or as many as were not recorded.
    pub fn open(files: &BodyFiles, entry: &KeptEntry) -> Result<Self, BodyError> {
        let Some(body) = &entry.body else { return Ok(Self::nothing()) };
        let open = match files.locate_at(body, entry.store_path())? {
            Located::Text(text) => Self::Text(Bytes::copy_from_slice(text.as_bytes())),
            Located::Store(path) => Self::Mapped(StoreFile::open(&path).map_err(BodyError::Read)?),
            Located::Beside(path) => Self::read(path)?,
        };
        match (open.path(), body.size) {
            (Some(path), _) => drop(files.compare_size(body, path, open.size())?),
            (None, Some(expected)) if expected != open.size() => {
                return Err(BodyError::TextSize { expected, actual: open.size() });
            }
            (None, _) => {}
        }
        Ok(open)
    }

    fn read(path: PathBuf) -> Result<Self, BodyError> {
        let opened = regular::open_resolved(&path).and_then(|file| file.metadata().map(|metadata| (file, metadata)));
        match opened {
            Ok((file, metadata)) => {
                let (size, state) = (metadata.len(), FileState::of(&metadata));
                Ok(Self::Read { file: Arc::new(file), path, size, state })
            }
            Err(source) => Err(LocateError::Unreadable { path, source }.into()),
        }
    }

    /// The number of bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Mapped(file) => file.len(),
            Self::Read { size, .. } => *size,
        }
    }

    /// The open file, where there is one.
    pub fn file(&self) -> Option<&File> {
        match self {
            Self::Text(_) => None,
            Self::Mapped(file) => Some(file.file()),
            Self::Read { file, .. } => Some(file),
        }
    }

    /// What the file was like when it was opened, where there is one.
    pub fn state(&self) -> Option<&FileState> {
        match self {
            Self::Text(_) => None,
            Self::Mapped(file) => Some(file.state()),
            Self::Read { state, .. } => Some(state),
        }
    }

    /// The file's name, where there is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Text(_) => None,
            Self::Mapped(file) => Some(file.path()),
            Self::Read { path, .. } => Some(path),
        }
    }

    /// The bytes in `range`, which lies within the body.
    fn part(&self, range: Range<u64>, usage: Use) -> io::Result<Segment> {
        match self {
            // A range within a text fits into memory.
            Self::Text(text) => Ok(Segment::Bytes(text.slice(range.start as usize..range.end as usize))),
            Self::Mapped(file) => Ok(Segment::File(FileBody::stored(file, range, usage))),
            Self::Read { file, .. } => Ok(Segment::File(FileBody::read(Arc::clone(file), range, usage))),
        }
    }
}

/// Told how sending ended: with the last byte handed to the connection, or with an error of the file, which can still
/// come behind that, as the connection reads it itself. Not told where the client left.
pub type OnEnd = Arc<dyn Fn(Result<(), &io::Error>) + Send + Sync>;

/// The body of a response of this room.
pub struct ReplayBody {
    source: OpenBody,
    usage: Use,
    segments: VecDeque<Segment>,
    left: u64,
    /// No length is known, none is to be made up: `HEAD`, 204, 304.
    silent: bool,
    on_end: Option<OnEnd>,
}

enum Segment {
    Bytes(Bytes),
    /// Part of the source. It becomes one of the others when its turn comes, so that many parts share one descriptor.
    Part(Range<u64>),
    File(FileBody),
}

impl ReplayBody {
    /// No bytes, and no claim about the length: a body with a size of zero would have `Content-Length: 0` added.
    pub fn none() -> Self {
        Self { silent: true, ..Self::of(OpenBody::nothing(), VecDeque::new()) }
    }

    /// What `plan` says, from `body`.
    pub fn planned(plan: BodyPlan, body: OpenBody) -> Self {
        match plan {
            BodyPlan::None => Self::none(),
            BodyPlan::Bytes(range) => Self::of(body, VecDeque::from([Segment::Part(range)])),
            BodyPlan::Multipart { parts, end } => {
                let mut segments = VecDeque::with_capacity(2 * parts.len() + 1);
                for (head, range) in parts {
                    segments.extend([Segment::Bytes(head), Segment::Part(range)]);
                }
                segments.push_back(Segment::Bytes(end));
                Self::of(body, segments)
            }
        }
    }

    fn of(source: OpenBody, segments: VecDeque<Segment>) -> Self {
        let left = segments.iter().map(Segment::left).sum();
        Self { source, usage: Use::Sent, segments, left, silent: false, on_end: None }
    }

    /// Has `on_end` told how sending ends; at once where there is nothing to send.
    #[must_use]
    pub fn watched(mut self, on_end: OnEnd) -> Self {
        if let OpenBody::Mapped(file) = self.source {
            let told = Arc::clone(&on_end);
            self.source = OpenBody::Mapped(file.watched(Watch::by(move |error| told(Err(error)))));
        }
        self.on_end = Some(on_end);
        if self.left == 0 {
            self.end(Ok(()));
        }
        self
    }

    /// Has the bytes sent in the way that suits what becomes of them.
    #[must_use]
    pub fn used(mut self, usage: Use) -> Self {
        self.usage = usage;
        self
    }

    fn end(&mut self, result: Result<(), &io::Error>) {
        if let Some(on_end) = self.on_end.take() {
            on_end(result);
        }
    }

    /// The next bytes of the first segment that has any.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        while let Some(segment) = self.segments.front_mut() {
            let chunk = match segment {
                Segment::Part(range) => {
                    *segment = self.source.part(range.clone(), self.usage)?;
                    continue;
                }
                Segment::Bytes(bytes) => (!bytes.is_empty()).then(|| Ok(std::mem::take(bytes))),
                Segment::File(file) => {
                    let frame = ready!(Pin::new(file).poll_frame(cx));
                    frame.map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default()))
                }
            };
            if chunk.is_some() {
                return Poll::Ready(chunk);
            }
            self.segments.pop_front();
        }
        Poll::Ready(None)
    }
}

impl Segment {
    fn left(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Part(range) => range.end - range.start,
            // A file body always knows.
            Self::File(file) => file.size_hint().exact().unwrap_or(0),
        }
    }
}

impl HttpBody for ReplayBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let chunk = match ready!(this.poll_chunk(cx)) {
            Some(Ok(chunk)) => chunk,
            None if this.left == 0 => return Poll::Ready(None),
            None => {
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the body ended early");
                this.end(Err(&error));
                return Poll::Ready(Some(Err(error)));
            }
            Some(Err(error)) => {
                this.end(Err(&error));
                return Poll::Ready(Some(Err(error)));
            }
        };
        this.left = this.left.saturating_sub(chunk.len() as u64);
        if this.left == 0 {
            this.end(Ok(()));
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        if self.silent { SizeHint::default() } else { SizeHint::with_exact(self.left) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_says_what_is_broken_and_what_to_do() {
        let hash = || Box::new(NixHash::sha256(b""));
        for (error, text) in [
            (BodyError::Read(io::Error::other("cannot open a: no")), "cannot open a: no; run `buildproxy verify`"),
            (
                BodyError::Entry { url: "http://h/a".parse().unwrap() },
                "the compiled inventory contradicts itself, it has no entry where that for http://h/a should be: run \
                 `buildproxy index` again on the inventory that it was made of",
            ),
            (
                BodyError::Hash {
                    what: "the body's `text`".to_owned(),
                    expected: hash(),
                    actual: hash(),
                    remedy: "mend it".to_owned(),
                },
                "the body's `text` was altered: its hash is sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU= instead of \
                 sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; mend it",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}

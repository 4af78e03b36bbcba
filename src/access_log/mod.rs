//! The access log: a line for each request that is over, for the programs that read those of web servers.
//!
//! Answers never wait for it. They leave what there is to say in a queue, from which a thread takes it, looks for secrets,
//! and writes. What the queue has no room for is lost, and that is said.

mod entry;
mod file;
mod hiding;

use std::{
    fmt::Write,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, SystemTime},
};

use tokio::{sync::oneshot, time::timeout};

use self::hiding::Hider;
pub use self::{entry::Entry, file::LogFile};
use crate::proxy::{AnswerCallback, Answered};

/// What may wait to be written, in bytes: some ten thousand lines.
const MOST_WAITING: usize = 8 << 20;
/// What a request takes while it waits, beside its URL and its header fields, in bytes.
const TAKEN_BY_EACH: usize = 400;
/// How much is written at once, in bytes. Fewer where nothing waits, so that each line is there as soon as it can be.
const BATCH: usize = 64 << 10;
/// How long the end waits for whoever takes no line in that time.
const PATIENCE: Duration = Duration::from_millis(500);

/// Where the lines go.
pub enum Destination {
    /// To a file, in the combined format.
    File(LogFile),
    /// To whoever prints them.
    Printer(Box<dyn FnMut(&Entry) + Send>),
}

/// An access log that is open.
pub struct AccessLog {
    callback: AnswerCallback,
    queue: Arc<Queue>,
    ended: oneshot::Receiver<()>,
}

/// What is known of the lines that are not written.
struct Queue {
    /// The file, for messages.
    name: String,
    /// The bytes that wait.
    bytes: AtomicUsize,
    /// The lines that wait.
    lines: AtomicUsize,
    lost: AtomicU64,
    has_told: AtomicBool,
}

/// A request that is over, and when that was.
struct Item {
    answered: Answered,
    time: SystemTime,
    size: usize,
}

impl AccessLog {
    /// Starts to write to `destination`, called `name` in messages.
    ///
    /// # Errors
    /// Where there can be no thread for it.
    pub fn start(destination: Destination, name: String) -> io::Result<Self> {
        let (sender, receiver) = channel();
        let (ends, ended) = oneshot::channel();
        let counter = || AtomicUsize::new(0);
        let (lost, has_told) = (AtomicU64::new(0), AtomicBool::new(false));
        let queue = Arc::new(Queue { name, bytes: counter(), lines: counter(), lost, has_told });
        let writer = Writer { destination, queue: Arc::clone(&queue), hider: Hider::default() };
        thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            writer.run(&receiver);
            drop(ends);
        })?;
        let for_answers = Arc::clone(&queue);
        let callback: AnswerCallback = Arc::new(move |answered| for_answers.put(&sender, answered));
        Ok(Self { callback, queue, ended })
    }

    /// What is to be told of each request that is over. The log ends when nothing is left that could call it.
    pub fn callback(&self) -> AnswerCallback {
        Arc::clone(&self.callback)
    }

    /// Ends it, once all that could call it has ended or is about to: waits until what waits is written, as long as anything
    /// is.
    pub async fn close(self) {
        let Self { callback, queue, mut ended } = self;
        drop(callback);
        let mut waiting = queue.lines.load(Ordering::Acquire);
        while timeout(PATIENCE, &mut ended).await.is_err() {
            let before = std::mem::replace(&mut waiting, queue.lines.load(Ordering::Acquire));
            if before <= waiting {
                queue.lose(waiting, &"nobody takes the rest");
                break;
            }
        }
        match queue.lost.load(Ordering::Relaxed) {
            0 => {}
            1 => tracing::warn!("1 line of the access log {} was lost", queue.name),
            lost => tracing::warn!("{lost} lines of the access log {} were lost", queue.name),
        }
    }
}

impl Queue {
    fn put(&self, sender: &Sender<Item>, answered: Answered) {
        let fields: usize = answered.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let path = answered.uri.path_and_query().map_or(0, |path| path.as_str().len());
        let size = TAKEN_BY_EACH + path + fields;
        let waiting = self.bytes.fetch_add(size, Ordering::Relaxed);
        self.lines.fetch_add(1, Ordering::Relaxed);
        let item = Item { answered, time: SystemTime::now(), size };
        if waiting + size > MOST_WAITING || sender.send(item).is_err() {
            self.taken(1, size);
            self.lose(1, &"it is written more slowly than requests come, or nobody reads it");
        }
    }

    /// Notes that lines wait no more.
    fn taken(&self, lines: usize, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.lines.fetch_sub(lines, Ordering::Release);
    }

    /// Notes that lines are lost, and says so once.
    fn lose(&self, lines: usize, reason: &dyn std::fmt::Display) {
        self.lost.fetch_add(lines as u64, Ordering::Relaxed);
        if lines > 0 && !self.has_told.swap(true, Ordering::Relaxed) {
            tracing::warn!("lines of the access log {} are lost: {reason}", self.name);
        }
    }
}

/// What runs in the thread.
struct Writer {
    destination: Destination,
    queue: Arc<Queue>,
    hider: Hider,
}

impl Writer {
    fn run(mut self, items: &Receiver<Item>) {
        let mut lines = String::new();
        while let Ok(first) = items.recv() {
            let (mut count, mut size) = (0, 0);
            let mut next = Some(first);
            while let Some(item) = next {
                count += 1;
                size += item.size;
                self.add(&item, &mut lines);
                next = if lines.len() < BATCH { items.try_recv().ok() } else { None };
            }
            if let Destination::File(file) = &mut self.destination {
                if let Err(failure) = file.append(lines.as_bytes()) {
                    self.queue.lose(failure.lost, &failure.error);
                }
                lines.clear();
            }
            self.queue.taken(count, size);
        }
    }

    fn add(&mut self, item: &Item, lines: &mut String) {
        let entry = Entry::new(&item.answered, item.time, &mut self.hider);
        match &mut self.destination {
            // Writing to a String cannot fail.
            Destination::File(_) => drop(writeln!(lines, "{entry}")),
            Destination::Printer(print) => print(&entry),
        }
    }
}

#[cfg(test)]
mod tests;

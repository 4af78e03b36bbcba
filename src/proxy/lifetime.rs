//! When a connection ends: because it is idle for too long, because its client takes nothing, or because the server does.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
    time::{Instant, sleep_until},
};

use super::account::Ledger;

/// How long the first request of a connection can take to come.
pub const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection is kept between requests: compilers run between a build's downloads.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a connection that is to end may do nothing for that: as long as its client takes some of its answers now and
/// then, it has them all.
pub const CLOSING_TIMEOUT: Duration = Duration::from_secs(30);

/// What goes on on one connection.
#[derive(Debug, Clone)]
pub struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Exchanges that have begun and have no response yet.
    running: usize,
    /// When the connection began, an exchange last began or ended, or something of an answer was last taken.
    changed: Instant,
    /// Whether there was a request.
    used: bool,
}

/// Stands for one exchange while it runs.
pub struct Exchange(Activity);

impl Activity {
    /// On a connection that begins now.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State { running: 0, changed: Instant::now(), used: false })))
    }

    /// Notes that an exchange runs until the returned value is dropped.
    pub fn begin(&self) -> Exchange {
        let mut state = self.lock();
        state.running += 1;
        state.used = true;
        state.changed = Instant::now();
        drop(state);
        Exchange(self.clone())
    }

    /// Notes that something was taken by the client.
    fn taken(&self) {
        let mut state = self.lock();
        // What is said before is no answer.
        if state.used {
            state.changed = Instant::now();
        }
    }

    /// Whether a request was ever begun.
    pub fn used(&self) -> bool {
        self.lock().used
    }

    /// Resolves when the connection was idle for too long: [`FIRST_REQUEST_TIMEOUT`] without any request, or
    /// [`IDLE_TIMEOUT`] since the last one was answered, or since something of an answer was taken.
    pub async fn idle(&self) {
        loop {
            let (running, deadline) = self.deadline();
            if !running && deadline <= Instant::now() {
                return;
            }
            sleep_until(deadline).await;
        }
    }

    /// Resolves when nothing ran and nothing was taken for `patience` from now on.
    pub async fn quiet_for(&self, patience: Duration) {
        let start = Instant::now();
        loop {
            let (running, deadline) = {
                let state = self.lock();
                (state.running > 0, state.changed.max(start) + patience)
            };
            if !running && deadline <= Instant::now() {
                return;
            }
            sleep_until(if running { Instant::now() + patience } else { deadline }).await;
        }
    }

    /// Whether something runs, and when to look again.
    fn deadline(&self) -> (bool, Instant) {
        let state = self.lock();
        match (state.running, state.used) {
            (0, false) => (false, state.changed + FIRST_REQUEST_TIMEOUT),
            (0, true) => (false, state.changed + IDLE_TIMEOUT),
            _ => (true, Instant::now() + IDLE_TIMEOUT),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.running -= 1;
        state.changed = Instant::now();
    }
}

/// A connection that notes when its client takes something.
pub struct Watched<IO> {
    io: IO,
    activity: Activity,
    ledger: Option<Ledger>,
}

impl<IO> Watched<IO> {
    /// Over `io`, for `activity`, and for `ledger` where there is one.
    pub fn new(io: IO, activity: Activity, ledger: Option<Ledger>) -> Self {
        Self { io, activity, ledger }
    }

    /// The connection itself.
    pub fn into_inner(self) -> IO {
        self.io
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count @ 1..)) = written {
            self.activity.taken();
            self.ledger.iter().for_each(|ledger| ledger.written(count));
        }
        written
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        this.note(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = ready!(Pin::new(&mut this.io).poll_flush(cx));
        if flushed.is_ok() {
            this.ledger.iter().for_each(Ledger::flushed);
        }
        Poll::Ready(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// Tells connections when to end.
#[derive(Clone)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Resolves when the server is to end, at once where it already is.
    pub async fn requested(&mut self) {
        // An error says that the server is gone, which means the same.
        let _ = self.0.wait_for(|ending| *ending).await;
    }
}

impl From<watch::Receiver<bool>> for Shutdown {
    fn from(ending: watch::Receiver<bool>) -> Self {
        Self(ending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_clock_starts_anew_with_every_exchange() {
        let activity = Activity::new();
        let start = Instant::now();
        assert!(!activity.used());
        let (running, deadline) = activity.deadline();
        assert!(!running && deadline <= start + FIRST_REQUEST_TIMEOUT);
        let exchange = activity.begin();
        assert!(activity.used() && activity.deadline().0);
        drop(exchange);
        let (running, deadline) = activity.deadline();
        assert!(!running && deadline >= start + IDLE_TIMEOUT);
    }
}

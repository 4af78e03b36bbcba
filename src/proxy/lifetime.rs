//! When a connection ends: because it is idle for too long, or because the server does.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// How long the first request of a connection can take to come.
pub const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection is kept between requests: compilers run between a build's downloads.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// What goes on on one connection.
#[derive(Clone)]
pub struct Activity(Arc<Mutex<State>>);

struct State {
    /// Exchanges that have begun and have no response yet.
    running: usize,
    /// When the connection began, or an exchange last began or ended.
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

    /// Whether a request was ever begun.
    pub fn used(&self) -> bool {
        self.lock().used
    }

    /// Resolves when the connection was idle for too long: [`FIRST_REQUEST_TIMEOUT`] without any request, or
    /// [`IDLE_TIMEOUT`] since the last one was answered.
    pub async fn idle(&self) {
        loop {
            let (running, deadline) = self.deadline();
            if !running && deadline <= Instant::now() {
                return;
            }
            sleep_until(deadline).await;
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

//! For which connection and which request something is done. The log, the access log and the clients are told.
//!
//! It goes with the task, not with the arguments, so that whatever is said on the way has it. A span of `tracing` would do
//! the same, but is made and filled in for every request, whether anything is said of it or not.

use std::{
    cell::Cell,
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::task::JoinHandle;

thread_local! {
    static CURRENT: Cell<Option<RequestId>> = const { Cell::new(None) };
}

/// A connection of a run, counted from 1, and a request on it, counted from 1 as well: `12.3`. Before there is a request,
/// `12`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    connection: u64,
    request: u64,
}

impl RequestId {
    /// What is done now is done for it; `None` where that is for no connection.
    pub fn current() -> Option<Self> {
        CURRENT.get()
    }

    /// Whether it is that of a connection without a request.
    pub fn is_connection(self) -> bool {
        self.request == 0
    }

    /// Does `work` for it.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        let mut work = pin!(work);
        poll_fn(|cx| self.during(|| work.as_mut().poll(cx))).await
    }

    /// Does `work` for it.
    pub fn during<T>(self, work: impl FnOnce() -> T) -> T {
        let _before = Before(CURRENT.replace(Some(self)));
        work()
    }
}

/// What was done before, and goes on behind this.
struct Before(Option<RequestId>);

impl Drop for Before {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.request {
            0 => write!(f, "{}", self.connection),
            request => write!(f, "{}.{request}", self.connection),
        }
    }
}

/// Gives out the numbers of a connection.
#[derive(Debug, Clone, Default)]
pub struct RequestIds {
    connection: u64,
    requests: Arc<AtomicU64>,
}

impl RequestIds {
    /// Of the connection with that number.
    pub fn of(connection: u64) -> Self {
        Self { connection, requests: Arc::default() }
    }

    /// The connection's own.
    pub fn connection(&self) -> RequestId {
        RequestId { connection: self.connection, request: 0 }
    }

    /// That of the next request.
    pub fn next(&self) -> RequestId {
        RequestId { connection: self.connection, request: self.requests.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}

/// Runs `work` as a task of its own, for the same request.
pub fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    match RequestId::current() {
        Some(id) => tokio::spawn(id.scope(work)),
        None => tokio::spawn(work),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_of_a_request_has_its_number_and_others_have_none() {
        let ids = RequestIds::of(12);
        assert_eq!(ids.connection().to_string(), "12");
        assert!(ids.connection().is_connection());
        let number = || RequestId::current().map(|id| id.to_string());
        let first = ids.next().scope(async { spawn(async move { number() }).await.unwrap() });
        let second = ids.next().scope(async { (number(), ids.connection().during(number), number()) });
        let known = |text: &str| Some(text.to_owned());
        assert_eq!(first.await, known("12.1"));
        assert_eq!(second.await, (known("12.2"), known("12"), known("12.2")));
        assert_eq!((number(), spawn(async move { number() }).await.unwrap()), (None, None));
    }
}

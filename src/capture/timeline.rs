//! When the requests of a capture came, and how long their answers took: for people to look at, not for the inventory.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::exchange::{Exchange, Outcome};
use crate::{secrets, url::NormalizedUrl};

/// Requests that are kept. A build that asks for ever new URLs must not fill the memory.
const KEPT: usize = 50_000;

/// What a capture asked, and when. Times are milliseconds since its start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// When the capture started, as HTTP writes dates (RFC 9110 §5.6.7).
    pub started: String,
    /// How long it took.
    pub length: u64,
    /// The requests that origins were asked, in the order in which they came.
    pub requests: Vec<TimedRequest>,
    /// Requests that were too many to be listed.
    pub unlisted: u64,
}

/// One request with its times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedRequest {
    /// The request's method.
    pub method: String,
    /// The request's URL, without what looks like a secret.
    pub url: String,
    /// When it came.
    pub start: u64,
    /// When the head of its answer came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<u64>,
    /// When its answer had come whole, or it was clear that it would not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<u64>,
    /// The answer's status code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The size of the answer's body; what has come of it, where it is still coming.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Why it is not recorded, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Takes the times while a capture runs.
#[derive(Debug)]
pub struct Stopwatch {
    started: (Instant, SystemTime),
    requests: Mutex<Requests>,
}

#[derive(Debug, Default)]
struct Requests {
    /// Each with the number of its last change.
    by_arrival: BTreeMap<u64, (u64, TimedRequest)>,
    /// What has come, and what is announced, of the bodies that are still coming.
    coming: BTreeMap<u64, (Arc<AtomicU64>, Option<u64>)>,
    changes: u64,
    unlisted: u64,
    so_far: SoFar,
}

/// What has come in a capture so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SoFar {
    /// The answers that came whole, without those that only lead to another.
    pub answers: usize,
    /// The bytes of bodies, of those that are still coming too.
    pub bytes: u64,
}

/// A body that is still coming.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coming {
    /// What tells it from others.
    pub arrival: u64,
    /// The URL, without what looks like a secret.
    pub url: String,
    /// The bytes that have come.
    pub bytes: u64,
    /// The bytes that are announced.
    pub size: Option<u64>,
    /// The milliseconds since the answer's head came.
    pub time: u64,
}

impl Requests {
    /// `request` with what has come of its body.
    fn so_far(&self, arrival: u64, request: &TimedRequest) -> TimedRequest {
        let bytes = self.coming.get(&arrival).map(|(counter, _)| counter.load(Ordering::Relaxed));
        TimedRequest { bytes: bytes.or(request.bytes), ..request.clone() }
    }
}

/// Starts now.
impl Default for Stopwatch {
    fn default() -> Self {
        Self { started: (Instant::now(), SystemTime::now()), requests: Mutex::default() }
    }
}

impl Stopwatch {
    fn now(&self) -> u64 {
        u64::try_from(self.started.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request came for `url`, which has none of the credentials that the client brought.
    pub fn asked(&self, arrival: u64, method: &http::Method, url: &NormalizedUrl) {
        let (start, method, url) = (self.now(), method.to_string(), secrets::redacted(url.as_str()).into_owned());
        let request =
            TimedRequest { method, url, start, head: None, end: None, status: None, bytes: None, problem: None };
        let mut requests = self.requests();
        match requests.by_arrival.len() < KEPT {
            true => {
                requests.changes += 1;
                let change = requests.changes;
                requests.by_arrival.insert(arrival, (change, request));
            }
            false => requests.unlisted += 1,
        }
    }

    /// Changes what is kept of a request.
    fn change(&self, arrival: u64, change: impl FnOnce(&mut TimedRequest)) {
        let mut requests = self.requests();
        let Requests { by_arrival, changes, .. } = &mut *requests;
        if let Some((changed, request)) = by_arrival.get_mut(&arrival) {
            *changes += 1;
            *changed = *changes;
            change(request);
        }
    }

    /// The head of an answer came.
    pub fn head(&self, arrival: u64, status: u16) {
        let now = self.now();
        self.change(arrival, |request| (request.head, request.status) = (Some(now), Some(status)));
    }

    /// A body starts to come, of `size` bytes, where that is announced. Gives what counts its bytes.
    pub fn coming(&self, arrival: u64, size: Option<u64>) -> Arc<AtomicU64> {
        let counter = Arc::default();
        self.requests().coming.insert(arrival, (Arc::clone(&counter), size));
        counter
    }

    /// The bodies that are still coming.
    pub fn downloads(&self) -> Vec<Coming> {
        let (now, requests) = (self.now(), self.requests());
        let download = |(arrival, (counter, size)): (&u64, &(Arc<AtomicU64>, Option<u64>))| {
            let (_, request) = requests.by_arrival.get(arrival)?;
            let (url, time) = (request.url.clone(), now.saturating_sub(request.head.unwrap_or(request.start)));
            Some(Coming { arrival: *arrival, url, bytes: counter.load(Ordering::Relaxed), size: *size, time })
        };
        requests.coming.iter().filter_map(download).collect()
    }

    /// What has come so far.
    pub fn so_far(&self) -> SoFar {
        let requests = self.requests();
        let coming: u64 = requests.coming.values().map(|(counter, _)| counter.load(Ordering::Relaxed)).sum();
        SoFar { bytes: requests.so_far.bytes + coming, ..requests.so_far }
    }

    /// An exchange is over.
    pub fn ended(&self, exchange: &Exchange) {
        let now = self.now();
        let mut requests = self.requests();
        requests.coming.remove(&exchange.arrival);
        if let Outcome::Answered(answer) = &exchange.outcome {
            requests.so_far.answers += usize::from(!matches!(answer.status, 301 | 302 | 303 | 307 | 308));
            requests.so_far.bytes += answer.body.as_ref().map_or(0, |body| body.size);
        }
        drop(requests);
        self.change(exchange.arrival, |request| {
            request.end = Some(now);
            match &exchange.outcome {
                Outcome::Answered(answer) => request.bytes = Some(answer.body.as_ref().map_or(0, |body| body.size)),
                Outcome::LeftOut(reason) => request.problem = Some(reason.to_string()),
            }
        });
    }

    /// The times so far.
    pub fn timeline(&self) -> Timeline {
        let requests = self.requests();
        Timeline {
            started: httpdate::fmt_http_date(self.started.1),
            length: self.now(),
            requests: requests
                .by_arrival
                .iter()
                .map(|(arrival, (_, request))| requests.so_far(*arrival, request))
                .collect(),
            unlisted: requests.unlisted,
        }
    }

    /// The requests that were changed after the change number `since`, or whose bodies are still coming, with their places
    /// in the [timeline](Timeline); the number of the last change; and the time so far.
    pub fn changes(&self, since: u64) -> (Vec<(u64, TimedRequest)>, u64, u64) {
        let requests = self.requests();
        let is_news = |(place, (change, _)): &(&u64, &(u64, TimedRequest))| {
            *change > since || requests.coming.contains_key(place)
        };
        let changed = requests.by_arrival.iter().filter(is_news);
        let changed = changed.map(|(place, (_, request))| (*place, requests.so_far(*place, request))).collect();
        (changed, requests.changes, self.now())
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::capture::LeftOut;

    fn asked(stopwatch: &Stopwatch, arrival: u64, url: &str) {
        stopwatch.asked(arrival, &Method::GET, &url.parse().unwrap());
    }

    #[test]
    fn no_secret_is_kept_of_a_url() {
        let stopwatch = Stopwatch::default();
        let key = format!("ghp_{}", "1aB2cD3eF4gH5iJ6kL7mN8oP9qR0sT1uV2wX");
        asked(&stopwatch, 0, &format!("https://h.test/{key}/b?page=2"));
        let urls: Vec<_> = stopwatch.timeline().requests.into_iter().map(|request| request.url).collect();
        assert_eq!(urls, ["https://h.test/…/b?page=2"]);
    }

    #[test]
    fn what_changed_is_told_once() {
        let stopwatch = Stopwatch::default();
        asked(&stopwatch, 0, "https://h.test/a");
        asked(&stopwatch, 1, "https://h.test/b");
        let (changed, last, _) = stopwatch.changes(0);
        assert_eq!(changed.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [0, 1]);
        assert!(stopwatch.changes(last).0.is_empty());
        stopwatch.head(1, 404);
        let outcome = Outcome::LeftOut(LeftOut::NotStored("no".to_owned()));
        let url: NormalizedUrl = "https://h.test/b".parse().unwrap();
        let (method, request_body, bared_of, accept) = (Method::GET, Vec::new(), Vec::new(), None);
        stopwatch.ended(&Exchange { arrival: 1, answered: 2, method, url, bared_of, request_body, accept, outcome });
        let (changed, _, _) = stopwatch.changes(last);
        let [(1, request)] = &changed[..] else { panic!("{changed:?}") };
        assert_eq!((request.status, request.problem.as_deref()), (Some(404), Some("it could not be stored: no")));
        assert!(request.start <= request.head.unwrap() && request.head <= request.end);
    }
}

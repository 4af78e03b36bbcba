//! When the requests of a capture came, and how long their answers took: for people to look at, not for the inventory.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
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
    /// The size of the answer's body.
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
    by_arrival: BTreeMap<u64, TimedRequest>,
    unlisted: u64,
}

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self { started: (Instant::now(), SystemTime::now()), requests: Mutex::default() }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request came; of one that is `private` the query is not kept.
    pub fn asked(&self, arrival: u64, method: &http::Method, url: &NormalizedUrl, private: bool) {
        let url = url.as_str();
        let shown = if private { url.split('?').next().unwrap_or_default() } else { url };
        let (start, method, url) = (self.now(), method.to_string(), secrets::redacted(shown).into_owned());
        let request =
            TimedRequest { method, url, start, head: None, end: None, status: None, bytes: None, problem: None };
        let mut requests = self.requests();
        match requests.by_arrival.len() < KEPT {
            true => drop(requests.by_arrival.insert(arrival, request)),
            false => requests.unlisted += 1,
        }
    }

    /// The head of an answer came.
    pub fn head(&self, arrival: u64, status: u16) {
        let now = self.now();
        if let Some(request) = self.requests().by_arrival.get_mut(&arrival) {
            (request.head, request.status) = (Some(now), Some(status));
        }
    }

    /// An exchange is over.
    pub fn ended(&self, exchange: &Exchange) {
        let now = self.now();
        if let Some(request) = self.requests().by_arrival.get_mut(&exchange.arrival) {
            request.end = Some(now);
            match &exchange.outcome {
                Outcome::Answered(answer) => request.bytes = Some(answer.body.as_ref().map_or(0, |body| body.size)),
                Outcome::LeftOut(reason) => request.problem = Some(reason.to_string()),
            }
        }
    }

    /// The times so far.
    pub fn timeline(&self) -> Timeline {
        let requests = self.requests();
        Timeline {
            started: httpdate::fmt_http_date(self.started.1),
            length: self.now(),
            requests: requests.by_arrival.values().cloned().collect(),
            unlisted: requests.unlisted,
        }
    }
}

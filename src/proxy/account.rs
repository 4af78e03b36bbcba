//! What is told of each request when all is over, for an access log: what was answered, and how many bytes of it went out.
//!
//! Over HTTP/1 a byte has gone out when the connection took it. An answer is over when hyper, which has all of it by then,
//! has the connection flushed; where the connection ends before, what it took is told. Over HTTP/2 many answers share a
//! connection, and an answer is over when hyper has taken it, or as much as it takes ahead of a client that leaves.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::{Body, Frame, SizeHint};

use super::authority::HostPort;
use crate::request_id::RequestId;

/// A request, and what became of it.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Its number.
    pub id: RequestId,
    /// The client's address.
    pub client: Option<SocketAddr>,
    /// The request's method.
    pub method: Method,
    /// What it asked for: absolute, but for what was refused because it cannot be made so. Credentials are in it.
    pub uri: Uri,
    /// The request's version.
    pub version: Version,
    /// The request's end-to-end header fields, with the credentials.
    pub headers: HeaderMap,
    /// The status of the answer; `None` where the client left before there was one.
    pub status: Option<StatusCode>,
    /// The bytes of its body that were sent.
    pub sent: u64,
}

/// What is told when a request is over.
pub type AnswerCallback = Arc<dyn Fn(Answered) + Send + Sync>;

impl Answered {
    /// `request`, before its answer.
    pub fn begun<B>(request: &Request<B>, id: RequestId, client: Option<SocketAddr>) -> Self {
        Self {
            id,
            client,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
            status: None,
            sent: 0,
        }
    }

    /// The CONNECT to `target` in whose tunnel there never was a request, because TLS failed.
    pub fn tunnel(target: &HostPort, id: RequestId, client: Option<SocketAddr>) -> Self {
        let mut connect = Request::new(());
        *connect.method_mut() = Method::CONNECT;
        // What CONNECT was granted for is an authority.
        *connect.uri_mut() = target.to_string().parse().unwrap_or_default();
        Self::begun(&connect, id, client)
    }
}

/// What one HTTP/1 connection took, and the answers whose last bytes it may not have taken yet.
#[derive(Clone)]
pub struct Ledger(Arc<Mutex<State>>);

struct State {
    callback: AnswerCallback,
    /// All bytes so far.
    written: u64,
    /// Answers that hyper has as far as they ever will be, by time, each with the number of bytes written before its body.
    ended: Vec<(Answered, u64)>,
}

impl Ledger {
    /// Of a connection of whose answers `callback` is told.
    pub fn new(callback: AnswerCallback) -> Self {
        Self(Arc::new(Mutex::new(State { callback, written: 0, ended: Vec::new() })))
    }

    /// The account of a request that has just come.
    pub fn open(&self, answered: Answered) -> Account {
        let callback = Arc::clone(&self.lock().callback);
        let ledger = (answered.version < Version::HTTP_2).then(|| self.clone());
        Account { answered: Some(answered), body_from: 0, ledger, callback }
    }

    /// Notes that the connection took so many bytes more.
    pub fn written(&self, count: usize) {
        self.lock().written += count as u64;
    }

    /// Notes that the connection took all that there was.
    pub fn flushed(&self) {
        let mut state = self.lock();
        let ended = std::mem::take(&mut state.ended);
        let callback = (!ended.is_empty()).then(|| Arc::clone(&state.callback));
        drop(state);
        if let Some(callback) = callback {
            ended.into_iter().for_each(|(answered, _)| callback(answered));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whatever panicked while it held the lock left whole numbers behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection is over, and what it did not take never went out.
impl Drop for State {
    fn drop(&mut self) {
        for (mut answered, body_from) in std::mem::take(&mut self.ended) {
            answered.sent = answered.sent.min(self.written.saturating_sub(body_from));
            (self.callback)(answered);
        }
    }
}

/// A request that is not over: it is told of when this is dropped, or when the connection has taken the answer.
pub struct Account {
    answered: Option<Answered>,
    body_from: u64,
    ledger: Option<Ledger>,
    callback: AnswerCallback,
}

impl Account {
    /// Notes that `response` is the answer, and begins now.
    fn answer<B: Body>(&mut self, response: &Response<B>) {
        if let Some(answered) = &mut self.answered {
            answered.status = Some(response.status());
        }
        if let Some(ledger) = &self.ledger {
            self.body_from = ledger.lock().written + length_of_head(response);
        }
    }

    fn hand_over(&mut self, count: usize) {
        if let Some(answered) = &mut self.answered {
            answered.sent += count as u64;
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let Some(answered) = self.answered.take() else { return };
        match &self.ledger {
            Some(ledger) if answered.status.is_some() => ledger.lock().ended.push((answered, self.body_from)),
            _ => (self.callback)(answered),
        }
    }
}

/// The length in bytes of the head that hyper writes for `response`, but for a `Connection` field.
fn length_of_head<B: Body>(response: &Response<B>) -> u64 {
    let field = |name: usize, value: usize| name + ": \r\n".len() + value;
    let reason = response.status().canonical_reason().unwrap_or_default();
    let fields: usize = response.headers().iter().map(|(name, value)| field(name.as_str().len(), value.len())).sum();
    let is_framed = response.headers().contains_key(header::CONTENT_LENGTH);
    let framing = match response.body().size_hint().exact() {
        _ if is_framed => 0,
        Some(size) => field("content-length".len(), size.to_string().len()),
        None => field("transfer-encoding".len(), "chunked".len()),
    };
    ("HTTP/1.1 200 \r\n".len() + reason.len() + fields + framing + "\r\n".len()) as u64
}

/// A body whose bytes are counted as they go, where anybody wants to know, and which is asked for on behalf of its request.
pub struct Counted<B> {
    body: B,
    id: RequestId,
    account: Option<Account>,
}

impl<B: Body> Counted<B> {
    /// `response`, which answers the request `id`, with its body counted.
    pub fn response(response: Response<B>, id: RequestId, mut account: Option<Account>) -> Response<Self> {
        if let Some(account) = &mut account {
            account.answer(&response);
        }
        response.map(|body| Self { body, id, account })
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let frame = ready!(this.id.during(|| Pin::new(&mut this.body).poll_frame(cx)));
        let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
        if let (Some(account), Some(data)) = (&mut this.account, data) {
            account.hand_over(data.len());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

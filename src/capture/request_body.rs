//! A request body on its way to the origin: hashed as it passes.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::inventory::request_body::{BodyDigest, RequestDigest};

struct Progress {
    digest: RequestDigest,
    ended: bool,
}

/// A request body on its way to the origin.
pub struct DigestedBody {
    inner: Incoming,
    progress: Arc<Mutex<Option<Progress>>>,
}

/// The digest of a body that is still on its way.
#[derive(Clone)]
pub struct PendingDigest(Arc<Mutex<Option<Progress>>>);

/// Hashes `inner` while it is read.
pub fn digested(inner: Incoming, headers: &HeaderMap) -> (DigestedBody, PendingDigest) {
    let progress = Progress { digest: RequestDigest::new(headers), ended: inner.is_end_stream() };
    let progress = Arc::new(Mutex::new(Some(progress)));
    (DigestedBody { inner, progress: Arc::clone(&progress) }, PendingDigest(progress))
}

impl PendingDigest {
    /// The digests, none for an empty body; `None` where the origin answered without reading it all.
    pub fn take(&self) -> Option<Vec<BodyDigest>> {
        let progress = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        progress.ended.then(|| progress.digest.finish())
    }
}

impl Body for DigestedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let ended = frame.is_none() || self.inner.is_end_stream();
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(progress) = progress.as_mut() {
            if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref) {
                progress.digest.update(data);
            }
            progress.ended |= ended;
        }
        drop(progress);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

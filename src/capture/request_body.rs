//! A request body on its way to the origin: hashed as it passes.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use tokio::task::spawn_blocking;

use crate::{
    credentials::secrets_in_body,
    inventory::request_body::{BodyDigest, RequestDigest},
};

/// A body up to this size is brought into its other forms where it is, in bytes; a larger one is worth a thread.
const SMALL: u64 = 64 << 10;

struct Progress {
    digest: RequestDigest,
    /// The bytes that have passed.
    length: u64,
    ended: bool,
}

/// A client's request body.
pub type RequestBody = BoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// A request body on its way to the origin.
pub struct DigestedBody {
    inner: RequestBody,
    progress: Arc<Mutex<Option<Progress>>>,
}

/// The digest of a body that is still on its way.
#[derive(Clone)]
pub struct PendingDigest(Arc<Mutex<Option<Progress>>>);

/// Hashes `inner` while it is read.
pub fn digested(inner: RequestBody, headers: &HeaderMap) -> (DigestedBody, PendingDigest) {
    let progress = Progress { digest: RequestDigest::new(headers), length: 0, ended: inner.is_end_stream() };
    let progress = Arc::new(Mutex::new(Some(progress)));
    (DigestedBody { inner, progress: Arc::clone(&progress) }, PendingDigest(progress))
}

impl PendingDigest {
    /// Of no body at all.
    pub fn none() -> Self {
        Self(Arc::default())
    }

    /// The digests, none for an empty body; and the credentials in a small one.
    ///
    /// # Errors
    /// Where the origin answered without reading it all.
    pub async fn take(&self) -> io::Result<(Vec<BodyDigest>, Vec<String>)> {
        let progress = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match progress.filter(|progress| progress.ended) {
            None => Err(io::Error::other("the origin answered before it had read the whole request body")),
            Some(Progress { digest, length: ..=SMALL, .. }) => {
                let secrets = secrets_in_body(digest.start());
                Ok((digest.finish(), secrets))
            }
            Some(Progress { digest, .. }) => {
                let digests = spawn_blocking(|| digest.finish()).await.map_err(io::Error::other)?;
                Ok((digests, Vec::new()))
            }
        }
    }
}

impl Body for DigestedBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let ended = frame.is_none() || self.inner.is_end_stream();
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(progress) = progress.as_mut() {
            if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref) {
                progress.digest.update(data);
                progress.length += data.len() as u64;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(body: &[u8], ended: bool) -> PendingDigest {
        let mut digest = RequestDigest::new(&HeaderMap::new());
        digest.update(body);
        PendingDigest(Arc::new(Mutex::new(Some(Progress { digest, length: body.len() as u64, ended }))))
    }

    #[tokio::test]
    async fn small_and_large_bodies_have_every_form() {
        for spaces in [0, SMALL as usize, SMALL as usize * 2] {
            let mut digest = RequestDigest::new(&HeaderMap::new());
            let body = format!("[{}1]", " ".repeat(spaces));
            digest.update(body.as_bytes());
            let expected = digest.finish();
            assert!(expected.len() > 1);
            assert_eq!(pending(body.as_bytes(), true).take().await.unwrap().0, expected);
        }
        assert!(pending(b"", true).take().await.unwrap().0.is_empty());
        assert_eq!(pending(b"user=x&password=s3cret", true).take().await.unwrap().1, ["s3cret"]);
        let error = pending(b"[", false).take().await.unwrap_err();
        assert!(error.to_string().contains("before it had read the whole"));
    }
}

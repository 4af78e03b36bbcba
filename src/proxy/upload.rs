//! A request's body, for as long as its client goes on to send it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use super::lifetime::IDLE_TIMEOUT;

/// A body that breaks off where the client sends nothing more of it for the time that connections can be idle, while
/// someone waits for it.
#[derive(Debug)]
pub struct Upload {
    body: Incoming,
    /// Runs while nothing comes.
    patience: Option<Pin<Box<Sleep>>>,
}

/// Why a request's body is not whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    /// The connection broke, or what came is no body.
    #[error(transparent)]
    Broken(Box<dyn std::error::Error + Send + Sync>),
    /// The client is silent.
    #[error("the client sent nothing more of its request's body for {} seconds", IDLE_TIMEOUT.as_secs())]
    Silent,
}

impl Upload {
    /// The body as hyper has it.
    pub(crate) fn new(body: Incoming) -> Self {
        Self { body, patience: None }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.patience = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| UploadError::Broken(error.into()))));
        }
        ready!(this.patience.get_or_insert_with(|| Box::pin(sleep(IDLE_TIMEOUT))).as_mut().poll(cx));
        Poll::Ready(Some(Err(UploadError::Silent)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_client_is_said_to_be_silent() {
        let text = "the client sent nothing more of its request's body for 300 seconds";
        assert_eq!(UploadError::Silent.to_string(), text);
    }
}

//! A body whose frames come from another task.
//!
//! Its end is a message of its own, as are its frames: a sender that is merely dropped has not ended the body, and nothing
//! that was sent can be overtaken by the end. (`http_body_util::channel` of 0.1.5 ends a body when it sees the sender gone,
//! and can lose a last frame that was sent a moment before.)

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::sync::mpsc;

type BoxError = Box<dyn Error + Send + Sync>;

/// What the client gets.
pub type ClientBody = UnsyncBoxBody<Bytes, BoxError>;

/// Frames on their way to the client; more make the sender wait. A frame can have some hundred KiB.
pub const CLIENT_QUEUE: usize = 2;

enum Message {
    Frame(Frame<Bytes>),
    End,
    Broken(BoxError),
}

/// The task's side.
pub struct Sender(mpsc::Sender<Message>);

/// The body.
pub struct Receiver {
    messages: mpsc::Receiver<Message>,
    ended: bool,
}

/// The other side has gone.
#[derive(Debug)]
pub struct Gone;

/// A body for which at most `buffer` frames wait.
pub fn channel(buffer: usize) -> (Sender, Receiver) {
    let (sender, messages) = mpsc::channel(buffer);
    (Sender(sender), Receiver { messages, ended: false })
}

impl Sender {
    /// Sends `frame`, when there is room for it.
    ///
    /// # Errors
    /// Where nobody wants the body any more.
    pub async fn send(&self, frame: Frame<Bytes>) -> Result<(), Gone> {
        self.0.send(Message::Frame(frame)).await.map_err(|_| Gone)
    }

    /// Whether nobody wants the body any more.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Waits until nobody wants the body any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }

    /// Ends the body.
    pub async fn finish(self) {
        // Nobody is left to miss it otherwise.
        let _ = self.0.send(Message::End).await;
    }

    /// Says that the body will not be whole.
    pub async fn abort(self, error: impl Into<BoxError>) {
        let _ = self.0.send(Message::Broken(error.into())).await;
    }
}

impl Body for Receiver {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let message = ready!(self.messages.poll_recv(cx));
        self.ended = !matches!(message, Some(Message::Frame(_)));
        Poll::Ready(match message {
            Some(Message::Frame(frame)) => Some(Ok(frame)),
            Some(Message::End) => None,
            Some(Message::Broken(error)) => Some(Err(error)),
            None => Some(Err("the body was given up".into())),
        })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn data(byte: u8) -> Frame<Bytes> {
        Frame::data(Bytes::from(vec![byte]))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_last_frame_is_never_overtaken_by_the_end() {
        for _ in 0..20_000 {
            let (sender, receiver) = channel(2);
            let task = tokio::spawn(async move {
                sender.send(data(7)).await.unwrap();
                sender.finish().await;
            });
            assert_eq!(receiver.collect().await.unwrap().to_bytes().as_ref(), [7]);
            task.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_body_that_is_dropped_or_aborted_is_not_whole() {
        let (sender, receiver) = channel(2);
        sender.send(data(1)).await.unwrap();
        drop(sender);
        assert!(receiver.collect().await.is_err());
        let (sender, receiver) = channel(2);
        sender.abort("broken").await;
        assert_eq!(receiver.collect().await.unwrap_err().to_string(), "broken");
    }

    #[tokio::test]
    async fn a_sender_learns_that_nobody_listens() {
        let (sender, receiver) = channel(2);
        drop(receiver);
        assert!(sender.send(data(1)).await.is_err());
        sender.finish().await;
    }
}

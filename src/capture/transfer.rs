//! A body on its way from the origin to the client and the spool.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;

use super::{channel::Sender, downloads::Download, origin::OriginError, spooling::Spooling};
use crate::representation::BodyPlan;

/// Who gets the bytes as they pass, and which of them.
pub struct Live {
    sender: Sender,
    part: Range<u64>,
}

impl Live {
    /// A client that gets the bytes in `part`.
    pub fn new(sender: Sender, part: Range<u64>) -> Self {
        Self { sender, part }
    }

    /// What of `data`, which starts at byte `position` of the body, is for the client.
    fn select(&self, position: u64, data: &Bytes) -> Bytes {
        let length = data.len();
        let within = |byte: u64| usize::try_from(byte.saturating_sub(position)).map_or(length, |at| at.min(length));
        data.slice(within(self.part.start)..within(self.part.end))
    }
}

/// A body on its way.
pub struct Transfer {
    /// `None` once the client has gone, or gets its bytes elsewhere.
    pub client: Option<Live>,
    /// `None` where the body is not recorded.
    pub spooling: Option<Spooling>,
    /// The same body as others can read it.
    pub shared: Option<Arc<Download>>,
    /// The bytes that have to come, where the origin said so.
    pub size: Option<u64>,
}

/// What the client must not see before the exchange is recorded.
pub struct Ending {
    client: Option<Live>,
    last: Vec<Frame<Bytes>>,
}

/// A body that did not arrive whole, and the client that has to learn of it.
pub struct Broken {
    /// Why.
    pub error: OriginError,
    client: Option<Live>,
}

impl Transfer {
    /// Takes what comes until nobody wants more of it, but for the end of a client that gets the end of the body.
    ///
    /// # Errors
    /// Where the body does not arrive whole.
    pub async fn run(mut self, mut body: reqwest::Body) -> Result<(Option<Spooling>, Ending), Broken> {
        let mut last = Vec::new();
        let mut position = 0;
        while self.client.is_some() || self.spooling.as_ref().is_some_and(|spooling| !spooling.has_failed()) {
            let frame = match body.frame().await {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Err(Broken { error: error.into(), client: self.client }),
                None => break,
            };
            let start = position;
            let frame = match frame.into_data() {
                Ok(data) => {
                    position += data.len() as u64;
                    Frame::data(self.take(start, data).await)
                }
                Err(trailers) => trailers,
            };
            // With a known length the last byte is the end; otherwise the end is a signal of its own.
            if frame.is_trailers() || self.size == Some(position) {
                last.push(frame);
            } else {
                self.send(start, frame).await;
                self.let_go(position);
            }
        }
        Ok((self.spooling, Ending { client: self.client, last }))
    }

    /// Spools `data` and gives what of it goes to the client.
    async fn take(&mut self, position: u64, data: Bytes) -> Bytes {
        let share = self.client.as_ref().map(|client| client.select(position, &data)).unwrap_or_default();
        if let Some(spooling) = &mut self.spooling {
            spooling.write(data).await;
        }
        share
    }

    async fn send(&mut self, position: u64, frame: Frame<Bytes>) {
        let is_nothing = frame.data_ref().is_some_and(Bytes::is_empty);
        let Some(client) = self.client.take_if(|_| !is_nothing) else {
            return;
        };
        let followed = async {
            match &self.shared {
                Some(shared) if !shared.has_failed() => shared.followed().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            sent = client.sender.send(frame) => self.client = sent.is_ok().then_some(client),
            // Others must not wait for a client that reads slowly, so it becomes one of them.
            () = followed => {
                if let Some(shared) = &self.shared {
                    let rest = client.part.start.max(position)..client.part.end.min(shared.size());
                    shared.send(BodyPlan::Bytes(rest), client.sender);
                }
            }
        }
    }

    /// Parts with a client that needs nothing from byte `position` on, although more comes: it has all of its part, or it
    /// left before that began.
    fn let_go(&mut self, position: u64) {
        let needs_nothing = |client: &mut Live| client.part.end <= position || client.sender.is_closed();
        if let Some(client) = self.client.take_if(needs_nothing) {
            // Nobody waits until it has read what it has.
            tokio::spawn(client.sender.finish());
        }
    }
}

impl Ending {
    /// Lets the client see the end.
    pub async fn release(self) {
        let Some(Live { sender, .. }) = self.client else {
            return;
        };
        for frame in self.last {
            if sender.send(frame).await.is_err() {
                return;
            }
        }
        sender.finish().await;
    }
}

impl Broken {
    /// Breaks the client's body off.
    pub async fn tell(self) {
        if let Some(Live { sender, .. }) = self.client {
            sender.abort(self.error).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{task::JoinHandle, time::timeout};

    use super::*;
    use crate::capture::channel::{Receiver, channel};

    /// A transfer of 100 bytes that goes on until nobody wants more, and what the client gets: the bytes in `part`.
    fn transfer(part: Range<u64>, spooling: Option<Spooling>) -> (Sender, JoinHandle<()>, Receiver) {
        let ((origin, body), (sender, receiver)) = (channel(1), channel(1));
        let client = Some(Live::new(sender, part));
        let transfer = Transfer { client, spooling, shared: None, size: Some(100) };
        let run = transfer.run(reqwest::Body::wrap(body));
        (origin, tokio::spawn(async move { drop(run.await) }), receiver)
    }

    /// Fails the test where `future` waits for something that does not come.
    async fn soon<T>(future: impl Future<Output = T>) -> T {
        timeout(Duration::from_secs(10), future).await.expect("an end")
    }

    async fn come(origin: &Sender, bytes: Range<u8>) {
        origin.send(Frame::data(Bytes::from_iter(bytes))).await.unwrap();
    }

    #[test]
    fn a_part_is_cut_out_of_the_chunks_as_they_pass() {
        let part = Live::new(channel(1).0, 10..20);
        let whole = Bytes::from_iter(0..100);
        let select = |range: Range<usize>| part.select(range.start as u64, &whole.slice(range));
        assert_eq!(select(0..8), whole[..0]);
        assert_eq!(select(8..16), whole[10..16]);
        assert_eq!(select(16..24), whole[16..20]);
        assert_eq!(select(24..32), whole[..0]);
        assert_eq!(select(0..100), whole[10..20]);
    }

    #[tokio::test]
    async fn a_client_that_has_its_part_waits_for_no_more_and_neither_does_who_sends_for_it_alone() {
        for is_spooled in [false, true] {
            let spooling = is_spooled.then(|| Spooling::shared("nowhere".into()).0);
            let (origin, run, client) = transfer(10..20, spooling);
            come(&origin, 0..15).await;
            come(&origin, 15..30).await;
            assert_eq!(
                soon(client.collect()).await.unwrap().to_bytes(),
                Bytes::from_iter(10..20),
                "spooled: {is_spooled}"
            );
            if is_spooled {
                come(&origin, 30..100).await;
                origin.finish().await;
            }
            soon(run).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_part_that_ends_with_the_body_ends_when_that_is_recorded() {
        let (origin, run, mut client) = transfer(90..100, None);
        come(&origin, 0..95).await;
        assert_eq!(client.frame().await.unwrap().unwrap().into_data().unwrap(), Bytes::from_iter(90..95));
        come(&origin, 95..100).await;
        origin.finish().await;
        soon(run).await.unwrap();
        assert!(client.frame().await.is_some_and(|end| end.is_err()), "it was not released");
    }

    #[tokio::test]
    async fn nothing_is_fetched_for_a_client_that_left_before_its_part_came() {
        let (origin, run, client) = transfer(90..100, None);
        drop(client);
        come(&origin, 0..10).await;
        soon(run).await.unwrap();
    }
}

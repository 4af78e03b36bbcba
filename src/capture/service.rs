//! One request: ask the origin, pass its answer on as it arrives, record it.

use std::{convert::Infallible, error::Error, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{
    BodyExt, Empty, Full,
    channel::{Channel, Sender},
    combinators::UnsyncBoxBody,
};
use hyper::body::Incoming;
use tokio::sync::{mpsc, oneshot};

use super::{
    origin::{Origin, OriginError},
    recorder::{AnswerHead, Asked, Recorder, Spooling},
    request_body::digested,
    share::{Share, content_length},
};
use crate::{proxy::hop_by_hop, url::NormalizedUrl};

/// What the client gets.
pub type ClientBody = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

type ClientSender = Sender<Bytes, Box<dyn Error + Send + Sync>>;

/// Frames on their way to the client; more make the origin wait.
const CLIENT_QUEUE: usize = 4;

/// Asks origins for clients. A clone serves the same capture.
#[derive(Clone)]
pub struct CaptureService {
    origin: Origin,
    recorder: Arc<Recorder>,
    /// Every exchange holds one until it is recorded; the capture ends when all are gone.
    running: mpsc::Sender<Infallible>,
}

impl CaptureService {
    /// A service that records with `recorder`. The receiver gets its end when the service and all its exchanges are done.
    pub fn new(origin: Origin, recorder: Arc<Recorder>) -> (Self, mpsc::Receiver<Infallible>) {
        let (running, done) = mpsc::channel(1);
        (Self { origin, recorder, running }, done)
    }

    /// Answers a request whose URI is absolute.
    pub async fn respond(self, request: Request<Incoming>) -> Response<ClientBody> {
        let (answer, received) = oneshot::channel();
        // A task of its own: a client that leaves does not stop the exchange.
        tokio::spawn(self.exchange(request, answer));
        received
            .await
            .unwrap_or_else(|_| explain(StatusCode::BAD_GATEWAY, "buildproxy dropped this exchange\n".to_owned()))
    }

    async fn exchange(self, request: Request<Incoming>, answer: oneshot::Sender<Response<ClientBody>>) {
        let _running = self.running;
        let (head, body) = request.into_parts();
        let url = match head.uri.to_string().parse::<NormalizedUrl>() {
            Ok(url) => url,
            Err(error) => {
                drop(answer.send(explain(StatusCode::BAD_REQUEST, format!("buildproxy: {error}\n"))));
                return;
            }
        };
        let (body, digest) = digested(body, &head.headers);
        let asked = self.recorder.asked(&head.method, url, &head.headers, digest);
        let body = (!body.is_end_stream()).then(|| reqwest::Body::wrap(body));
        match self.origin.ask(head.method, &head.uri.to_string(), head.headers, body).await {
            Ok(response) => pass_on(&self.recorder, &asked, response, answer).await,
            Err(error) => {
                self.recorder.failed(&asked, error.to_string());
                drop(answer.send(bad_gateway(&asked, &error)));
            }
        }
    }
}

/// Gives the client the origin's answer as it arrives, and records it when it is whole.
///
/// The client gets the end of the body only when the exchange is in the journal, so that nothing that it has seen
/// finished can be lost.
async fn pass_on(
    recorder: &Arc<Recorder>,
    asked: &Asked,
    response: http::Response<reqwest::Body>,
    answer: oneshot::Sender<Response<ClientBody>>,
) {
    let (parts, body) = response.into_parts();
    let is_delimited = AnswerHead::is_delimited(parts.version, &parts.headers);
    let mut headers = parts.headers;
    hop_by_hop::strip(&mut headers);
    let share = asked.share(parts.status, &headers);
    let head = AnswerHead { status: parts.status, headers, is_delimited, answered: recorder.arrivals() };
    let client_head = |body: ClientBody| {
        let (status, headers) = share.head(head.status, &head.headers);
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    };

    if body.is_end_stream() {
        recorder.answered(asked, &head, None).await;
        drop(answer.send(client_head(empty())));
        return;
    }
    let client = if let Share::Head(_) = share {
        drop(answer.send(client_head(empty())));
        None
    } else {
        let (sender, channel) = Channel::new(CLIENT_QUEUE);
        drop(answer.send(client_head(channel.boxed_unsync())));
        Some(sender)
    };
    let spooling = recorder.spool(asked, head.status);
    let transfer = Transfer { client, spooling, share, position: 0, size: content_length(&head.headers) };
    match transfer.run(body).await {
        Ok(ending) => {
            recorder.answered(asked, &head, ending.spooling).await;
            release(ending.client, ending.last).await;
        }
        Err((error, client)) => {
            let reason = format!("the answer did not arrive whole: {error}");
            tracing::warn!("{}: {reason}", asked.url());
            recorder.failed(asked, reason);
            if let Some(client) = client {
                client.abort(Box::new(error));
            }
        }
    }
}

/// A body on its way from the origin to the client and the spool.
struct Transfer {
    /// `None` once the client has gone, or has all that it gets.
    client: Option<ClientSender>,
    spooling: Option<Spooling>,
    /// What the client gets.
    share: Share,
    /// The bytes that have come.
    position: u64,
    /// The bytes that have to come, where the origin said so.
    size: Option<u64>,
}

/// What the client must not see before the exchange is recorded.
struct Ending {
    client: Option<ClientSender>,
    spooling: Option<Spooling>,
    last: Vec<Frame<Bytes>>,
}

type Broken = (OriginError, Option<ClientSender>);

impl Transfer {
    async fn run(mut self, mut body: reqwest::Body) -> Result<Ending, Broken> {
        let mut last = Vec::new();
        while self.client.is_some() || self.spooling.is_some() {
            let frame = match body.frame().await {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Err((error.into(), self.client)),
                None => break,
            };
            let frame = match frame.into_data() {
                Ok(data) => Frame::data(self.take(data).await),
                Err(trailers) => trailers,
            };
            // With a known length the last byte is the end; otherwise the end is a signal of its own.
            if frame.is_trailers() || self.size == Some(self.position) {
                last.push(frame);
            } else {
                self.send(frame).await;
            }
        }
        Ok(Ending { client: self.client, spooling: self.spooling, last })
    }

    /// Spools `data` and gives what of it goes to the client.
    async fn take(&mut self, data: Bytes) -> Bytes {
        let share = data.slice(self.share.select(self.position, data.len()));
        self.position += data.len() as u64;
        if let Some(spooling) = &self.spooling {
            spooling.write(data).await;
        }
        share
    }

    async fn send(&mut self, frame: Frame<Bytes>) {
        let is_nothing = frame.data_ref().is_some_and(Bytes::is_empty);
        if let Some(client) = self.client.as_mut().filter(|_| !is_nothing)
            && client.send(frame).await.is_err()
        {
            self.client = None;
        }
    }
}

/// Lets the client see the end.
async fn release(client: Option<ClientSender>, last: Vec<Frame<Bytes>>) {
    let Some(mut client) = client else {
        return;
    };
    for frame in last {
        if client.send(frame).await.is_err() {
            return;
        }
    }
}

fn empty() -> ClientBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn bad_gateway(asked: &Asked, error: &OriginError) -> Response<ClientBody> {
    let hint = error.hint().map(|hint| format!("\nhint: {hint}\n")).unwrap_or_default();
    tracing::warn!("{}: the origin could not be asked: {error}{}", asked.url(), hint.trim_end());
    let text = format!("buildproxy could not ask the origin of {}: {error}\n{hint}", asked.url());
    explain(StatusCode::BAD_GATEWAY, text)
}

fn explain(status: StatusCode, text: String) -> Response<ClientBody> {
    let mut response = Response::new(Full::from(text).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

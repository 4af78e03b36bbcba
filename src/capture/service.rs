//! One request: ask the origin, pass its answer on as it arrives, record it.

use std::{convert::Infallible, error::Error, sync::Arc};

use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header, request};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use tokio::sync::{mpsc, oneshot};

use super::{
    channel::{self, Sender},
    origin::{Origin, OriginError},
    recorder::{AnswerHead, Asked, Recorder},
    request_body::digested,
    share::{Share, content_length},
    spooling::Spooling,
};
use crate::{
    proxy::{hop_by_hop, plain_text},
    url::NormalizedUrl,
};

/// What the client gets.
pub type ClientBody = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// Frames on their way to the client; more make the origin wait. A frame can have some hundred KiB.
const CLIENT_QUEUE: usize = 2;

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
        let (mut head, body) = request.into_parts();
        let origin_url = without_userinfo(&mut head);
        let url = match origin_url.parse::<NormalizedUrl>() {
            Ok(url) => url,
            Err(error) => {
                drop(answer.send(explain(StatusCode::BAD_REQUEST, format!("buildproxy: {error}\n"))));
                return;
            }
        };
        let (body, digest) = digested(body, &head.headers);
        let asked = self.recorder.asked(&head.method, url, &head.headers, digest);
        let body = (!body.is_end_stream()).then(|| reqwest::Body::wrap(body));
        match self.origin.ask(head.method, &origin_url, head.headers, body).await {
            Ok(response) => pass_on(&self.recorder, &asked, response, answer).await,
            Err(error) => {
                self.recorder.failed(&asked, error.to_string());
                drop(answer.send(bad_gateway(&asked, &error)));
            }
        }
    }
}

/// The request's URL without userinfo, which becomes the credential that it stands for (RFC 9110 §4.2.4, RFC 7617). wget
/// sends it so.
fn without_userinfo(head: &mut request::Parts) -> String {
    let text = head.uri.to_string();
    let authority = head.uri.authority().map_or("", |authority| authority.as_str());
    let Some((userinfo, host)) = authority.rsplit_once('@') else {
        return text;
    };
    let decoded: Vec<u8> = percent_decode_str(userinfo).collect();
    let basic = HeaderValue::from_str(&format!("Basic {}", BASE64.encode(&decoded)));
    // Base64 is always a field value.
    if let (Ok(basic), header::Entry::Vacant(vacant)) = (basic, head.headers.entry(header::AUTHORIZATION)) {
        vacant.insert(basic);
    }
    text.replacen(authority, host, 1)
}

/// Gives the client the origin's answer as it arrives, and records it when it is whole.
///
/// The client gets the end of a whole body only when the exchange is in the journal, so that nothing that it has seen
/// whole can be lost. (A client that asked for a part has that before the rest has come.)
async fn pass_on(
    recorder: &Arc<Recorder>,
    asked: &Asked,
    response: http::Response<reqwest::Body>,
    answer: oneshot::Sender<Response<ClientBody>>,
) {
    let (parts, body) = response.into_parts();
    let is_delimited = is_delimited(parts.version, &parts.headers);
    let mut headers = parts.headers;
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // It is not true then (RFC 9112 §6.3).
        headers.remove(header::CONTENT_LENGTH);
    }
    hop_by_hop::strip(&mut headers);
    recorder.redirected(asked, parts.status, &headers);
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
    let client = if matches!(&share, Share::Part(range, _) if range.is_empty()) {
        drop(answer.send(client_head(empty())));
        None
    } else {
        let (sender, receiver) = channel::channel(CLIENT_QUEUE);
        drop(answer.send(client_head(receiver.boxed_unsync())));
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
            tracing::info!("{}: {reason}", asked.url());
            recorder.failed(asked, reason);
            if let Some(client) = client {
                client.abort(error).await;
            }
        }
    }
}

/// Whether an answer of `version` with these fields, hop-by-hop ones included, says where its body ends
/// (RFC 9112 §6.3, RFC 9113 §8.1).
fn is_delimited(version: Version, headers: &HeaderMap) -> bool {
    let codings = headers.get_all(header::TRANSFER_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let last_coding =
        codings.flat_map(|list| list.split(',')).next_back().map(|coding| coding.trim().to_ascii_lowercase());
    match last_coding {
        _ if version == Version::HTTP_2 => true,
        Some(coding) => coding == "chunked",
        None => headers.contains_key(header::CONTENT_LENGTH),
    }
}

/// A body on its way from the origin to the client and the spool.
struct Transfer {
    /// `None` once the client has gone, or has all that it gets.
    client: Option<Sender>,
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
    client: Option<Sender>,
    spooling: Option<Spooling>,
    last: Vec<Frame<Bytes>>,
}

type Broken = (OriginError, Option<Sender>);

impl Transfer {
    async fn run(mut self, mut body: reqwest::Body) -> Result<Ending, Broken> {
        let mut last = Vec::new();
        while self.client.is_some() || self.spooling.as_ref().is_some_and(|spooling| !spooling.has_failed()) {
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
        if let Some(spooling) = &mut self.spooling {
            spooling.write(data).await;
        }
        share
    }

    async fn send(&mut self, frame: Frame<Bytes>) {
        let is_nothing = frame.data_ref().is_some_and(Bytes::is_empty);
        if let Some(client) = self.client.as_ref().filter(|_| !is_nothing)
            && client.send(frame).await.is_err()
        {
            self.client = None;
        }
    }
}

/// Lets the client see the end.
async fn release(client: Option<Sender>, last: Vec<Frame<Bytes>>) {
    let Some(client) = client else {
        return;
    };
    for frame in last {
        if client.send(frame).await.is_err() {
            return;
        }
    }
    client.finish().await;
}

fn empty() -> ClientBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn bad_gateway(asked: &Asked, error: &OriginError) -> Response<ClientBody> {
    let hint = error.hint().map(|hint| format!("\nhint: {hint}\n")).unwrap_or_default();
    // The summary says it, unless a retry makes it good.
    tracing::info!("{}: the origin could not be asked: {error}{}", asked.url(), hint.trim_end());
    let text = format!("buildproxy could not ask the origin of {}: {error}\n{hint}", asked.url());
    explain(StatusCode::BAD_GATEWAY, text)
}

fn explain(status: StatusCode, text: String) -> Response<ClientBody> {
    plain_text(status, text).map(|body| body.map_err(|never| match never {}).boxed_unsync())
}

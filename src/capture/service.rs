//! One request: ask the origin, pass its answer on as it arrives, record it.

use std::{convert::Infallible, sync::Arc};

use data_encoding::BASE64;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header, request};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full};
use percent_encoding::percent_decode_str;
use tokio::sync::{mpsc, oneshot};

use super::{
    arriving::{Arriving, Progress},
    channel::{CLIENT_QUEUE, ClientBody, channel},
    downloads::{Download, DownloadKey, Downloads, Lead, Turn},
    origin::{Origin, OriginError},
    recorder::{AnswerHead, Asked, Recorder},
    request_body::{RequestBody, digested},
    spooling::Spooling,
    transfer::{Live, Transfer},
};
use crate::{
    proxy::{Upload, hop_by_hop, plain_text},
    replay::Replayer,
    representation::{BodyPlan, Partial, Representation},
    request_id,
    url::{NormalizedUrl, with_encoded_backslashes},
};

/// Bytes of a request body that are held to look whether its answer is recorded.
const MOST_HELD: u64 = 4 << 20;

/// Asks origins for clients. A clone serves the same capture.
#[derive(Clone)]
pub struct CaptureService {
    origin: Origin,
    recorder: Arc<Recorder>,
    downloads: Arc<Downloads>,
    /// What answers requests that are not recorded.
    known: Option<Arc<Replayer>>,
    /// Every exchange holds one until it is recorded; the capture ends when all are gone.
    running: mpsc::Sender<Infallible>,
}

impl CaptureService {
    /// A service that records with `recorder`. The receiver gets its end when the service and all its exchanges are done.
    /// Requests that it does not select are answered by `known`, where that can.
    pub fn new(
        origin: Origin,
        recorder: Arc<Recorder>,
        known: Option<Arc<Replayer>>,
    ) -> (Self, mpsc::Receiver<Infallible>) {
        let (running, done) = mpsc::channel(1);
        (Self { origin, recorder, downloads: Arc::default(), known, running }, done)
    }

    /// Answers a request whose URI is absolute.
    pub async fn respond(self, request: Request<Upload>) -> Response<ClientBody> {
        let request = request.map(|body| body.map_err(Into::into).boxed());
        let request = match self.known_answer(request).await {
            Ok(response) => return response,
            Err(request) => request,
        };
        let (answer, received) = oneshot::channel();
        let method = request.method().clone();
        // A task of its own: a client that leaves does not stop the exchange.
        request_id::spawn(self.exchange(request, answer));
        received.await.unwrap_or_else(|_| {
            explain(&method, StatusCode::BAD_GATEWAY, "buildproxy dropped this exchange\n".to_owned())
        })
    }

    /// The recorded answer to a request that is not to be recorded; the request, where there is none.
    async fn known_answer(&self, request: Request<RequestBody>) -> Result<Response<ClientBody>, Request<RequestBody>> {
        let Some(known) = &self.known else { return Err(request) };
        let is_selected = |url: NormalizedUrl| self.recorder.selects(&url);
        // What is no URL is told so below; a body that cannot be held is the origin's alone.
        let is_large = request.body().size_hint().upper().is_none_or(|size| size > MOST_HELD);
        if is_large || request.uri().to_string().parse().map_or(true, is_selected) {
            return Err(request);
        }
        let (head, body) = request.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                tracing::debug!("the client left in its request body: {error}");
                let text = "buildproxy: the request's body is not whole\n".to_owned();
                return Ok(explain(&head.method, StatusCode::BAD_REQUEST, text));
            }
        };
        let answer = known.answer_if_recorded(Request::from_parts(head, body)).await;
        answer
            .map(|response| response.map(|body| body.map_err(Into::into).boxed_unsync()))
            .map_err(|request| request.map(|body| Full::new(body).map_err(|never| match never {}).boxed()))
    }

    async fn exchange(self, request: Request<RequestBody>, answer: oneshot::Sender<Response<ClientBody>>) {
        let _running = self.running;
        let (mut head, body) = request.into_parts();
        // The client that asks the origin would make slashes of them.
        let origin_url = with_encoded_backslashes(&without_userinfo(&mut head)).into_owned();
        let url = match origin_url.parse::<NormalizedUrl>() {
            Ok(url) => url,
            Err(error) => {
                drop(answer.send(explain(&head.method, StatusCode::BAD_REQUEST, format!("buildproxy: {error}\n"))));
                return;
            }
        };
        let is_download = head.method == Method::GET && body.is_end_stream();
        let mut lead = None;
        if is_download {
            let key = DownloadKey::new(&url, &head.headers);
            match self.downloads.turn(key, &head.headers).await {
                Turn::Lead(turn) => lead = Some(turn),
                Turn::Follow(download) => {
                    tracing::debug!("{}{}: answered from another request's download", url.origin(), url.path());
                    drop(answer.send(download.follow(&head.headers)));
                    return;
                }
            }
        }
        let (body, digest) = digested(body, &head.headers);
        let asked = self.recorder.asked(&head.method, url, &head.headers, digest);
        let body = (!body.is_end_stream()).then(|| reqwest::Body::wrap(body));
        match self.origin.ask(head.method, &origin_url, head.headers, body).await {
            Ok(response) => pass_on(&self.recorder, &asked, lead, response, answer).await,
            Err(error) => {
                self.recorder.failed(&asked, Vec::new(), error.to_string());
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
/// Informational answers (1xx) stay behind, although a proxy has to forward them (RFC 9110 §15.2): hyper's server cannot
/// send them, and clients have to do without them in replay anyway.
///
/// The client gets the end of a whole body only when the exchange is in the journal, so that nothing that it has seen
/// whole can be lost. (A client that asked for a part has that before the rest has come.)
async fn pass_on(
    recorder: &Arc<Recorder>,
    asked: &Asked,
    lead: Option<Lead>,
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
    hop_by_hop::say_length_once(&mut headers);
    let trailer = headers.remove(header::TRAILER);
    hop_by_hop::strip(&mut headers);
    recorder.head_arrived(asked, parts.status, &headers);
    let size = content_length(&headers);
    let representation = Representation { url: asked.url(), status: parts.status, headers: &headers, size };
    let partial = representation.partial(asked.method(), asked.headers());
    let head = AnswerHead { status: parts.status, headers, is_delimited, answered: recorder.arrivals() };

    if body.is_end_stream() {
        recorder.answered(asked, &head, None).await;
        drop(answer.send(without_body(&head, partial)));
        return;
    }
    let (spooling, arriving) = recorder.spool(asked, head.status, size).unzip();
    let shared = arriving.zip(size).and_then(|(arriving, size)| share(asked, lead.as_ref(), &head, size, arriving));
    // Nobody waits for what cannot be shared.
    let lead = lead.filter(|_| shared.is_some());
    let (response, client) = client_side(&head, trailer, partial, shared.as_deref());
    drop(answer.send(response));
    let progress = spooling.as_ref().map(Spooling::progress);
    let transfer = Transfer { client, spooling, shared: shared.clone(), size };
    match transfer.run(body).await {
        Ok((spooling, ending)) => {
            recorder.answered(asked, &head, spooling).await;
            progress.inspect(Progress::whole);
            if let (Some(lead), Some(false)) = (lead, shared.map(|shared| shared.has_failed())) {
                lead.finish();
            }
            ending.release().await;
        }
        Err(broken) => {
            // First of all, so that a client that tries again asks anew.
            drop(lead);
            let reason = format!("the answer did not arrive whole: {}", broken.error);
            tracing::info!("{}: {reason}", asked.url());
            progress.inspect(|progress| progress.failed(&reason));
            recorder.failed(asked, Vec::new(), reason);
            broken.tell().await;
        }
    }
}

/// Lets others read the body of `size` bytes that goes with `head`, where it is the whole of what they ask for.
fn share(
    asked: &Asked,
    lead: Option<&Lead>,
    head: &AnswerHead,
    size: u64,
    arriving: Arriving,
) -> Option<Arc<Download>> {
    let lead = lead.filter(|_| head.status == StatusCode::OK)?;
    let download = Arc::new(Download::new(asked.url(), asked.headers(), &head.headers, size, arriving)?);
    lead.share(Arc::clone(&download));
    Some(download)
}

/// The answer to a client, and the client where it gets the bytes as they pass.
///
/// One part is cut out of what passes. Several are read from where the body is spooled; where it is not, the client gets
/// the whole, because a server may ignore the field (RFC 9110 §14.2).
fn client_side(
    head: &AnswerHead,
    trailer: Option<HeaderValue>,
    partial: Option<Partial>,
    shared: Option<&Download>,
) -> (Response<ClientBody>, Option<Live>) {
    let (partial, part) = match (partial, shared) {
        (Some(partial), _) if !partial.has_bytes() => return (without_body(head, Some(partial)), None),
        (Some(Partial { body: BodyPlan::Bytes(range), status, headers }), _) => {
            (Some(Partial { status, headers, body: BodyPlan::Bytes(range.clone()) }), range)
        }
        (Some(partial), Some(shared)) => return (shared.part(partial), None),
        _ => (None, 0..u64::MAX),
    };
    let (sender, receiver) = channel(CLIENT_QUEUE);
    let mut response = answered(head, partial, receiver.boxed_unsync());
    // The server sends only those trailers that are announced (RFC 9110 §6.6.2). They are passed on, and not recorded.
    if let Some(trailer) = trailer.filter(|_| content_length(response.headers()).is_none()) {
        response.headers_mut().insert(header::TRAILER, trailer);
    }
    (response, Some(Live::new(sender, part)))
}

fn without_body(head: &AnswerHead, partial: Option<Partial>) -> Response<ClientBody> {
    answered(head, partial, Empty::new().map_err(|never| match never {}).boxed_unsync())
}

/// The response with `body` and the head of `partial`, or else that of the whole.
fn answered(head: &AnswerHead, partial: Option<Partial>, body: ClientBody) -> Response<ClientBody> {
    let (status, headers) = match partial {
        Some(partial) => (partial.status, partial.headers),
        None => (head.status, head.headers.clone()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The number of bytes that the answer announces.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
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

fn bad_gateway(asked: &Asked, error: &OriginError) -> Response<ClientBody> {
    let hint = error.hint().map(|hint| format!("\nhint: {hint}\n")).unwrap_or_default();
    // The summary says it, unless a retry makes it good.
    tracing::info!("{}: the origin could not be asked: {error}{}", asked.url(), hint.trim_end().replace('\n', "; "));
    let text = format!("buildproxy could not ask the origin of {}: {error}\n{hint}", asked.url());
    explain(asked.method(), StatusCode::BAD_GATEWAY, text)
}

fn explain(method: &Method, status: StatusCode, text: String) -> Response<ClientBody> {
    plain_text(method, status, &text).map(|body| body.map_err(|never| match never {}).boxed_unsync())
}

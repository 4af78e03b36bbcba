//! One request and its answer.

use std::{fmt, io, path::Path, sync::Arc};

use axum::body::Body as AxumBody;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header, request::Parts};
use http_body::Body as _;

use super::{
    Replayer,
    body::{BodyError, OnEnd, OpenBody, ReplayBody},
    miss::{self, Miss},
    request_body,
    respond::{self, BodyPlan, ResponsePlan},
    sequence::Sequences,
};
use crate::{
    credentials::hidden_in,
    inventory::{
        index::{EntryId, Index, KeptEntry, RequestBody, RequestKey, Visit},
        request_body::RequestDigest,
    },
    proxy::plain_text,
    request_id::RequestId,
    store::stream::Use,
    text::printable,
    url::NormalizedUrl,
};

/// Answers `request`, whose URI is absolute.
pub(super) async fn answer(replayer: Arc<Replayer>, request: Request<AxumBody>) -> Response<AxumBody> {
    let (head, body) = request.into_parts();
    let url = match miss::asked_url(&head.uri) {
        Ok(url) => url,
        Err(error) => return replayer.miss(&Miss::not_a_url(&head.method, &head.uri, error)),
    };
    let body = match replayer.request_body(&head, &url, body).await {
        Ok(body) => body,
        Err(error) => {
            tracing::debug!(url = %Shown(&url), "the client left in its request body: {error}");
            let explanation = "buildproxy: the request's body is not whole\n".to_owned();
            return text(&head.method, StatusCode::BAD_REQUEST, explanation);
        }
    };
    let key = RequestKey { method: &head.method, url: &url, headers: &head.headers, body };
    let matches = match replayer.index.look_up(&key) {
        Ok(matches) => matches,
        Err(reason) => return replayer.miss(&Miss::not_recorded(&replayer.index, &key, reason)),
    };
    let visit = replayer.sequences.choose(&replayer.index, &matches);
    let rules = UsedRules { index: &replayer.index, url: &url, visit };
    let answer = replayer.index.answer(visit);
    if let Some(hop) = answer.hop() {
        replayer.sequences.hop_answered(&replayer.index, visit);
        replayer.log.answered(visit.entry);
        tracing::debug!(method = %head.method, url = %Shown(&url), %rules, "redirect to {}", printable(&hop.location));
        let plan = respond::redirect(&answer.entry, hop, &head.method);
        return send(plan, OpenBody::nothing(), Use::Sent, None);
    }
    let sent = replayer.final_response(visit.entry, &answer.entry, &url, &head).await;
    if let Ok(response) = &sent {
        tracing::debug!(method = %head.method, url = %Shown(&url), status = response.status().as_u16(), %rules, "hit");
    }
    sent.unwrap_or_else(|error| {
        let problem = printable(&error.to_string());
        replayer.log.broken(&replayer.index, visit.entry, &problem);
        unsendable(&head.method, &url, &problem)
    })
}

/// Whether an entry answers `request`, whose URI is absolute.
pub(super) fn is_recorded(replayer: &Replayer, request: &Request<Bytes>) -> bool {
    let Ok(url) = miss::asked_url(request.uri()) else { return false };
    let mut digest = RequestDigest::new(request.headers());
    digest.update(request.body());
    let body = match request.body().is_empty() {
        true => RequestBody::Empty,
        false => RequestBody::from(digest.finish()),
    };
    let key = RequestKey { method: request.method(), url: &url, headers: request.headers(), body };
    replayer.index.look_up(&key).is_ok()
}

impl Replayer {
    /// The digests of the request's body: for the look-up, or for what a miss says.
    async fn request_body(
        &self,
        head: &Parts,
        url: &NormalizedUrl,
        body: AxumBody,
    ) -> Result<RequestBody, axum::Error> {
        if body.is_end_stream() {
            return Ok(RequestBody::Empty);
        }
        // A client that waits to be asked for its body (RFC 9110 §10.1.1) is not asked for one that nothing depends on.
        if head.headers.contains_key(header::EXPECT) && !self.index.depends_on_body(&head.method, url) {
            return Ok(RequestBody::Unhashed);
        }
        request_body::digests(&head.headers, body).await.map(RequestBody::from)
    }

    async fn final_response(
        self: &Arc<Self>,
        id: EntryId,
        entry: &KeptEntry,
        url: &NormalizedUrl,
        head: &Parts,
    ) -> Result<Response<AxumBody>, BodyError> {
        if !entry.is_readable() {
            return Err(BodyError::Entry { url: url.clone() });
        }
        let (open, size) = match entry.body_size() {
            Some(size) => (None, size),
            // A body that was put in another's place: only its file knows the size.
            None => {
                let open = OpenBody::open_in_turn(&self.files, entry).await?;
                let size = open.size();
                (Some(open), size)
            }
        };
        let plan = respond::respond(entry, size, &head.method, &head.headers);
        if head.method == Method::HEAD && open.is_none() {
            // A body that the GET could not be given is no better without its bytes.
            OpenBody::open_in_turn(&self.files, entry).await?;
        }
        let body = match (open, needs_file(&plan.body)) {
            (_, false) => OpenBody::nothing(),
            (Some(open), true) => open,
            (None, true) => OpenBody::open_in_turn(&self.files, entry).await?,
        };
        let recorded = entry.body.as_ref().filter(|_| self.options.check_bodies && needs_file(&plan.body));
        if let Some((recorded, hash)) = recorded.and_then(|recorded| Some((recorded, recorded.hash?))) {
            self.checks.check(id, &body, hash, |path| self.files.remedy(recorded, path)).await?;
        }
        if let Some(problem) = self.used.note(id, &body) {
            self.log.broken(&self.index, id, &printable(&problem));
        }
        let is_whole = plan.is_whole;
        let usage = head.extensions.get().copied().unwrap_or_default();
        let on_end = self.on_end(id, is_whole, body.path());
        let response = send(plan, body, usage, Some(on_end));
        self.sequences.final_answered(&self.index, id);
        self.log.answered(id);
        Ok(response)
    }

    /// What happens when the last byte was handed to the connection, or the file failed on the way.
    fn on_end(self: &Arc<Self>, id: EntryId, is_whole: bool, file: Option<&Path>) -> OnEnd {
        let replayer = Arc::clone(self);
        let moves = is_whole && Sequences::moves_after(&self.index, id);
        let file = file.map(|file| file.display().to_string()).unwrap_or_default();
        // The connection sends, for whichever request.
        let request = RequestId::current();
        Arc::new(move |result| match result {
            Ok(()) if moves => replayer.sequences.sent_whole(&replayer.index, id),
            Ok(()) => {}
            Err(error) => {
                // One problem wherever it was cut: the report lists each but once.
                let what = match error.kind() {
                    io::ErrorKind::UnexpectedEof => "it got shorter while it was sent".to_owned(),
                    _ => error.to_string(),
                };
                let problem = printable(&format!("{file}: {what}; run `buildproxy verify`"));
                let note = || replayer.log.broken(&replayer.index, id, &problem);
                request.map_or_else(note, |request| request.during(note));
            }
        })
    }

    fn miss(&self, miss: &Miss) -> Response<AxumBody> {
        self.log.missed(miss);
        text(&miss.method, self.options.miss_status, miss.to_string())
    }
}

/// A URL for the log, which others may read. Only a log that is read works it out.
struct Shown<'a>(&'a NormalizedUrl);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hidden_in(self.0.as_str()).0)
    }
}

/// What the log says of the rules without which this would be a miss. Only a log that is read works it out.
struct UsedRules<'a> {
    index: &'a Index,
    url: &'a NormalizedUrl,
    visit: Visit,
}

impl fmt::Display for UsedRules<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.index.used_rules(self.url, self.visit);
        if used.is_empty() {
            return f.write_str("none");
        }
        (0..).zip(used).try_for_each(|(place, rule)| write!(f, "{}{rule}", if place == 0 { "" } else { ", " }))
    }
}

/// Whether any byte of the recorded body is sent.
fn needs_file(plan: &BodyPlan) -> bool {
    match plan {
        BodyPlan::None => false,
        BodyPlan::Bytes(range) => !range.is_empty(),
        BodyPlan::Multipart { .. } => true,
    }
}

fn send(plan: ResponsePlan, body: OpenBody, usage: Use, on_end: Option<OnEnd>) -> Response<AxumBody> {
    let mut body = ReplayBody::planned(plan.body, body).used(usage);
    if let Some(on_end) = on_end {
        body = body.watched(on_end);
    }
    let mut response = Response::new(AxumBody::new(body));
    *response.status_mut() = plan.status;
    *response.headers_mut() = plan.headers;
    response
}

/// The answer to a request whose recorded body is missing, short or altered.
fn unsendable(method: &Method, url: &NormalizedUrl, problem: &str) -> Response<AxumBody> {
    let explanation = format!(
        "buildproxy: the recorded answer cannot be sent, because its body is broken\n\n  {} {url}\n\n{problem}\n",
        printable(method.as_str())
    );
    text(method, StatusCode::INTERNAL_SERVER_ERROR, explanation)
}

fn text(method: &Method, status: StatusCode, text: String) -> Response<AxumBody> {
    plain_text(method, status, &text).map(AxumBody::new)
}

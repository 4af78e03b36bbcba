//! Recording one exchange: what may be recorded of it, and its line in the journal.

mod hiding;

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderMap, Method, StatusCode, header};

use super::{
    arriving::Arriving,
    assemble::Omission,
    exchange::{Answer, Exchange, LeftOut, Outcome, RecordedBody, RecordedBytes},
    journal::Journal,
    policy::{self, UrlGlobs},
    request_body::PendingDigest,
    spooling::Spooling,
    timeline::Stopwatch,
};
use crate::{
    beside::MAX_TEXT,
    credentials::{self, Secrets},
    inventory::request_body::BodyDigest,
    store::spool::{Spooled, SpooledContent},
    url::NormalizedUrl,
};

/// Records exchanges into a journal.
#[derive(Debug)]
pub struct Recorder {
    journal: Journal,
    allow_private: UrlGlobs,
    only: UrlGlobs,
    arrivals: AtomicU64,
    spooled: AtomicU64,
    stopwatch: Arc<Stopwatch>,
    known: Mutex<Known>,
}

/// What the capture has learnt so far.
#[derive(Debug, Default)]
struct Known {
    /// Tokens that origins gave to anybody who asked: who sends one of these shows no credential.
    anonymous_tokens: HashSet<String>,
    /// What clients showed of who they are, which no answer is to bring into the inventory.
    secrets: Secrets,
    /// Where origins sent clients: what is in these URLs, the client did not bring.
    redirect_targets: HashSet<NormalizedUrl>,
    /// Requests that are not recorded yet, by arrival.
    running: BTreeMap<u64, (Method, NormalizedUrl)>,
    /// What the journal did not take.
    lost: Vec<Omission>,
    /// Whether the capture is over.
    closed: bool,
}

/// What is known of a request before its answer. It holds the client's credentials, so it cannot be printed.
pub struct Asked {
    arrival: u64,
    method: Method,
    /// Without credentials: the origin was asked for more.
    url: NormalizedUrl,
    /// The names of the query parameters that were credentials.
    bared_of: Vec<String>,
    headers: HeaderMap,
    digest: PendingDigest,
    privacy: Privacy,
}

/// Whether a request showed who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Privacy {
    /// Anybody could have asked it.
    Anonymous,
    /// It showed something that only this client has, and its answer may be recorded all the same.
    Allowed,
    /// It carried the named credential, and its answer stays out.
    Private(String),
    /// It is not to be recorded, whoever asks.
    NotSelected,
}

/// What is known of an answer before its body.
#[derive(Debug)]
pub struct AnswerHead {
    /// The status code.
    pub status: StatusCode,
    /// The end-to-end header fields.
    pub headers: HeaderMap,
    /// Whether the message itself says where the body ends (RFC 9112 §6.3).
    pub is_delimited: bool,
    /// How many requests had come by then.
    pub answered: u64,
}

impl Known {
    fn is_anonymous_token(&self, headers: &HeaderMap) -> bool {
        let is_only_authorization =
            credentials::in_fields(headers) == Some("authorization") && !headers.contains_key("cookie");
        let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.split_once(' ')).map(|(_, token)| token.trim());
        is_only_authorization && token.is_some_and(|token| self.anonymous_tokens.contains(token))
    }
}

impl Recorder {
    /// A recorder that writes to `journal`, and of which `only` says what it records, unless that is empty. `stopwatch`
    /// takes the times.
    pub fn new(journal: Journal, allow_private: UrlGlobs, only: UrlGlobs, stopwatch: Arc<Stopwatch>) -> Self {
        let counter = || AtomicU64::new(0);
        Self {
            journal,
            allow_private,
            only,
            arrivals: counter(),
            spooled: counter(),
            stopwatch,
            known: Mutex::default(),
        }
    }

    /// The journal that it writes to.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// A poisoned lock only means that another exchange's task died; what it guards is whole between any two steps.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request that comes in now.
    pub fn asked(&self, method: &Method, url: NormalizedUrl, headers: &HeaderMap, digest: PendingDigest) -> Asked {
        let is_selected = self.selects(&url);
        let mut known = self.known();
        let bared = credentials::bared(&url, known.redirect_targets.contains(&url), &known.secrets);
        let is_allowed = self.allow_private.covers(&url) || self.allow_private.covers(&bared.url);
        let shows_anonymous_token = known.is_anonymous_token(headers) && bared.name.is_none();
        let privacy = match credentials::in_fields(headers).map(str::to_owned).or(bared.name) {
            _ if !is_selected => Privacy::NotSelected,
            None => Privacy::Anonymous,
            Some(_) if is_allowed || shows_anonymous_token => Privacy::Allowed,
            Some(name) => Privacy::Private(name),
        };
        let in_fields = credentials::secrets_in_fields(headers).into_iter();
        let brought: Vec<String> = in_fields.filter(|secret| !known.anonymous_tokens.contains(secret)).collect();
        known.secrets.add(brought.into_iter().chain(bared.secrets));
        let arrival = self.arrivals.fetch_add(1, Ordering::SeqCst);
        known.running.insert(arrival, (method.clone(), bared.url.clone()));
        drop(known);
        let (url, bared_of) = (bared.url, bared.parameters);
        self.stopwatch.asked(arrival, method, &url);
        Asked { arrival, method: method.clone(), url, bared_of, headers: headers.clone(), digest, privacy }
    }

    /// The same for a request that somebody else made, of whose body nothing passes here. Where the answer is not
    /// `public`, nobody else is expected to get it.
    pub fn asked_before(&self, method: &Method, url: NormalizedUrl, headers: &HeaderMap, public: bool) -> Asked {
        let asked = self.asked(method, url, headers, PendingDigest::none());
        match asked.privacy {
            Privacy::Anonymous if !public => Asked { privacy: Privacy::Allowed, ..asked },
            _ => asked,
        }
    }

    /// Whether requests for `url` are recorded: those that are named, and those to which their answers redirect.
    pub fn selects(&self, url: &NormalizedUrl) -> bool {
        self.only.is_empty() || self.only.covers(url) || self.known().redirect_targets.contains(url)
    }

    /// How many requests have come so far.
    pub fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::SeqCst)
    }

    /// Notes that the head of an answer is there, and where it sends its client. To be called before the client sees it.
    pub fn head_arrived(&self, asked: &Asked, status: StatusCode, headers: &HeaderMap) {
        self.stopwatch.head(asked.arrival, status.as_u16());
        let is_known = status.is_redirection() && asked.privacy != Privacy::NotSelected;
        let location = headers.get(header::LOCATION).filter(|_| is_known);
        let location = location.and_then(|location| location.to_str().ok());
        self.known().redirect_targets.extend(location.and_then(|location| asked.url.join(location).ok()));
    }

    /// Starts to spool the answer's body; `None` where it will not be recorded anyway.
    /// `size` is its size in bytes, where that is announced.
    pub fn spool(&self, asked: &Asked, status: StatusCode, size: Option<u64>) -> Option<(Spooling, Arriving)> {
        if refusal(asked, status).is_some() {
            return None;
        }
        let (spooling, arriving) = Spooling::shared(self.next_file());
        Some((spooling.counting(self.stopwatch.coming(asked.arrival, size)), arriving))
    }

    fn next_file(&self) -> PathBuf {
        self.journal.spool().join(self.spooled.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Records an answer that arrived whole. When this returns, the exchange is in the journal, or the reason why not.
    pub async fn answered(&self, asked: &Asked, head: &AnswerHead, spooling: Option<Spooling>) {
        let left_out = |reason| self.write(asked.exchange(head.answered, Outcome::LeftOut(reason)));
        if let Some(reason) = refusal(asked, head.status) {
            return left_out(reason);
        }
        let request_body = match asked.digest.take().await {
            Ok((digests, secrets)) => {
                self.known().secrets.add(secrets);
                digests
            }
            Err(error) => return left_out(LeftOut::Failed(error.to_string())),
        };
        let spooled = match spooling {
            Some(spooling) => spooling.finish().await.map(Some),
            None => Ok(None),
        };
        self.record(asked, head, request_body, spooled);
    }

    /// Records an answer whose body, or why it could not be kept, is known. When this returns, the exchange is in the
    /// journal, or the reason why not.
    pub fn record(
        &self,
        asked: &Asked,
        head: &AnswerHead,
        request_body: Vec<BodyDigest>,
        body: io::Result<Option<Spooled>>,
    ) {
        if let Some(reason) = refusal(asked, head.status) {
            return self.write(asked.exchange(head.answered, Outcome::LeftOut(reason)));
        }
        let answer = body.and_then(|body| self.answer(asked, head, body));
        let outcome =
            answer.map_or_else(|error| Outcome::LeftOut(LeftOut::NotStored(error.to_string())), Outcome::Answered);
        self.write(Exchange { request_body, ..asked.exchange(head.answered, outcome) });
    }

    /// Records that there is no whole answer, to a request whose body has the digests `request_body`, as far as they are
    /// known.
    pub fn failed(&self, asked: &Asked, request_body: Vec<BodyDigest>, reason: String) {
        let reason = match &asked.privacy {
            Privacy::Private(name) => LeftOut::NeededCredentials(name.clone()),
            Privacy::NotSelected => LeftOut::NotSelected,
            Privacy::Anonymous | Privacy::Allowed => LeftOut::Failed(reason),
        };
        self.write(Exchange { request_body, ..asked.exchange(self.arrivals(), Outcome::LeftOut(reason)) });
    }

    fn answer(&self, asked: &Asked, head: &AnswerHead, spooled: Option<Spooled>) -> io::Result<Answer> {
        let mut headers = policy::recorded_headers(&asked.method, &asked.url, &head.headers);
        let mut varied = policy::varied(&asked.headers, &head.headers);
        let mut is_repeated = self.hide_secrets(&mut headers, &mut varied);
        let is_hop = head.status.is_redirection() && headers.get("location").is_some();
        let mut is_certain = head.is_delimited || is_hop;
        let body = match spooled.filter(|spooled| spooled.size > 0) {
            None => {
                is_certain = true;
                None
            }
            Some(spooled) => match self.without_tokens(asked, head, &spooled) {
                Some(hidden) => {
                    policy::forget_the_bytes(&mut headers);
                    is_certain = false;
                    is_repeated |= hidden.is_repeated;
                    Some(self.keep(Spooled::in_memory(hidden.text))?)
                }
                None => {
                    warn_of_uncertain_end(asked, is_certain);
                    Some(self.keep(spooled)?)
                }
            },
        };
        if is_repeated {
            tracing::warn!(
                "{}: the answer repeats a credential that a client sent; it is recorded with `{}` in its place",
                asked.url,
                credentials::DUMMY
            );
        }
        let is_negotiated = varied.is_none() || policy::is_asked_by_name(&asked.headers, &head.headers);
        let is_lasting = is_certain && !policy::expects_changes(&asked.headers);
        let anonymous = asked.privacy == Privacy::Anonymous && !is_negotiated && is_lasting && !is_repeated;
        Ok(Answer { status: head.status.as_u16(), headers, varied: varied.unwrap_or_default(), anonymous, body })
    }

    /// Puts a body where the journal can refer to it.
    fn keep(&self, spooled: Spooled) -> io::Result<RecordedBody> {
        let bytes = match spooled.content {
            SpooledContent::File(path) => RecordedBytes::Spooled(path),
            SpooledContent::Memory(bytes) if spooled.size <= MAX_TEXT => RecordedBytes::Inline(bytes),
            SpooledContent::Memory(bytes) => {
                let path = self.next_file();
                write_private(&path, &bytes)?;
                RecordedBytes::Spooled(path)
            }
        };
        Ok(RecordedBody { hash: spooled.hash, size: spooled.size, bytes })
    }

    fn write(&self, exchange: Exchange) {
        self.stopwatch.ended(&exchange);
        let mut known = self.known();
        known.running.remove(&exchange.arrival);
        if known.closed {
            return;
        }
        if let Outcome::LeftOut(LeftOut::NotStored(reason)) = &exchange.outcome {
            tracing::error!("{} {} is not recorded: {reason}", exchange.method, exchange.url);
        }
        if let Err(error) = self.journal.append(&exchange) {
            let reason = LeftOut::NotStored(format!("cannot write the journal: {error}"));
            tracing::error!("{} {} is not recorded: {reason}", exchange.method, exchange.url);
            known.lost.push(Omission { method: exchange.method, url: exchange.url, reason });
        }
    }

    /// Ends the capture: nothing is recorded any more. Gives what the journal does not know of.
    pub fn close(&self) -> Vec<Omission> {
        let mut known = self.known();
        known.closed = true;
        let reason = || LeftOut::Failed("it had not ended when the capture did".to_owned());
        let running = std::mem::take(&mut known.running).into_values();
        let abandoned = running.map(|(method, url)| Omission { method, url, reason: reason() });
        abandoned.chain(std::mem::take(&mut known.lost)).collect()
    }
}

/// Why this answer is not recorded, whatever its body.
fn refusal(asked: &Asked, status: StatusCode) -> Option<LeftOut> {
    match (&asked.privacy, status) {
        (Privacy::Private(name), _) => Some(LeftOut::NeededCredentials(name.clone())),
        (Privacy::NotSelected, _) => Some(LeftOut::NotSelected),
        (_, StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED) => Some(LeftOut::NotWhole(status.as_u16())),
        _ if !(200..=599).contains(&status.as_u16()) => {
            Some(LeftOut::Failed(format!("the origin answered {status}, which is not the status of a final response")))
        }
        _ => None,
    }
}

fn warn_of_uncertain_end(asked: &Asked, is_certain: bool) {
    if !is_certain {
        tracing::warn!(
            "{}: only the end of the connection marked the end of this body, so it may be cut short; it is kept beside \
             the inventory",
            asked.url
        );
    }
}

/// A new file for its owner alone: what is spooled may turn out to be private.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

impl Asked {
    /// The normalised URL.
    pub fn url(&self) -> &NormalizedUrl {
        &self.url
    }

    /// The request's method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The request's header fields, credentials included.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    fn exchange(&self, answered: u64, outcome: Outcome) -> Exchange {
        let (method, url, bared_of) = (self.method.clone(), self.url.clone(), self.bared_of.clone());
        let accept = self.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).map(str::to_owned);
        Exchange { arrival: self.arrival, answered, method, url, bared_of, request_body: Vec::new(), accept, outcome }
    }
}

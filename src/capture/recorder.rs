//! Recording one exchange: the body is spooled and hashed while it goes to the client, then the journal gets its line.

use std::{
    collections::HashSet,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version, header};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    exchange::{Answer, Exchange, LeftOut, Outcome, RecordedBody, RecordedBytes},
    journal::Journal,
    policy::{self, AllowPrivate},
    request_body::PendingDigest,
    share::{self, Share},
    token,
};
use crate::{
    store::spool::{Spool, Spooled, SpooledContent},
    url::NormalizedUrl,
};

/// Largest body, in bytes, that the journal holds itself; larger ones are spool files.
const MAX_INLINE: usize = super::assemble::MAX_TEXT as usize;
/// Chunks on their way to the spool; more make the origin wait.
const SPOOL_QUEUE: usize = 16;

/// Records exchanges into a journal.
#[derive(Debug)]
pub struct Recorder {
    journal: Journal,
    allow_private: AllowPrivate,
    arrivals: AtomicU64,
    spooled: AtomicU64,
    /// Tokens that origins gave to anybody who asked: who sends one of these shows no credential.
    anonymous_tokens: Mutex<HashSet<String>>,
}

/// What is known of a request before its answer. It holds the client's credentials, so it cannot be printed.
pub struct Asked {
    arrival: u64,
    method: Method,
    url: NormalizedUrl,
    headers: HeaderMap,
    digest: PendingDigest,
    privacy: Privacy,
}

/// Whether a request showed who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Privacy {
    /// Anybody could have asked it.
    Anonymous,
    /// It showed something that only this client has, and its answer may be recorded all the same.
    Allowed,
    /// It carried the named credential, and its answer stays out.
    Private(&'static str),
}

/// An answer's body on its way to the spool.
pub struct Spooling {
    queue: mpsc::Sender<Bytes>,
    result: JoinHandle<io::Result<Spooled>>,
}

impl Recorder {
    /// A recorder that writes to `journal`.
    pub fn new(journal: Journal, allow_private: AllowPrivate) -> Self {
        let counter = || AtomicU64::new(0);
        Self { journal, allow_private, arrivals: counter(), spooled: counter(), anonymous_tokens: Mutex::default() }
    }

    /// The journal that it writes to.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Notes a request that comes in now.
    pub fn asked(&self, method: &Method, url: NormalizedUrl, headers: &HeaderMap, digest: PendingDigest) -> Asked {
        let privacy = match policy::credential(headers) {
            None => Privacy::Anonymous,
            Some(_) if self.allow_private.covers(&url) || self.is_anonymous_token(headers) => Privacy::Allowed,
            Some(name) => Privacy::Private(name),
        };
        let arrival = self.arrivals.fetch_add(1, Ordering::SeqCst);
        Asked { arrival, method: method.clone(), url, headers: headers.clone(), digest, privacy }
    }

    /// How many requests have come so far.
    pub fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::SeqCst)
    }

    fn is_anonymous_token(&self, headers: &HeaderMap) -> bool {
        let only_authorization =
            policy::credential(headers) == Some("authorization") && !headers.contains_key("cookie");
        let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.split_once(' ')).map(|(_, token)| token.trim());
        let known = self.anonymous_tokens.lock().unwrap_or_else(PoisonError::into_inner);
        only_authorization && token.is_some_and(|token| known.contains(token))
    }

    /// Starts to spool the answer's body; `None` where it will not be recorded anyway.
    pub fn spool(&self, asked: &Asked, status: StatusCode) -> Option<Spooling> {
        if self.refusal(asked, status).is_some() {
            return None;
        }
        let number = self.spooled.fetch_add(1, Ordering::Relaxed);
        let mut spool = Spool::new(self.journal.spool().join(number.to_string()));
        let (queue, mut chunks) = mpsc::channel::<Bytes>(SPOOL_QUEUE);
        let result = tokio::task::spawn_blocking(move || {
            while let Some(chunk) = chunks.blocking_recv() {
                spool.write(&chunk)?;
            }
            spool.finish()
        });
        Some(Spooling { queue, result })
    }

    /// Why this answer is not recorded, whatever its body.
    fn refusal(&self, asked: &Asked, status: StatusCode) -> Option<LeftOut> {
        match (asked.privacy, status) {
            (Privacy::Private(name), _) => Some(LeftOut::NeededCredentials(name.to_owned())),
            (_, StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED) => Some(LeftOut::NotWhole(status.as_u16())),
            _ => None,
        }
    }

    /// Records an answer that arrived whole. When this returns, the exchange is in the journal, or the reason why not.
    pub async fn answered(self: &Arc<Self>, asked: &Asked, head: &AnswerHead, spooling: Option<Spooling>) {
        let outcome = match (self.refusal(asked, head.status), asked.digest.take(), spooling) {
            (Some(reason), ..) => Outcome::LeftOut(reason),
            (None, None, _) => {
                let reason = "the origin answered before it had read the whole request body";
                Outcome::LeftOut(LeftOut::Failed(reason.to_owned()))
            }
            (None, Some(request_body), spooling) => match finish(spooling).await {
                Ok(spooled) => {
                    self.write(Exchange {
                        request_body,
                        ..asked.exchange(head.answered, self.answer(asked, head, spooled))
                    });
                    return;
                }
                Err(error) => Outcome::LeftOut(LeftOut::NotStored(error.to_string())),
            },
        };
        self.write(asked.exchange(head.answered, outcome));
    }

    /// Records that there is no whole answer.
    pub fn failed(&self, asked: &Asked, reason: String) {
        let reason = match asked.privacy {
            Privacy::Private(name) => LeftOut::NeededCredentials(name.to_owned()),
            _ => LeftOut::Failed(reason),
        };
        self.write(asked.exchange(self.arrivals(), Outcome::LeftOut(reason)));
    }

    fn answer(&self, asked: &Asked, head: &AnswerHead, spooled: Option<Spooled>) -> Outcome {
        let mut headers = policy::recorded_headers(&asked.method, &asked.url, &head.headers);
        let varied = policy::varied(&asked.headers, &head.headers);
        let mut anonymous = asked.privacy == Privacy::Anonymous && varied.is_some() && head.is_delimited;
        let body = match spooled.filter(|spooled| spooled.size > 0).map(|spooled| self.without_tokens(asked, spooled)) {
            None => None,
            Some((spooled, had_tokens)) => {
                if had_tokens {
                    anonymous = false;
                    for name in ["etag", "digest", "content-digest", "repr-digest", "content-md5"] {
                        headers.remove(name);
                    }
                }
                match self.keep(spooled) {
                    Ok(body) => Some(body),
                    Err(error) => return Outcome::LeftOut(LeftOut::NotStored(error.to_string())),
                }
            }
        };
        if !head.is_delimited && body.is_some() {
            tracing::warn!(
                "{}: only the end of the connection marked the end of this body, so it may be cut short; \
                 it is kept beside the inventory",
                asked.url
            );
        }
        let varied = varied.unwrap_or_default();
        Outcome::Answered(Answer { status: head.status.as_u16(), headers, varied, anonymous, body })
    }

    fn without_tokens(&self, asked: &Asked, spooled: Spooled) -> (Spooled, bool) {
        let SpooledContent::Memory(bytes) = &spooled.content else {
            return (spooled, false);
        };
        let Some(answer) = token::recognise(&asked.url, bytes) else {
            return (spooled, false);
        };
        if asked.privacy == Privacy::Anonymous && asked.method == Method::GET {
            self.anonymous_tokens.lock().unwrap_or_else(PoisonError::into_inner).extend(answer.tokens);
        }
        (Spooled::in_memory(answer.without_tokens), true)
    }

    /// Puts a body where the journal can refer to it.
    fn keep(&self, spooled: Spooled) -> io::Result<RecordedBody> {
        let bytes = match spooled.content {
            SpooledContent::File(path) => RecordedBytes::Spooled(path),
            SpooledContent::Memory(bytes) if bytes.len() <= MAX_INLINE => RecordedBytes::Inline(bytes),
            SpooledContent::Memory(bytes) => {
                let number = self.spooled.fetch_add(1, Ordering::Relaxed);
                let path = self.journal.spool().join(number.to_string());
                std::fs::write(&path, bytes)?;
                RecordedBytes::Spooled(path)
            }
        };
        Ok(RecordedBody { hash: spooled.hash, size: spooled.size, bytes })
    }

    fn write(&self, exchange: Exchange) {
        if let Outcome::LeftOut(LeftOut::NotStored(reason)) = &exchange.outcome {
            tracing::error!("{} {} is not recorded: {reason}", exchange.method, exchange.url);
        }
        if let Err(error) = self.journal.append(&exchange) {
            tracing::error!("{} {} is not recorded: cannot write the journal: {error}", exchange.method, exchange.url);
        }
    }
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

impl AnswerHead {
    /// Whether an answer of `version` with these fields, hop-by-hop ones included, says where its body ends.
    pub fn is_delimited(version: Version, headers: &HeaderMap) -> bool {
        version == Version::HTTP_2
            || headers.contains_key(header::CONTENT_LENGTH)
            || headers.contains_key(header::TRANSFER_ENCODING)
    }
}

impl Asked {
    /// The normalised URL.
    pub fn url(&self) -> &NormalizedUrl {
        &self.url
    }

    /// What of an answer the client gets.
    pub fn share(&self, status: StatusCode, answer: &HeaderMap) -> Share {
        share::of(&self.method, &self.headers, status, answer)
    }

    fn exchange(&self, answered: u64, outcome: Outcome) -> Exchange {
        let (method, url) = (self.method.clone(), self.url.clone());
        Exchange { arrival: self.arrival, answered, method, url, request_body: None, outcome }
    }
}

impl Spooling {
    /// Adds a chunk. An error of the disk shows when the spool is finished.
    pub async fn write(&self, chunk: Bytes) {
        // The other end is gone only after such an error.
        let _ = self.queue.send(chunk).await;
    }
}

async fn finish(spooling: Option<Spooling>) -> io::Result<Option<Spooled>> {
    let Some(Spooling { queue, result }) = spooling else {
        return Ok(None);
    };
    drop(queue);
    result.await.map_err(io::Error::other)?.map(Some)
}

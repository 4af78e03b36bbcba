//! Downloads that several requests share, so that a client that asks for a body in parts makes the origin send it once.
//!
//! Two `GET`s without a body are for the same download where a cache could answer one with what the other one got
//! (RFC 9111 §4.1): they have the same normalised URL and the same values of the fields that the answer's `Vary` names,
//! as far as it can be [keyed](super::policy::varied). (aria2 asks for parts with another `Accept` than for the whole.)
//! The `User-Agent` is the same whatever `Vary` says; and where there are credentials all fields are, but for those that
//! are [replaced](super::origin) when the origin is asked (`Range`, `If-*`, codings).
//!
//! - A `Range` request is answered from the newest such download, be it on its way or one of the last [`FINISHED`] that
//!   came whole in this capture. It waits for the head of one that was just asked for. It is no exchange of its own: it
//!   is not recorded, and its `If-*` fields are compared with the head of the download.
//! - A request with a precondition and no `Range` is a revalidation: it is answered from such a download while that is
//!   on its way, and asks the origin anew once it has ended.
//! - Any other request asks the origin anew, whatever there is; so does a `Range` request where there is no such
//!   download, or only one that has ended and the request wants no stored answer (RFC 9111 §5.2.1). Later ranges are
//!   answered from the new one.
//! - Shared are answers with status 200, a known length, and a spooled body. What is not recorded is not spooled, so
//!   ranges of answers to credentials, or of a length that nobody knows, are each asked for; where nothing is
//!   spooled, nothing is fetched behind the range.
//!
//! The download goes on as the origin sends it, whether its own client leaves, asked for a part only, or reads slowly
//! while others follow.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{HeaderMap, HeaderName, Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::watch;

use super::{
    arriving::{Arriving, Stopped},
    channel::{CLIENT_QUEUE, ClientBody, Sender, channel},
    origin::whole_and_uncoded,
    policy,
};
use crate::{
    credentials,
    representation::{BodyPlan, Partial, Representation},
    store::hash::NixHash,
    url::NormalizedUrl,
};

/// Finished downloads that later ranges are still answered from. Their small bodies are kept in memory.
const FINISHED: usize = 128;

/// Preconditions of requests that can be answered without the body (RFC 9110 §13.1).
const CONDITIONS: [HeaderName; 4] =
    [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE];

/// What requests for the same download have in common. A digest, because it covers credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DownloadKey(NixHash);

impl DownloadKey {
    /// The key of a `GET` without a body that has the fields `asked`.
    pub fn new(url: &NormalizedUrl, asked: &HeaderMap) -> Self {
        let has_credentials = credentials::in_fields(asked).is_some();
        let mut fields: Vec<_> = whole_and_uncoded(&Method::GET, asked.clone())
            .iter()
            .filter(|(name, _)| has_credentials || *name == header::USER_AGENT)
            // No field has a line break.
            .map(|(name, value)| [b"\n", name.as_str().as_bytes(), b":", value.as_bytes()].concat())
            .collect();
        fields.sort();
        Self(NixHash::sha256(&[url.as_str().as_bytes(), &fields.concat()].concat()))
    }
}

/// The downloads of a capture.
#[derive(Default)]
pub struct Downloads(Mutex<Slots>);

#[derive(Default)]
struct Slots {
    by_key: HashMap<DownloadKey, Slot>,
    /// Keys and numbers of the finished downloads, the oldest first.
    finished: VecDeque<(DownloadKey, u64)>,
    /// The number of the next download.
    next: u64,
}

struct Slot {
    number: u64,
    download: Pending,
}

/// From which downloads of others a request can be answered.
#[derive(Debug, Clone, Copy)]
enum Accepts {
    None,
    /// From one that is no stored answer yet.
    OnItsWay,
    Any,
}

/// Whose turn it is to ask the origin.
pub enum Turn {
    /// This request's.
    Lead(Lead),
    /// Another one did, and this is what it got.
    Follow(Arc<Download>),
}

/// A download whose head may still have to come; at an end without one where it cannot be shared.
type Pending = watch::Receiver<Option<Arc<Download>>>;

/// Held by the request that asks the origin. Dropping it before the download has [finished](Self::finish) makes later
/// requests ask anew.
pub struct Lead {
    downloads: Arc<Downloads>,
    key: DownloadKey,
    number: u64,
    known: watch::Sender<Option<Arc<Download>>>,
    finished: bool,
}

impl Downloads {
    /// Finds out who asks the origin for what has `key`, for a request with the fields `asked`: the request itself, or
    /// another one, whose download then answers this one.
    pub async fn turn(self: &Arc<Self>, mut key: DownloadKey, asked: &HeaderMap) -> Turn {
        let accepts = Accepts::of(asked);
        // Once more with the variant that the answer's `Vary` tells from others.
        for _ in 0..2 {
            let slot = self.slots().lead_or_wait(self, key, accepts);
            let mut download = match slot {
                Ok(lead) => return Turn::Lead(lead),
                Err(download) => download,
            };
            let known = download.wait_for(Option::is_some).await.ok().and_then(|download| download.clone());
            // What cannot be shared, each asks for itself.
            let Some(download) = known else { break };
            match download.answers(key, asked) {
                Ok(()) => return Turn::Follow(download),
                Err(variant) => key = variant,
            }
        }
        Turn::Lead(self.slots().lead(self, key))
    }

    /// A poisoned lock only means that another exchange's task died; the slots are whole between any two steps.
    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accepts {
    fn of(asked: &HeaderMap) -> Self {
        let is_conditional = CONDITIONS.iter().any(|name| asked.contains_key(name));
        match (asked.contains_key(header::RANGE), is_conditional) {
            (false, false) => Self::None,
            // A revalidation asks what the origin has now.
            (false, true) => Self::OnItsWay,
            (true, _) if policy::wants_no_stored_answer(asked) => Self::OnItsWay,
            (true, _) => Self::Any,
        }
    }
}

impl Slot {
    /// Whether a request can follow it, or wait for it, that accepts such downloads.
    fn is_for(&self, accepts: Accepts) -> bool {
        match accepts {
            Accepts::None => false,
            Accepts::OnItsWay => !self.is_whole() && !self.has_failed(),
            Accepts::Any => !self.has_failed(),
        }
    }

    fn is_whole(&self) -> bool {
        self.download.borrow().as_ref().is_some_and(|download| download.arriving.is_whole())
    }

    /// Whether there is nothing to follow, and nothing to wait for.
    fn has_failed(&self) -> bool {
        let download = self.download.borrow();
        download.as_ref().is_some_and(|download| download.arriving.has_failed() || download.arriving.is_lost())
    }
}

impl Lead {
    /// Gives `download` to those who wait for its head and to those who come later.
    pub fn share(&self, download: Arc<Download>) {
        self.known.send_replace(Some(download));
        let slot = Slot { number: self.number, download: self.known.subscribe() };
        self.downloads.slots().by_key.insert(self.key, slot);
    }

    /// Keeps a shared download that is whole now, in place of the oldest one.
    pub fn finish(mut self) {
        self.finished = true;
        let mut slots = self.downloads.slots();
        slots.finished.push_back((self.key, self.number));
        if slots.finished.len() > FINISHED
            && let Some((key, number)) = slots.finished.pop_front()
        {
            slots.remove(&key, number);
        }
    }
}

impl Slots {
    /// What a request that `accepts` such downloads can follow; otherwise the right to ask.
    fn lead_or_wait(
        &mut self,
        downloads: &Arc<Downloads>,
        key: DownloadKey,
        accepts: Accepts,
    ) -> Result<Lead, Pending> {
        match self.by_key.get(&key).filter(|slot| slot.is_for(accepts)) {
            Some(slot) => Err(slot.download.clone()),
            None => Ok(self.lead(downloads, key)),
        }
    }

    /// A new download, for which others wait where they have nothing else.
    fn lead(&mut self, downloads: &Arc<Downloads>, key: DownloadKey) -> Lead {
        let (known, download) = watch::channel(None);
        let number = self.next;
        self.next += 1;
        if self.by_key.get(&key).is_none_or(Slot::has_failed) {
            self.by_key.insert(key, Slot { number, download });
        }
        Lead { downloads: Arc::clone(downloads), key, number, known, finished: false }
    }

    fn remove(&mut self, key: &DownloadKey, number: u64) {
        if self.by_key.get(key).is_some_and(|slot| slot.number == number) {
            self.by_key.remove(key);
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.finished {
            self.downloads.slots().remove(&self.key, self.number);
        }
    }
}

/// A download whose head has come.
pub struct Download {
    url: NormalizedUrl,
    headers: HeaderMap,
    /// The request's fields that `Vary` names.
    varied: Vec<(String, String)>,
    size: u64,
    arriving: Arriving,
    followed: watch::Sender<bool>,
}

impl Download {
    /// The download of `size` bytes that answers the request `asked` for `url` with status 200 and these end-to-end
    /// `headers`; `None` where nobody knows whom else it would answer (`Vary: *`).
    pub fn new(
        url: &NormalizedUrl,
        asked: &HeaderMap,
        headers: &HeaderMap,
        size: u64,
        arriving: Arriving,
    ) -> Option<Self> {
        let varied = policy::varied(asked, headers)?;
        let followed = watch::Sender::new(false);
        Some(Self { url: url.clone(), headers: headers.clone(), varied, size, arriving, followed })
    }

    /// Whether it answers a request with the fields `asked`, whose key is `key` as well; if not, the key of what does.
    ///
    /// # Errors
    /// The other key, where `Vary` tells the two requests apart.
    fn answers(&self, key: DownloadKey, asked: &HeaderMap) -> Result<(), DownloadKey> {
        match policy::varied(asked, &self.headers) {
            Some(varied) if varied == self.varied => Ok(()),
            varied => Err(DownloadKey(NixHash::sha256(format!("{:?} {varied:?}", key.0).as_bytes()))),
        }
    }

    /// The answer to a later `GET` with the fields `asked`.
    pub fn follow(&self, asked: &HeaderMap) -> Response<ClientBody> {
        self.followed.send_replace(true);
        let Self { url, headers, size, .. } = self;
        let representation = Representation { url, status: StatusCode::OK, headers, size: Some(*size) };
        let whole = || Partial { status: StatusCode::OK, headers: headers.clone(), body: BodyPlan::Bytes(0..*size) };
        self.part(representation.partial(&Method::GET, asked).unwrap_or_else(whole))
    }

    /// The answer that is `partial` of this download.
    pub fn part(&self, partial: Partial) -> Response<ClientBody> {
        let (sender, receiver) = channel(CLIENT_QUEUE);
        self.send(partial.body, sender);
        let mut response = Response::new(receiver.boxed_unsync());
        *response.status_mut() = partial.status;
        *response.headers_mut() = partial.headers;
        response
    }

    /// Sends the planned bytes as they come.
    pub fn send(&self, plan: BodyPlan, client: Sender) {
        let (arriving, size) = (self.arriving.clone(), self.size);
        tokio::spawn(async move {
            match send(arriving, plan, size, &client).await {
                Ok(()) => client.finish().await,
                Err(Stopped::ClientGone) => {}
                Err(Stopped::Broken(error)) => client.abort(error).await,
            }
        });
    }

    /// Waits until another request is answered from this download.
    pub async fn followed(&self) {
        // Not an error while `self` is there.
        let _ = self.followed.subscribe().wait_for(|followed| *followed).await;
    }

    /// The number of bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether nobody will come to the end of it.
    pub fn has_failed(&self) -> bool {
        self.arriving.has_failed()
    }
}

async fn send(mut arriving: Arriving, plan: BodyPlan, size: u64, client: &Sender) -> Result<(), Stopped> {
    match plan {
        BodyPlan::None => Ok(()),
        BodyPlan::Bytes(range) => arriving.send(range, size, client).await,
        BodyPlan::Multipart { parts, end } => {
            for (head, range) in parts {
                client.send(http_body::Frame::data(head)).await?;
                arriving.send(range, size, client).await?;
            }
            Ok(client.send(http_body::Frame::data(end)).await?)
        }
    }
}

#[cfg(test)]
mod tests;

//! From exchanges to entries: redirects are joined to chains, retries and repetitions go, every body gets its source.

mod answered;
mod forms;
mod sequences;

use std::collections::{BTreeMap, HashMap, HashSet};

use http::Method;

use self::answered::Answered;
use super::exchange::{Answer, Exchange, LeftOut, Outcome, RecordedBody, RecordedBytes};
use crate::{
    beside,
    inventory::{
        Body, Entry, Hop, Inventory, Key, Keys, Seen, Source, Why, becomes_get, pinned_by_redirect,
        request_body::BodyDigest,
    },
    store::{hash::NixHash, path::StorePathName},
    url::NormalizedUrl,
};

pub use sequences::Sequence;

use forms::BodyForms;
use sequences::sequences;

/// What a capture recorded, ready to be stored and merged.
#[derive(Debug, Default)]
pub struct Assembled {
    /// The entries, in the order in which their first requests came, each with the bytes that have to be stored for it. A
    /// `file` body's path is still its bare name.
    pub entries: Vec<(Entry, Option<StoredBody>)>,
    /// What is not recorded, and why.
    pub left_out: Vec<Omission>,
    /// How many bodies are not fetched again, by the rule that says so.
    pub kept: BTreeMap<Why, usize>,
    /// Requests that were answered in different ways.
    pub sequences: Vec<Sequence>,
}

/// Bytes that an entry refers to.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredBody {
    /// Their hash.
    pub hash: NixHash,
    /// Their number.
    pub size: u64,
    /// The name under which the entry refers to them.
    pub name: StorePathName,
    /// Where they are now.
    pub bytes: RecordedBytes,
    /// Where they have to be.
    pub place: Place,
}

/// Where a body is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the store: source `fetch`.
    Store,
    /// In the folder beside the inventory: source `file`.
    Beside,
}

/// A request that is not in the inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Omission {
    /// The request's method.
    pub method: Method,
    /// The request's URL; of a chain the first.
    pub url: NormalizedUrl,
    /// Why.
    pub reason: LeftOut,
}

/// Requests that belong together: the redirects, then the final answer (or the last redirect, which nobody followed).
struct Chain {
    links: Vec<Exchange>,
}

/// Makes entries of all exchanges of a capture into `inventory`, whose rules and forms of request bodies count.
pub fn assemble(mut exchanges: Vec<Exchange>, inventory: &Inventory) -> Assembled {
    exchanges.sort_by_key(|exchange| exchange.arrival);
    let keys = Keys::new(&inventory.match_rules);
    let forms = BodyForms::of(inventory, &keys);
    exchanges.iter_mut().for_each(|exchange| forms.choose(exchange));
    let answered = Answered::of(&exchanges);
    let mut assembled = Assembled::default();
    let mut drafts = Vec::new();
    for chain in settle(join_redirects(exchanges), &keys) {
        let last = chain.links.last().map(|link| (link.arrival, link.body_digest()));
        match chain.into_draft() {
            Ok(draft) => drafts.extend(draft),
            Err(omission) if last.is_some_and(|(arrival, digest)| answered.makes_good(&omission, arrival, digest)) => {}
            Err(omission) => assembled.left_out.push(omission),
        }
    }
    let drafts = drop_unneeded(drafts, &assembled.left_out, &keys);
    assembled.sequences = sequences(&drafts, &keys);
    assembled.left_out.dedup();
    for draft in drafts {
        let why = Why::of(&draft.entry, draft.seen);
        if draft.body.is_some() && !why.fetches() {
            *assembled.kept.entry(why).or_default() += 1;
        }
        assembled.entries.push(draft.place(why));
    }
    assembled
}

/// Joins each redirect with the next request for its `Location`, made with a method that RFC 9110 §15.4 gives.
fn join_redirects(exchanges: Vec<Exchange>) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::new();
    // The chains that still wait for somebody to follow their last link, by where that leads.
    let mut open: HashMap<NormalizedUrl, Vec<usize>> = HashMap::new();
    for exchange in exchanges {
        let target = exchange.redirect_target();
        let waiting = open.get_mut(&exchange.url);
        let followed = waiting.and_then(|waiting| {
            let position = waiting.iter().position(|&index| chains[index].is_followed_by(&exchange))?;
            Some(waiting.remove(position))
        });
        let index = match followed {
            Some(index) => {
                chains[index].links.push(exchange);
                index
            }
            None => {
                chains.push(Chain { links: vec![exchange] });
                chains.len() - 1
            }
        };
        if let Some(target) = target {
            open.entry(target).or_default().push(index);
        }
    }
    chains
}

/// Takes chains apart that replay could not tell from other answers to the same request: one URL on the way was answered
/// in different ways. What is left are plain redirects, and a sequence of answers.
fn settle(mut chains: Vec<Chain>, keys: &Keys) -> Vec<Chain> {
    loop {
        let mut answers: HashMap<Key, HashSet<(u16, Option<NixHash>, String)>> = HashMap::new();
        for link in chains.iter().flat_map(|chain| &chain.links) {
            answers.entry(link.key(keys)).or_default().extend(link.lasting_answer());
        }
        let is_unclear = |chain: &Chain| {
            let first = chain.links.first().map(|link| link.key(keys));
            let mut later = chain.links.iter().skip(1).map(|link| link.key(keys));
            later.any(|key| first.as_ref() == Some(&key) || answers.get(&key).is_some_and(|answers| answers.len() > 1))
        };
        let (unclear, clear): (Vec<_>, Vec<_>) = chains.into_iter().partition(is_unclear);
        let nothing_left = unclear.is_empty();
        let apart = unclear.into_iter().flat_map(|chain| chain.links).map(|link| Chain { links: vec![link] });
        chains = clear.into_iter().chain(apart).collect();
        if nothing_left {
            chains.sort_by_key(|chain| chain.links.first().map(|link| link.arrival));
            return chains;
        }
    }
}

impl Exchange {
    /// The digest by which the request body is compared, once that is [chosen](BodyForms::choose).
    fn body_digest(&self) -> Option<BodyDigest> {
        self.request_body.first().copied()
    }

    fn key(&self, keys: &Keys) -> Key {
        let request =
            Entry { method: self.method.clone(), request_body: self.body_digest(), ..Entry::get(self.url.clone()) };
        keys.of(&request)
    }

    /// What tells this answer from another; `None` where a retry makes it worthless, or there is none.
    fn lasting_answer(&self) -> Option<(u16, Option<NixHash>, String)> {
        let Outcome::Answered(answer) = &self.outcome else {
            return None;
        };
        let location = answer.headers.get("location").unwrap_or_default().to_owned();
        let hash = answer.body.as_ref().map(|body| body.hash).filter(|_| location.is_empty());
        (!is_retryable(answer.status) && answer.varied.is_empty()).then_some((answer.status, hash, location))
    }
}

/// Whether a later, successful answer makes one with this status worthless: a challenge, a limit, a failing server.
fn is_retryable(status: u16) -> bool {
    matches!(status, 401 | 429 | 500..=599)
}

impl Chain {
    fn is_followed_by(&self, next: &Exchange) -> bool {
        let Some(last) = self.links.last() else {
            return false;
        };
        last.redirect_target().is_some_and(|target| target == next.url)
            && last.answered <= next.arrival
            && follows(last, next)
    }

    /// The entries of this chain: one, or one for each redirect where nobody came to an end of them.
    fn into_draft(self) -> Result<Vec<Draft>, Omission> {
        let ends = self.links.last().is_some_and(|last| last.redirect_target().is_none());
        if !ends {
            return self.links.into_iter().map(|link| Draft::new(vec![link])).collect();
        }
        Ok(vec![Draft::new(self.links)?])
    }
}

/// Whether `next` has the method and the body with which a client follows the redirect `last`.
fn follows(last: &Exchange, next: &Exchange) -> bool {
    match last.status() {
        Some(status) if becomes_get(status, &last.method) => next.method == Method::GET && next.request_body.is_empty(),
        _ => next.method == last.method && next.request_body == last.request_body,
    }
}

/// An entry in the making. Its body is described as one to fetch until it gets its place.
struct Draft {
    entry: Entry,
    body: Option<RecordedBody>,
    /// What decides about its source, beside the entry itself.
    seen: Seen,
    /// What the client accepted.
    accept: Option<String>,
}

impl Draft {
    fn new(mut links: Vec<Exchange>) -> Result<Self, Omission> {
        let (method, url) = (links[0].method.clone(), links[0].url.clone());
        let (request_body, accept) = (links[0].body_digest(), links[0].accept.clone());
        // A chain has the links it was made of, at least one.
        let last = links.pop().map(|link| link.outcome);
        let hops = links.into_iter().map(|link| link.outcome);
        let omission = |reason| Omission { method: method.clone(), url: url.clone(), reason };

        let mut entry = Entry { method: method.clone(), request_body, ..Entry::get(url.clone()) };
        let mut anonymous = true;
        for hop in hops {
            let mut hop = answered(hop).map_err(&omission)?;
            anonymous &= hop.anonymous;
            entry.request_headers.extend(hop.varied);
            let location = hop.headers.remove("location").unwrap_or_default();
            entry.redirects.push(Hop { status: hop.status, location, headers: hop.headers });
        }
        let last = last.ok_or_else(|| omission(LeftOut::Failed("it was never answered".to_owned())))?;
        let last = answered(last).map_err(&omission)?;
        anonymous &= last.anonymous;
        entry.request_headers.extend(last.varied);
        entry.status = last.status;
        entry.headers = last.headers;
        entry.body = last.body.as_ref().map(|body| Body {
            hash: Some(body.hash),
            size: Some(body.size),
            name: Some(url.store_path_name()),
            source: Source::Fetch(None),
        });
        Ok(Self { entry, body: last.body, seen: Seen { anonymous, changed: false }, accept })
    }

    /// Gives the body the place that the rule `why` is for, and says what has to be stored for it.
    fn place(self, why: Why) -> (Entry, Option<StoredBody>) {
        let Self { mut entry, body, .. } = self;
        let pinned = pinned_by_redirect(&entry).filter(|_| why == Why::PinnedByRedirect);
        let (Some(recorded), Some(body)) = (body, entry.body.as_mut()) else {
            return (entry, None);
        };
        let name = entry.url.store_path_name();
        let (name, place) = if why.fetches() {
            body.source = Source::Fetch(pinned.map(|url| url.to_string()));
            (name, Place::Store)
        } else if let Some(text) = as_text(&recorded) {
            body.name = None;
            body.source = Source::Text(text);
            return (entry, None);
        } else {
            let name = beside::file_name(&recorded.hash, &name);
            body.name = None;
            body.source = Source::File(name.to_string());
            (name, Place::Beside)
        };
        let RecordedBody { hash, size, bytes } = recorded;
        (entry, Some(StoredBody { hash, size, name, bytes, place }))
    }

    fn repeats(&self, before: &Self) -> bool {
        self.entry.has_same_answer(&before.entry)
    }
}

fn answered(outcome: Outcome) -> Result<Answer, LeftOut> {
    match outcome {
        Outcome::Answered(answer) => Ok(answer),
        Outcome::LeftOut(reason) => Err(reason),
    }
}

fn as_text(body: &RecordedBody) -> Option<String> {
    match &body.bytes {
        RecordedBytes::Inline(bytes) => beside::as_text(bytes),
        RecordedBytes::Spooled(_) => None,
    }
}

/// The redirects of a chain, each with the request that it answers. A part of a shared download leaves such redirects
/// behind that nobody seems to have followed.
fn hops(entry: &Entry, keys: &Keys) -> Vec<(Key, u16, String)> {
    let (mut key, mut url) = (Some(keys.of(entry)), entry.url.clone());
    let mut hops = Vec::new();
    for hop in &entry.redirects {
        let Some(of_hop) = key.take() else { break };
        if let Ok(next) = url.join(&hop.location) {
            key = Some(keys.redirected(&of_hop, hop.status, &next));
            url = next;
        }
        // A redirect that does not vary itself has no header in its key, though the chain may.
        hops.push((of_hop.without_headers(), hop.status, hop.location.clone()));
        hops.push((of_hop, hop.status, hop.location.clone()));
    }
    hops
}

/// Leaves out what replay would only stumble over: retries before a success, equal answers in a row, a `HEAD` where
/// there is the `GET`, a redirect that is a hop of a chain, and errors in place of what is left out as private: the
/// client with the credentials would get them.
fn drop_unneeded(drafts: Vec<Draft>, left_out: &[Omission], keys: &Keys) -> Vec<Draft> {
    let with_get: HashSet<_> =
        drafts.iter().filter(|d| d.entry.method == Method::GET).map(|d| d.entry.url.clone()).collect();
    let hops: HashSet<_> = drafts.iter().flat_map(|draft| hops(&draft.entry, keys)).collect();
    let private: HashSet<_> = left_out
        .iter()
        .filter(|omission| matches!(omission.reason, LeftOut::NeededCredentials(_)))
        .map(|omission| (omission.method.clone(), omission.url.clone()))
        .collect();

    let mut sequences: HashMap<Key, Vec<(usize, Draft)>> = HashMap::new();
    for (order, draft) in drafts.into_iter().enumerate() {
        let entry = &draft.entry;
        let location = entry.headers.get("location").unwrap_or_default().to_owned();
        let is_hop = entry.redirects.is_empty() && hops.contains(&(keys.of(entry), entry.status, location));
        let is_covered_head = entry.method == Method::HEAD && with_get.contains(&entry.url);
        let is_challenge = entry.status >= 400 && private.contains(&(entry.method.clone(), entry.url.clone()));
        if !is_hop && !is_covered_head && !is_challenge {
            sequences.entry(keys.of(entry)).or_default().push((order, draft));
        }
    }
    let mut kept: Vec<(usize, Draft)> = sequences.into_values().flat_map(shorten).collect();
    kept.sort_by_key(|(order, _)| *order);
    kept.into_iter().map(|(_, draft)| draft).collect()
}

/// One key's sequence without retries and repetitions.
fn shorten(sequence: Vec<(usize, Draft)>) -> Vec<(usize, Draft)> {
    let last_success = sequence.iter().rposition(|(_, draft)| draft.entry.status < 400);
    let mut short: Vec<(usize, Draft)> = Vec::new();
    for (position, (order, draft)) in sequence.into_iter().enumerate() {
        let is_retried = is_retryable(draft.entry.status) && last_success.is_some_and(|success| position < success);
        let repeats = short.last().is_some_and(|(_, before)| draft.repeats(before));
        if !is_retried && !repeats {
            short.push((order, draft));
        }
    }
    if short.len() > 1 {
        // What changes between two requests of one capture is not there for somebody else to fetch.
        short.iter_mut().for_each(|(_, draft)| draft.seen.changed = true);
    }
    short
}

#[cfg(test)]
mod tests;

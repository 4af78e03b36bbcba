//! The request index: which entry answers a request, found by one hash of its URL.
//!
//! A request is compared by method, by URL as the `[match]` rules have it, by the digest of its decoded body, and by
//! the request headers that an entry names. Whatever agrees in all four is one *group*: a sequence of answers.
//! Redirect chains put their later URLs into the index as groups of second rank, which answer only where no entry was
//! recorded for that request itself. Entries for every URL that starts with theirs come last, the longest first.
//!
//! The index holds numbers that point into the inventory's text; the only texts of its own are URLs that the inventory
//! does not spell out (resolved `Location`s, URLs with parameters left out). Every entry is read once to be checked and
//! indexed, and again when it is asked for; those that were asked for last are kept. An inventory that was compiled
//! ([`Index::compile`]) is not read to be indexed.

mod build;
mod kept;
mod recorded;
mod request;
mod stored;
mod urls;

#[cfg(test)]
mod tests;

use std::{cmp::Reverse, collections::BTreeMap, ops::Range, path::Path, sync::Arc};

use http::Method;

pub use self::kept::KeptEntry;
pub use self::request::{RequestBody, RequestKey, field_value};
use self::{build::BuildError, recorded::Recorded, urls::UrlTable};
use super::{
    Entry, Hop, Inventory, Keys, ReadError, UrlMatch, UsedRule,
    read::{self, Content},
    request_body::BodyDigest,
    write::to_toml_in_order,
};
use crate::url::NormalizedUrl;

/// How many recorded alternatives a [`MissReason`] lists at most.
const LISTED: usize = 8;

/// The number of an entry: its place in [`Inventory::entries`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(u32);

impl EntryId {
    /// The place in [`Inventory::entries`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One step of one entry as the answer to a key: a redirect of its chain, or the final response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visit {
    /// The entry.
    pub entry: EntryId,
    /// How many redirects lie before this answer.
    pub step: u32,
    /// The request became a bodiless `GET` on the way (RFC 9110 §15.4).
    as_get: bool,
    rank: Rank,
}

/// How a key came to an entry; the lower one answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// It is the entry's own.
    Own,
    /// The entry's chain leads to it.
    Chain,
    /// It is the entry's own, and the entry is for every URL that starts like it.
    Prefix,
}

/// Every recorded answer to one request, in the order of the inventory.
#[derive(Debug, Clone, Copy)]
pub struct Matches<'a> {
    /// Sorted by entry, then by step; never empty.
    pub visits: &'a [Visit],
    /// Whether the entries were recorded for this very request. Otherwise their chains only lead here.
    pub first_rank: bool,
}

/// What to answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The entry.
    pub entry: Arc<KeptEntry>,
    step: u32,
}

impl Answer {
    /// The redirect of the entry's chain that it is; `None` is the final response.
    pub fn hop(&self) -> Option<&Hop> {
        self.entry.redirects.get(self.step as usize)
    }
}

/// Why nothing answers a request. Lists are cut after a few items.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MissReason {
    /// Nothing was recorded for the URL.
    #[error("nothing was recorded for this URL")]
    NoSuchUrl,
    /// The URL was recorded for other systems alone.
    #[error("this URL was recorded only for {}", recorded.join(", "))]
    OtherSystem {
        /// Nix systems.
        recorded: Vec<String>,
    },
    /// The URL was recorded with other methods.
    #[error("this URL was recorded only with {}", list(recorded))]
    OtherMethod {
        /// The methods.
        recorded: Vec<Method>,
    },
    /// URL and method agree, the body does not.
    #[error("this URL was recorded only with another request body")]
    OtherBody {
        /// The digests of the recorded bodies; `None` is an empty one.
        recorded: Vec<Option<BodyDigest>>,
    },
    /// Only the request headers that entries name differ.
    #[error("this URL was recorded only with other request headers")]
    OtherVariant {
        /// What each recorded variant asks for.
        recorded: Vec<BTreeMap<String, String>>,
    },
}

fn list(methods: &[Method]) -> String {
    methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
}

/// Why an inventory cannot be indexed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// More entries and hops than the index can number.
    #[error("the inventory has more than four billion answers")]
    TooLarge,
    /// The inventory cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Finds the recorded answers to a request; see the module's documentation.
#[derive(Debug)]
pub struct Index {
    recorded: Recorded,
    system: String,
    keys: Keys,
    urls: UrlTable,
    /// Where each URL's groups start; one more at the end.
    first_group: Vec<u32>,
    /// Where each group's visits start; one more at the end.
    first_visit: Vec<u32>,
    visits: Vec<Visit>,
    /// Each entry's own group; [`build::NO_GROUP`] for entries of other systems.
    home: Vec<u32>,
    /// Entries whose chain comes to one key twice, in their order.
    revisiting: Vec<EntryId>,
    /// The lengths of the URLs that stand for all that start with them, the longest first, in bytes.
    prefix_lengths: Vec<u32>,
}

impl Index {
    /// Indexes what `inventory` has for `system`, such as `x86_64-linux`.
    ///
    /// # Errors
    /// An inventory with more answers than there are numbers.
    pub fn new(inventory: Arc<Inventory>, system: &str) -> Result<Self, IndexError> {
        let recorded = Recorded::whole(Arc::unwrap_or_clone(inventory));
        // What is in memory needs no reading.
        build::build(recorded, system).map_err(|_| IndexError::TooLarge)
    }

    /// Reads the inventory at `path` and indexes what it has for `system`. Where it was compiled for that system, its
    /// index is taken as it is; for another one it is made anew.
    ///
    /// # Errors
    /// An inventory that cannot be read, or with more answers than there are numbers.
    pub fn open(path: &Path, system: &str) -> Result<Self, IndexError> {
        let text = match read::open(path)? {
            Content::Text(text) => text,
            Content::Compiled(parts) if parts.system != system => {
                tracing::debug!("the inventory was compiled for {}: its index is made anew", parts.system);
                parts.text
            }
            Content::Compiled(parts) => {
                let damaged = |source| ReadError::Compiled { path: path.to_owned(), source };
                return Ok(stored::read(*parts).map_err(damaged)?);
            }
        };
        let text = match Recorded::divided(text).map(|recorded| build::build(recorded, system)) {
            Ok(Ok(index)) => return Ok(index),
            Ok(Err(BuildError::TooLarge)) => return Err(IndexError::TooLarge),
            Ok(Err(BuildError::NoEntry(text))) | Err(text) => text,
        };
        Self::new(Arc::new(read::parse_file(path, &text)?), system)
    }

    /// The compiled form of the inventory with this index in it, for [`Index::open`] and all who read inventories.
    ///
    /// # Errors
    /// An inventory whose text is four billion bytes or more.
    pub fn compile(&self) -> Result<Vec<u8>, IndexError> {
        if !self.recorded.is_in_memory() {
            return stored::write(self).ok_or(IndexError::TooLarge);
        }
        // It cannot be read piece by piece as it was written.
        let entries = (0..self.recorded.len() as u32).map(|id| Entry::clone(&self.entry(EntryId(id)))).collect();
        let text = to_toml_in_order(&Inventory { match_rules: self.recorded.rules().clone(), entries });
        let recorded = Recorded::divided(text).map_err(|_| IndexError::TooLarge)?;
        let index = build::build(recorded, &self.system).map_err(|_| IndexError::TooLarge)?;
        stored::write(&index).ok_or(IndexError::TooLarge)
    }

    /// The Nix system whose entries it has.
    pub fn system(&self) -> &str {
        &self.system
    }

    /// How many entries the inventory has, those for other systems among them.
    pub fn inventory_len(&self) -> usize {
        self.recorded.len()
    }

    /// The entry behind a number that this index gave.
    pub fn entry(&self, id: EntryId) -> Arc<KeptEntry> {
        self.recorded.get(id)
    }

    /// The same for a short look: it is not kept for that.
    pub fn peek(&self, id: EntryId) -> Arc<KeptEntry> {
        self.recorded.peek(id)
    }

    /// The entries for this system.
    pub fn entries(&self) -> impl Iterator<Item = EntryId> + '_ {
        (0..).zip(&self.home).filter(|(_, home)| **home != build::NO_GROUP).map(|(id, _)| EntryId(id))
    }

    /// Every indexed URL as the `[match]` rules have it, with the first entry that it leads to.
    pub fn recorded_urls(&self) -> impl Iterator<Item = (&str, EntryId)> + '_ {
        let first = |url: u32| self.leader(self.first_group[url as usize]).entry;
        (0..self.urls.len() as u32).map(move |url| (self.urls.text(url, &self.recorded), first(url)))
    }

    /// The URL as the `[match]` rules have it.
    pub fn comparable(&self, url: &NormalizedUrl) -> NormalizedUrl {
        self.keys.comparable(url)
    }

    /// The rules without which `visit` would not answer a request for `url`.
    pub fn used_rules(&self, url: &NormalizedUrl, visit: Visit) -> Vec<UsedRule> {
        let entry = self.entry(visit.entry);
        let mut used = self.keys.used(url);
        let mut hops = entry.redirects.iter().take(visit.step as usize);
        let recorded = hops.try_fold(entry.url.clone(), |at, hop| at.join(&hop.location).ok());
        if let Some(recorded) = recorded.filter(|recorded| recorded != url) {
            used.extend(self.keys.used(&recorded));
        }
        used.extend((visit.rank == Rank::Prefix).then_some(UsedRule::Prefix));
        let form = build::method_and_body(&self.recorded, visit).1.and_then(|digest| digest.form.name());
        used.extend(form.map(UsedRule::RequestBodyAs));
        used.sort();
        used.dedup();
        used
    }

    /// What `visit` stands for.
    pub fn answer(&self, visit: Visit) -> Answer {
        Answer { entry: self.entry(visit.entry), step: visit.step }
    }

    /// Whether the request's body decides what answers `method` at `url`. Where it does not, a request with a body is a
    /// miss whatever it holds.
    pub fn depends_on_body(&self, method: &Method, url: &NormalizedUrl) -> bool {
        self.places(url).flatten().any(|group| {
            let (recorded, body) = self.method_and_body(self.leader(group));
            recorded == method && body.is_some()
        })
    }

    /// The answers to a request: those of its own key first, then those of chains that lead to it, then those of
    /// entries for all that starts like it. `HEAD` is answered from `HEAD` entries first, then from those for `GET`.
    ///
    /// # Errors
    /// What keeps the nearest recorded request from answering.
    pub fn look_up(&self, key: &RequestKey<'_>) -> Result<Matches<'_>, MissReason> {
        let stands_in: &[&Method] = if key.method == Method::HEAD { &[&Method::GET] } else { &[] };
        self.places(key.url)
            .find_map(|groups| {
                let methods = std::iter::once(&key.method).chain(stands_in);
                let mut bodies = methods.flat_map(|&method| key.body.recorded().map(move |body| (method, body)));
                bodies.find_map(|(method, body)| self.best_variant(self.with_body(groups.clone(), method, body), key))
            })
            .map(|group| Matches { visits: self.visits_of(group), first_rank: self.leader(group).rank != Rank::Chain })
            .ok_or_else(|| self.why_not(key))
    }

    /// The groups that can answer at `url`: those of the URL itself, then those of each prefix of it, the longest
    /// first. Those of one place lie together.
    fn places(&self, url: &NormalizedUrl) -> impl Iterator<Item = Range<u32>> {
        let own = self.split_at_prefixes(self.groups_at(self.keys.compared(url).as_str())).0;
        let prefixed = (!self.prefix_lengths.is_empty()).then(|| self.keys.prefixed(url));
        let of_prefixes = self.prefix_lengths.iter().filter_map(move |&length| {
            // Normalised URLs are ASCII, so any place is one to cut at.
            let prefix = prefixed.as_ref()?.as_str().get(..length as usize)?;
            Some(self.split_at_prefixes(self.groups_at(prefix)).1)
        });
        std::iter::once(own).chain(of_prefixes)
    }

    /// Divides a URL's groups into those for that URL alone, and those for all that starts with it.
    fn split_at_prefixes(&self, groups: Range<u32>) -> (Range<u32>, Range<u32>) {
        let middle = partition_point(groups.clone(), |group| self.leader(group).rank != Rank::Prefix);
        (groups.start..middle, middle..groups.end)
    }

    /// The sequence that an entry belongs to: the visits of its own key.
    pub fn sequence_of(&self, entry: EntryId) -> &[Visit] {
        match self.home[entry.index()] {
            build::NO_GROUP => &[],
            group => self.visits_of(group),
        }
    }

    /// The entry that is answered after `entry` was.
    pub fn next_in_sequence(&self, entry: EntryId) -> Option<EntryId> {
        let visits = self.sequence_of(entry);
        visits.get(visits.partition_point(|visit| visit.entry <= entry)).map(|visit| visit.entry)
    }

    /// Whether an entry's chain comes to one key more than once, so that how far it was followed matters.
    pub fn is_revisiting(&self, entry: EntryId) -> bool {
        self.revisiting.binary_search(&entry).is_ok()
    }

    /// The groups of a URL: those for it alone before those for all that starts with it, each sorted by method, then
    /// body, then rank.
    fn groups_at(&self, url: &str) -> Range<u32> {
        match self.urls.find(url, &self.recorded) {
            Some(url) => self.first_group[url as usize]..self.first_group[url as usize + 1],
            None => 0..0,
        }
    }

    fn visits_of(&self, group: u32) -> &[Visit] {
        let group = group as usize;
        &self.visits[self.first_visit[group] as usize..self.first_visit[group + 1] as usize]
    }

    /// The visit that shows what all visits of a group have in common.
    fn leader(&self, group: u32) -> Visit {
        self.visits[self.first_visit[group as usize] as usize]
    }

    fn method_and_body(&self, visit: Visit) -> (&Method, Option<&BodyDigest>) {
        build::method_and_body(&self.recorded, visit)
    }

    fn request_headers(&self, group: u32) -> &BTreeMap<String, String> {
        &self.recorded.asked(self.leader(group).entry).headers
    }

    /// Those of a URL's groups that have this method and this body.
    fn with_body(&self, groups: Range<u32>, method: &Method, body: Option<&BodyDigest>) -> Range<u32> {
        let wanted = (method.as_str(), body);
        let key = |group: u32| {
            let (method, body) = self.method_and_body(self.leader(group));
            (method.as_str(), body)
        };
        let start = partition_point(groups.clone(), |group| key(group) < wanted);
        start..partition_point(start..groups.end, |group| key(group) == wanted)
    }

    /// The group whose request headers all agree: of first rank before second, then the one that asks for the most.
    fn best_variant(&self, groups: Range<u32>, key: &RequestKey<'_>) -> Option<u32> {
        let agrees = |(name, value): (&String, &String)| field_value(key.headers, name) == value.trim();
        if groups.len() == 1 && self.request_headers(groups.start).is_empty() {
            return Some(groups.start);
        }
        groups
            .filter(|&group| self.request_headers(group).iter().all(agrees))
            .min_by_key(|&group| (self.leader(group).rank, Reverse(self.request_headers(group).len())))
    }

    fn why_not(&self, key: &RequestKey<'_>) -> MissReason {
        let Some(groups) = self.places(key.url).find(|groups| !groups.is_empty()) else {
            return self.why_not_here(key.url);
        };
        let of_method: Vec<u32> = groups
            .clone()
            .filter(|&group| {
                let method = self.method_and_body(self.leader(group)).0;
                method == key.method || (key.method == Method::HEAD && method == Method::GET)
            })
            .collect();
        if of_method.is_empty() {
            let mut recorded: Vec<Method> =
                groups.map(|group| self.method_and_body(self.leader(group)).0.clone()).collect();
            recorded.dedup();
            return MissReason::OtherMethod { recorded };
        }
        let body = |group: u32| self.method_and_body(self.leader(group)).1;
        let (same_body, other_body): (Vec<u32>, Vec<u32>) =
            of_method.into_iter().partition(|&group| key.body.recorded().any(|asked| asked == body(group)));
        if same_body.is_empty() {
            let mut recorded: Vec<Option<BodyDigest>> =
                other_body.into_iter().map(|group| body(group).copied()).collect();
            recorded.dedup();
            recorded.truncate(LISTED);
            return MissReason::OtherBody { recorded };
        }
        let recorded = same_body.into_iter().take(LISTED).map(|group| self.request_headers(group).clone()).collect();
        MissReason::OtherVariant { recorded }
    }

    /// The answer at the URL of a request that nothing answers which was given to a request most like it: the entry, and
    /// how many of its redirects lie before.
    pub fn nearest_answer(&self, key: &RequestKey<'_>) -> Option<(EntryId, u32)> {
        let Some(groups) = self.places(key.url).find(|groups| !groups.is_empty()) else {
            return self.elsewhere(key.url).next().map(|(id, _)| (id, 0));
        };
        let difference = |&group: &u32| {
            let (method, body) = self.method_and_body(self.leader(group));
            (method != key.method, !key.body.recorded().any(|asked| asked == body))
        };
        groups.min_by_key(difference).map(|group| (self.leader(group).entry, self.leader(group).step))
    }

    /// The entries for a URL that are for other systems.
    fn elsewhere(&self, url: &NormalizedUrl) -> impl Iterator<Item = (EntryId, Arc<KeptEntry>)> {
        let (comparable, prefixed) = (self.comparable(url), self.keys.prefixed(url));
        let elsewhere = (0..).map(EntryId).zip(&self.home).filter(|(_, home)| **home == build::NO_GROUP);
        let elsewhere = elsewhere.map(|(id, _)| (id, self.peek(id)));
        elsewhere.filter(move |(_, entry)| match entry.url_match {
            UrlMatch::Exact => self.comparable(&entry.url) == comparable,
            UrlMatch::Prefix => prefixed.as_str().starts_with(self.keys.prefixed(&entry.url).as_str()),
        })
    }

    /// Why a URL is not in the index. Reads the whole inventory, which only a miss has to wait for.
    fn why_not_here(&self, url: &NormalizedUrl) -> MissReason {
        let mut recorded: Vec<String> = self.elsewhere(url).flat_map(|(_, entry)| entry.systems.clone()).collect();
        recorded.sort();
        recorded.dedup();
        recorded.truncate(LISTED);
        if recorded.is_empty() { MissReason::NoSuchUrl } else { MissReason::OtherSystem { recorded } }
    }
}

/// [`slice::partition_point`] over numbers.
fn partition_point(range: Range<u32>, before: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

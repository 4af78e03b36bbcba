//! Makes an index: follows every entry's chain, sorts what was visited, cuts it into groups.

use std::{borrow::Cow, cmp::Ordering, collections::BTreeSet};

use http::Method;

use super::{EntryId, Index, Rank, UrlTable, Visit, recorded::Recorded};
use crate::inventory::{Entry, Keys, UrlMatch, becomes_get, request_body::BodyDigest};

/// The home of an entry that is for other systems.
pub(super) const NO_GROUP: u32 = u32::MAX;

/// A visit with the number of its URL.
type Found = (u32, Visit);

/// Why there is no index.
pub(super) enum BuildError {
    /// There are more answers than numbers.
    TooLarge,
    /// A piece of this text is no entry.
    NoEntry(String),
}

/// Indexes what `recorded` has for `system`. Of entries that are read from a text none stays in memory.
pub(super) fn build(recorded: Recorded, system: &str) -> Result<Index, BuildError> {
    let mut walk = Walk {
        recorded: &recorded,
        keys: Keys::new(recorded.rules()),
        urls: UrlTable::new(),
        found: Vec::with_capacity(recorded.len()),
        revisiting: Vec::new(),
        prefix_lengths: BTreeSet::new(),
    };
    let mut scratch = String::new();
    let ids = 0..u32::try_from(recorded.len()).map_err(|_| BuildError::TooLarge)?;
    for id in ids.map(EntryId) {
        match recorded.first_look(id, &mut scratch) {
            Some(entry) if entry.is_for(system) => walk.follow(id, &entry).ok_or(BuildError::TooLarge)?,
            Some(_) => {}
            None => {
                drop(walk);
                return Err(BuildError::NoEntry(recorded.into_text()));
            }
        }
    }
    let Walk { keys, mut urls, mut found, revisiting, prefix_lengths, .. } = walk;
    urls.shrink();
    sort(&mut found, &recorded);
    let mut index = Index {
        keys,
        first_group: Vec::with_capacity(urls.len() + 1),
        urls,
        first_visit: Vec::with_capacity(found.len() + 1),
        visits: Vec::with_capacity(found.len()),
        home: vec![NO_GROUP; recorded.len()],
        revisiting,
        prefix_lengths: prefix_lengths.into_iter().rev().collect(),
        recorded,
        system: system.to_owned(),
    };
    cut_into_groups(&mut index, &found);
    Ok(index)
}

/// The method and the body that a request has at a visit.
pub(super) fn method_and_body(recorded: &Recorded, visit: Visit) -> (&Method, Option<&BodyDigest>) {
    if visit.as_get {
        return (&Method::GET, None);
    }
    let asked = recorded.asked(visit.entry);
    (&asked.method, asked.body.as_ref())
}

/// Collects what the entries' chains visit.
struct Walk<'a> {
    recorded: &'a Recorded,
    keys: Keys,
    urls: UrlTable,
    found: Vec<Found>,
    revisiting: Vec<EntryId>,
    prefix_lengths: BTreeSet<u32>,
}

impl Walk<'_> {
    /// Adds every step of an entry. A `Location` that leads out of http ends the chain: no request can follow it.
    /// `None` where the numbers do not reach.
    fn follow(&mut self, id: EntryId, entry: &Entry) -> Option<()> {
        let start = self.found.len();
        let mut url = Cow::Borrowed(&entry.url);
        // From the redirect on that turns the request into a bodiless `GET`.
        let mut as_get = false;
        for step in 0.. {
            let is_prefix = entry.url_match == UrlMatch::Prefix && step == 0;
            let key = if is_prefix { Cow::Owned(self.keys.prefixed(&url)) } else { self.keys.compared(&url) };
            let number = self.urls.insert(key.as_str(), self.recorded, self.recorded.piece(id))?;
            let rank = match entry.url_match {
                _ if is_prefix => Rank::Prefix,
                UrlMatch::Exact if step == 0 || (!as_get && self.found[start].0 == number) => Rank::Own,
                _ => Rank::Chain,
            };
            if rank == Rank::Prefix {
                self.prefix_lengths.insert(u32::try_from(key.as_str().len()).ok()?);
            }
            let visit = Visit { entry: id, step, as_get, rank };
            if self.found[start..].iter().any(|(url, known)| *url == number && known.as_get == as_get)
                && self.revisiting.last() != Some(&id)
            {
                self.revisiting.push(id);
            }
            self.found.push((number, visit));
            let Some(hop) = entry.redirects.get(step as usize) else { break };
            as_get |= becomes_get(hop.status, &entry.method);
            match url.join(&hop.location) {
                Ok(next) => url = Cow::Owned(next),
                Err(_) => break,
            }
        }
        u32::try_from(self.found.len()).map(drop).ok()
    }
}

/// Puts visits of one group beside each other. Most URLs have one visit, and their entries are not looked at.
fn sort(found: &mut [Found], recorded: &Recorded) {
    // Stable, so those of one URL are in the inventory's order; and quick, because most URLs are new when they come.
    found.sort_by_key(|(url, _)| *url);
    for of_url in found.chunk_by_mut(|a, b| a.0 == b.0).filter(|of_url| of_url.len() > 1) {
        of_url.sort_unstable_by(|a, b| compare_groups(recorded, a, b).then_with(|| order(a.1).cmp(&order(b.1))));
    }
}

/// Orders by everything that visits of one group share.
fn compare_groups(recorded: &Recorded, a: &Found, b: &Found) -> Ordering {
    let headers = |visit: Visit| &recorded.asked(visit.entry).headers;
    let method_and_body = |visit: Visit| {
        let (method, body) = method_and_body(recorded, visit);
        (method.as_str(), body)
    };
    let is_prefix = |visit: Visit| visit.rank == Rank::Prefix;
    a.0.cmp(&b.0)
        .then_with(|| is_prefix(a.1).cmp(&is_prefix(b.1)))
        .then_with(|| method_and_body(a.1).cmp(&method_and_body(b.1)))
        .then_with(|| a.1.rank.cmp(&b.1.rank))
        .then_with(|| headers(a.1).cmp(headers(b.1)))
}

/// Within a group: the inventory's order, then the chain's.
fn order(visit: Visit) -> (EntryId, u32) {
    (visit.entry, visit.step)
}

fn cut_into_groups(index: &mut Index, found: &[Found]) {
    let mut previous: Option<&Found> = None;
    for now in found {
        if previous.is_none_or(|previous| compare_groups(&index.recorded, previous, now).is_ne()) {
            if previous.is_none_or(|previous| previous.0 != now.0) {
                index.first_group.push(index.first_visit.len() as u32);
            }
            index.first_visit.push(index.visits.len() as u32);
        }
        if now.1.step == 0 {
            index.home[now.1.entry.index()] = index.first_visit.len() as u32 - 1;
        }
        index.visits.push(now.1);
        previous = Some(now);
    }
    index.first_group.push(index.first_visit.len() as u32);
    index.first_visit.push(index.visits.len() as u32);
    index.first_visit.shrink_to_fit();
}

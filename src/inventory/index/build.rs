//! Makes an index: follows every entry's chain, sorts what was visited, cuts it into groups.

use std::{
    cmp::Ordering,
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use http::Method;

use super::{EntryId, Index, IndexError, Rank, UrlTable, Visit};
use crate::inventory::{Entry, Inventory, Keys, UrlMatch, becomes_get, request_body::BodyDigest};

/// The home of an entry that is for other systems.
pub(super) const NO_GROUP: u32 = u32::MAX;

/// A visit with the number of its URL.
type Found = (u32, Visit);

pub(super) fn build(inventory: Arc<Inventory>, system: &str) -> Result<Index, IndexError> {
    let answers: usize = inventory.entries.iter().map(|entry| 2 * entry.redirects.len() + 1).sum();
    if u32::try_from(answers).is_err() {
        return Err(IndexError::TooLarge);
    }
    let mut walk = Walk {
        inventory: &inventory,
        keys: Keys::new(&inventory.match_rules),
        urls: UrlTable::new(std::hash::RandomState::new()),
        found: Vec::with_capacity(answers),
        revisiting: HashSet::new(),
        prefix_lengths: BTreeSet::new(),
    };
    for (id, entry) in (0..).zip(&inventory.entries) {
        if entry.is_for(system) {
            walk.follow(EntryId(id), entry);
        }
    }
    let Walk { keys, mut urls, mut found, revisiting, prefix_lengths, .. } = walk;
    urls.shrink();
    found.sort_unstable_by(|a, b| compare_groups(&inventory, a, b).then_with(|| order(a.1).cmp(&order(b.1))));
    let mut index = Index {
        keys,
        first_group: Vec::with_capacity(urls.len() + 1),
        urls,
        first_visit: Vec::new(),
        visits: Vec::with_capacity(found.len()),
        home: vec![NO_GROUP; inventory.entries.len()],
        revisiting,
        prefix_lengths: prefix_lengths.into_iter().rev().collect(),
        inventory: Arc::clone(&inventory),
        system: system.to_owned(),
    };
    cut_into_groups(&mut index, &found);
    Ok(index)
}

/// The method and the body that a request has at a visit.
pub(super) fn method_and_body(inventory: &Inventory, visit: Visit) -> (&Method, Option<&BodyDigest>) {
    let entry = &inventory.entries[visit.entry.index()];
    if visit.as_get { (&Method::GET, None) } else { (&entry.method, entry.request_body.as_ref()) }
}

/// Collects what the entries' chains visit.
struct Walk<'a> {
    inventory: &'a Inventory,
    keys: Keys,
    urls: UrlTable,
    found: Vec<Found>,
    revisiting: HashSet<EntryId>,
    prefix_lengths: BTreeSet<usize>,
}

impl Walk<'_> {
    /// Adds every step of an entry. A `Location` that leads out of http ends the chain: no request can follow it.
    fn follow(&mut self, id: EntryId, entry: &Entry) {
        let start = self.found.len();
        let mut url = entry.url.clone();
        // From the redirect on that turns the request into a bodiless `GET`.
        let mut as_get = false;
        for step in 0.. {
            let is_prefix = entry.url_match == UrlMatch::Prefix && step == 0;
            let key = if is_prefix { self.keys.prefixed(&url) } else { self.keys.comparable(&url) };
            let number = self.urls.insert(&key, id.0, self.inventory);
            let rank = match entry.url_match {
                _ if is_prefix => Rank::Prefix,
                UrlMatch::Exact if step == 0 || (!as_get && self.found[start].0 == number) => Rank::Own,
                _ => Rank::Chain,
            };
            if rank == Rank::Prefix {
                self.prefix_lengths.insert(key.as_str().len());
            }
            let visit = Visit { entry: id, step, as_get, rank };
            if self.found[start..].iter().any(|(url, known)| *url == number && known.as_get == as_get) {
                self.revisiting.insert(id);
            }
            self.found.push((number, visit));
            let Some(hop) = entry.redirects.get(step as usize) else { break };
            as_get |= becomes_get(hop.status, &entry.method);
            match url.join(&hop.location) {
                Ok(next) => url = next,
                Err(_) => break,
            }
        }
    }
}

/// Orders by everything that visits of one group share.
fn compare_groups(inventory: &Inventory, a: &Found, b: &Found) -> Ordering {
    let headers = |visit: Visit| &inventory.entries[visit.entry.index()].request_headers;
    let method_and_body = |visit: Visit| {
        let (method, body) = method_and_body(inventory, visit);
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
        if previous.is_none_or(|previous| compare_groups(&index.inventory, previous, now).is_ne()) {
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

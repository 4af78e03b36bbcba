//! Requests that were answered in different ways.

use std::collections::HashMap;

use http::Method;

use super::Draft;
use crate::{inventory::Keys, url::NormalizedUrl};

/// A request that was answered in different ways: replay gives the answers in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// The request's method.
    pub method: Method,
    /// The request's URL.
    pub url: NormalizedUrl,
    /// How many answers there are.
    pub answers: usize,
    /// What the clients accepted, where that is not the same each time and no entry has it: it may be why the answers
    /// differ.
    pub accepted: Vec<String>,
}

/// The requests with more than one answer, in their order.
pub(super) fn sequences(drafts: &[Draft], keys: &Keys) -> Vec<Sequence> {
    let (mut sequences, mut places) = (Vec::<Sequence>::new(), HashMap::new());
    for Draft { entry, accept, .. } in drafts.iter().filter(|draft| draft.seen.changed) {
        let place = *places.entry(keys.of(entry)).or_insert(sequences.len());
        if place == sequences.len() {
            let (method, url) = (entry.method.clone(), entry.url.clone());
            sequences.push(Sequence { method, url, answers: 0, accepted: Vec::new() });
        }
        let sequence = &mut sequences[place];
        sequence.answers += 1;
        let accept = accept.clone().filter(|_| !entry.request_headers.contains_key("accept")).unwrap_or_default();
        if !sequence.accepted.contains(&accept) {
            sequence.accepted.push(accept);
        }
    }
    sequences.iter_mut().filter(|one| one.accepted.len() < 2).for_each(|one| one.accepted.clear());
    sequences
}

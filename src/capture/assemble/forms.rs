//! In which form each request's body is kept.

use crate::{
    capture::exchange::Exchange,
    inventory::{
        Entry, Inventory, Keys, UrlMatch,
        request_body::{BodyDigest, BodyForm},
    },
    url::NormalizedUrl,
};

/// In which form the inventory has request bodies compared.
pub(super) struct BodyForms<'a> {
    keys: &'a Keys,
    known: Vec<(&'a Entry, NormalizedUrl, BodyDigest)>,
}

impl<'a> BodyForms<'a> {
    pub(super) fn of(inventory: &'a Inventory, keys: &'a Keys) -> Self {
        let known = inventory.entries.iter();
        let url = |entry: &Entry| match entry.url_match {
            UrlMatch::Exact => keys.comparable(&entry.url),
            UrlMatch::Prefix => keys.prefixed(&entry.url),
        };
        Self { keys, known: known.filter_map(|entry| Some((entry, url(entry), entry.request_body?))).collect() }
    }

    /// Keeps that digest of a request body by which it is compared: the one that an entry for this method and URL has;
    /// else in the form that such an entry asks for, else in git's own for what git posts, else that of its bytes.
    pub(super) fn choose(&self, exchange: &mut Exchange) {
        if exchange.request_body.len() < 2 {
            return;
        }
        let (url, prefixed) = (self.keys.comparable(&exchange.url), self.keys.prefixed(&exchange.url));
        let is_for = |entry: &Entry, of: &NormalizedUrl| match entry.url_match {
            UrlMatch::Exact => *of == url,
            UrlMatch::Prefix => prefixed.as_str().starts_with(of.as_str()),
        };
        let known = self.known.iter().filter(|(entry, of, _)| entry.method == exchange.method && is_for(entry, of));
        let known: Vec<BodyDigest> = known.map(|(.., digest)| *digest).collect();
        let is_known = |digest: &BodyDigest| known.contains(digest);
        let wanted = known.iter().map(|digest| digest.form).find(|form| *form != BodyForm::Bytes);
        let is_of_git = exchange.url.path().ends_with("/git-upload-pack");
        let form = wanted.or(is_of_git.then_some(BodyForm::Git)).unwrap_or(BodyForm::Bytes);
        let of_form = || exchange.request_body.iter().position(|digest| digest.form == form);
        let chosen = exchange.request_body.iter().position(is_known).or_else(of_form).unwrap_or(0);
        exchange.request_body = vec![exchange.request_body[chosen]];
    }
}

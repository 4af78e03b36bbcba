//! What must not get into a log: credentials of URLs, and of other requests wherever they come back.

use http::HeaderMap;

use crate::{
    credentials::{self, Secrets},
    secrets,
};

/// Takes secrets out of what is logged, and remembers those that clients showed.
#[derive(Debug, Default)]
pub struct Hider {
    known: Secrets,
}

impl Hider {
    /// Remembers the credentials in the fields of a request.
    pub fn learn(&mut self, request: &HeaderMap) {
        self.known.add(credentials::secrets_in_fields(request));
    }

    /// `url`, valid or not, with a dummy for each secret in it, which is remembered.
    pub fn url(&mut self, url: &str) -> String {
        let (shown, found) = credentials::hidden_in(url);
        self.known.add(found);
        self.text(&shown)
    }

    /// `text` without what is known, or looks like a secret.
    pub fn text(&self, text: &str) -> String {
        let hidden = self.known.replaced_in(text);
        secrets::redacted(hidden.as_deref().unwrap_or(text)).into_owned()
    }
}

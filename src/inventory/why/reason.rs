//! Why a body has its source, in words.

use serde::Serialize;

use super::Why;
use crate::{
    inventory::{Body, Source},
    text::printable,
};

/// Why a body has its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reason {
    /// The first rule for sources that applies to the entry.
    pub rule: Why,
    /// What it says of the body; in what way its source is another one, where it is.
    pub reason: String,
    /// Whether the source is the one that the rule is for.
    pub by_rule: bool,
}

impl Reason {
    /// What `rule` says of `body`.
    pub fn new(body: &Body, rule: Why) -> Self {
        let name = rule.name();
        let (reason, by_rule) = match &body.source {
            Source::StorePath { .. } => ("it was put there by hand or by `move`".to_owned(), true),
            Source::Fetch(Some(url)) if rule != Why::PinnedByRedirect => {
                (format!("from {}, which was named by hand", printable(url)), true)
            }
            Source::Fetch(_) if rule.fetches() => (format!("{} ({name})", rule.reason()), true),
            Source::Fetch(_) => (format!("though {} ({name})", rule.reason()), false),
            Source::File(_) | Source::Text(_) if rule.fetches() => {
                let unseen = "by the choice of somebody, or for what an entry does not show: credentials, `Vary: *`";
                (format!("{unseen}; else it would be fetched: {} ({name})", rule.reason()), false)
            }
            Source::File(_) | Source::Text(_) => (format!("{} ({name})", rule.reason()), true),
        };
        Self { rule, reason, by_rule }
    }
}

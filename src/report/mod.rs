//! The page that shows an inventory: one file, which loads nothing from anywhere.
//!
//! What it shows came from origins, so none of it may become markup or script. The data is JSON in a block that is not
//! run, in which no `<` is left; the script puts it into the document as text; and the page's policy runs that one script
//! alone, by its hash.

mod entry;
pub mod live;
mod runs;

use data_encoding::BASE64;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use entry::EntryView;
pub use runs::{LastRuns, has_place, keep_capture, keep_replay};

use crate::{
    capture::Timeline,
    inventory::{Diff, FieldChange, Inventory, Reason, Step, Totals, Why},
};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What the page shows.
#[derive(Debug, Serialize)]
pub struct Page<'a> {
    /// The inventory's name.
    pub title: String,
    /// The entries.
    pub entries: Vec<EntryView<'a>>,
    /// The last capture.
    pub capture: Option<Timeline>,
    /// The last replay, as its report.
    pub replay: Option<Value>,
    /// What differs from another inventory.
    pub diff: Option<DiffView<'a>>,
    /// `capture` or `replay`, where that goes on and the page is to show it.
    pub live: Option<&'static str>,
}

/// What differs from the inventory of that name.
#[derive(Debug, Serialize)]
pub struct DiffView<'a> {
    before: String,
    #[serde(rename = "match")]
    rules: Vec<FieldChange>,
    entries: Vec<Step<'a>>,
    totals: Totals,
}

impl<'a> DiffView<'a> {
    /// The differences from the inventory that people know as `before`.
    pub fn new(before: String, diff: Diff<'a>) -> Self {
        let totals = diff.totals();
        Self { before, rules: diff.rules, entries: diff.entries, totals }
    }
}

impl<'a> Page<'a> {
    /// The page of `inventory`, which people know as `title`.
    pub fn new(title: String, inventory: &'a Inventory, runs: LastRuns, diff: Option<DiffView<'a>>) -> Self {
        let rules = Why::of_all(inventory);
        let why = |(entry, rule): (&'a crate::inventory::Entry, Why)| {
            EntryView::new(entry, entry.body.as_ref().map(|body| Reason::new(body, rule)))
        };
        let entries = inventory.entries.iter().zip(rules).map(why).collect();
        Self { title, entries, capture: runs.capture, replay: runs.replay, diff, live: None }
    }

    /// The file.
    ///
    /// # Errors
    /// Where the data cannot be written as JSON.
    pub fn to_html(&self) -> serde_json::Result<String> {
        let data = in_script(&serde_json::to_string(self)?);
        let policy = format!(
            "default-src 'none'; style-src '{}'; script-src '{}'; connect-src {}; base-uri 'none'; form-action 'none'",
            hash_source(STYLE),
            hash_source(SCRIPT),
            if self.live.is_some() { "'self'" } else { "'none'" }
        );
        let (title, entries) = (escaped(&self.title), self.entries.len());
        let summary = format!("{entries} {}.", if entries == 1 { "entry" } else { "entries" });
        let value = |name: &str| match name {
            "policy" => Some(policy.as_str()),
            "title" => Some(title.as_str()),
            "style" => Some(STYLE),
            "summary" => Some(summary.as_str()),
            "data" => Some(data.as_str()),
            "script" => Some(SCRIPT),
            _ => None,
        };
        // One pass, so that no value is searched for names.
        let parts = PAGE.split('@').enumerate().map(|(place, part)| match place % 2 {
            0 => part,
            _ => value(part).unwrap_or_default(),
        });
        Ok(parts.collect())
    }
}

/// JSON that can stand in a `script` element: nothing in it ends the element, or starts a comment (WHATWG HTML §4.12.1.3).
fn in_script(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// Text as the content of an element.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// What a policy names an inline block by (CSP Level 3 §2.3.1).
fn hash_source(block: &str) -> String {
    format!("sha256-{}", BASE64.encode(&Sha256::digest(block)))
}

#[cfg(test)]
mod tests;

//! What differs between two inventories, request by request: the summary of a change that a reviewer can trust.
//!
//! Two inventories mean the same where every system gets the same answers, in the same order, under the same rules.
//! What differs in that is said field by field; what does not (the order of requests in the file, one entry for two
//! systems or two with the same answer) is no difference.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer, ser::SerializeStruct};
use similar::{Algorithm, DiffTag, capture_diff_slices};

use super::{
    entry::{Body, Entry, Headers, Hop, Inventory, Source, UrlMatch},
    key::{Key, Keys},
    rules::{MatchRules, Rewrite},
    write::{header_value, toml_of_rewrite},
};

/// What differs between two inventories.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Diff<'a> {
    /// Changes of the `[match]` table.
    #[serde(rename = "match")]
    pub rules: Vec<FieldChange>,
    /// Changes of the entries, in the order of the file.
    pub entries: Vec<Step<'a>>,
}

/// What became of one entry.
#[derive(Debug, Clone, PartialEq)]
pub enum Step<'a> {
    /// It is new.
    Added(&'a Entry),
    /// It is gone.
    Removed(&'a Entry),
    /// It says something else of the same request.
    Changed {
        /// The entry before.
        before: &'a Entry,
        /// The entry that is in its place.
        after: &'a Entry,
        /// What differs, never empty.
        fields: Vec<FieldChange>,
    },
}

/// One field with its values, as the file has them; `None` where it is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    /// The field's name, such as `hash`, `header etag` or `redirect 1 location`.
    pub field: String,
    /// The value before.
    pub before: Option<String>,
    /// The value now.
    pub after: Option<String>,
}

/// How many entries, and how many bytes their bodies have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Entries.
    pub entries: usize,
    /// Bytes of bodies, as far as the inventory pins them.
    pub bytes: u64,
}

/// The sums of a [`Diff`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Totals {
    /// What is new.
    pub added: Amount,
    /// What is gone.
    pub removed: Amount,
    /// What is changed, with the bytes before.
    pub changed_before: Amount,
    /// What is changed, with the bytes now.
    pub changed_after: Amount,
}

/// What differs from `before` in `after`; requests are told apart by the rules of `after`.
pub fn diff<'a>(before: &'a Inventory, after: &'a Inventory) -> Diff<'a> {
    let keys = Keys::new(&after.match_rules);
    let mut requests: BTreeMap<Key, [Vec<&Entry>; 2]> = BTreeMap::new();
    for (side, inventory) in [before, after].into_iter().enumerate() {
        for entry in &inventory.entries {
            requests.entry(keys.of(entry)).or_default()[side].push(entry);
        }
    }
    let changed = requests.into_values().filter(|[before, after]| !mean_the_same(before, after));
    let entries = changed.flat_map(|[before, after]| steps(before, after)).collect();
    Diff { rules: rule_changes(&before.match_rules, &after.match_rules), entries }
}

impl Diff<'_> {
    /// Whether the inventories mean the same.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.entries.is_empty()
    }

    /// The sums.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for step in &self.entries {
            match step {
                Step::Added(entry) => totals.added.add(entry),
                Step::Removed(entry) => totals.removed.add(entry),
                Step::Changed { before, after, .. } => {
                    totals.changed_before.add(before);
                    totals.changed_after.add(after);
                }
            }
        }
        totals
    }
}

impl Amount {
    fn add(&mut self, entry: &Entry) {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(entry.body_size().unwrap_or(0));
    }
}

impl Step<'_> {
    /// The entry as it is now, or as it was where it is gone.
    pub fn entry(&self) -> &Entry {
        match self {
            Self::Added(entry) | Self::Removed(entry) | Self::Changed { after: entry, .. } => entry,
        }
    }
}

impl Serialize for Step<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (kind, entry) = match self {
            Self::Added(entry) => ("added", entry),
            Self::Removed(entry) => ("removed", entry),
            Self::Changed { after, .. } => ("changed", after),
        };
        let fields = match self {
            Self::Changed { fields, .. } => fields.clone(),
            Self::Added(entry) => {
                facts(entry).into_iter().map(|(name, value)| change(name, None, Some(value))).collect()
            }
            Self::Removed(entry) => {
                facts(entry).into_iter().map(|(name, value)| change(name, Some(value), None)).collect()
            }
        };
        let mut step = serializer.serialize_struct("Step", 7)?;
        step.serialize_field("change", kind)?;
        step.serialize_field("method", entry.method.as_str())?;
        step.serialize_field("url", entry.url.as_str())?;
        // With what tells the answers under one URL apart.
        step.serialize_field("request-body", &entry.request_body.map(|digest| digest.hash.to_string()))?;
        step.serialize_field("request-headers", &entry.request_headers)?;
        step.serialize_field("systems", &entry.systems)?;
        step.serialize_field("fields", &fields)?;
        step.end()
    }
}

/// Whether every system gets the same from both.
fn mean_the_same(before: &[&Entry], after: &[&Entry]) -> bool {
    let named: BTreeSet<&String> = before.iter().chain(after).flat_map(|entry| &entry.systems).collect();
    // And one that nobody names.
    named.into_iter().map(Some).chain([None]).all(|system| {
        let for_system = |entry: &&&Entry| entry.systems.is_empty() || system.is_some_and(|one| entry.is_for(one));
        let answers = |entries: &[&Entry]| -> Vec<BTreeMap<String, String>> {
            entries.iter().filter(for_system).map(|entry| answer_facts(entry)).collect()
        };
        answers(before) == answers(after)
    })
}

/// The entries of one request side by side: the sequences of the same systems together, each in its order. Where that
/// shows no difference, entries for overlapping systems have changed places.
fn steps<'a>(before: Vec<&'a Entry>, after: Vec<&'a Entry>) -> Vec<Step<'a>> {
    let by_system = |side: &[&'a Entry]| {
        let mut side = side.to_vec();
        side.sort_by_key(|entry| system_set(entry));
        side
    };
    let found = side_by_side(&by_system(&before), &by_system(&after));
    if found.is_empty() { side_by_side(&before, &after) } else { found }
}

/// What is the same on both sides stays together, so that an answer more at the start of a sequence is one difference.
fn side_by_side<'a>(before: &[&'a Entry], after: &[&'a Entry]) -> Vec<Step<'a>> {
    let of_all =
        |entries: &[&Entry]| -> Vec<BTreeMap<String, String>> { entries.iter().map(|one| facts(one)).collect() };
    let (before_facts, after_facts) = (of_all(before), of_all(after));
    let mut steps = Vec::new();
    for differing in capture_diff_slices(Algorithm::Myers, &before_facts, &after_facts) {
        let (tag, old, new) = differing.as_tag_tuple();
        if tag == DiffTag::Equal {
            continue;
        }
        let both = old.len().min(new.len());
        for (from, to) in old.clone().zip(new.clone()) {
            let fields = field_changes(&before_facts[from], &after_facts[to]);
            steps.push(Step::Changed { before: before[from], after: after[to], fields });
        }
        steps.extend(before[old].iter().skip(both).copied().map(Step::Removed));
        steps.extend(after[new].iter().skip(both).copied().map(Step::Added));
    }
    steps
}

fn system_set(entry: &Entry) -> BTreeSet<&String> {
    entry.systems.iter().collect()
}

/// Everything that an entry says, each fact under its name. Two entries with the same facts are the same.
pub fn facts(entry: &Entry) -> BTreeMap<String, String> {
    let mut facts = answer_facts(entry);
    let mut add = |name: &str, value: String| facts.insert(name.to_owned(), value);
    if !entry.systems.is_empty() {
        let systems: Vec<&str> = system_set(entry).into_iter().map(String::as_str).collect();
        add("systems", systems.join(", "));
    }
    if entry.url_match == UrlMatch::Prefix {
        add("match", "prefix".to_owned());
    }
    if let Some(digest) = entry.request_body {
        add("request-body", digest.hash.to_string());
        if let Some(form) = digest.form.name() {
            add("request-body-as", form.to_owned());
        }
    }
    for (name, value) in &entry.request_headers {
        add(&format!("request-header {name}"), header_value(&[value]));
    }
    facts
}

/// The same without what says which request and which systems the answer is for, but for the URL's parameters that do
/// not count: a `fetch` asks for them.
fn answer_facts(entry: &Entry) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut add = |name: &str, value: String| facts.insert(name.to_owned(), value);
    add("url", entry.url.to_string());
    add("status", entry.status.to_string());
    if let Some(body) = &entry.body {
        add_body(body, &mut add);
    }
    add_headers("header", &entry.headers, &mut add);
    for (hop, number) in entry.redirects.iter().zip(1..) {
        let Hop { status, location, headers } = hop;
        add(&format!("redirect {number} status"), status.to_string());
        add(&format!("redirect {number} location"), location.clone());
        add_headers(&format!("redirect {number} header"), headers, &mut add);
    }
    facts
}

fn add_body(body: &Body, add: &mut impl FnMut(&str, String) -> Option<String>) {
    body.hash.map(|hash| add("hash", hash.to_string()));
    body.size.map(|size| add("size", size.to_string()));
    body.name.as_ref().map(|name| add("name", name.to_string()));
    let source = match &body.source {
        Source::Fetch(None) => "fetch".to_owned(),
        Source::Fetch(Some(url)) => format!("fetch {url}"),
        Source::File(file) => format!("file {file}"),
        Source::Text(text) => {
            add("text", text.clone());
            "text".to_owned()
        }
        Source::StorePath { path, nar_hash } => {
            nar_hash.map(|hash| add("nar-hash", hash.to_string()));
            format!("store-path {path}")
        }
    };
    add("source", source);
}

fn add_headers(what: &str, headers: &Headers, add: &mut impl FnMut(&str, String) -> Option<String>) {
    for (name, values) in headers.iter() {
        add(&format!("{what} {name}"), header_value(&values));
    }
}

fn field_changes(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<FieldChange> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differing = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    let mut changes: Vec<FieldChange> =
        differing.map(|name| change(name.clone(), before.get(name).cloned(), after.get(name).cloned())).collect();
    // What a body is comes before what is said of it.
    let rank = |change: &FieldChange| {
        ["url", "status", "hash", "size", "source", "name", "systems"].iter().position(|name| *name == change.field)
    };
    changes.sort_by_key(|change| rank(change).unwrap_or(usize::MAX));
    changes
}

fn change(field: impl Into<String>, before: Option<String>, after: Option<String>) -> FieldChange {
    FieldChange { field: field.into(), before, after }
}

/// The order of `ignore-query` makes no difference, that of `rewrite` does.
fn rule_changes(before: &MatchRules, after: &MatchRules) -> Vec<FieldChange> {
    let patterns = |rules: &MatchRules| -> BTreeMap<String, String> {
        let globs = rules.ignore_query.iter().map(|glob| glob.glob().to_owned());
        globs.map(|glob| (format!("ignore-query {glob}"), glob)).collect()
    };
    let rewrites = |rules: &MatchRules| -> BTreeMap<String, String> {
        let rules = rules.rewrite.iter().zip(1..);
        rules.map(|(rule, number): (&Rewrite, usize)| (format!("rewrite {number}"), toml_of_rewrite(rule))).collect()
    };
    let mut changes = field_changes(&patterns(before), &patterns(after));
    changes.iter_mut().for_each(|change| change.field = "ignore-query".to_owned());
    changes.extend(field_changes(&rewrites(before), &rewrites(after)));
    changes
}

#[cfg(test)]
mod tests;

//! The entries behind an index: read when they are needed.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, OnceLock},
};

use http::Method;

use super::{
    EntryId,
    kept::{KeptEntry, Recent},
};
use crate::inventory::{
    Entry, Inventory, MatchRules,
    read::{Form, Piece, divide, entry_of},
    request_body::BodyDigest,
};

/// The entries of an inventory.
#[derive(Debug)]
pub(super) struct Recorded {
    rules: MatchRules,
    /// The inventory's text; empty where the entries were never text.
    text: String,
    form: Form,
    pieces: Vec<Piece>,
    /// The entries that were never text.
    whole: Vec<Arc<KeptEntry>>,
    /// Of the others, those that were asked for last.
    recent: Recent,
    /// What each entry asks for beside its URL, once that was looked at; `None` is what most do.
    asked: Vec<OnceLock<Option<Box<Asked>>>>,
}

/// What an entry's request has beside its URL.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) body: Option<BodyDigest>,
    pub(super) headers: BTreeMap<String, String>,
}

/// A `GET` without a body and whatever its header fields.
static USUAL: Asked = Asked { method: Method::GET, body: None, headers: BTreeMap::new() };

impl Asked {
    /// `None` is the usual.
    fn of(entry: &Entry) -> Option<Box<Self>> {
        let Entry { method, request_body, request_headers, .. } = entry;
        if *method == USUAL.method && request_body.is_none() && request_headers.is_empty() {
            return None;
        }
        Some(Box::new(Self { method: method.clone(), body: *request_body, headers: request_headers.clone() }))
    }
}

impl Recorded {
    /// Entries that are all in memory.
    pub(super) fn whole(Inventory { match_rules, entries }: Inventory) -> Self {
        let whole: Vec<_> = entries.into_iter().map(|entry| Arc::new(KeptEntry::new(entry))).collect();
        let asked = whole.iter().map(|_| OnceLock::new()).collect();
        let (recent, pieces) = (Recent::of(0), Vec::new());
        Self { rules: match_rules, text: String::new(), form: Form::Toml, pieces, whole, recent, asked }
    }

    /// The entries of an inventory's `text`, none of which was read yet; the text itself where it cannot be divided.
    pub(super) fn divided(text: String) -> Result<Self, String> {
        match divide(&text) {
            Some((rules, pieces)) => Ok(Self::in_text(rules, text, pieces)),
            None => Err(text),
        }
    }

    /// Entries of which each is one of the `pieces` of `text`.
    pub(super) fn in_text(rules: MatchRules, text: String, pieces: Vec<Piece>) -> Self {
        let asked = pieces.iter().map(|_| OnceLock::new()).collect();
        let recent = Recent::of(pieces.len());
        Self { rules, form: Form::of(&text), text, pieces, whole: Vec::new(), recent, asked }
    }

    /// The same text with these pieces.
    pub(super) fn with_pieces(self, pieces: Vec<Piece>) -> Self {
        Self::in_text(self.rules, self.text, pieces)
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    pub(super) fn rules(&self) -> &MatchRules {
        &self.rules
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Whether the entries are not in a text; that of an inventory is never empty.
    pub(super) fn is_in_memory(&self) -> bool {
        self.text.is_empty()
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }

    /// The entry with this number, to be answered.
    pub(super) fn get(&self, id: EntryId) -> Arc<KeptEntry> {
        match self.whole.get(id.index()) {
            Some(entry) => Arc::clone(entry),
            None => self.recent.get(id, || self.read(id)),
        }
    }

    /// The entry with this number, for a short look: it takes nobody's place.
    pub(super) fn peek(&self, id: EntryId) -> Arc<KeptEntry> {
        let known = self.whole.get(id.index()).cloned().or_else(|| self.recent.find(id));
        known.unwrap_or_else(|| Arc::new(self.read(id)))
    }

    /// What the entry with this number asks for beside its URL.
    pub(super) fn asked(&self, id: EntryId) -> &Asked {
        let asked = self.asked[id.index()].get_or_init(|| Asked::of(&self.get(id)));
        asked.as_deref().unwrap_or(&USUAL)
    }

    /// The entry with this number, read to be indexed; `None` where its piece is none. `scratch` is overwritten.
    pub(super) fn first_look(&self, id: EntryId, scratch: &mut String) -> Option<Cow<'_, Entry>> {
        let entry = match self.whole.get(id.index()) {
            Some(entry) => Cow::Borrowed(&***entry),
            None => Cow::Owned(self.parse(id, scratch)?),
        };
        // Here it costs nothing.
        self.asked[id.index()].get_or_init(|| Asked::of(&entry));
        Some(entry)
    }

    fn read(&self, id: EntryId) -> KeptEntry {
        let entry = self.parse(id, &mut String::new());
        entry.map_or_else(|| KeptEntry::unreadable(Entry::get(crate::url::NormalizedUrl::nobody())), KeptEntry::new)
    }

    fn parse(&self, id: EntryId, scratch: &mut String) -> Option<Entry> {
        self.text.get(self.piece(id)).and_then(|piece| entry_of(piece, self.form, scratch))
    }

    /// The place of an entry in the text; an empty one where it was never text.
    pub(super) fn piece(&self, id: EntryId) -> Range<usize> {
        self.pieces.get(id.index()).map_or(0..0, |piece| piece.range())
    }
}

//! The entries behind an index: read when they are first needed, and kept from then on.

use std::{borrow::Cow, ops::Range, sync::OnceLock};

use super::EntryId;
use crate::inventory::{
    Body, Entry, Inventory, MatchRules, Source,
    read::{Form, Piece, divide, entry_of},
};

/// The entries of an inventory.
#[derive(Debug)]
pub(super) struct Recorded {
    rules: MatchRules,
    /// The inventory's text; empty where the entries were never text.
    text: String,
    form: Form,
    pieces: Vec<Piece>,
    entries: Vec<OnceLock<Box<Entry>>>,
}

impl Recorded {
    /// Entries that are all in memory.
    pub(super) fn whole(Inventory { match_rules, entries }: Inventory) -> Self {
        let entries = entries.into_iter().map(|entry| OnceLock::from(Box::new(entry))).collect();
        Self { rules: match_rules, text: String::new(), form: Form::Toml, pieces: Vec::new(), entries }
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
        let entries = pieces.iter().map(|_| OnceLock::new()).collect();
        Self { rules, form: Form::of(&text), text, pieces, entries }
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
        self.entries.len()
    }

    /// The entry with this number, which is kept from here on.
    pub(super) fn get(&self, id: EntryId) -> &Entry {
        self.entries[id.index()].get_or_init(|| Box::new(self.peek(id).into_owned()))
    }

    /// The entry with this number, for a short look.
    pub(super) fn peek(&self, id: EntryId) -> Cow<'_, Entry> {
        self.check(id, &mut String::new()).unwrap_or_else(|| Cow::Owned(unreadable()))
    }

    /// The entry with this number; `None` where its piece is none. `scratch` is overwritten.
    pub(super) fn check(&self, id: EntryId, scratch: &mut String) -> Option<Cow<'_, Entry>> {
        match self.entries[id.index()].get() {
            Some(entry) => Some(Cow::Borrowed(entry)),
            None => self.text.get(self.piece(id)).and_then(|piece| entry_of(piece, self.form, scratch)).map(Cow::Owned),
        }
    }

    /// The place of an entry in the text; an empty one where it was never text.
    pub(super) fn piece(&self, id: EntryId) -> Range<usize> {
        self.pieces.get(id.index()).map_or(0..0, |piece| piece.range())
    }
}

/// What stands in for an entry that was read before it was indexed, and cannot be now. The checksum of what is compiled
/// leaves one way to this: somebody wrote such a file on purpose.
fn unreadable() -> Entry {
    let explanation = "buildproxy: the compiled inventory contradicts itself: run `buildproxy index` again\n";
    let source = Source::Text(explanation.to_owned());
    let body = Body { hash: None, size: Some(explanation.len() as u64), name: None, source };
    Entry { status: 500, body: Some(body), ..Entry::get(crate::url::NormalizedUrl::nobody()) }
}

//! The one hash table of the index: from a URL to its number.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use super::recorded::Recorded;

/// Numbers URLs in the order they came. Their texts are in the inventory's own text, or here where that does not spell
/// them out; a slot holds part of the hash, so that mostly just the right text is looked at.
#[derive(Debug)]
pub(super) struct UrlTable {
    /// As many as a power of two, at least twice as many as there are URLs.
    pub(super) slots: Vec<Slot>,
    pub(super) places: Vec<Place>,
    /// The texts that are nowhere else, one behind the other.
    pub(super) own: String,
    hash: fn(&[u8]) -> u64,
}

/// One place of the hash table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Slot {
    /// The upper half of the hash.
    pub(super) tag: u32,
    /// The URL's number and one; 0 where there is none.
    pub(super) number: u32,
}

/// Where a URL's text is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) start: u32,
    /// Twice the length, and one where the text is in [`UrlTable::own`].
    pub(super) length: u32,
}

impl Place {
    pub(super) fn is_own(self) -> bool {
        self.length & 1 == 1
    }

    pub(super) fn range(self) -> Range<usize> {
        let start = self.start as usize;
        start..start + (self.length / 2) as usize
    }
}

impl UrlTable {
    pub(super) fn new() -> Self {
        Self::with_hash(xxh3_64)
    }

    fn with_hash(hash: fn(&[u8]) -> u64) -> Self {
        Self { slots: vec![Slot::default(); 2], places: Vec::new(), own: String::new(), hash }
    }

    /// What was stored of one.
    pub(super) fn from_parts(slots: Vec<Slot>, places: Vec<Place>, own: String) -> Self {
        Self { slots, places, own, hash: xxh3_64 }
    }

    /// The number of `url`, which came up at the entry in `piece` of the text of `recorded`. `None` where there is no
    /// number left, or the texts are too long.
    pub(super) fn insert(&mut self, url: &str, recorded: &Recorded, piece: Range<usize>) -> Option<u32> {
        if 2 * self.places.len() >= self.slots.len() {
            self.grow(recorded);
        }
        let (slot, tag) = match self.probe(url, recorded) {
            Ok(known) => return Some(known),
            Err(free) => free,
        };
        let spelled_out = recorded.text().get(piece.clone()).and_then(|piece| find(url, piece));
        let (start, own) = match spelled_out {
            Some(at) => (piece.start + at, 0),
            None => {
                self.own.push_str(url);
                (self.own.len() - url.len(), 1)
            }
        };
        let length = u32::try_from(url.len()).ok()?.checked_mul(2)? + own;
        self.places.push(Place { start: u32::try_from(start).ok()?, length });
        let number = u32::try_from(self.places.len()).ok()?;
        self.slots[slot] = Slot { tag, number };
        Some(number - 1)
    }

    /// The number of `url`, where it has one.
    pub(super) fn find(&self, url: &str, recorded: &Recorded) -> Option<u32> {
        self.probe(url, recorded).ok()
    }

    /// How many URLs there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The text of the URL with this number.
    pub(super) fn text<'a>(&'a self, number: u32, recorded: &'a Recorded) -> &'a str {
        // Both were made for each other, or checked.
        let place = self.places.get(number as usize).copied().unwrap_or(Place { start: 0, length: 1 });
        let text = if place.is_own() { self.own.as_str() } else { recorded.text() };
        text.get(place.range()).unwrap_or_default()
    }

    /// Gives back memory that is only needed while URLs are added.
    pub(super) fn shrink(&mut self) {
        self.places.shrink_to_fit();
        self.own.shrink_to_fit();
    }

    /// The number of `url`, or the slot and the tag that it would take.
    fn probe(&self, url: &str, recorded: &Recorded) -> Result<u32, (usize, u32)> {
        let (mut place, tag) = self.start(url);
        loop {
            match self.slots[place] {
                Slot { number: 0, .. } => return Err((place, tag)),
                slot if slot.tag == tag && self.text(slot.number - 1, recorded) == url => return Ok(slot.number - 1),
                // There are free ones.
                _ => place = (place + 1) & (self.slots.len() - 1),
            }
        }
    }

    /// The first slot to look at, and the tag.
    fn start(&self, url: &str) -> (usize, u32) {
        let hash = (self.hash)(url.as_bytes());
        (hash as usize & (self.slots.len() - 1), (hash >> 32) as u32)
    }

    fn grow(&mut self, recorded: &Recorded) {
        self.slots = vec![Slot::default(); 2 * self.slots.len()];
        for number in 0..self.places.len() as u32 {
            // Each text is there once, so this is always a free slot.
            if let Err((place, tag)) = self.probe(self.text(number, recorded), recorded) {
                self.slots[place] = Slot { tag, number: number + 1 };
            }
        }
    }
}

/// Where `url` is in `text`. A search for its scheme alone costs less to prepare than to find an entry's own URL.
fn find(url: &str, text: &str) -> Option<usize> {
    let scheme = url.split_inclusive('/').next()?;
    text.match_indices(scheme).map(|(at, _)| at).find(|&at| text[at..].starts_with(url))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Inventory;

    #[test]
    fn texts_that_share_a_hash_stay_apart() {
        let recorded = Recorded::whole(Inventory::default());
        let urls: Vec<String> = (0..20).map(|n| format!("http://h/{n}")).collect();
        let mut table = UrlTable::with_hash(|_| u64::MAX);
        for (number, url) in (0..).zip(&urls) {
            assert_eq!(table.find(url, &recorded), None);
            assert_eq!(table.insert(url, &recorded, 0..0), Some(number));
        }
        for (number, url) in (0..).zip(&urls) {
            assert_eq!(table.insert(url, &recorded, 0..0), Some(number));
            assert_eq!(table.find(url, &recorded), Some(number));
        }
    }
}

//! The one hash table of the index: from a URL to its number.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

use super::super::Inventory;
use crate::url::NormalizedUrl;

/// Numbers URLs in the order they came. The table's keys are hashes, so that no URL is held twice; the texts decide.
#[derive(Debug)]
pub(super) struct UrlTable<S = RandomState> {
    hasher: S,
    /// By the hash of the text, or by the next free number where two texts share a hash.
    slots: HashMap<u64, u32>,
    texts: Vec<Text>,
}

/// Where a URL's text is.
#[derive(Debug)]
enum Text {
    /// The URL of the entry with this place.
    OfEntry(u32),
    /// Here: no entry spells it so.
    Own(Box<str>),
}

impl<S: BuildHasher> UrlTable<S> {
    pub(super) fn new(hasher: S) -> Self {
        Self { hasher, slots: HashMap::new(), texts: Vec::new() }
    }

    /// The number of `url`, which came up at the entry with the place `entry`.
    pub(super) fn insert(&mut self, url: &NormalizedUrl, entry: u32, inventory: &Inventory) -> u32 {
        let slot = match self.probe(url.as_str(), inventory) {
            Ok(known) => return known,
            Err(free) => free,
        };
        // The caller counts visits, of which every URL has one, and stops before they run out of numbers.
        let number = self.texts.len() as u32;
        let spelled_out = inventory.entries[entry as usize].url == *url;
        self.texts.push(if spelled_out { Text::OfEntry(entry) } else { Text::Own(url.as_str().into()) });
        self.slots.insert(slot, number);
        number
    }

    /// The number of `url`, where it has one.
    pub(super) fn find(&self, url: &str, inventory: &Inventory) -> Option<u32> {
        self.probe(url, inventory).ok()
    }

    /// How many URLs there are.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// The texts in the order of their numbers.
    pub(super) fn iter<'a>(&'a self, inventory: &'a Inventory) -> impl Iterator<Item = &'a str> {
        self.texts.iter().map(|text| text.as_str(inventory))
    }

    /// Gives back memory that is only needed while URLs are added.
    pub(super) fn shrink(&mut self) {
        self.slots.shrink_to_fit();
        self.texts.shrink_to_fit();
    }

    /// The number of `url`, or the slot that it would take.
    fn probe(&self, url: &str, inventory: &Inventory) -> Result<u32, u64> {
        let mut slot = self.hasher.hash_one(url);
        while let Some(&number) = self.slots.get(&slot) {
            if self.texts[number as usize].as_str(inventory) == url {
                return Ok(number);
            }
            slot = slot.wrapping_add(1);
        }
        Err(slot)
    }
}

impl Text {
    fn as_str<'a>(&'a self, inventory: &'a Inventory) -> &'a str {
        match self {
            Self::OfEntry(entry) => inventory.entries[*entry as usize].url.as_str(),
            Self::Own(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasherDefault, Hasher};

    use super::*;
    use crate::inventory::Entry;

    /// Gives every text the same hash.
    #[derive(Default)]
    struct Constant;

    impl Hasher for Constant {
        fn finish(&self) -> u64 {
            u64::MAX
        }
        fn write(&mut self, _: &[u8]) {}
    }

    #[test]
    fn texts_that_share_a_hash_stay_apart() {
        let urls: Vec<NormalizedUrl> = (0..20).map(|n| format!("http://h/{n}").parse().unwrap()).collect();
        let entries = urls.iter().take(10).cloned().map(Entry::get).collect();
        let inventory = Inventory { entries, ..Inventory::default() };
        let mut table = UrlTable::new(BuildHasherDefault::<Constant>::default());
        for (number, url) in (0..).zip(&urls) {
            assert_eq!(table.find(url.as_str(), &inventory), None);
            assert_eq!(table.insert(url, number % 10, &inventory), number);
        }
        for (number, url) in (0..).zip(&urls) {
            assert_eq!(table.insert(url, 0, &inventory), number);
            assert_eq!(table.find(url.as_str(), &inventory), Some(number));
        }
    }
}

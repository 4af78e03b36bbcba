//! Entries that were read, and how long they are kept.
//!
//! A build asks for most of its entries once. Kept for good, each takes more than a kilobyte, three times the text that
//! it was read from, and reading it again takes three microseconds: so only those that were asked for last are kept.

use std::{
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use super::EntryId;
use crate::{inventory::Entry, store::path::StorePath};

/// One slot for so many entries.
const ENTRIES_PER_SLOT: usize = 16;
/// Slots that any inventory has: a megabyte and a half.
const SLOTS: usize = 1024;

/// An entry that was read, and what was worked out from it.
#[derive(Debug)]
pub struct KeptEntry {
    entry: Entry,
    store_path: OnceLock<Option<StorePath>>,
    is_readable: bool,
}

impl KeptEntry {
    /// An entry of an inventory.
    pub(super) fn new(entry: Entry) -> Self {
        Self { entry, store_path: OnceLock::new(), is_readable: true }
    }

    /// What stands in for an entry that cannot be read.
    pub(super) fn unreadable(stand_in: Entry) -> Self {
        Self { is_readable: false, ..Self::new(stand_in) }
    }

    /// Whether it is the inventory's entry. What was compiled is checked as a whole and read piece by piece later, so
    /// that a file with a right checksum can still have a piece that is none.
    pub fn is_readable(&self) -> bool {
        self.is_readable
    }

    /// The store path of the body, as [`Body::store_path`](crate::inventory::Body::store_path) says: two digests, made
    /// once.
    pub fn store_path(&self) -> Option<&StorePath> {
        self.store_path.get_or_init(|| self.entry.body.as_ref()?.store_path()).as_ref()
    }
}

impl Deref for KeptEntry {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}

/// The entries that were asked for last. Each can be in one slot alone, so that finding one and replacing another cost
/// no more than a lock that hardly anybody waits for.
#[derive(Debug)]
pub(super) struct Recent(Box<[Slot]>);

type Slot = Mutex<Option<(EntryId, Arc<KeptEntry>)>>;

impl Recent {
    /// For an inventory with so many entries.
    pub(super) fn of(entries: usize) -> Self {
        // Numbers that differ in their lower bits alone are in different slots: those that were written together.
        let slots = (entries / ENTRIES_PER_SLOT).max(SLOTS.min(entries)).next_power_of_two();
        Self((0..slots).map(|_| Slot::default()).collect())
    }

    /// The entry with this number, which `read` makes where it is not here.
    pub(super) fn get(&self, id: EntryId, read: impl FnOnce() -> KeptEntry) -> Arc<KeptEntry> {
        self.find(id).unwrap_or_else(|| {
            let entry = Arc::new(read());
            let before = self.slot(id).replace((id, Arc::clone(&entry)));
            // Nobody has to wait for it to be freed.
            drop(before);
            entry
        })
    }

    /// The entry with this number, where it is here.
    pub(super) fn find(&self, id: EntryId) -> Option<Arc<KeptEntry>> {
        self.slot(id).as_ref().filter(|(kept, _)| *kept == id).map(|(_, entry)| Arc::clone(entry))
    }

    fn slot(&self, id: EntryId) -> MutexGuard<'_, Option<(EntryId, Arc<KeptEntry>)>> {
        let slot = &self.0[id.index() & (self.0.len() - 1)];
        // Nothing can panic while it is locked.
        slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u32) -> KeptEntry {
        KeptEntry::new(Entry::get(format!("http://h/{number}").parse().unwrap()))
    }

    #[test]
    fn an_entry_stays_until_another_needs_its_slot() {
        let recent = Recent::of(100_000);
        let slots = recent.0.len() as u32;
        assert_eq!(slots, 8192);
        for number in [3, 4, 3 + slots] {
            assert!(recent.find(EntryId(number)).is_none());
            let read = recent.get(EntryId(number), || entry(number));
            assert!(Arc::ptr_eq(&read, &recent.get(EntryId(number), || panic!("it is kept"))));
            assert_eq!(read.url.as_str(), format!("http://h/{number}"));
        }
        assert!(recent.find(EntryId(3)).is_none() && recent.find(EntryId(4)).is_some());
        assert_eq!(recent.get(EntryId(3), || entry(3)).url.as_str(), "http://h/3");
    }

    #[test]
    fn all_of_a_small_inventory_is_kept() {
        for entries in [1, 7, 1000] {
            let recent = Recent::of(entries);
            (0..entries as u32).for_each(|number| drop(recent.get(EntryId(number), || entry(number))));
            assert!((0..entries as u32).all(|number| recent.find(EntryId(number)).is_some()));
        }
        assert!(Recent::of(0).find(EntryId(0)).is_none());
    }
}

//! The index as a compiled inventory holds it: its tables as numbers, one table behind the other, each behind its length.

use super::{
    EntryId, Index, Rank, Visit, build,
    recorded::Recorded,
    urls::{Place, Slot, UrlTable},
};
use crate::inventory::{
    CompiledError, Inventory, Keys,
    compiled::{self, Parts},
    read::{Piece, parse_whole},
    to_toml,
};

/// The bits of a number that say how a visit came about, and the step above them.
const RANK: u32 = 0b11;
const AS_GET: u32 = 0b100;
const STEP_SHIFT: u32 = 3;

/// The bytes of the compiled inventory that `index` is of; `None` where that is too large.
pub(super) fn write(index: &Index) -> Option<Vec<u8>> {
    let rules = Inventory { match_rules: index.recorded.rules().clone(), entries: Vec::new() };
    let urls = &index.urls;
    let mut numbers = Vec::new();
    let mut table = |table: &mut dyn ExactSizeIterator<Item = u32>| {
        numbers.push(u32::try_from(table.len()).ok()?);
        numbers.extend(table);
        Some(())
    };
    table(&mut index.recorded.pieces().iter().map(|piece| piece.start))?;
    table(&mut index.recorded.pieces().iter().map(|piece| piece.end))?;
    table(&mut urls.places.iter().map(|place| place.start))?;
    table(&mut urls.places.iter().map(|place| place.length))?;
    table(&mut urls.slots.iter().map(|slot| slot.tag))?;
    table(&mut urls.slots.iter().map(|slot| slot.number))?;
    table(&mut index.first_group.iter().copied())?;
    table(&mut index.first_visit.iter().copied())?;
    table(&mut index.visits.iter().map(|visit| visit.entry.0))?;
    table(&mut index.visits.iter().map(|visit| way(*visit)))?;
    table(&mut index.home.iter().copied())?;
    table(&mut index.revisiting.iter().map(|id| id.0))?;
    table(&mut index.prefix_lengths.iter().copied())?;
    compiled::write(&Parts {
        text: index.recorded.text().to_owned(),
        rules: to_toml(&rules),
        system: index.system.clone(),
        urls: urls.own.clone(),
        numbers,
    })
}

/// The index in the `parts` of a compiled inventory.
///
/// # Errors
/// Where a table leads out of another. Entries are read when they are needed.
pub(super) fn read(parts: Parts) -> Result<Index, CompiledError> {
    let Parts { text, rules, system, urls: own, numbers } = parts;
    let rules = parse_whole(&rules).map_err(|_| CompiledError::Inconsistent)?.match_rules;
    from_tables(Recorded::in_text(rules, text, Vec::new()), system, own, &numbers).ok_or(CompiledError::Inconsistent)
}

fn from_tables(recorded: Recorded, system: String, own: String, mut numbers: &[u32]) -> Option<Index> {
    let mut table = || {
        let (length, rest) = numbers.split_first()?;
        let (table, rest) = rest.split_at_checked(*length as usize)?;
        numbers = rest;
        Some(table)
    };
    let pieces = pairs(table()?, table()?, |start, end| Some(Piece { start, end }))?;
    let places = pairs(table()?, table()?, |start, length| Some(Place { start, length }))?;
    let slots = pairs(table()?, table()?, |tag, number| Some(Slot { tag, number }))?;
    let (first_group, first_visit) = (table()?.to_vec(), table()?.to_vec());
    let visits = pairs(table()?, table()?, visit)?;
    let (home, revisiting, prefix_lengths) = (table()?.to_vec(), table()?, table()?.to_vec());
    let index = Index {
        keys: Keys::new(recorded.rules()),
        recorded: recorded.with_pieces(pieces),
        system,
        urls: UrlTable::from_parts(slots, places, own),
        first_group,
        first_visit,
        visits,
        home,
        revisiting: revisiting.iter().copied().map(EntryId).collect(),
        prefix_lengths,
    };
    (numbers.is_empty() && is_consistent(&index)).then_some(index)
}

fn pairs<T>(a: &[u32], b: &[u32], both: impl Fn(u32, u32) -> Option<T>) -> Option<Vec<T>> {
    if a.len() != b.len() {
        return None;
    }
    a.iter().zip(b).map(|(a, b)| both(*a, *b)).collect()
}

/// How a visit came about, in one number.
fn way(visit: Visit) -> u32 {
    let rank = match visit.rank {
        Rank::Own => 0,
        Rank::Chain => 1,
        Rank::Prefix => 2,
    };
    // A step counts redirects, of which four billion bytes of text have fewer than 2^29.
    visit.step << STEP_SHIFT | if visit.as_get { AS_GET } else { 0 } | rank
}

fn visit(entry: u32, way: u32) -> Option<Visit> {
    let rank = match way & RANK {
        0 => Rank::Own,
        1 => Rank::Chain,
        2 => Rank::Prefix,
        _ => return None,
    };
    Some(Visit { entry: EntryId(entry), step: way >> STEP_SHIFT, as_get: way & AS_GET != 0, rank })
}

/// Whether every number that is used as a place is one.
fn is_consistent(index: &Index) -> bool {
    let Index { recorded, urls, first_group, first_visit, visits, home, revisiting, .. } = index;
    let is_text = |text: &str, start: usize, end: usize| text.get(start..end).is_some();
    let groups = first_visit.len().saturating_sub(1);
    let is_entry = |id: &EntryId| id.index() < recorded.len();
    recorded.pieces().iter().all(|piece| is_text(recorded.text(), piece.start as usize, piece.end as usize))
        && urls.places.iter().all(|place| {
            let (text, place) = (if place.is_own() { &urls.own } else { recorded.text() }, place.range());
            is_text(text, place.start, place.end)
        })
        && urls.slots.len().is_power_of_two()
        && urls.slots.iter().any(|slot| slot.number == 0)
        && urls.slots.iter().all(|slot| slot.number as usize <= urls.places.len())
        && first_group.len() == urls.places.len() + 1
        && is_division(first_group, groups)
        && is_division(first_visit, visits.len())
        && visits.iter().all(|visit| is_entry(&visit.entry))
        && home.len() == recorded.len()
        && home.iter().all(|&home| home == build::NO_GROUP || (home as usize) < groups)
        && revisiting.iter().all(is_entry)
        && revisiting.is_sorted()
}

/// Whether `starts` divides so many things into parts of which none is empty.
fn is_division(starts: &[u32], things: usize) -> bool {
    starts.first() == Some(&0)
        && starts.last().is_some_and(|&last| last as usize == things)
        && starts.windows(2).all(|pair| pair[0] < pair[1])
}

#[cfg(test)]
mod tests;

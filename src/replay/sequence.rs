//! Where each sequence of answers stands.
//!
//! Entries with one key are answered in order and the last one repeats. What moves a sequence on is an answer that the
//! client got whole: the last byte of the final response was handed to the connection, to a method other than `HEAD`,
//! and neither cut by `Range` nor replaced by a 304 or 412. So a client that asks for the size first, resumes, or
//! revalidates stays with the answer it began with, and a download that broke off is answered the same again.
//!
//! Three rules follow for what is less simple than one list of answers:
//!
//! - **Chains.** An entry's redirects and its final response belong together. The sequence of the entry's own key
//!   moves when the final response was sent, wherever in the chain the request for it came in; until then the first
//!   URL gives the same redirect. Where several chains lead to one URL, it is answered from the one whose turn it is
//!   in its own sequence; a URL that belongs to a turn gone by, such as a signed link asked for once more, is answered
//!   from the last such turn.
//! - **Chains that come back.** Where a chain visits one key twice (a login that redirects to itself), an answer moves
//!   the chain to its next step, and the final response puts it back to the start.
//! - **At the same time.** Two clients that ask while the first answer is still being sent get that same answer, and
//!   the sequence moves once.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::inventory::index::{EntryId, Index, Matches, Visit};

/// The state of all sequences of a run. Keys with one answer have none.
#[derive(Debug, Default)]
pub struct Sequences(Mutex<Cursors>);

#[derive(Debug, Default)]
struct Cursors {
    /// By a sequence's first entry: the entry whose turn it is. Absent is the first.
    turns: HashMap<EntryId, EntryId>,
    /// How many steps of a chain that comes back were answered.
    steps: HashMap<EntryId, u32>,
}

impl Sequences {
    /// Chooses among the answers to one key.
    pub fn choose(&self, index: &Index, matches: &Matches<'_>) -> Visit {
        let visits = matches.visits;
        if visits.len() == 1 {
            return visits[0];
        }
        let cursors = self.lock();
        let entry = if matches.first_rank {
            cursors.turn(index, visits[0].entry)
        } else {
            among_chains(visits, |visit| cursors.turn(index, visit.entry))
        };
        let first = visits.partition_point(|visit| visit.entry < entry);
        let of_entry = || visits[first..].iter().take_while(|visit| visit.entry == entry);
        let answered = cursors.steps.get(&entry).copied().unwrap_or(0);
        *of_entry().find(|visit| visit.step >= answered).or_else(|| of_entry().next()).unwrap_or(&visits[0])
    }

    /// Notes that a redirect was answered.
    pub fn hop_answered(&self, index: &Index, visit: Visit) {
        if index.is_revisiting(visit.entry) {
            self.lock().steps.insert(visit.entry, visit.step + 1);
        }
    }

    /// Notes that a final response was sent, whole or not: a chain that comes back starts over.
    pub fn final_answered(&self, index: &Index, entry: EntryId) {
        if index.is_revisiting(entry) {
            self.lock().steps.remove(&entry);
        }
    }

    /// Whether [`sent_whole`](Self::sent_whole) could change anything.
    pub fn moves_after(index: &Index, entry: EntryId) -> bool {
        index.next_in_sequence(entry).is_some()
    }

    /// Notes that a final response was sent whole: the next entry's turn comes, unless it came already.
    pub fn sent_whole(&self, index: &Index, entry: EntryId) {
        let Some(next) = index.next_in_sequence(entry) else { return };
        let mut cursors = self.lock();
        if cursors.turn(index, entry) == entry {
            cursors.turns.insert(first_of(index, entry), next);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cursors> {
        // No code can panic while it holds the lock and leave a cursor half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cursors {
    /// The entry whose turn it is in the sequence of `entry`.
    fn turn(&self, index: &Index, entry: EntryId) -> EntryId {
        let first = first_of(index, entry);
        self.turns.get(&first).copied().unwrap_or(first)
    }
}

/// The first entry of the sequence of `entry`, which names the sequence.
fn first_of(index: &Index, entry: EntryId) -> EntryId {
    index.sequence_of(entry).first().map_or(entry, |visit| visit.entry)
}

/// The chain to answer from at a URL that several lead to: the first whose turn it is, else the last whose turn is
/// over, else the first.
fn among_chains(visits: &[Visit], turn: impl Fn(&Visit) -> EntryId) -> EntryId {
    let of_now = visits.iter().find(|visit| turn(visit) == visit.entry);
    let of_before = || visits.iter().rev().find(|visit| visit.entry < turn(visit));
    of_now.or_else(of_before).unwrap_or(&visits[0]).entry
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderMap, Method};

    use super::*;
    use crate::inventory::{
        Entry, Hop, Inventory,
        index::{RequestBody, RequestKey},
    };

    fn entry(url: &str, locations: &[&str]) -> Entry {
        let hop = |location: &&str| Hop { status: 302, location: (*location).to_owned(), headers: <_>::default() };
        Entry { redirects: locations.iter().map(hop).collect(), ..Entry::get(url.parse().unwrap()) }
    }

    struct Run {
        index: Index,
        sequences: Sequences,
    }

    impl Run {
        fn of(entries: Vec<Entry>) -> Self {
            let inventory = Arc::new(Inventory { entries, ..Inventory::default() });
            Self { index: Index::new(inventory, "any").unwrap(), sequences: Sequences::default() }
        }

        fn choose(&self, url: &str) -> Visit {
            let url = url.parse().unwrap();
            let key =
                RequestKey { method: &Method::GET, url: &url, headers: &HeaderMap::new(), body: RequestBody::Empty };
            self.sequences.choose(&self.index, &self.index.look_up(&key).unwrap())
        }

        /// Answers a GET whole; entry and step.
        fn get(&self, url: &str) -> (usize, u32) {
            let visit = self.choose(url);
            if (visit.step as usize) < self.index.entry(visit.entry).redirects.len() {
                self.sequences.hop_answered(&self.index, visit);
            } else {
                self.sequences.final_answered(&self.index, visit.entry);
                self.sequences.sent_whole(&self.index, visit.entry);
            }
            (visit.entry.index(), visit.step)
        }
    }

    #[test]
    fn answers_come_in_order_and_the_last_repeats() {
        let run = Run::of(vec![entry("http://h/", &[]), entry("http://h/", &[]), entry("http://h/", &[])]);
        let got: Vec<usize> = (0..5).map(|_| run.get("http://h/").0).collect();
        assert_eq!(got, [0, 1, 2, 2, 2]);
    }

    #[test]
    fn an_answer_that_was_not_sent_whole_comes_again() {
        let run = Run::of(vec![entry("http://h/", &[]), entry("http://h/", &[])]);
        assert_eq!(run.choose("http://h/").entry.index(), 0);
        assert_eq!([run.get("http://h/").0, run.get("http://h/").0], [0, 1]);
    }

    #[test]
    fn two_downloads_at_once_move_the_sequence_once() {
        let run = Run::of(vec![entry("http://h/", &[]), entry("http://h/", &[]), entry("http://h/", &[])]);
        let both = [run.choose("http://h/"), run.choose("http://h/")];
        for visit in both {
            assert_eq!(visit.entry.index(), 0);
            run.sequences.sent_whole(&run.index, visit.entry);
        }
        assert_eq!(run.get("http://h/").0, 1);
    }

    #[test]
    fn the_redirects_of_a_chain_move_with_its_final_response() {
        let run = Run::of(vec![entry("http://h/a", &["/s1"]), entry("http://h/a", &["/s2"]), entry("http://h/a", &[])]);
        assert_eq!(run.get("http://h/a"), (0, 0));
        assert_eq!(run.get("http://h/a"), (0, 0), "the redirect alone moves nothing");
        assert_eq!(run.get("http://h/s1"), (0, 1));
        assert_eq!(run.get("http://h/s1"), (0, 1), "a link of a turn gone by still works");
        assert_eq!([run.get("http://h/a"), run.get("http://h/s2")], [(1, 0), (1, 1)]);
        assert_eq!([run.get("http://h/a"), run.get("http://h/a")], [(2, 0), (2, 0)]);
    }

    #[test]
    fn chains_of_one_sequence_that_share_a_location_take_turns_there() {
        let run = Run::of(vec![entry("http://h/a", &["/s"]), entry("http://h/a", &["/s"])]);
        let got: Vec<(usize, u32)> =
            ["a", "s", "a", "s", "a", "s"].iter().map(|path| run.get(&format!("http://h/{path}"))).collect();
        assert_eq!(got, [(0, 0), (0, 1), (1, 0), (1, 1), (1, 0), (1, 1)]);
    }

    #[test]
    fn chains_of_different_keys_that_share_a_location_agree_on_the_first() {
        let run = Run::of(vec![entry("http://h/a", &["/s"]), entry("http://h/b", &["/s"])]);
        assert_eq!([run.get("http://h/b"), run.get("http://h/s"), run.get("http://h/s")], [(1, 0), (0, 1), (0, 1)]);
    }

    #[test]
    fn a_chain_that_comes_back_is_followed_to_its_end_each_time() {
        let run = Run::of(vec![entry("http://h/a", &["/a", "/b", "/a"]), entry("http://h/a", &[])]);
        let follow = |paths: &[&str]| -> Vec<(usize, u32)> {
            paths.iter().map(|path| run.get(&format!("http://h/{path}"))).collect()
        };
        assert_eq!(follow(&["a", "a", "b", "a"]), [(0, 0), (0, 1), (0, 2), (0, 3)]);
        assert_eq!(follow(&["a", "a"]), [(1, 0), (1, 0)]);

        let run = Run::of(vec![entry("http://h/a", &["/a"])]);
        let got: Vec<u32> = (0..4).map(|_| run.get("http://h/a").1).collect();
        assert_eq!(got, [0, 1, 0, 1]);
    }
}

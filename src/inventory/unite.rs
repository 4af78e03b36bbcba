//! Uniting inventories, such as the captures of several systems, into one.
//!
//! Each input says for each request what which system is answered. Where inputs speak of the same system they have to
//! agree, or one of them has to be chosen. What all systems are answered alike becomes one entry for all of them; the
//! rest is listed for the systems that it was recorded on. The headers and hops of answers that agree are those of the
//! first input, as a capture keeps the old ones.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    entry::{Entry, Inventory},
    key::{Key, Keys},
    rules::MatchRules,
};

/// One inventory to unite.
#[derive(Debug, Clone)]
pub struct Input {
    /// What messages call it.
    pub name: String,
    /// The systems that its entries are for, unless they say so themselves; empty means all.
    pub systems: Vec<String>,
    /// What it says.
    pub inventory: Inventory,
}

/// What became of the inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct United {
    /// Rules for comparing requests.
    pub match_rules: MatchRules,
    /// The entries, each with the number of the input that it comes from.
    pub entries: Vec<(usize, Entry)>,
    /// Requests whose answer was for all systems, and is now for those that are named.
    pub narrowed: Vec<String>,
}

/// Where inputs contradict each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Conflict {
    /// What it is about: method and URL of a request, or the rules.
    pub about: String,
    /// The systems that get different answers; empty means those that nobody names.
    pub systems: Vec<String>,
    /// What each input says.
    pub sides: Vec<Side>,
    /// Whether choosing an input settles it.
    pub can_choose: bool,
}

/// What one input says in a conflict.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// The number of the input.
    pub input: usize,
    /// Its answers, in order; none where the conflict is about rules.
    pub answers: Vec<Entry>,
    /// Its rules, where the conflict is about them.
    pub rules: MatchRules,
}

/// Unites `inputs`. Where they contradict each other, that one counts which comes first in `prefer`, a list of their
/// numbers, of those that have an answer.
///
/// # Errors
/// Every conflict that this does not settle.
pub fn unite(inputs: &[Input], prefer: &[usize]) -> Result<United, Vec<Conflict>> {
    let match_rules = unite_rules(inputs, prefer).map_err(|conflict| vec![conflict])?;
    let mut uniting = Uniting { inputs, prefer, domain: domain(inputs), narrowed: Vec::new(), conflicts: Vec::new() };
    let requests = uniting.group(&Keys::new(&match_rules));
    let entries: Vec<(usize, Entry)> = requests.iter().flat_map(|sequences| uniting.request(sequences)).collect();
    match uniting.conflicts.is_empty() {
        true => Ok(United { match_rules, entries, narrowed: uniting.narrowed }),
        false => Err(uniting.conflicts),
    }
}

#[cfg(test)]
impl United {
    /// The inventory that it is.
    pub(crate) fn into_inventory(self) -> Inventory {
        let entries = self.entries.into_iter().map(|(_, entry)| entry).collect();
        Inventory { match_rules: self.match_rules, entries }
    }
}

/// A system, or all those that nobody names.
type System<'a> = Option<&'a str>;

/// One input's entries for one request.
type Sequence<'a> = (usize, Vec<&'a Entry>);

struct Uniting<'a> {
    inputs: &'a [Input],
    prefer: &'a [usize],
    /// What an answer has to be for so that it is for all systems.
    domain: BTreeSet<System<'a>>,
    narrowed: Vec<String>,
    conflicts: Vec<Conflict>,
}

/// One answer, or a sequence of them, with the systems that get it.
struct Group<'a> {
    input: usize,
    answers: Vec<&'a Entry>,
    systems: BTreeSet<System<'a>>,
    /// Whether an input left it open which systems it is for.
    is_open: bool,
}

/// The systems that the inputs speak of as a whole.
fn domain(inputs: &[Input]) -> BTreeSet<System<'_>> {
    let with_entries = inputs.iter().filter(|input| !input.inventory.entries.is_empty());
    let systems = with_entries.flat_map(|input| match input.systems.is_empty() {
        true => vec![None],
        false => input.systems.iter().map(|system| Some(system.as_str())).collect(),
    });
    systems.collect()
}

impl<'a> Uniting<'a> {
    /// The entries of each request, by input.
    fn group(&mut self, keys: &Keys) -> Vec<Vec<Sequence<'a>>> {
        let inputs = self.inputs;
        let mut requests: BTreeMap<Key, Vec<Sequence<'a>>> = BTreeMap::new();
        for (number, input) in inputs.iter().enumerate() {
            let own = Keys::new(&input.inventory.match_rules);
            let mut sequences: BTreeMap<Key, Vec<(Key, Vec<&Entry>)>> = BTreeMap::new();
            for entry in &input.inventory.entries {
                let of_request = sequences.entry(keys.of(entry)).or_default();
                let own = own.of(entry);
                match of_request.iter_mut().find(|(key, _)| *key == own) {
                    Some((_, sequence)) => sequence.push(entry),
                    None => of_request.push((own, vec![entry])),
                }
            }
            for (key, mut joined) in sequences {
                // Rules of other inputs make one request of what were several here.
                let (_, first) = joined.remove(0);
                if let Some((_, other)) = joined.into_iter().find(|(_, other)| !agree(&first, other)) {
                    let sides = [&first, &other].map(|answers| side(number, answers)).to_vec();
                    let about = format!("{}, which the rules of another inventory make the same", describe(&first));
                    self.conflicts.push(Conflict { about, systems: Vec::new(), sides, can_choose: false });
                }
                requests.entry(key).or_default().push((number, first));
            }
        }
        requests.into_values().collect()
    }

    /// The entries of one request.
    fn request(&mut self, sequences: &[Sequence<'a>]) -> Vec<(usize, Entry)> {
        let Some((input, first)) = sequences.first() else { return Vec::new() };
        let is_plain = |(input, entries): &Sequence| self.inputs[*input].systems.is_empty() && entries == first;
        if sequences.iter().all(is_plain) {
            return first.iter().map(|&entry| (*input, entry.clone())).collect();
        }
        let mut groups = self.groups(sequences);
        groups.sort_by_key(|group| group.input);
        let answered: BTreeSet<System> = groups.iter().flat_map(|group| group.systems.iter().copied()).collect();
        let mut entries = Vec::new();
        for group in groups {
            let is_for_all = group.is_open && group.systems.is_superset(&self.domain) && group.systems == answered;
            let named = || group.systems.iter().flatten().map(|system| (*system).to_owned()).collect();
            let systems: Vec<String> = if is_for_all { Vec::new() } else { named() };
            if !is_for_all && group.systems.contains(&None) {
                self.narrowed.push(describe(&group.answers));
                if systems.is_empty() {
                    continue;
                }
            }
            let answers = group.answers.iter().map(|&entry| Entry { systems: systems.clone(), ..entry.clone() });
            entries.extend(answers.map(|entry| (group.input, entry)));
        }
        entries
    }

    /// What each system is answered, the systems with the same answer together.
    fn groups(&mut self, sequences: &[Sequence<'a>]) -> Vec<Group<'a>> {
        let mut systems = self.domain.clone();
        let entries = sequences.iter().flat_map(|(_, entries)| entries);
        systems.extend(entries.flat_map(|entry| entry.systems.iter().map(|system| Some(system.as_str()))));
        let mut settled: Vec<(System, Sequence, bool)> = Vec::new();
        for system in systems {
            let views = sequences.iter().map(|(input, entries)| (*input, self.view(*input, entries, system)));
            let views: Vec<Sequence> = views.filter(|(_, entries)| !entries.is_empty()).collect();
            let open: Vec<Sequence> = views.iter().filter(|(_, view)| is_open(view)).cloned().collect();
            if let Some(view) = self.settle(system, views) {
                let is_open = open.iter().any(|(_, open)| agree(open, &view.1));
                settled.push((system, view, is_open));
            }
        }
        settled.sort_by_key(|(_, (input, _), _)| *input);
        let mut groups: Vec<Group> = Vec::new();
        for (system, (input, answers), is_open) in settled {
            match groups.iter_mut().find(|group| agree(&group.answers, &answers)) {
                Some(group) => {
                    group.systems.insert(system);
                    group.is_open |= is_open;
                }
                None => groups.push(Group { input, answers, systems: [system].into(), is_open }),
            }
        }
        groups
    }

    /// What `system` is answered by an input.
    fn view(&self, input: usize, entries: &[&'a Entry], system: System) -> Vec<&'a Entry> {
        let of_input = &self.inputs[input].systems;
        let is_for = |entry: &&&Entry| {
            let systems = if entry.systems.is_empty() { of_input } else { &entry.systems };
            systems.is_empty() || system.is_some_and(|system| systems.iter().any(|one| one == system))
        };
        entries.iter().filter(is_for).copied().collect()
    }

    /// The one answer for `system`.
    fn settle(&mut self, system: System, views: Vec<Sequence<'a>>) -> Option<Sequence<'a>> {
        let (_, first) = views.first()?;
        if views.iter().all(|(_, view)| agree(first, view)) {
            return views.into_iter().next();
        }
        let mut preferred = self.prefer.iter();
        if let Some(place) = preferred.find_map(|number| views.iter().position(|(input, _)| input == number)) {
            return views.into_iter().nth(place);
        }
        let sides: Vec<Side> = views.iter().map(|(input, view)| side(*input, view)).collect();
        let about = describe(first);
        let systems = system.map(str::to_owned);
        match self.conflicts.last_mut().filter(|last| last.about == about && last.sides == sides) {
            Some(last) => last.systems.extend(systems),
            None => {
                let systems = systems.into_iter().collect();
                self.conflicts.push(Conflict { about, systems, sides, can_choose: true });
            }
        }
        None
    }
}

fn side(input: usize, answers: &[&Entry]) -> Side {
    let answers = answers.iter().map(|&entry| entry.clone()).collect();
    Side { input, answers, rules: MatchRules::default() }
}

/// Whether one of the answers does not say for which systems it is.
fn is_open(answers: &[&Entry]) -> bool {
    answers.iter().any(|entry| entry.systems.is_empty())
}

fn describe(sequence: &[&Entry]) -> String {
    sequence.first().map(|entry| format!("{} {}", entry.method, entry.url)).unwrap_or_default()
}

/// Whether both sequences answer the same.
fn agree(a: &[&Entry], b: &[&Entry]) -> bool {
    let same_body = |a: &Entry, b: &Entry| {
        let is_pinned = |entry: &Entry| entry.body.as_ref().is_none_or(|body| body.hash.is_some());
        is_pinned(a) && is_pinned(b) || a.body == b.body
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.has_same_answer(b) && same_body(a, b))
}

/// Every pattern of `ignore-query`. `rewrite` depends on its order: one input's rules have to hold those of the others.
fn unite_rules(inputs: &[Input], prefer: &[usize]) -> Result<MatchRules, Conflict> {
    let mut united = MatchRules::default();
    for input in inputs {
        for glob in &input.inventory.match_rules.ignore_query {
            if !united.ignore_query.contains(glob) {
                united.ignore_query.push(glob.clone());
            }
        }
    }
    let rewrites = |input: &Input| input.inventory.match_rules.rewrite.clone();
    let longest = inputs.iter().map(rewrites).max_by_key(Vec::len).unwrap_or_default();
    let holds = |input: &Input| {
        let mut rest = longest.iter();
        input.inventory.match_rules.rewrite.iter().all(|rule| rest.any(|other| other == rule))
    };
    united.rewrite = match prefer.first().and_then(|&number| inputs.get(number)) {
        _ if inputs.iter().all(holds) => longest,
        Some(preferred) => rewrites(preferred),
        None => {
            let with_rules = inputs.iter().enumerate().filter(|(_, input)| !rewrites(input).is_empty());
            let side = |(input, of): (usize, &Input)| {
                let rewrite = rewrites(of);
                Side { input, answers: Vec::new(), rules: MatchRules { rewrite, ..MatchRules::default() } }
            };
            let about = "the rules of `rewrite`, whose order counts".to_owned();
            return Err(Conflict {
                about,
                systems: Vec::new(),
                sides: with_rules.map(side).collect(),
                can_choose: true,
            });
        }
    };
    Ok(united)
}

#[cfg(test)]
mod tests;

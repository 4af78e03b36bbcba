//! Redirect chains against each other: what a chain's URLs answer, and whether redirects ever end.
//!
//! The URLs of a chain behind its first are keys of second rank: replay answers them from the chain where no entry of
//! their own does.

use std::collections::{BTreeSet, HashMap};

use super::{
    compare::{common_systems, same_bytes},
    consistency::{finding, redirects_on},
    finding::{Finding, FindingKind},
};
use crate::{
    inventory::{Body, Entry, Inventory, Key, Keys},
    url::NormalizedUrl,
};

/// All findings about the redirects of `inventory`.
pub(super) fn check(inventory: &Inventory) -> Vec<Finding> {
    let (chains, mut found) = Chains::new(inventory);
    found.extend(chains.disagreements());
    found.extend(chains.loops());
    found.into_iter().map(|(index, kind)| finding(inventory, index, kind)).collect()
}

/// A request in a graph of requests.
type Node = usize;

/// Where an answer leads, and the entry that it is of; `None` where it ends there.
type Lead = Option<(usize, Node)>;

/// One request of a chain and its answer.
struct Step<'a> {
    node: Node,
    answer: Answer<'a>,
    /// The request that the answer leads to.
    next: Option<Node>,
}

/// What two chains can disagree on. Headers are left out: they differ from one download to the next.
struct Answer<'a> {
    status: u16,
    location: Option<&'a str>,
    body: Option<&'a Body>,
}

impl PartialEq for Answer<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.status == other.status && self.location == other.location && same_bytes(self.body, other.body)
    }
}

/// Every entry as a chain, if only of one step.
struct Chains<'a> {
    entries: &'a [Entry],
    chains: Vec<Vec<Step<'a>>>,
    /// The URL of each node, as it was first seen.
    urls: Vec<String>,
}

/// Numbers requests.
struct Nodes {
    keys: Keys,
    numbers: HashMap<Key, Node>,
    urls: Vec<String>,
}

impl Nodes {
    fn number(&mut self, key: &Key, url: &NormalizedUrl) -> Node {
        if let Some(&node) = self.numbers.get(key) {
            return node;
        }
        let node = self.urls.len();
        self.numbers.insert(key.clone(), node);
        self.urls.push(url.to_string());
        node
    }

    /// The steps of `entry`, up to the first location that cannot be followed; that one is a finding.
    fn steps<'a>(&mut self, entry: &'a Entry) -> (Vec<Step<'a>>, Option<FindingKind>) {
        let mut steps = Vec::with_capacity(entry.redirects.len() + 1);
        let (mut key, mut url) = (self.keys.of(entry), entry.url.clone());
        let mut node = self.number(&key, &url);
        for hop in &entry.redirects {
            let target = match url.join(&hop.location) {
                Ok(target) => target,
                Err(error) => {
                    let (location, reason) = (hop.location.clone(), error.to_string());
                    return (steps, Some(FindingKind::BadLocation { location, reason }));
                }
            };
            key = self.keys.redirected(&key, hop.status, &target);
            url = target;
            let next = self.number(&key, &url);
            let answer = Answer { status: hop.status, location: Some(&hop.location), body: None };
            steps.push(Step { node, answer, next: Some(next) });
            node = next;
        }
        let location = entry.headers.get("location").filter(|_| redirects_on(entry.status));
        let target = location.and_then(|location| url.join(location).ok());
        let next = target.map(|target| {
            let key = self.keys.redirected(&key, entry.status, &target);
            self.number(&key, &target)
        });
        let answer = Answer { status: entry.status, location, body: entry.body.as_ref() };
        steps.push(Step { node, answer, next });
        (steps, None)
    }
}

impl<'a> Chains<'a> {
    fn new(inventory: &'a Inventory) -> (Self, Vec<(usize, FindingKind)>) {
        let keys = Keys::new(&inventory.match_rules);
        let mut nodes = Nodes { keys, numbers: HashMap::new(), urls: Vec::new() };
        let mut found = Vec::new();
        let mut chains = Vec::with_capacity(inventory.entries.len());
        for (index, entry) in inventory.entries.iter().enumerate() {
            let (steps, bad) = nodes.steps(entry);
            found.extend(bad.map(|kind| (index, kind)));
            chains.push(steps);
        }
        (Self { entries: &inventory.entries, chains, urls: nodes.urls }, found)
    }

    /// Steps of second rank: entry, step.
    fn second_rank<'s>(&'s self) -> impl Iterator<Item = (usize, &'s Step<'a>)> {
        let behind_first =
            |(index, steps): (usize, &'s Vec<Step<'a>>)| steps.iter().skip(1).map(move |step| (index, step));
        self.chains.iter().enumerate().flat_map(behind_first)
    }

    /// Pairs of chains from different requests that pass one URL and differ in its answer, where no entry of that URL
    /// decides. Chains from one request are a sequence, and may differ.
    fn disagreements(&self) -> Vec<(usize, FindingKind)> {
        let mut direct: HashMap<Node, Vec<usize>> = HashMap::new();
        for (index, steps) in self.chains.iter().enumerate() {
            if let Some(first) = steps.first() {
                direct.entry(first.node).or_default().push(index);
            }
        }
        let overlap = |a: usize, b: usize| common_systems(&self.entries[a].systems, &self.entries[b].systems).is_some();
        let start = |index: usize| self.chains[index].first().map(|step| step.node);
        let mut passed: HashMap<Node, Vec<(usize, &Step)>> = HashMap::new();
        let mut found = Vec::new();
        for (index, step) in self.second_rank() {
            if direct.get(&step.node).is_some_and(|owners| owners.iter().any(|&owner| overlap(owner, index))) {
                continue;
            }
            let earlier = passed.entry(step.node).or_default();
            let differs = |&&(other, seen): &&(usize, &Step)| {
                start(other) != start(index) && overlap(other, index) && seen.answer != step.answer
            };
            if let Some(&(other, _)) = earlier.iter().find(differs) {
                let other_url = self.entries[other].url.to_string();
                found.push((index, FindingKind::HopDisagrees { hop: self.urls[step.node].clone(), other, other_url }));
            }
            earlier.push((index, step));
        }
        found
    }

    /// Redirects that lead round: within a chain, or from entry to entry.
    fn loops(&self) -> Vec<(usize, FindingKind)> {
        let mut found = Vec::new();
        let mut looping = BTreeSet::new();
        for (index, steps) in self.chains.iter().enumerate() {
            if let Some(circle) = circle_within(steps) {
                looping.insert(index);
                found.push((index, self.redirect_loop(&circle)));
            }
        }
        let mut seen = BTreeSet::new();
        for system in self.systems() {
            for (index, circle) in self.circles(system, &looping) {
                let mut members = circle.clone();
                members.sort_unstable();
                if seen.insert(members) {
                    found.push((index, self.redirect_loop(&circle)));
                }
            }
        }
        found
    }

    fn redirect_loop(&self, circle: &[Node]) -> FindingKind {
        let closed = circle.iter().chain(circle.first());
        FindingKind::RedirectLoop { urls: closed.map(|&node| self.urls[node].clone()).collect() }
    }

    /// The systems that any entry names, and `None` for all others.
    fn systems(&self) -> BTreeSet<Option<&'a str>> {
        let named = self.entries.iter().flat_map(|entry| &entry.systems);
        named.map(|name| Some(name.as_str())).chain([None]).collect()
    }

    /// The circles that replay on `system` leads a client through, each with the first entry that takes part. Chains
    /// in `except` are left out.
    fn circles(&self, system: Option<&str>, except: &BTreeSet<usize>) -> Vec<(usize, Vec<Node>)> {
        let applies = |index: usize| {
            let systems = &self.entries[index].systems;
            !except.contains(&index) && (systems.is_empty() || systems.iter().any(|name| Some(name.as_str()) == system))
        };
        // Where each node leads, and by which entry: a chain's first answer to an URL of second rank, then, over
        // that, the last of the entries of its own, because the last of a sequence repeats.
        let mut leads: Vec<Option<Lead>> = vec![None; self.urls.len()];
        let lead = |index, step: &Step| step.next.map(|next| (index, next));
        for (index, step) in self.second_rank().filter(|(index, _)| applies(*index)) {
            leads[step.node].get_or_insert(lead(index, step));
        }
        for (index, steps) in self.chains.iter().enumerate().filter(|(index, _)| applies(*index)) {
            if let Some(first) = steps.first() {
                leads[first.node] = Some(lead(index, first));
            }
        }
        circles_of(&leads.into_iter().map(Option::flatten).collect::<Vec<_>>())
    }
}

/// The nodes between two visits to one request in a chain.
fn circle_within(steps: &[Step]) -> Option<Vec<Node>> {
    let mut visited = HashMap::new();
    for (position, step) in steps.iter().enumerate() {
        if let Some(before) = visited.insert(step.node, position) {
            return Some(steps[before..position].iter().map(|step| step.node).collect());
        }
    }
    None
}

/// The circles of a graph in which every node leads to at most one other.
fn circles_of(leads: &[Lead]) -> Vec<(usize, Vec<Node>)> {
    let mut visited = vec![false; leads.len()];
    let mut circles = Vec::new();
    for start in 0..leads.len() {
        let (mut node, mut path) = (start, Vec::new());
        while !std::mem::replace(&mut visited[node], true) {
            path.push(node);
            match leads[node] {
                Some((_, next)) => node = next,
                None => break,
            }
        }
        // Where the walk ended at a node of its own that leads on, it goes round from there.
        let Some(entrance) = path.iter().position(|&seen| seen == node).filter(|_| leads[node].is_some()) else {
            continue;
        };
        let circle = path.split_off(entrance);
        let first = circle.iter().filter_map(|&node| leads[node].map(|(index, _)| index)).min();
        circles.extend(first.map(|index| (index, circle)));
    }
    circles
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inventory::{Hop, Source},
        store::hash::NixHash,
    };

    fn chain(path: &str, locations: &[&str], body: &str) -> Entry {
        let hop = |location: &&str| Hop { status: 302, location: (*location).to_owned(), headers: Default::default() };
        let body = Body {
            hash: Some(NixHash::sha256(body.as_bytes())),
            size: Some(body.len() as u64),
            name: None,
            source: Source::Text(body.to_owned()),
        };
        let url = format!("http://h{path}").parse().unwrap();
        Entry { redirects: locations.iter().map(hop).collect(), body: Some(body), ..Entry::get(url) }
    }

    fn redirect(path: &str, location: &str) -> Entry {
        let mut entry = Entry { status: 302, body: None, ..chain(path, &[], "") };
        entry.headers.append("location", location).unwrap();
        entry
    }

    fn on(system: &str, entry: Entry) -> Entry {
        Entry { systems: vec![system.to_owned()], ..entry }
    }

    fn check_entries(entries: Vec<Entry>) -> Vec<(usize, FindingKind)> {
        let inventory = Inventory { entries, ..Inventory::default() };
        check(&inventory).into_iter().map(|finding| (finding.entry.unwrap(), finding.kind)).collect()
    }

    fn circle(index: usize, paths: &[&str]) -> (usize, FindingKind) {
        (index, FindingKind::RedirectLoop { urls: paths.iter().map(|path| format!("http://h{path}")).collect() })
    }

    #[test]
    fn chains_that_meet_have_to_agree() {
        let agree = vec![chain("/a", &["/c"], "1"), chain("/b", &["/c"], "1")];
        assert_eq!(check_entries(agree), []);
        let found = check_entries(vec![chain("/a", &["/c"], "1"), chain("/b", &["/c"], "2")]);
        let (hop, other_url) = ("http://h/c".to_owned(), "http://h/a".to_owned());
        assert_eq!(found, [(1, FindingKind::HopDisagrees { hop, other: 0, other_url })]);
        let on_the_way = vec![chain("/a", &["/c", "/d"], "1"), chain("/b", &["/c", "/e"], "1")];
        assert!(matches!(check_entries(on_the_way)[..], [(1, FindingKind::HopDisagrees { .. })]));
    }

    #[test]
    fn an_entry_of_the_url_a_sequence_or_other_systems_settle_a_disagreement() {
        let (a, b) = (chain("/a", &["/c"], "1"), chain("/b", &["/c"], "2"));
        assert_eq!(check_entries(vec![a.clone(), b.clone(), chain("/c", &[], "3")]), []);
        assert_eq!(check_entries(vec![a.clone(), chain("/a", &["/c"], "2")]), []);
        assert_eq!(check_entries(vec![on("x", a.clone()), on("y", b.clone())]), []);
        let elsewhere = on("z", chain("/c", &[], "3"));
        assert_eq!(check_entries(vec![on("x", a), on("x", b), elsewhere]).len(), 1);
    }

    #[test]
    fn a_chain_that_comes_back_is_a_loop() {
        let found = check_entries(vec![chain("/x", &["/a", "/b", "/a"], "1")]);
        assert_eq!(found, [circle(0, &["/a", "/b", "/a"])]);
        assert_eq!(check_entries(vec![chain("/a", &["/a"], "1")]), [circle(0, &["/a", "/a"])]);
        let after_post = Entry { method: http::Method::POST, ..chain("/a", &["/a"], "1") };
        assert_eq!(check_entries(vec![after_post]), [], "a GET follows the POST");
    }

    #[test]
    fn ignored_parameters_can_close_a_loop() {
        let mut inventory = Inventory { entries: vec![chain("/a", &["/a?sig=1"], "1")], ..Inventory::default() };
        assert_eq!(check(&inventory), []);
        inventory.match_rules = crate::inventory::MatchRules::ignoring(&["sig"]);
        assert_eq!(check(&inventory).len(), 1);
    }

    #[test]
    fn plain_redirects_that_lead_round_are_one_loop() {
        let entries = vec![redirect("/x", "/a"), redirect("/a", "/b"), redirect("/b", "http://H:80/a")];
        assert_eq!(check_entries(entries), [circle(1, &["/a", "/b", "/a"])]);
        assert_eq!(check_entries(vec![redirect("/a", "/b"), redirect("/b", "/c")]), []);
        assert_eq!(check_entries(vec![redirect("/a", "/a"), chain("/a", &[], "1")]), [], "the second answer ends it");
        let not_followed = Entry { status: 201, ..redirect("/a", "/a") };
        assert_eq!(check_entries(vec![not_followed]), []);
    }

    #[test]
    fn chains_and_plain_redirects_can_lead_round_together() {
        let mut back = chain("/b", &["/c"], "1");
        back.status = 302;
        back.headers.append("location", "/a").unwrap();
        let found = check_entries(vec![redirect("/a", "/b"), back]);
        assert_eq!(found, [circle(0, &["/a", "/b", "/c", "/a"])]);
    }

    #[test]
    fn a_loop_has_to_close_on_one_system() {
        let apart = vec![on("x", redirect("/a", "/b")), on("y", redirect("/b", "/a"))];
        assert_eq!(check_entries(apart), []);
        let together = vec![on("x", redirect("/a", "/b")), redirect("/b", "/a")];
        assert_eq!(check_entries(together), [circle(0, &["/a", "/b", "/a"])]);
    }

    #[test]
    fn a_location_that_is_no_url_is_named() {
        let found = check_entries(vec![chain("/a", &["ftp://h/b"], "1")]);
        assert!(matches!(&found[..], [(0, FindingKind::BadLocation { location, .. })] if location == "ftp://h/b"));
    }
}

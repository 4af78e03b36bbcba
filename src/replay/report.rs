//! What a run asked for, what it was given, and what it was not: the report at its end.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Serialize;

use super::miss::Miss;
use crate::{
    inventory::index::{EntryId, Index},
    isolate::{self, Bypass, BypassReport},
    proxy::HandshakeFailure,
    text::printable,
};

/// Different misses that are kept. A build that asks for ever new URLs must not fill the memory.
const KEPT: usize = 10_000;

/// Lines of one kind that the text shows; JSON has them all.
const SHOWN: usize = 20;

/// Counts while a run goes on.
#[derive(Debug)]
pub struct RunLog {
    /// By entry.
    answered: Vec<AtomicU64>,
    problems: Mutex<Problems>,
}

#[derive(Debug, Default)]
struct Problems {
    misses: BTreeMap<(String, String, String, Vec<String>), Missed>,
    misses_not_listed: u64,
    broken: BTreeMap<(EntryId, String), u64>,
}

/// What a run asked for and got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Report {
    /// Requests that were answered from an entry: redirects and final responses, whole or in part.
    pub requests_answered: u64,
    /// Requests that nothing answered.
    pub requests_missed: u64,
    /// The entries that answered, in the inventory's order; of a summary the first few of those that
    /// answered most.
    pub answered: Vec<Answered>,
    /// What nothing answered, by URL.
    pub misses: Vec<Missed>,
    /// Misses that were too many to be listed.
    pub misses_not_listed: u64,
    /// Hosts that a client wanted, but could not agree with the proxy on TLS: its requests never came.
    pub failed_handshakes: Vec<FailedHandshake>,
    /// What an isolated command tried to reach past the proxy.
    pub(crate) bypasses: Vec<BypassReport>,
    /// The same in sentences, one for each client and remedy.
    #[serde(skip)]
    pub(crate) bypass_sentences: Vec<String>,
    /// Bodies that were missing, short or altered.
    pub broken_bodies: Vec<Broken>,
    /// The entries that nothing asked for, in the inventory's order; of a summary the first few.
    pub unused: Vec<Unused>,
    /// How many entries answered.
    #[serde(skip)]
    pub entries_answered: usize,
    /// How many entries nothing asked for.
    #[serde(skip)]
    pub entries_unused: usize,
}

/// An entry that answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Answered {
    /// The entry's method.
    pub method: String,
    /// The entry's URL.
    pub url: String,
    /// How many requests it answered.
    pub count: u64,
}

/// A request that nothing answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Missed {
    /// The request's method.
    pub method: String,
    /// The request's URL, without userinfo.
    pub url: String,
    /// Why nothing answered.
    pub reason: String,
    /// What differs from what was recorded, a line each.
    pub details: Vec<String>,
    /// The recorded URL that comes nearest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
    /// What to do.
    pub hint: String,
    /// What to paste into the inventory where the request is to be answered like the nearest one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// How often it was asked.
    pub count: u64,
}

/// A host whose TLS handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct FailedHandshake {
    /// The host that the client wanted.
    pub host: String,
    /// Whether the client did not accept the certificate.
    pub client_distrusts_ca: bool,
    /// The name of the client's program, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// What went wrong, and what would change that.
    pub problem: String,
}

/// An answer whose body could not be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Broken {
    /// The entry's method.
    pub method: String,
    /// The entry's URL.
    pub url: String,
    /// What is wrong, with which file, and what to do.
    pub problem: String,
    /// How often it was asked.
    pub count: u64,
}

/// An entry that nothing asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Unused {
    /// The entry's method.
    pub method: String,
    /// The entry's URL.
    pub url: String,
}

impl RunLog {
    /// For a run with as many entries as `index` knows.
    pub fn new(index: &Index) -> Self {
        let answered = (0..index.inventory_len()).map(|_| AtomicU64::new(0)).collect();
        Self { answered, problems: Mutex::default() }
    }

    /// Counts an answer from `entry`.
    pub fn answered(&self, entry: EntryId) {
        self.answered[entry.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts and logs a miss.
    pub fn missed(&self, miss: &Miss) {
        let (method, url, reason) = (miss.method.to_string(), printable(&miss.url), miss.cause.to_string());
        let details = miss.details().to_vec();
        let differs = if details.is_empty() { String::new() } else { format!(": {}", in_one_line(&details)) };
        match miss.nearest() {
            Some(nearest) => tracing::warn!(%method, %url, nearest = %printable(nearest), "miss: {reason}{differs}"),
            None => tracing::warn!(%method, %url, "miss: {reason}{differs}"),
        }
        let key = (url.clone(), method.clone(), reason.clone(), details.clone());
        let mut problems = self.lock();
        if let Some(known) = problems.misses.get_mut(&key) {
            known.count += 1;
        } else if problems.misses.len() < KEPT {
            let nearest = miss.nearest().map(printable);
            let (hint, suggestion) = (miss.hint().to_owned(), miss.suggestion().map(str::to_owned));
            problems.misses.insert(key, Missed { method, url, reason, details, nearest, hint, suggestion, count: 1 });
        } else {
            problems.misses_not_listed += 1;
        }
    }

    /// Counts and logs a body that could not be sent.
    pub fn broken(&self, index: &Index, entry: EntryId, problem: &str) {
        tracing::error!(url = %index.peek(entry).url, "broken body: {problem}");
        *self.lock().broken.entry((entry, problem.to_owned())).or_default() += 1;
    }

    /// How many requests came so far.
    pub fn total(&self) -> u64 {
        let answered: u64 = self.answered.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        let problems = self.lock();
        let missed: u64 = problems.misses.values().map(|miss| miss.count).sum();
        answered + missed + problems.misses_not_listed + problems.broken.values().sum::<u64>()
    }

    /// What happened so far.
    pub fn report(&self, index: &Index) -> Report {
        self.first(index, usize::MAX)
    }

    /// The same as far as its text needs it: of a large inventory few entries are shown, and each has to be read for it.
    pub fn summary(&self, index: &Index) -> Report {
        self.first(index, SHOWN)
    }

    /// With no more than `listed` entries that answered, and that did not.
    fn first(&self, index: &Index, listed: usize) -> Report {
        let method_and_url = |id: EntryId| {
            let entry = index.peek(id);
            (entry.method.to_string(), entry.url.to_string())
        };
        let problems = self.lock();
        let first_broken = |id: EntryId| problems.broken.range((id, String::new())..).next();
        let is_broken = |id: EntryId| first_broken(id).is_some_and(|((broken, _), _)| *broken == id);
        let counts = index.entries().map(|id| (id, self.answered[id.index()].load(Ordering::Relaxed)));
        let (mut answered, mut unused): (Vec<_>, Vec<_>) = counts.partition(|(_, count)| *count > 0);
        unused.retain(|(id, _)| !is_broken(*id));
        let (entries_answered, entries_unused) = (answered.len(), unused.len());
        let requests_answered = answered.iter().map(|(_, count)| count).sum();
        if answered.len() > listed {
            answered.sort_by_key(|(_, count)| Reverse(*count));
        }
        let answered = answered.into_iter().take(listed).map(|(id, count)| {
            let (method, url) = method_and_url(id);
            Answered { method, url, count }
        });
        let unused = unused.into_iter().take(listed).map(|(id, _)| method_and_url(id));
        let broken = problems.broken.iter().map(|((id, problem), &count)| {
            let (method, url) = method_and_url(*id);
            Broken { method, url, problem: problem.clone(), count }
        });
        Report {
            requests_answered,
            requests_missed: problems.misses.values().map(|miss| miss.count).sum::<u64>() + problems.misses_not_listed,
            answered: answered.collect(),
            misses: problems.misses.values().cloned().collect(),
            misses_not_listed: problems.misses_not_listed,
            failed_handshakes: Vec::new(),
            bypasses: Vec::new(),
            bypass_sentences: Vec::new(),
            broken_bodies: broken.collect(),
            unused: unused.map(|(method, url)| Unused { method, url }).collect(),
            entries_answered,
            entries_unused,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Problems> {
        // Whatever panicked while it held the lock left whole counters behind.
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report {
    /// The same, with what the proxy saw and replay did not.
    #[must_use]
    pub fn with_failed_handshakes(mut self, failures: &[HandshakeFailure]) -> Self {
        self.failed_handshakes.extend(failures.iter().map(|failure| FailedHandshake {
            host: printable(&failure.host),
            client_distrusts_ca: failure.client_distrusts_ca,
            process: failure.client.as_ref().map(|client| printable(&client.name)),
            problem: printable(&failure.to_string()),
        }));
        self
    }

    /// The same, with what only the isolation saw.
    #[must_use]
    pub(crate) fn with_bypasses(mut self, bypasses: &[Bypass]) -> Self {
        self.bypasses.extend(bypasses.iter().map(Bypass::report));
        self.bypass_sentences.extend(isolate::sentences(bypasses));
        self
    }

    /// What to do where nothing of the above says why a command did not get what it wanted; `command_failed` where that
    /// is known, `was_asked` where a client wanted something of it.
    pub(crate) fn hint(&self, command_failed: bool, was_asked: bool) -> Option<&'static str> {
        let is_explained = self.requests_missed > 0
            || !self.failed_handshakes.is_empty()
            || !self.bypasses.is_empty()
            || !self.broken_bodies.is_empty();
        let asked_nothing = !was_asked && self.entries_unused > 0;
        match (is_explained, asked_nothing, command_failed) {
            (false, true, _) => Some(
                "nothing was asked of the proxy: what was needed came from a cache, or was asked for past it; \
                 `buildproxy replay --isolate -- COMMAND` gives an empty home and names what goes past the proxy",
            ),
            (false, false, true) => Some(
                "the command failed, though nothing that it asked of the proxy was missing: if a download failed, \
                 `buildproxy replay --isolate -- COMMAND` names what goes past the proxy",
            ),
            _ => None,
        }
    }

    /// Whether the run has to fail: a broken body always makes it, misses unless they are allowed.
    pub fn failed(&self, allow_misses: bool) -> bool {
        !self.broken_bodies.is_empty() || (self.requests_missed > 0 && !allow_misses)
    }
}

/// For people: a summary, then what was used how often, what went wrong, what was not needed.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries_answered + self.entries_unused;
        write!(
            f,
            "replay: {} answered from {} of {}, {}",
            counted(self.requests_answered, "request"),
            self.entries_answered,
            counted(entries as u64, "entry"),
            counted(self.requests_missed, "miss")
        )?;
        if !self.broken_bodies.is_empty() {
            write!(f, ", {}", counted(self.broken_bodies.len() as u64, "broken body"))?;
        }
        writeln!(f)?;
        let has_warnings = !self.failed_handshakes.is_empty() || !self.bypasses.is_empty();
        let is_clean = self.unused.is_empty() && !has_warnings && !self.failed(false);
        // Where all went as recorded, the first line says so.
        let mut by_use: Vec<&Answered> = self.answered.iter().collect();
        by_use.sort_by_key(|answered| Reverse(answered.count));
        let used = if is_clean { 0 } else { self.entries_answered };
        section(f, "used entries", &by_use, used, |f, answered| {
            writeln!(f, "  {} {}{}", answered.method, answered.url, times(answered.count))
        })?;
        // What made a run fail is at the end: of a build's log, Nix shows the last lines.
        section(f, "unused entries", &self.unused, self.entries_unused, |f, unused| {
            writeln!(f, "  {} {}", unused.method, unused.url)
        })?;
        let failed = &self.failed_handshakes;
        section(f, "warning: connections that failed before a request", failed, failed.len(), |f, failed| {
            writeln!(f, "  {}", failed.problem)
        })?;
        let bypasses = &self.bypass_sentences;
        section(f, "warning: attempts to go past the proxy", bypasses, bypasses.len(), |f, bypass| {
            writeln!(f, "  {bypass}")
        })?;
        section(f, "warning: requests that nothing answered", &self.misses, self.misses.len(), |f, miss| {
            writeln!(f, "  {} {}{}\n    {}", miss.method, miss.url, times(miss.count), miss.reason)?;
            miss.details.iter().try_for_each(|line| writeln!(f, "      {line}"))?;
            writeln!(f, "    hint: {}", miss.hint)?;
            let suggestion = miss.suggestion.iter().flat_map(|suggestion| suggestion.lines());
            suggestion.into_iter().try_for_each(|line| writeln!(f, "      {line}"))
        })?;
        if self.misses_not_listed > 0 {
            writeln!(f, "  and {} more that are not listed", self.misses_not_listed)?;
        }
        let broken = &self.broken_bodies;
        section(f, "error: bodies that could not be sent", broken, broken.len(), |f, broken| {
            writeln!(f, "  {} {}{}\n    {}", broken.method, broken.url, times(broken.count), broken.problem)
        })
    }
}

/// The first details, for a line of the log.
fn in_one_line(details: &[String]) -> String {
    let first: Vec<&str> = details.iter().take(3).map(|line| line.trim()).collect();
    format!("{}{}", first.join("; "), if details.len() > 3 { "; …" } else { "" })
}

/// A heading and the first items of so many.
fn section<T>(
    f: &mut fmt::Formatter<'_>,
    heading: &str,
    items: &[T],
    count: usize,
    item: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    if count == 0 {
        return Ok(());
    }
    writeln!(f, "\n{heading}:")?;
    items.iter().take(SHOWN).try_for_each(|each| item(f, each))?;
    if count > SHOWN {
        writeln!(f, "  and {} more (--json has them all)", count - SHOWN)?;
    }
    Ok(())
}

fn times(count: u64) -> String {
    if count == 1 { String::new() } else { format!(" ({count} times)") }
}

fn counted(count: u64, noun: &str) -> String {
    let plural = match noun.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if noun.ends_with('s') => format!("{noun}es"),
        None => format!("{noun}s"),
    };
    if count == 1 { format!("1 {noun}") } else { format!("{count} {plural}") }
}

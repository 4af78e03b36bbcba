//! What a capture tells of downloads that take long.
//!
//! While the command runs, in whole lines at growing pauses: it writes to the same terminal, so what is drawn in place would
//! be torn by its output, and tear that. Once it has ended nobody else writes, and each download is a line that is drawn in
//! place.

use std::{collections::HashMap, sync::Arc, time::Duration};

use indicatif::HumanDuration;
use tokio::time::sleep;

use super::{
    bars::{self, Bar, Figures},
    output,
};
use crate::{
    capture::{Coming, SoFar, Stopwatch},
    text::printable,
};

/// How long a download may take before it is worth a line, in milliseconds.
const LONG: u64 = 1000;
/// How often it is looked for what takes long.
const LOOK: Duration = Duration::from_secs(1);
/// How many looks pass at most between two lines. The first wait is one, and each is twice as long as the one before.
const PAUSE: u32 = 16;
/// Downloads that are named at a time.
const NAMED: usize = 3;
/// Downloads that are drawn at a time.
const DRAWN: usize = 8;
/// What the lines below the first begin with, so that they stand below what follows its verb.
const INDENT: &str = "\n          ";
/// What is said while downloads go on whose clients have left.
pub const WAITING: &str = "waiting for downloads whose clients have left; Ctrl-C leaves them out";

/// Tells, for ever, what takes long, and how much has come; in a shell that people type into, only where something takes
/// long.
pub async fn tell(stopwatch: Arc<Stopwatch>, in_shell: bool) {
    let (mut pace, mut before) = (Pace::default(), HashMap::new());
    loop {
        sleep(LOOK).await;
        let (downloads, so_far) = (stopwatch.downloads(), stopwatch.so_far());
        let long: Vec<&Coming> = downloads.iter().filter(|download| download.time >= LONG).collect();
        if !pace.is_due(!long.is_empty(), if in_shell { 0 } else { so_far.answers }) {
            continue;
        }
        let verb = if long.is_empty() { "received" } else { "receiving" };
        let figures = long.iter().map(|download| figures(download, before.get(&download.arrival))).collect();
        output::done(verb, lines(figures, so_far, output::columns()).join(INDENT));
        before = downloads.into_iter().map(|download| (download.arrival, download)).collect();
    }
}

/// How often something is told.
#[derive(Debug)]
struct Pace {
    /// Looks since the last line.
    waited: u32,
    /// Looks until the next one about what takes long.
    pause: u32,
    /// Answers that have been told of.
    told: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { waited: 0, pause: 1, told: 0 }
    }
}

impl Pace {
    /// Whether it is time for a line: soon after something begins to take long, then ever more seldom; and where nothing
    /// does, after a while, if more answers have come.
    fn is_due(&mut self, takes_long: bool, answers: usize) -> bool {
        self.waited += 1;
        if !takes_long {
            self.pause = 1;
        }
        let is_due = match takes_long {
            true => self.waited >= self.pause,
            false => self.waited >= PAUSE && answers > self.told,
        };
        if is_due {
            (self.waited, self.told) = (0, answers);
            if takes_long {
                self.pause = (self.pause * 2).min(PAUSE);
            }
        }
        is_due
    }
}

/// Draws, until it is dropped, what is still coming once the command has ended, and then that it is put where it belongs.
pub fn drawn(stopwatch: Arc<Stopwatch>) -> Bar {
    let first: HashMap<u64, Coming> =
        stopwatch.downloads().into_iter().map(|download| (download.arrival, download)).collect();
    Bar::of(move |columns, time| {
        let downloads = stopwatch.downloads();
        let (all, time) = (count(stopwatch.so_far()), format!("({:#})", HumanDuration(time)));
        if downloads.is_empty() {
            return vec![bars::said("storing", &format!("{all} {time}"), columns)];
        }
        let line = |download| bars::drawn("receiving", &figures(download, first.get(&download.arrival)), columns);
        // The first line is still right where it stays, because the terminal shows a Ctrl-C below the last.
        let mut lines = vec![bars::shortened(WAITING, columns)];
        lines.extend(downloads.iter().take(DRAWN).map(line));
        lines.push(bars::said("so far", &format!("{all} {time}"), columns));
        lines
    })
}

/// A line each for those downloads that will take longest, and one for all that has come.
fn lines(mut downloads: Vec<Figures>, so_far: SoFar, columns: usize) -> Vec<String> {
    let missing = |download: &Figures| download.size.unwrap_or(u64::MAX).saturating_sub(download.bytes);
    downloads.sort_by_key(|download| std::cmp::Reverse(missing(download)));
    let room = columns.saturating_sub(INDENT.len() - 1);
    let mut lines: Vec<String> = downloads.iter().take(NAMED).map(|download| download.shown(room)).collect();
    let more = downloads.len().saturating_sub(NAMED);
    let more = (more > 0).then(|| format!("and {more} more"));
    let answers = (so_far.answers > 0).then(|| format!("{} so far", count(so_far)));
    let rest: Vec<String> = [more, answers].into_iter().flatten().collect();
    if !rest.is_empty() {
        lines.push(rest.join("; "));
    }
    lines
}

fn count(so_far: SoFar) -> String {
    format!("{}, {}", output::count(so_far.answers, "answer", "answers"), output::bytes(so_far.bytes))
}

/// How far `download` has come; at what rate since what was told `before`, where that is long enough ago to tell.
fn figures(download: &Coming, before: Option<&Coming>) -> Figures {
    let before = before.filter(|before| download.time.saturating_sub(before.time) >= LONG);
    let (bytes, time) = before.map_or((0, 0), |before| (before.bytes, before.time));
    let (bytes, time) = (download.bytes.saturating_sub(bytes), download.time.saturating_sub(time));
    let rate = bytes.saturating_mul(1000) / time.max(1);
    Figures { host: host(download), bytes: download.bytes, size: download.size, rate }
}

fn host(download: &Coming) -> String {
    printable(download.url.split('/').nth(2).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn coming(url: &str, bytes: u64, size: Option<u64>, time: u64) -> Coming {
        Coming { arrival: 0, url: url.to_owned(), bytes, size, time }
    }

    #[test]
    fn what_takes_long_is_told_the_longest_first_and_how_much_has_come() {
        let some = coming("https://some.test/a", 30 * MIB, Some(120 * MIB), 3000);
        let more = coming("https://more.test:8443/b?x", 5 * MIB, None, 10_000);
        let told = |downloads: &[&Coming], answers| {
            let figures = downloads.iter().map(|download| figures(download, None)).collect();
            lines(figures, SoFar { answers, bytes: 35 * MIB }, 80)
        };
        assert_eq!(
            told(&[&some, &more], 1),
            [
                "5.00 MiB (512.00 KiB/s) from more.test:8443",
                "30.00 MiB of 120.00 MiB (25%, 10.00 MiB/s, 9s left) from some.test",
                "1 answer, 35.00 MiB so far"
            ]
        );
        assert_eq!(told(&[&some], 0).len(), 1);
        assert_eq!(told(&[], 142), ["142 answers, 35.00 MiB so far"]);
        assert_eq!(told(&[&some; 5], 142).last().unwrap(), "and 2 more; 142 answers, 35.00 MiB so far");
        assert_eq!(told(&[&some; 5], 142).len(), NAMED + 1);
    }

    #[test]
    fn what_takes_long_is_told_at_growing_pauses_and_many_short_answers_now_and_then() {
        let told = |takes_long: &dyn Fn(usize) -> bool, answers: &dyn Fn(usize) -> usize| {
            let mut pace = Pace::default();
            (1..=60).filter(|look| pace.is_due(takes_long(*look), answers(*look))).collect::<Vec<_>>()
        };
        assert_eq!(told(&|_| true, &|_| 0), [1, 3, 7, 15, 31, 47]);
        assert_eq!(told(&|look| !(4..=50).contains(&look), &|_| 0), [1, 3, 51, 53, 57]);
        assert_eq!(told(&|_| false, &|look| look), [16, 32, 48]);
        assert_eq!(told(&|_| false, &|look| look.min(10)), [16]);
        assert!(told(&|_| false, &|_| 0).is_empty());
    }

    #[test]
    fn the_rate_is_that_since_the_last_line() {
        let (before, now) =
            (coming("https://h.test/", 8 * MIB, None, 2000), coming("https://h.test/", 9 * MIB, None, 4000));
        assert_eq!(figures(&now, Some(&before)).rate, MIB / 2);
        let stalled = Coming { time: 6000, ..now.clone() };
        assert_eq!(figures(&stalled, Some(&now)).rate, 0);
        assert_eq!(figures(&now, Some(&now)).rate, 9 * MIB / 4);
    }
}

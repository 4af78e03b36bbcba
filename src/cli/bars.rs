//! Progress that is drawn in place, a line each for what takes long. Only where nobody else writes to the terminal: it is
//! drawn over what was drawn before, and would be over the output of others.

use std::{
    fmt,
    io::{Write, stderr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::output;

/// What is drawn at the moment.
static DRAWN: Mutex<Option<ProgressBar>> = Mutex::new(None);
/// How often they are drawn where nothing happens, so that people see that; and after the terminal got another width.
const TICK: Duration = Duration::from_millis(250);
/// The widest and the narrowest bar, in columns.
const BAR: (usize, usize) = (30, 8);
/// How much of a host's name is worth showing, in columns.
const NAME: usize = 16;

/// Something that takes long, drawn in place until this is dropped. There is one at a time.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// Over `total` bytes; `None` where nobody knows how many. Nothing is drawn where there is nothing to do, and where
    /// output is not drawn over.
    pub fn new(verb: &'static str, total: Option<u64>, quiet: bool) -> Self {
        if quiet || !output::stderr_has_colour() || total == Some(0) {
            return Self(ProgressBar::hidden());
        }
        Self::drawn_by(total, move |state, columns| drawn(verb, &Figures::of(state), columns))
    }

    /// The lines that `lines` gives, again and again, for as many columns as it is told, and for how long it has gone on.
    pub fn of(lines: impl Fn(usize, Duration) -> Vec<String> + Clone + Send + Sync + 'static) -> Self {
        Self::drawn_by(None, move |state, columns| lines(columns, state.elapsed()).join("\n"))
    }

    fn drawn_by(
        total: Option<u64>,
        text: impl Fn(&ProgressState, usize) -> String + Clone + Send + Sync + 'static,
    ) -> Self {
        // What is drawn is taken away again with its whole first line.
        let _ = stderr().write_all(output::fresh_line().as_bytes());
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        // The template is a constant that indicatif takes.
        let style = ProgressStyle::with_template("{text}").unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.with_key("text", move |state: &ProgressState, output: &mut dyn fmt::Write| {
            // Not into the last column, from which some terminals go on to the next line.
            let _ = output.write_str(&text(state, output::columns().saturating_sub(1)));
        }));
        bar.enable_steady_tick(TICK);
        *what_is_drawn() = Some(bar.clone());
        Self(bar)
    }

    /// What is to be told of more bytes.
    pub fn counter(&self) -> impl Fn(u64) + Clone + Send + use<> {
        let bar = self.0.clone();
        move |bytes| bar.inc(bytes)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if !self.0.is_hidden() {
            *what_is_drawn() = None;
        }
        self.0.finish_and_clear();
    }
}

/// A lock that is poisoned means that another thread died, and nothing else.
fn what_is_drawn() -> MutexGuard<'static, Option<ProgressBar>> {
    DRAWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes `line` above what is drawn. Gives whether it did: not where nothing is.
pub fn above(line: &str) -> bool {
    what_is_drawn().as_ref().inspect(|bar| bar.println(line)).is_some()
}

/// How far a download has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// Where from; empty where that is said elsewhere.
    pub host: String,
    /// The bytes that have come.
    pub bytes: u64,
    /// All that there will be.
    pub size: Option<u64>,
    /// Bytes in a second.
    pub rate: u64,
}

impl Figures {
    fn of(state: &ProgressState) -> Self {
        // Far from the largest that there is, and never negative.
        let rate = state.per_sec() as u64;
        Self { host: String::new(), bytes: state.pos(), size: state.len(), rate }
    }

    /// In words, in at most `room` columns where that can be: first goes the time that is left, then the rate, and the host
    /// is shortened in its middle.
    pub fn shown(&self, room: usize) -> String {
        let size = self.size.map(|size| format!(" of {}", HumanBytes(size))).unwrap_or_default();
        let base = format!("{}{size}", HumanBytes(self.bytes));
        let rate = format!("{}/s", HumanBytes(self.rate));
        let share =
            self.size.map(|size| format!("{}%", (u128::from(self.bytes) * 100 / u128::from(size.max(1))).min(100)));
        let details: Vec<String> = [share, Some(rate), self.left()].into_iter().flatten().collect();
        let kept = (0..=details.len()).rev().map(|count| match count {
            0 => base.clone(),
            _ => format!("{base} ({})", details[..count].join(", ")),
        });
        let kept: Vec<String> = kept.collect();
        let named = |text: &String| {
            let room = room.checked_sub(width(text) + " from ".len())?;
            let enough = width(&self.host).min(NAME);
            (!self.host.is_empty() && room >= enough).then(|| format!("{text} from {}", shortened(&self.host, room)))
        };
        let least = details.first().filter(|_| self.size.is_some()).unwrap_or(&base);
        let unnamed = kept.iter().find(|text| width(text) <= room).unwrap_or(least);
        // The share alone is not worth the host.
        kept.iter().take(details.len().max(1)).find_map(named).unwrap_or_else(|| unnamed.clone())
    }

    /// The time that is left at this rate.
    fn left(&self) -> Option<String> {
        let bytes = self.size?.saturating_sub(self.bytes);
        let time = Duration::from_secs(bytes.checked_div(self.rate)?.max(1));
        (bytes > 0).then(|| format!("{:#} left", HumanDuration(time)))
    }
}

/// `verb what`, in at most `columns`.
pub fn said(verb: &str, what: &str, columns: usize) -> String {
    // The colour is none of the columns.
    shortened(&format!("{verb} {what}"), columns).replacen(verb, &output::bold(verb), 1)
}

/// `verb [====>   ] 1.20 MiB of 4.00 MiB (30%, 1.00 MiB/s, 3s left) from example.org`, in at most `columns`.
pub fn drawn(verb: &str, figures: &Figures, columns: usize) -> String {
    let room = columns.saturating_sub(width(verb) + 1);
    let text = figures.shown(room);
    let bar = room.saturating_sub(width(&text) + "[] ".len()).min(BAR.0);
    let bar = match figures.size.filter(|_| bar >= BAR.1) {
        Some(size) => {
            let done = usize::try_from(u128::from(figures.bytes) * bar as u128 / u128::from(size.max(1)));
            let done = done.unwrap_or(bar).min(bar);
            let head = if done < bar { ">" } else { "" };
            format!("[{:<bar$}] ", "=".repeat(done) + head)
        }
        None => String::new(),
    };
    said(verb, &(bar + &text), columns)
}

/// `text` in at most `room` columns, with `…` for its middle where it has more.
pub fn shortened(text: &str, room: usize) -> String {
    let count = width(text);
    if count <= room {
        return text.to_owned();
    }
    let kept = room.saturating_sub(1);
    let (start, end) = (kept.div_ceil(2), kept / 2);
    let middle = if room > 0 { "…" } else { "" };
    text.chars().take(start).collect::<String>() + middle + &text.chars().skip(count - end).collect::<String>()
}

/// The columns of `text`: what is shown here is in ASCII, hosts too.
fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn figures(host: &str, bytes: u64, size: Option<u64>) -> Figures {
        Figures { host: host.to_owned(), bytes, size, rate: 2 * MIB }
    }

    #[test]
    fn what_is_less_worth_goes_first_where_there_is_no_room() {
        let one = figures("objects.githubusercontent.com", 30 * MIB, Some(120 * MIB));
        let shown = [200, 88, 80, 64, 50, 40, 28, 10].map(|room| one.shown(room));
        assert_eq!(
            shown,
            [
                "30.00 MiB of 120.00 MiB (25%, 2.00 MiB/s, 45s left) from objects.githubusercontent.com",
                "30.00 MiB of 120.00 MiB (25%, 2.00 MiB/s, 45s left) from objects.githubusercontent.com",
                "30.00 MiB of 120.00 MiB (25%, 2.00 MiB/s, 45s left) from objects.git…content.com",
                "30.00 MiB of 120.00 MiB (25%, 2.00 MiB/s) from objects.…tent.com",
                "30.00 MiB of 120.00 MiB (25%, 2.00 MiB/s)",
                "30.00 MiB of 120.00 MiB (25%)",
                "30.00 MiB of 120.00 MiB",
                "25%",
            ]
        );
        assert_eq!(figures("", 0, None).shown(80), "0 B (2.00 MiB/s)");
        assert_eq!(Figures { rate: 0, ..one }.shown(50), "30.00 MiB of 120.00 MiB (25%, 0 B/s)");
    }

    #[test]
    fn nothing_is_drawn_wider_than_the_terminal() {
        let (long, short) = ("a-rather-long-name.of-a-host.example.org:8443", "h.test");
        for (host, size) in [(long, Some(120 * MIB)), (long, None), (short, Some(u64::MAX)), ("", Some(1)), ("", None)]
        {
            for bytes in [0, 1, 30 * MIB, u64::MAX] {
                for columns in 0..220 {
                    let line = drawn("asking again", &figures(host, bytes, size), columns);
                    assert!(width(&line) <= columns, "{columns}: {line:?}");
                }
            }
        }
        let line = drawn("verifying", &figures("", 30 * MIB, Some(120 * MIB)), 100);
        assert_eq!(
            line,
            "verifying [=======>                      ] 30.00 MiB of 120.00 MiB (25%, 2.00 MiB/s, 45s left)"
        );
    }
}

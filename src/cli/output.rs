//! How the commands talk to people: on stderr, in colour only on a terminal.

use std::{
    fmt::Display,
    io::{ErrorKind, IsTerminal, Write, stderr, stdout},
    sync::atomic::{AtomicBool, Ordering},
};

/// Whether stderr takes colour: a terminal, and neither `NO_COLOR` nor `TERM=dumb`.
pub fn stderr_has_colour() -> bool {
    has_colour(&stderr())
}

fn has_colour(output: &impl IsTerminal) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    output.is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// `text` in the colour `code`, for stdout.
pub fn in_data(text: &str, code: &str) -> String {
    if has_colour(&stdout()) { painted(text, code) } else { text.to_owned() }
}

/// A line for people.
pub fn say(line: impl Display) {
    // Nobody listens any more: there is nothing left to do.
    let _ = writeln!(stderr(), "{line}");
}

/// What went wrong.
pub fn error(error: &dyn Display) {
    say(format!("{}: {error}", paint("error", "1;31")));
}

/// What deserves a look.
pub fn warning(text: impl Display) {
    say(format!("{}: {text}", paint("warning", "1;33")));
}

/// What to do about the error above.
pub fn hint(text: &str) {
    say(format!("\n{}: {text}", paint("hint", "1;36")));
}

/// `text` in bold.
pub fn bold(text: &str) -> String {
    paint(text, "1")
}

fn paint(text: &str, code: &str) -> String {
    if stderr_has_colour() { painted(text, code) } else { text.to_owned() }
}

fn painted(text: &str, code: &str) -> String {
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// `count` things, in English.
pub fn count(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

/// A number of bytes as people read it.
pub fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}

/// Whether data for stdout got lost.
static LOST: AtomicBool = AtomicBool::new(false);

/// Data on stdout.
pub fn data(text: &str) {
    let mut stdout = stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => {}
        // A reader that has enough closes the pipe; that is no error of ours.
        Err(closed) if closed.kind() == ErrorKind::BrokenPipe => {}
        Err(failed) => {
            LOST.store(true, Ordering::Relaxed);
            error(&format!("cannot write to stdout: {failed}"));
        }
    }
}

/// Whether data for stdout got lost, so that nobody may take what is there for the whole.
pub fn has_lost_data() -> bool {
    LOST.load(Ordering::Relaxed)
}

/// JSON on stdout.
pub fn json(value: &impl serde::Serialize) {
    // The types given here have string keys and no failing serialiser.
    data(&format!("{}\n", serde_json::to_string_pretty(value).unwrap_or_default()));
}

/// The bytes so far, of nobody knows how many, on a terminal only.
pub fn counted_progress(verb: &'static str, quiet: bool) -> indicatif::ProgressBar {
    let bar = if quiet || !stderr_has_colour() {
        indicatif::ProgressBar::hidden()
    } else {
        indicatif::ProgressBar::no_length()
    };
    // The template is a constant that indicatif takes.
    let style = indicatif::ProgressStyle::with_template("{msg} {bytes} {bytes_per_sec}");
    bar.set_style(style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()));
    bar.set_message(verb);
    bar
}

/// A progress bar over `total` bytes, on a terminal only.
pub fn progress(total: u64, verb: &'static str, quiet: bool) -> indicatif::ProgressBar {
    let bar = if quiet || !stderr_has_colour() {
        indicatif::ProgressBar::hidden()
    } else {
        indicatif::ProgressBar::new(total)
    };
    let template = "{msg} {wide_bar} {bytes}/{total_bytes} {eta}";
    // The template is a constant that indicatif takes.
    let style =
        indicatif::ProgressStyle::with_template(template).unwrap_or_else(|_| indicatif::ProgressStyle::default_bar());
    bar.set_style(style);
    bar.set_message(verb);
    bar
}

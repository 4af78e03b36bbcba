//! How the commands talk to people: on stderr, in colour only on a terminal.
//!
//! What comes from elsewhere (inventories, origins, names of files) is in most of what is said, so all of it goes through here:
//! no character that could make a terminal do something leaves by this way but those of our own colours.

use std::{
    fmt::Display,
    io::{self, ErrorKind, IsTerminal, Write, stderr, stdout},
    sync::atomic::{AtomicBool, Ordering},
};

use crate::text::{printable_json, printable_lines, what_and_hint};

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
    say_as_it_is(&printable_lines(&line.to_string()));
}

/// A line for people about what was done: `verb` is in bold.
pub fn done(verb: &str, what: impl Display) {
    headed(&paint(verb, "1"), " ", what);
}

fn headed(head: &str, gap: &str, text: impl Display) {
    say_as_it_is(&format!("{head}{gap}{}", printable_lines(&text.to_string())));
}

fn say_as_it_is(line: &str) {
    // Nobody listens any more: there is nothing left to do.
    let _ = writeln!(stderr(), "{line}");
}

/// What went wrong. A text can bring its own hint with it.
pub fn error(error: &dyn Display) {
    let text = error.to_string();
    let (text, what_to_do) = what_and_hint(&text);
    headed(&paint("error", "1;31"), ": ", text);
    if let Some(what_to_do) = what_to_do {
        hint(what_to_do);
    }
}

/// What deserves a look.
pub fn warning(text: impl Display) {
    headed(&paint("warning", "1;33"), ": ", text);
}

/// What to do about the error above.
pub fn hint(text: &str) {
    headed(&format!("\n{}", paint("hint", "1;36")), ": ", text);
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

/// Text on stdout that has in it what comes from elsewhere.
pub fn text(text: &str) {
    data(&printable_lines(text));
}

/// JSON on stdout.
pub fn json(value: &impl serde::Serialize) {
    // The types given here have string keys and no failing serialiser.
    let json = serde_json::to_string_pretty(value).unwrap_or_default();
    data(&format!("{}\n", printable_json(&json)));
}

/// Where the log goes: to stderr, an event a line, whatever is in it.
#[derive(Debug, Clone, Copy)]
pub struct Log;

impl Write for Log {
    /// `event` is a whole one, as the subscriber writes it.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = log_line(&String::from_utf8_lossy(event));
        stderr().write_all(line.as_bytes()).map(|()| event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        stderr().flush()
    }
}

/// `event` as one line, so that no value in it can make up an event of its own, and without what a terminal acts on but
/// colours: the subscriber spells out every ESC that is in a value, so those that are left are its own.
fn log_line(event: &str) -> String {
    let mut pieces = event.trim_end_matches('\n').split('\x1b');
    let shown = |text: &str| printable_lines(text).replace('\n', "\\n");
    let mut line = shown(pieces.next().unwrap_or_default());
    for piece in pieces {
        let colour = piece.strip_prefix('[').and_then(|piece| piece.split_once('m'));
        match colour.filter(|(code, _)| code.bytes().all(|byte| byte.is_ascii_digit() || byte == b';')) {
            Some((code, text)) => line.push_str(&format!("\x1b[{code}m{}", shown(text))),
            None => line.push_str(&shown(&format!("\x1b{piece}"))),
        }
    }
    line + "\n"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_the_log_is_one_line_in_its_own_colours() {
        let event = "\x1b[33m WARN\x1b[0m \x1b[2mx\x1b[0m a\n ERROR b\r\x1b]0;t\x07\x1b[2J\u{9b}\u{202e}\tc\n";
        let shown =
            "\x1b[33m WARN\x1b[0m \x1b[2mx\x1b[0m a\\n ERROR b\\r\\u{1b}]0;t\\u{7}\\u{1b}[2J\\u{9b}\\u{202e}\tc\n";
        assert_eq!(log_line(event), shown);
        assert_eq!(log_line(""), "\n");
    }
}

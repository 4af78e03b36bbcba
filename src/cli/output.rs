//! How the commands talk to people: on stderr, in colour only on a terminal.
//!
//! What comes from elsewhere (inventories, origins, names of files) is in most of what is said, so all of it goes through here:
//! no character that could make a terminal do something leaves by this way but those of our own colours.

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write, stderr, stdout},
    os::fd::AsFd,
    sync::atomic::{AtomicBool, Ordering},
};

use serde_json::{Map, Value, json};
use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime, SystemTime},
};

use super::{bars, logging::LogFormat};
use crate::{
    access_log::Entry,
    request_id::RequestId,
    text::{printable_json, printable_lines, what_and_hint},
};

/// Whether stderr is for programs that collect logs: a JSON object a line.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Sets how stderr is written, once, before anything is said.
pub fn set_format(format: LogFormat) {
    IS_JSON.store(format == LogFormat::Json, Ordering::Relaxed);
}

/// Whether it is.
pub fn is_json() -> bool {
    IS_JSON.load(Ordering::Relaxed)
}

/// The arguments by which another process of this program writes to stderr as this one does.
pub fn format_arguments() -> &'static [&'static str] {
    if is_json() { &["--log-format", "json"] } else { &[] }
}

/// Whether stderr takes colour: a terminal that people look at, and neither `NO_COLOR` nor `TERM=dumb`.
pub fn stderr_has_colour() -> bool {
    has_colour(&stderr())
}

fn has_colour(output: &impl AsFd) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_json()
        && width(output).is_some()
        && !set("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether stderr is a terminal that people look at.
pub fn is_watched() -> bool {
    width(&stderr()).is_some()
}

/// The columns of the terminal that people look at `output` on. Nix gives its builders a terminal, too, of no size, and
/// keeps what is written to it as the log.
fn width(output: &impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(output).ok()?;
    (size.ws_col > 0).then_some(size.ws_col.into())
}

/// `text` in the colour `code`, for stdout.
pub fn in_data(text: &str, code: &str) -> String {
    if has_colour(&stdout()) { painted(text, code) } else { text.to_owned() }
}

/// A line for people.
pub fn say(line: impl Display) {
    match is_json() {
        true => event("INFO", &line.to_string(), Map::new()),
        false => say_as_it_is(&printable_lines(&line.to_string())),
    }
}

/// A line for people about what was done: `verb` is in bold.
pub fn done(verb: &str, what: impl Display) {
    match is_json() {
        true => event("INFO", &format!("{verb} {what}"), Map::new()),
        false => headed(&bold(verb), " ", what),
    }
}

/// `verb` in bold, for stderr.
pub fn bold(verb: &str) -> String {
    paint(verb, "1")
}

fn headed(head: &str, gap: &str, text: impl Display) {
    say_as_it_is(&format!("{head}{gap}{}", printable_lines(&text.to_string())));
}

fn say_as_it_is(line: &str) {
    // Where it fails nobody listens any more: there is nothing left to do.
    let _ = write_line(line);
}

/// Whether a command that runs writes to the terminal as well.
static SHARED: AtomicBool = AtomicBool::new(false);

/// From now on a command that runs writes to the terminal as well, and may be in the middle of a line of its own.
pub fn share_terminal() {
    SHARED.store(true, Ordering::Relaxed);
}

fn write_line(line: &str) -> io::Result<()> {
    if bars::above(line) {
        return Ok(());
    }
    stderr().write_all(format!("{}{line}\n", fresh_line()).as_bytes())
}

/// To the left edge of the terminal, in a line of our own, whatever others have written to it. As many blanks as there are
/// columns end in the next line, unless they began at the edge: then the terminal waits for one more.
pub fn fresh_line() -> String {
    let is_torn = SHARED.load(Ordering::Relaxed) && stderr_has_colour();
    if is_torn { format!("{}\r\x1b[2K", " ".repeat(columns())) } else { String::new() }
}

/// The columns of the terminal that stderr is; where it is none, or does not say, as many as help is made for at most.
pub fn columns() -> usize {
    width(&stderr()).unwrap_or(100)
}

/// What went wrong. A text can bring its own hint with it.
pub fn error(error: &dyn Display) {
    let text = error.to_string();
    if is_json() {
        return event("ERROR", &text, Map::new());
    }
    let (text, what_to_do) = what_and_hint(&text);
    headed(&paint("error", "1;31"), ": ", text);
    if let Some(what_to_do) = what_to_do {
        hint(what_to_do);
    }
}

/// What deserves a look.
pub fn warning(text: impl Display) {
    match is_json() {
        true => event("WARN", &text.to_string(), Map::new()),
        false => headed(&paint("warning", "1;33"), ": ", text),
    }
}

/// What to do about the error above.
pub fn hint(text: &str) {
    match is_json() {
        true => event("INFO", &format!("hint: {text}"), Map::new()),
        false => headed(&format!("\n{}", paint("hint", "1;36")), ": ", text),
    }
}

/// What a run came to: `text` for people, whose first line says most of it, and `report` for programs.
pub fn report(is_good: bool, text: &str, report: Value) {
    if !is_json() {
        return say(text);
    }
    let level = if is_good { "INFO" } else { "WARN" };
    event(level, text.lines().next().unwrap_or_default(), Map::from_iter([("report".to_owned(), report)]));
}

/// A line of the access log.
pub fn access(entry: &Entry) {
    match (is_json(), json!(entry)) {
        (true, Value::Object(fields)) => {
            event("INFO", &format!("{} {} {}", entry.method, entry.url, entry.status), fields);
        }
        _ => say_as_it_is(&entry.to_string()),
    }
}

/// A line of JSON, as the log has them. A hint within `message` is a field of its own.
fn event(level: &str, message: &str, fields: Map<String, Value>) {
    let mut timestamp = String::new();
    // Writing to a String cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    let (message, hint) = what_and_hint(message);
    let mut line = json!({ "timestamp": timestamp, "level": level, "message": message.trim_end() });
    if let Value::Object(line) = &mut line {
        line.extend(hint.map(|hint| ("hint".to_owned(), hint.into())));
        line.insert("target".to_owned(), "buildproxy".into());
        line.extend(fields);
    }
    say_as_it_is(&printable_json(&line.to_string()));
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
        let text = String::from_utf8_lossy(event);
        let request = RequestId::current();
        let line = if is_json() { json_log_line(&text, request) } else { log_line(&text, request) };
        write_line(line.trim_end_matches('\n')).map(|()| event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        stderr().flush()
    }
}

/// `event` as one line, so that no value in it can make up an event of its own, and without what a terminal acts on but
/// colours: the subscriber spells out every ESC that is in a value, so those that are left are its own.
fn log_line(event: &str, request: Option<RequestId>) -> String {
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
    match request {
        Some(id) => format!("{line} {}={id}\n", kind_of(id)),
        None => line + "\n",
    }
}

/// The same of an event in JSON, an object.
fn json_log_line(event: &str, request: Option<RequestId>) -> String {
    let line = printable_json(event.trim_end_matches('\n'));
    match (request, line.strip_suffix('}')) {
        (Some(id), Some(fields)) => format!("{fields},\"{}\":\"{id}\"}}\n", kind_of(id)),
        _ => line + "\n",
    }
}

fn kind_of(id: RequestId) -> &'static str {
    if id.is_connection() { "connection" } else { "request" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_id::RequestIds;

    #[test]
    fn an_event_of_the_log_is_one_line_in_its_own_colours() {
        let event = "\x1b[33m WARN\x1b[0m \x1b[2mx\x1b[0m a\n ERROR b\r\x1b]0;t\x07\x1b[2J\u{9b}\u{202e}\tc\n";
        let shown =
            "\x1b[33m WARN\x1b[0m \x1b[2mx\x1b[0m a\\n ERROR b\\r\\u{1b}]0;t\\u{7}\\u{1b}[2J\\u{9b}\\u{202e}\tc\n";
        assert_eq!(log_line(event, None), shown);
        assert_eq!(log_line("", None), "\n");
    }

    #[test]
    fn an_event_has_the_number_of_what_it_is_about_in_either_form() {
        let ids = RequestIds::of(12);
        let (connection, request) = (Some(ids.connection()), Some(ids.next()));
        assert_eq!(log_line(" WARN miss a=b\n", request), " WARN miss a=b request=12.1\n");
        assert_eq!(log_line("DEBUG tunnel\n", connection), "DEBUG tunnel connection=12\n");
        let event = "{\"message\":\"\u{9b}}\",\"spans\":[{}]}\n";
        let shown = "{\"message\":\"\\u009b}\",\"spans\":[{}]";
        assert_eq!(json_log_line(event, request), format!("{shown},\"request\":\"12.1\"}}\n"));
        assert_eq!(json_log_line(event, connection), format!("{shown},\"connection\":\"12\"}}\n"));
        assert_eq!(json_log_line(event, None), format!("{shown}}}\n"));
    }
}

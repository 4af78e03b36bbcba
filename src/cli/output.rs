//! How the commands talk to people: on stderr, in colour only on a terminal.
//!
//! What comes from elsewhere (inventories, origins, names of files) is in most of what is said, so all of it goes through here:
//! no character that could make a terminal do something leaves by this way but those of our own colours.

use std::{
    fmt::Display,
    io::{self, ErrorKind, IsTerminal, Write, stderr, stdout},
    sync::atomic::{AtomicBool, Ordering},
};

use serde_json::{Map, Value, json};
use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime, SystemTime},
};

use super::logging::{FORMAT_VARIABLE, LogFormat};
use crate::{
    access_log::Entry,
    request_id::RequestId,
    text::{printable_json, printable_lines},
};

/// Whether stderr is for programs that collect logs: a JSON object a line.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Sets how stderr is written, once, before anything is said.
pub fn set_format(format: LogFormat) {
    IS_JSON.store(format == LogFormat::Json, Ordering::Relaxed);
}

fn is_json() -> bool {
    IS_JSON.load(Ordering::Relaxed)
}

/// The arguments by which another process of this program writes to stderr as this one does.
pub fn format_arguments() -> &'static [&'static str] {
    if is_json() { &["--log-format", "json"] } else { &[] }
}

/// Whether stderr takes colour: a terminal, and neither `NO_COLOR` nor `TERM=dumb`.
pub fn stderr_has_colour() -> bool {
    has_colour(&stderr())
}

fn has_colour(output: &impl IsTerminal) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_json() && output.is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
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
        false => headed(&paint(verb, "1"), " ", what),
    }
}

fn headed(head: &str, gap: &str, text: impl Display) {
    say_as_it_is(&format!("{head}{gap}{}", printable_lines(&text.to_string())));
}

fn say_as_it_is(line: &str) {
    // At once: others write there as well. Where nobody listens any more, there is nothing left to do.
    let _ = stderr().write_all(format!("{line}\n").as_bytes());
}

/// What went wrong.
pub fn error(error: &dyn Display) {
    match is_json() {
        true => event("ERROR", &error.to_string(), Map::new()),
        false => headed(&paint("error", "1;31"), ": ", error),
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

/// What clap says, of usage or of help. The arguments, which could say in which form, are not understood then.
pub fn usage(error: &clap::Error) {
    let arguments: Vec<_> = std::env::args_os().collect();
    let named = arguments.windows(2).rfind(|pair| pair[0] == "--log-format").map(|pair| pair[1].clone());
    let named = named.or_else(|| {
        let spelled = arguments.iter().rev().find_map(|argument| argument.to_str()?.strip_prefix("--log-format="));
        spelled.map(Into::into).or_else(|| std::env::var_os(FORMAT_VARIABLE))
    });
    if error.use_stderr() && named.is_some_and(|format| format == "json") {
        let text = error.to_string();
        return event("ERROR", text.trim().trim_start_matches("error: "), Map::new());
    }
    // A closed stderr is no reason to change the exit code.
    let _ = error.print();
}

/// A line of JSON, as the log has them. A hint within `message` is a field of its own.
fn event(level: &str, message: &str, fields: Map<String, Value>) {
    let mut timestamp = String::new();
    // Writing to a String cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    let (message, hint) = match message.split_once("\n\nhint: ") {
        Some((message, hint)) => (message, Some(hint)),
        None => (message, None),
    };
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
        stderr().write_all(line.as_bytes()).map(|()| event.len())
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

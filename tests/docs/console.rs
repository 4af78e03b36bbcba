//! Runs what a page shows of a terminal and compares what is printed.
//!
//! A line `$ COMMAND` is run by one bash for the whole page, in fixtures/docs/world.sh; it goes on in the next line where
//! it ends with a backslash. What follows, up to the next command, is what it prints, on either output. A line `…` stands
//! for any lines, also none, and `…` in a line for any text. A command that fails is followed by `$ echo $?`.

use std::{fmt::Write as _, fs};

use crate::common::{Workdir, run, sandbox::repository};

/// What a reader does.
pub enum Step {
    /// A command and the lines that it prints.
    Shown(String, Vec<String>),
    /// A command that the page does not show.
    Silent(String),
    /// A file with its content.
    File(String, String),
}

/// The commands of a `console` block, each with its line in the block, from 1.
pub fn steps(block: &str) -> Vec<(usize, Step)> {
    let mut steps: Vec<(usize, String, Vec<String>)> = Vec::new();
    for (line, number) in block.lines().zip(1..) {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push((number, command.to_owned(), Vec::new())),
            (None, Some((_, command, printed))) if printed.is_empty() && command.ends_with('\\') => {
                *command += &format!("\n{line}");
            }
            (None, Some((_, _, printed))) => printed.push(line.trim_end().to_owned()),
            (None, None) => panic!("a console block begins with `$ `, not with {line}"),
        }
    }
    let shown = |(line, command, mut printed): (usize, String, Vec<String>)| {
        printed.truncate(printed.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1));
        (line, Step::Shown(command, printed))
    };
    steps.into_iter().map(shown).collect()
}

/// The session of docs/session.svg: its text elements, without the tags within them.
pub fn of_svg(svg: &str) -> Vec<(usize, Step)> {
    let mut block = String::new();
    let mut session = Vec::new();
    for line in svg.lines() {
        if let Some(command) = line.strip_prefix("<!-- setup: ").and_then(|line| line.strip_suffix(" -->")) {
            session.push((0, Step::Silent(command.to_owned())));
        }
        let Some((_, text)) = line.split_once("<text ").and_then(|(_, rest)| rest.split_once('>')) else { continue };
        let mut tag = false;
        let text: String = text
            .chars()
            .filter(|c| {
                let inside = tag;
                tag = (tag || *c == '<') && *c != '>';
                !inside && !tag
            })
            .collect();
        let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
        block += &format!("{}\n", text.trim_end());
    }
    session.extend(steps(&block));
    session
}

/// Does what `session` says, and fails where something else is printed than the page shows.
#[track_caller]
pub fn check(work: &Workdir, page: &str, session: &[(usize, Step)]) {
    let world = work.path("world");
    let results = work.path("results");
    fs::create_dir(&results).unwrap();
    let mut script = format!("export REPOSITORY='{}'\n", env!("CARGO_MANIFEST_DIR"));
    for (at, (_, step)) in session.iter().enumerate() {
        let result = results.join(at.to_string());
        let (command, end) = match step {
            Step::File(name, text) => {
                fs::write(result.with_extension("file"), text).unwrap();
                (format!("mkdir -p \"$(dirname '{name}')\"; cp '{}.file' '{name}'", result.display()), "")
            }
            Step::Silent(command) => (command.clone(), ""),
            Step::Shown(command, _) => (command.clone(), "; (exit $code)"),
        };
        // In the shell itself, so that `cd`, variables and `$?` go on to the next command.
        let result = result.display();
        writeln!(script, "{{ {command}\n}} >'{result}' 2>&1; code=$?; echo $code >'{result}.code'{end}").unwrap();
    }
    work.write("session.sh", script);
    let mut command = work.command(repository("fixtures/docs/world.sh"));
    command.env("BUILDPROXY", env!("CARGO_BIN_EXE_buildproxy")).env("TERM", "dumb");
    let outcome = run(command.arg(&world).arg("bash").arg(work.path("session.sh")));
    for (at, (line, step)) in session.iter().enumerate() {
        let read = |name: String| {
            fs::read_to_string(results.join(name)).unwrap_or_else(|_| panic!("{page}:{line} was not run: {outcome}"))
        };
        let (printed, code) = (read(at.to_string()), read(format!("{at}.code")));
        let is_asked = matches!(session.get(at + 1), Some((_, Step::Shown(next, _))) if next == "echo $?");
        assert!(code.trim() == "0" || is_asked, "{page}:{line}: exit code {}:\n{printed}", code.trim());
        let Step::Shown(command, shown) = step else { continue };
        let printed: Vec<&str> = printed.trim_end().lines().map(str::trim_end).collect();
        assert!(
            same(shown, &printed),
            "{page}:{line}: $ {command}\n-- the page has\n{}\n-- it prints\n{}",
            shown.join("\n"),
            printed.join("\n")
        );
    }
}

/// Whether `printed` is what `shown` allows.
pub fn same(shown: &[String], printed: &[&str]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((line, rest)) if line == "…" => (0..=printed.len()).any(|skipped| same(rest, &printed[skipped..])),
        Some((line, rest)) => printed.split_first().is_some_and(|(next, after)| fits(line, next) && same(rest, after)),
    }
}

/// Whether `text` is `pattern` with some text for each `…` in it.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('…') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| fits(after, &rest[at..]))
        }),
    }
}

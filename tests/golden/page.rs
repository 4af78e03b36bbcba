//! A golden page: commands, each with what it prints.
//!
//! A line `$ COMMAND` of a `console` block is run by one bash for the whole page, in an empty folder; it goes on in the next
//! line where it ends with a backslash. A line `? N` after it is its exit code, where that is not 0. What follows, up to the
//! next command, is what it prints, on either output. A block after `<!-- file: NAME -->` is written to that file, and
//! `<!-- setup: COMMAND -->` is run without being shown. `[ORIGIN]` and the like stand for what differs from run to run.

use std::{fmt::Write as _, fs, path::PathBuf};

use snapbox::{Assert, Data, Redactions, data::DataFormat};

use crate::common::{Awkward, Outcome, Workdir, run, sandbox::repository, tree_of_files, workdir::behind};

/// What overwrites the pages with what is printed: `SNAPSHOTS=overwrite`.
const UPDATE_VARIABLE: &str = "SNAPSHOTS";

/// Far above what any page needs, in seconds.
const PATIENCE: &str = "100";

/// A part of a page, in its order.
enum Part {
    /// What is there for people, and the fences.
    Prose(String),
    /// A command, and whether what it prints is shown.
    Command { line: usize, text: String, is_shown: bool },
    /// A file's name and content.
    File(String, String),
}

/// Where a page's commands run.
struct World {
    work: Workdir,
    origin: Awkward,
}

/// The pages' names, in their order.
pub fn names() -> Vec<String> {
    let name = |file: PathBuf| Some(file.strip_prefix(folder()).unwrap().to_str()?.strip_suffix(".md")?.to_owned());
    let mut names: Vec<String> = tree_of_files(&folder()).into_iter().filter_map(name).collect();
    names.sort();
    names
}

pub fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{}: {error}", path(name).display()))
}

fn folder() -> PathBuf {
    repository("tests/golden")
}

/// The file of the page `name`.
pub fn path(name: &str) -> PathBuf {
    folder().join(format!("{name}.md"))
}

/// Whether the pages are to be written anew.
pub fn is_written() -> bool {
    std::env::var_os(UPDATE_VARIABLE).is_some_and(|value| value == "overwrite")
}

/// Runs a page's commands and compares what they print with what it has.
///
/// # Errors
/// What differs.
pub fn check(name: &str) -> Result<(), String> {
    let parts = parts(&read(name));
    let world = World { work: Workdir::new(), origin: Awkward::start() };
    compare(name, &world.render(name, &parts)?)
}

/// Compares the page `name` with `now`.
///
/// # Errors
/// What differs.
fn compare(name: &str, now: &str) -> Result<(), String> {
    let page = Data::read_from(&path(name), Some(DataFormat::Text));
    let assert = Assert::new().normalize_paths(false).action_env(UPDATE_VARIABLE);
    assert.try_eq(Some(&name), Data::text(now), page).map_err(|difference| difference.to_string())
}

fn parts(page: &str) -> Vec<Part> {
    let mut parts = vec![Part::Prose(String::new())];
    let mut lines = page.lines().zip(1..).peekable();
    while let Some((line, number)) = lines.next() {
        prose(&mut parts, line);
        if let Some(command) = comment(line, "setup") {
            parts.push(Part::Command { line: number, text: command.to_owned(), is_shown: false });
        } else if let Some(name) = comment(line, "file") {
            let fence = lines.next().expect("a block behind the comment").0;
            prose(&mut parts, fence);
            let mut content = String::new();
            while let Some((line, _)) = lines.next_if(|(line, _)| *line != "```") {
                content += &format!("{line}\n");
                prose(&mut parts, line);
            }
            parts.push(Part::File(name.to_owned(), content));
        } else if line == "```console" {
            let mut is_first = true;
            while let Some((line, number)) = lines.next_if(|(line, _)| *line != "```") {
                let Some(command) = line.strip_prefix("$ ") else {
                    assert!(!is_first, "line {number}: a console block begins with `$ `");
                    continue;
                };
                is_first = false;
                let mut text = command.to_owned();
                while text.ends_with('\\') {
                    text += &format!("\n{}", lines.next().expect("a line behind a backslash").0);
                }
                parts.push(Part::Command { line: number, text, is_shown: true });
            }
        }
    }
    parts
}

fn prose(parts: &mut Vec<Part>, line: &str) {
    match parts.last_mut() {
        Some(Part::Prose(text)) => *text += &format!("{line}\n"),
        _ => parts.push(Part::Prose(format!("{line}\n"))),
    }
}

/// `VALUE` of a line `<!-- KEY: VALUE -->`.
fn comment<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix("<!-- ")?.strip_suffix(" -->")?.strip_prefix(key)?.strip_prefix(": ")
}

impl World {
    /// The page as it is now.
    fn render(&self, name: &str, parts: &[Part]) -> Result<String, String> {
        let (outcome, redactions) = (self.run(parts), self.redactions());
        let mut page = String::new();
        for (at, part) in parts.iter().enumerate() {
            match part {
                Part::Prose(text) => page += text,
                Part::File(..) => {}
                Part::Command { line, text, is_shown } => {
                    let read = |what: &str| fs::read_to_string(self.work.root().join(format!("{at}.{what}")));
                    let (Ok(printed), Ok(code)) = (read("printed"), read("code")) else {
                        return Err(format!("{name}:{line}: `{text}` was not run: {outcome}"));
                    };
                    let code = code.trim();
                    if *is_shown {
                        let printed = ports().redact(&redactions.redact(&printed));
                        show(&mut page, text, code, &printed);
                    } else if code != "0" {
                        return Err(format!("{name}:{line}: `{text}` fails with {code}: {printed}"));
                    }
                }
            }
        }
        Ok(page)
    }

    /// Runs all commands, in the shell itself, so that `cd` and variables go on to the next one.
    fn run(&self, parts: &[Part]) -> Outcome {
        let root = self.work.root().display();
        let mut script = String::new();
        for (at, part) in parts.iter().enumerate() {
            let command = match part {
                Part::Prose(_) => continue,
                Part::Command { text, .. } => text.clone(),
                Part::File(name, content) => {
                    let content =
                        content.replace("[ORIGIN]", &self.origin.url("")).replace("[TLS]", &self.origin.tls_url(""));
                    fs::write(self.work.root().join(format!("{at}.file")), content).unwrap();
                    format!("mkdir -p \"$(dirname '{name}')\"; cp '{root}/{at}.file' '{name}'")
                }
            };
            writeln!(script, "{{ {command}\n}} >'{root}/{at}.printed' 2>&1; echo $? >'{root}/{at}.code'").unwrap();
        }
        let file = self.work.root().join("page.sh");
        fs::write(&file, script).unwrap();
        let mut bash = self.work.command("bash");
        let program = PathBuf::from(env!("CARGO_BIN_EXE_buildproxy"));
        bash.env("PATH", format!("{}:{}:/usr/sbin:/sbin", program.parent().unwrap().display(), env_path()));
        let ca = self.work.root().join("origin-ca.pem");
        fs::write(&ca, &self.origin.ca.pem).unwrap();
        bash.env("ORIGIN", self.origin.url("")).env("TLS", self.origin.tls_url("")).env("ROOT", self.work.root());
        bash.env("BUILDPROXY", &program);
        bash.env("SSL_CERT_FILE", ca)
            .env("BUILDPROXY_STORE", self.work.store())
            .env("BUILDPROXY_PROXY_LOOPBACK", "true");
        // A page that hangs says where.
        bash.arg(file);
        run(&mut behind(&["timeout", "-k", "5", PATIENCE], &bash))
    }

    /// What differs from run to run, and nothing else.
    fn redactions(&self) -> Redactions {
        let mut redactions = Redactions::new();
        let root = self.work.root().display().to_string();
        for (placeholder, value) in
            [("[ORIGIN]", self.origin.url("")), ("[TLS]", self.origin.tls_url("")), ("[ROOT]", root)]
        {
            redactions.insert(placeholder, value).unwrap();
        }
        for (placeholder, pattern) in [
            ("[PORT]", r"127\.0\.0\.1:(?<redacted>[0-9]{5})\b"),
            ("[RESOLVER]", r"failed to lookup address information: (?<redacted>[A-Z][^\n]*)"),
            ("[PID]", r"\(process (?<redacted>[0-9]+)\)"),
            ("[TEMPORARY]", r"/(\.tmp-|\.?buildproxy-|buildproxy-isolated-|journal-)(?<redacted>\w{6})\b"),
            ("[JOB]", r"page\.sh: line (?<redacted>[0-9]+: +[0-9]+) Killed"),
            ("[SYSTEM]", r"\b(?<redacted>(x86_64|aarch64)-linux)\b"),
        ] {
            redactions.insert(placeholder, regex::Regex::new(pattern).unwrap()).unwrap();
        }
        redactions
    }
}

/// What is left of ports when the origin's have their names.
fn ports() -> Redactions {
    let mut redactions = Redactions::new();
    let pattern = regex::Regex::new(r"\blocalhost:(?<redacted>[0-9]{5})\b").unwrap();
    redactions.insert("[PORT]", pattern).unwrap();
    redactions
}

fn env_path() -> String {
    std::env::var("PATH").unwrap()
}

fn show(page: &mut String, command: &str, code: &str, printed: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(page, "$ {command}");
    if code != "0" {
        let _ = writeln!(page, "? {code}");
    }
    let printed: Vec<&str> = printed.trim_end().lines().map(str::trim_end).collect();
    if !printed.is_empty() && printed != [""] {
        let _ = writeln!(page, "{}", printed.join("\n"));
    }
}

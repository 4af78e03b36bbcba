//! Every text that the program can say, as its source has it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::common::{sandbox::repository, tree_of_files};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A string literal of the source, and what it is for.
pub struct Text {
    /// `src/FILE.rs:LINE`.
    pub place: String,
    pub value: String,
    pub is_for: For,
}

/// What has the same pieces is said as often as the source has it.
pub fn by_pieces<'a>(texts: impl Iterator<Item = &'a Text>) -> BTreeMap<Vec<String>, Vec<&'a Text>> {
    let mut groups: BTreeMap<Vec<String>, Vec<&Text>> = BTreeMap::new();
    for text in texts {
        let pieces = pieces(&text.value).iter().map(|piece| without_systems(piece)).collect();
        groups.entry(pieces).or_default().push(text);
    }
    groups
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// `#[error("…")]`.
    Error,
    /// What is given to `output::error`, `warning`, `hint`, `done` or `say`.
    Output,
    /// A test of its own.
    Test,
    /// The log, the help (which has its own pages), documentation.
    Elsewhere,
    /// Anything else: parts of messages, and names, keys and the like.
    Other,
}

/// All of `src/`.
pub fn all() -> Vec<Text> {
    let mut files: Vec<PathBuf> = tree_of_files(&repository("src"));
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    files.sort();
    let mut texts = Vec::new();
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(repository("")).unwrap().display().to_string();
        let tokens = TokenStream::from_str(&source).unwrap_or_else(|error| panic!("{name}: {error}"));
        let is_for = if is_test_file(&file) { For::Test } else { For::Other };
        collect(tokens, &name, is_for, &mut texts);
    }
    texts
}

fn is_test_file(file: &Path) -> bool {
    file.iter().any(|part| {
        part.to_str().is_some_and(|part| {
            matches!(part, "tests" | "tests.rs" | "wire_tests" | "documentation.rs" | "reference.rs")
        })
    })
}

fn collect(tokens: TokenStream, file: &str, is_for: For, texts: &mut Vec<Text>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut is_test_item = false;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Literal(literal) => {
                if let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string()) {
                    let place = format!("{file}:{}", literal.span().start().line);
                    texts.push(Text { place, value: text.value(), is_for });
                }
            }
            TokenTree::Group(group) => {
                let before = |steps: usize| at.checked_sub(steps).map(|at| tokens[at].to_string());
                let is_attribute = group.delimiter() == Delimiter::Bracket
                    && (before(1).as_deref() == Some("#")
                        || before(1).as_deref() == Some("!") && before(2).as_deref() == Some("#"));
                if is_attribute {
                    let inside = group.stream().to_string().replace(' ', "");
                    is_test_item |=
                        inside.starts_with("cfg(") && inside.contains("test") && !inside.contains("not(test")
                            || inside == "test"
                            || inside == "tokio::test";
                    let within = match (is_for, inside.starts_with("error(")) {
                        (For::Test, _) => For::Test,
                        (_, true) => For::Error,
                        (_, false) => For::Elsewhere,
                    };
                    collect(group.stream(), file, within, texts);
                    continue;
                }
                let is_test = is_for == For::Test || is_test_item;
                let called = || before(1).filter(|name| name != "!").or_else(|| before(2)).unwrap_or_default();
                let within = match is_for {
                    _ if is_test => For::Test,
                    For::Other if group.delimiter() == Delimiter::Parenthesis => {
                        purpose(&called(), &|steps| before(steps))
                    }
                    other => other,
                };
                collect(group.stream(), file, within, texts);
                if group.delimiter() == Delimiter::Brace {
                    is_test_item = false;
                }
            }
            TokenTree::Punct(punct) if punct.as_char() == ';' => is_test_item = false,
            TokenTree::Punct(_) | TokenTree::Ident(_) => {}
        }
    }
}

/// What the arguments of a call are for.
fn purpose(called: &str, before: &dyn Fn(usize) -> Option<String>) -> For {
    let is = |steps: usize, name: &str| before(steps).as_deref() == Some(name);
    match called {
        "error" | "warning" | "hint" | "done" | "say" if is(2, ":") && is(4, "output") => For::Output,
        "trace" | "debug" | "info" | "warn" | "error" | "debug_span" | "info_span" if is(1, "!") => For::Elsewhere,
        "assert" | "debug_assert" | "unreachable" | "expect" | "set_var" | "env" | "concat" => For::Elsewhere,
        _ => For::Other,
    }
}

impl Text {
    /// Whether people read it, as a part of a message at least.
    pub fn is_said(&self) -> bool {
        let words = self.value.split(' ').filter(|word| word.chars().filter(|c| c.is_alphabetic()).count() > 1).count();
        let is_text =
            pieces(&self.value).iter().flat_map(|piece| piece.chars()).filter(|c| c.is_alphabetic()).count() > 3;
        match self.is_for {
            For::Error | For::Output => is_text,
            For::Other => is_text && words > 2,
            For::Test | For::Elsewhere => false,
        }
    }
}

/// How far apart two pieces of a text can be, in bytes: what is put in between.
const GAP: usize = 600;

/// What `literal` has between the values that are put in. A hint can be set apart from what it is about.
fn pieces(literal: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let literal = literal.replace("; hint: ", "{}hint: ");
    let mut characters = literal.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '{' | '}' if characters.peek() == Some(&character) => {
                characters.next();
                pieces.last_mut().unwrap().push(character);
            }
            '{' => {
                while characters.next().is_some_and(|inside| inside != '}') {}
                pieces.push(String::new());
            }
            other => pieces.last_mut().unwrap().push(other),
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    if let Some(first) = pieces.first_mut() {
        *first = first.trim_start().to_owned();
    }
    if let Some(last) = pieces.last_mut() {
        *last = last.trim_end().to_owned();
    }
    pieces
}

/// What is said on pages, and in tests.
pub struct Said(String);

impl Said {
    pub fn new(parts: impl Iterator<Item = String>) -> Self {
        Self(without_systems(&parts.collect::<Vec<_>>().join("\0")))
    }

    /// How often the pieces of a text stand in one part, in their order, with not more than values between them.
    pub fn times(&self, pieces: &[String]) -> usize {
        let Some((first, rest)) = pieces.split_first() else { return 0 };
        let found = self.0.match_indices(first.as_str());
        found.filter(|(at, _)| follow(rest, &self.0[at + first.len()..])).count()
    }
}

/// Pages have a word for the system that they were made on.
fn without_systems(text: &str) -> String {
    text.replace("x86_64-linux", "[SYSTEM]").replace("aarch64-linux", "[SYSTEM]")
}

fn follow(pieces: &[String], said: &str) -> bool {
    let Some((first, rest)) = pieces.split_first() else { return true };
    let end = said.find('\0').unwrap_or(said.len()).min(GAP + first.len());
    let end = (0..=end).rev().find(|&end| said.is_char_boundary(end)).unwrap_or(0);
    let found = said[..end].match_indices(first.as_str()).map(|(at, _)| at + first.len());
    found.into_iter().any(|at| follow(rest, &said[at..]))
}

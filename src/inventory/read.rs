//! Reading an inventory, TOML or JSON, with errors that say what, where and what to do.

mod headers;
mod pieces;
mod place;
mod raw;
mod rules;
mod transcode;
mod words;

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::Deserialize;

pub use self::pieces::entry_lines;
pub(super) use self::pieces::{Form, Piece, divide, entry_of};
use self::{pieces::parse_pieces, raw::RawInventory};
use super::{
    compiled::{self, CompiledError},
    entry::Inventory,
    strict,
};
use crate::text::{is_deceptive, printable};

/// The longest inventory in bytes: a hundred times that of a very large build.
pub const LONGEST: u64 = 512 << 20;

/// Characters of a line that a message shows.
const LONGEST_EXCERPT: usize = 200;

/// The only version of the format there is.
pub const VERSION: i64 = 1;

/// Why an inventory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read the inventory {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is no inventory.
    #[error("{}:{syntax}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong where.
        syntax: SyntaxError,
    },
    /// The file is a compiled inventory that cannot be used.
    #[error("{}: {source}\n\nhint: run `buildproxy index` again on the inventory that it was made of", path.display())]
    Compiled {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: CompiledError,
    },
}

/// What is wrong in the text of an inventory, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
    /// The line's text, or a part of it.
    excerpt: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, message, hint, excerpt } = self;
        let margin = " ".repeat(line.to_string().len());
        // What is left out stands as one character.
        let skipped = skipped(*column);
        let indent = " ".repeat(column.saturating_sub(1 + skipped) + usize::from(skipped > 0));
        writeln!(f, "{line}:{column}: {}", printable(message))?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{line} | {excerpt}")?;
        write!(f, "{margin} | {indent}^")?;
        match hint {
            Some(hint) => write!(f, "\n\nhint: {}", printable(hint)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for SyntaxError {}

/// What is in the file of an inventory.
pub(super) enum Content {
    /// TOML or JSON.
    Text(String),
    /// The compiled form, checked.
    Compiled(Box<compiled::Parts>),
}

/// How an inventory is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileForm {
    /// For people: what captures write, and what can be edited.
    Toml,
    /// By other programs.
    Json,
    /// By `buildproxy index`.
    Compiled,
}

/// Reads the inventory at `path`: TOML, JSON, or the compiled form of either.
///
/// # Errors
/// Where the file cannot be read or is no inventory of a known version.
pub fn read(path: &Path) -> Result<Inventory, ReadError> {
    read_with_form(path).map(|(inventory, _)| inventory)
}

/// Reads the inventory at `path`, and how it is written: of one file, whatever becomes of it meanwhile.
///
/// # Errors
/// As for [`read`].
pub fn read_with_form(path: &Path) -> Result<(Inventory, FileForm), ReadError> {
    let (text, form) = match open(path)? {
        Content::Text(text) if is_json(&text) => (text, FileForm::Json),
        Content::Text(text) => (text, FileForm::Toml),
        Content::Compiled(parts) => (parts.text, FileForm::Compiled),
    };
    Ok((parse_file(path, &text)?, form))
}

/// Parses `text`, which is that of the file at `path`.
pub(super) fn parse_file(path: &Path, text: &str) -> Result<Inventory, ReadError> {
    parse(text).map_err(|syntax| ReadError::Syntax { path: path.to_owned(), syntax })
}

/// Reads the file at `path`, and of a compiled inventory everything but its entries.
pub(super) fn open(path: &Path) -> Result<Content, ReadError> {
    let io = |source| ReadError::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io)?.take(LONGEST + 1);
    let mut bytes = Vec::new();
    file.by_ref().take(compiled::HEADER_LENGTH as u64).read_to_end(&mut bytes).map_err(io)?;
    if compiled::is_compiled(&bytes) {
        // It says itself how long it is.
        let parts = compiled::read(&bytes, file.get_mut());
        return parts.map(|parts| Content::Compiled(Box::new(parts))).map_err(|error| match error {
            CompiledError::Io(source) => io(source),
            source => ReadError::Compiled { path: path.to_owned(), source },
        });
    }
    let size = file.get_ref().metadata().map_or(0, |metadata| metadata.len().min(LONGEST));
    bytes.reserve_exact(usize::try_from(size).unwrap_or(0).saturating_sub(bytes.len()) + 1);
    file.read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > LONGEST {
        let message = format!("it has more than {} MiB, the most that an inventory can have", LONGEST >> 20);
        return Err(io(io::Error::new(io::ErrorKind::FileTooLarge, message)));
    }
    String::from_utf8(bytes).map(Content::Text).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        let syntax = SyntaxError::at(&text, valid, "this is not UTF-8, in which inventories are written");
        ReadError::Syntax { path: path.to_owned(), syntax }
    })
}

/// Reads an inventory from `text`: JSON where it starts with a brace, else TOML.
///
/// # Errors
/// Where the text is no inventory of a known version.
pub fn parse(text: &str) -> Result<Inventory, SyntaxError> {
    parse_pieces(text).map_or_else(|| parse_whole(text), Ok)
}

/// Reads an inventory from `text` in one go: what `parse_pieces` leaves to it, and the words for what is wrong.
///
/// # Errors
/// Where the text is no inventory of a known version.
pub fn parse_whole(text: &str) -> Result<Inventory, SyntaxError> {
    if is_json(text) { parse_json(text) } else { parse_toml(text) }
}

/// Whether `text` is to be read as JSON. No TOML document starts with a brace.
pub fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

fn parse_toml(text: &str) -> Result<Inventory, SyntaxError> {
    let raw: RawInventory = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let version = toml::from_str::<VersionOnly>(text).ok().and_then(|only| only.version);
        unknown_version(version, text).unwrap_or_else(|| SyntaxError::at(text, start, error.message()))
    })?;
    strict::check(text).map_err(|(offset, message)| SyntaxError::at(text, offset, message))?;
    raw.into_inventory(text)
}

fn parse_json(text: &str) -> Result<Inventory, SyntaxError> {
    let raw: RawInventory = serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        let position = format!(" at line {} column {}", error.line(), error.column());
        let version = serde_json::from_str::<VersionOnly>(text).ok().and_then(|only| only.version);
        unknown_version(version, text).unwrap_or_else(|| {
            SyntaxError::at(text, place::of_error(text, &error), message.strip_suffix(&position).unwrap_or(&message))
        })
    })?;
    strict::check_json(text).map_err(|(offset, message)| SyntaxError::at(text, offset, message))?;
    raw.into_inventory(text)
}

/// A file of another version has keys that this one does not know: the version is the better message.
fn unknown_version(version: Option<i64>, text: &str) -> Option<SyntaxError> {
    let version = version.filter(|&version| version != VERSION)?;
    let offset = text.find("version").unwrap_or(0);
    let is_quoted = text[..offset].ends_with('"');
    let offset = offset - usize::from(is_quoted);
    let mut error = SyntaxError::at(text, offset, &format!("this is an inventory of version {version}"));
    error.hint = Some(format!("this buildproxy reads version {VERSION}; a newer one may read it"));
    Some(error)
}

impl SyntaxError {
    fn at(text: &str, offset: usize, message: &str) -> Self {
        let offset = (0..=offset.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        let before = &text[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let whole = text[line_start..].lines().next().unwrap_or("");
        let column = before[line_start..].chars().count() + 1;
        let skipped = skipped(column);
        let mark = if skipped > 0 { "…" } else { "" };
        let shown = whole.chars().skip(skipped).take(LONGEST_EXCERPT);
        let excerpt = mark.chars().chain(shown.map(|c| if is_deceptive(c) { ' ' } else { c })).collect();
        let (message, hint) = words::explain(message);
        Self { line: before.matches('\n').count() + 1, column, message, hint, excerpt }
    }
}

/// How many characters of a line are left out before `column`: a line of a compact JSON file is the whole file.
fn skipped(column: usize) -> usize {
    if column > LONGEST_EXCERPT / 2 { column - LONGEST_EXCERPT / 4 } else { 0 }
}

#[derive(Deserialize)]
struct VersionOnly {
    version: Option<i64>,
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

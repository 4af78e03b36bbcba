//! Reading an inventory, TOML or JSON, with errors that say what, where and what to do.

mod headers;
mod pieces;
mod place;
mod rules;
mod transcode;
mod words;

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use http::Method;
use serde::{Deserialize, Deserializer, de};

pub use self::pieces::entry_lines;
pub(super) use self::pieces::{Form, Piece, divide, entry_of};
use self::{pieces::parse_pieces, rules::RawMatch};
use super::{
    compiled::{self, CompiledError},
    entry::{Body, Entry, Headers, Hop, Inventory, Source, UrlMatch},
    request_body::{BodyDigest, BodyForm},
    strict,
};
use crate::{
    store::{hash::NixHash, path::StorePathName},
    text::{is_deceptive, printable},
    url::NormalizedUrl,
};

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawInventory {
    version: i64,
    #[serde(default)]
    r#match: RawMatch,
    #[serde(default)]
    entry: Vec<Entry>,
}

impl RawInventory {
    fn into_inventory(self, text: &str) -> Result<Inventory, SyntaxError> {
        match unknown_version(Some(self.version), text) {
            Some(error) => Err(error),
            None => Ok(Inventory { match_rules: self.r#match.into(), entries: self.entry }),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawEntry {
    #[serde(default, deserialize_with = "method")]
    method: Method,
    url: NormalizedUrl,
    #[serde(default)]
    r#match: RawUrlMatch,
    request_body: Option<NixHash>,
    #[serde(default, deserialize_with = "body_form")]
    request_body_as: Option<BodyForm>,
    #[serde(default, deserialize_with = "headers::of_request")]
    request_headers: BTreeMap<String, String>,
    #[serde(default)]
    systems: Vec<System>,
    #[serde(default)]
    redirects: Vec<RawHop>,
    #[serde(default = "ok", deserialize_with = "final_status")]
    status: u16,
    #[serde(default)]
    headers: Headers,
    body: Option<Body>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
enum RawUrlMatch {
    #[default]
    Exact,
    Prefix,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawHop {
    #[serde(deserialize_with = "redirect_status")]
    status: u16,
    #[serde(deserialize_with = "location")]
    location: String,
    #[serde(default)]
    headers: Headers,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawBody {
    hash: Option<NixHash>,
    size: Option<u64>,
    name: Option<StorePathName>,
    fetch: Option<String>,
    file: Option<String>,
    text: Option<String>,
    store_path: Option<String>,
    nar_hash: Option<NixHash>,
}

/// A system's name, checked where it stands.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct System(String);

impl TryFrom<String> for System {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        plain("a system's name", &name).map(|()| Self(name))
    }
}

fn ok() -> u16 {
    200
}

/// Names of files and systems are shown, compared and copied by people.
fn plain(what: &str, text: &str) -> Result<(), String> {
    match text.chars().find(|&character| is_deceptive(character)) {
        Some(character) => Err(format!(
            "{what} has the character U+{:04X}, which nothing shows as it is; hint: leave it out",
            character as u32
        )),
        None => Ok(()),
    }
}

fn method<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Method, D::Error> {
    let name = String::deserialize(deserializer)?;
    Method::from_bytes(name.as_bytes()).map_err(|_| de::Error::custom(format!("`{name}` is not a method")))
}

fn body_form<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BodyForm>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(de::Error::custom)
}

fn final_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let status = u16::deserialize(deserializer)?;
    let message = || format!("{status} is not the status of a final response: it has to be 200 to 599");
    (200..=599).contains(&status).then_some(status).ok_or_else(|| de::Error::custom(message()))
}

fn redirect_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let status = u16::deserialize(deserializer)?;
    let message = || format!("{status} is not the status of a redirect: it has to be 300 to 399");
    (300..=399).contains(&status).then_some(status).ok_or_else(|| de::Error::custom(message()))
}

fn location<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let location = String::deserialize(deserializer)?;
    Headers::default().append("location", &location).map_err(de::Error::custom)?;
    Ok(location)
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawEntry::deserialize(deserializer)?;
        let hop = |hop: RawHop| Hop { status: hop.status, location: hop.location, headers: hop.headers };
        let request_body = match (raw.request_body, raw.request_body_as) {
            (None, Some(_)) => {
                return Err(de::Error::custom(
                    "`request-body-as` says how `request-body` is compared, which is missing",
                ));
            }
            (hash, form) => hash.map(|hash| BodyDigest { form: form.unwrap_or(BodyForm::Bytes), hash }),
        };
        Ok(Entry {
            method: raw.method,
            url: raw.url,
            url_match: match raw.r#match {
                RawUrlMatch::Exact => UrlMatch::Exact,
                RawUrlMatch::Prefix => UrlMatch::Prefix,
            },
            request_body,
            request_headers: raw.request_headers,
            systems: raw.systems.into_iter().map(|system| system.0).collect(),
            redirects: raw.redirects.into_iter().map(hop).collect(),
            status: raw.status,
            headers: raw.headers,
            body: raw.body,
        })
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawBody::deserialize(deserializer)?.check().map_err(de::Error::custom)
    }
}

impl RawBody {
    fn check(self) -> Result<Body, String> {
        let is_store_path = self.store_path.is_some();
        let named = [
            self.fetch.map(|url| Source::Fetch(Some(url))),
            self.file.map(Source::File),
            self.text.map(Source::Text),
            self.store_path.map(|path| Source::StorePath { path, nar_hash: self.nar_hash }),
        ];
        let mut sources = named.into_iter().flatten();
        let source = sources.next().unwrap_or(Source::Fetch(None));
        if sources.next().is_some() {
            return Err("a body has one source: keep one of `fetch`, `file`, `text`, `store-path`".to_owned());
        }
        if !is_store_path && self.nar_hash.is_some() {
            return Err("`nar-hash` goes with `store-path` only".to_owned());
        }
        if !is_store_path && (self.hash.is_none() || self.size.is_none()) {
            let missing = if self.hash.is_none() { "hash" } else { "size" };
            return Err(format!("the body has no `{missing}`; hint: only a `store-path` body can do without one"));
        }
        if self.size.is_some_and(|size| i64::try_from(size).is_err()) {
            return Err("the body's `size` is more than TOML and Nix can count".to_owned());
        }
        if let Source::Fetch(Some(place)) | Source::File(place) | Source::StorePath { path: place, .. } = &source {
            plain("where the body is", place)?;
        }
        match &source {
            Source::Fetch(_) if self.name.is_none() => {
                return Err("the body has no `name`, so it has no store path; hint: \
                            add `name = \"…\"`, by custom the last path segment of the URL"
                    .to_owned());
            }
            Source::Fetch(Some(url)) => drop(url.parse::<NormalizedUrl>().map_err(|error| error.to_string())?),
            _ => {}
        }
        Ok(Body { hash: self.hash, size: self.size, name: self.name, source })
    }
}

#[cfg(test)]
mod tests;

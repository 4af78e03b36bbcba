//! Reading an inventory entry by entry.
//!
//! A TOML document as a whole becomes a tree that takes ten times the memory of its text, and most of the time goes
//! into that. Inventories as they are written, and most of those by hand, are a head and then one `[[entry]]` behind the
//! other: [`divide`] finds those, and [`entry_of`] reads one. What both read means what the whole would have meant; what
//! they do not read, and all that is wrong, is left to the reader of the whole and its messages.

use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{VERSION, is_json, rules::RawMatch, transcode::to_json};
use crate::inventory::{Entry, Inventory, MatchRules, strict};

/// How an inventory is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// TOML, an entry being what lies between two `[[entry]]`.
    Toml,
    /// JSON, an entry being one object.
    Json,
}

impl Form {
    /// That of `text`.
    pub fn of(text: &str) -> Self {
        if is_json(text) { Self::Json } else { Self::Toml }
    }
}

/// Where the next entry starts. It is at the start of a line, where nothing is open: behind an open bracket or quote the
/// piece before it would be incomplete, which its own parser notices.
const NEXT_ENTRY: &str = "\n[[entry]]";

/// Where an entry is in the text of an inventory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Its first byte.
    pub start: u32,
    /// The byte behind its last.
    pub end: u32,
}

impl Piece {
    /// As strings are cut.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The rules of the inventory in `text`, and the pieces that are its entries. It is an inventory where [`entry_of`] reads
/// every one of them.
///
/// `None` where the text cannot be divided, whether it is an inventory or not.
pub fn divide(text: &str) -> Option<(MatchRules, Vec<Piece>)> {
    // So the numbers of a piece are large enough.
    u32::try_from(text.len()).ok()?;
    match Form::of(text) {
        Form::Toml => divide_toml(text),
        Form::Json => divide_json(text),
    }
}

/// Reads an inventory from `text` piece by piece; `None` where that cannot be done.
pub fn parse_pieces(text: &str) -> Option<Inventory> {
    let (match_rules, pieces) = divide(text)?;
    let (form, mut scratch) = (Form::of(text), String::new());
    let entries = pieces.into_iter().map(|piece| entry_of(&text[piece.range()], form, &mut scratch));
    Some(Inventory { match_rules, entries: entries.collect::<Option<_>>()? })
}

/// The entry that one piece of an inventory is. `scratch` is overwritten.
pub fn entry_of(piece: &str, form: Form, scratch: &mut String) -> Option<Entry> {
    match form {
        Form::Toml => entry_of_toml(piece, scratch),
        Form::Json => serde_json::from_str(piece).ok(),
    }
}

/// The lines of `text`, from 1, in which the entries of an inventory begin; nothing where they cannot be told apart.
pub fn entry_lines(text: &str) -> Vec<usize> {
    let pieces = divide(text).map(|(_, pieces)| pieces).unwrap_or_default();
    let (mut line, mut from) = (1, 0);
    let mut line_of = |piece: &Piece| {
        let start = piece.range().start;
        line += text[from..start].matches('\n').count();
        from = start;
        line
    };
    pieces.iter().map(&mut line_of).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    version: i64,
    #[serde(default)]
    r#match: RawMatch,
}

impl Head {
    fn rules(self) -> Option<MatchRules> {
        (self.version == VERSION).then(|| self.r#match.into())
    }
}

fn divide_toml(text: &str) -> Option<(MatchRules, Vec<Piece>)> {
    let mut end = next_entry(text, 0);
    let head = &text[..end];
    let rules = toml::from_str::<Head>(head).ok()?.rules()?;
    strict::check(head).ok()?;
    let mut pieces = Vec::new();
    while end < text.len() {
        let start = end;
        end = next_entry(text, start);
        pieces.push(Piece { start: start as u32, end: end as u32 });
    }
    Some((rules, pieces))
}

/// The first place behind `from` where an entry starts; else the end.
fn next_entry(text: &str, from: usize) -> usize {
    text[from..].find(NEXT_ENTRY).map_or(text.len(), |at| from + at + 1)
}

/// `[[entry]]` and what follows, up to the next.
fn entry_of_toml(piece: &str, scratch: &mut String) -> Option<Entry> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Piece {
        entry: [Entry; 1],
    }

    scratch.clear();
    if to_json(piece, scratch).is_some()
        && let Ok(entry) = serde_json::from_str(scratch)
    {
        return Some(entry);
    }
    strict::check(piece).ok()?;
    let Piece { entry: [entry] } = toml::from_str(piece).ok()?;
    Some(entry)
}

fn divide_json(text: &str) -> Option<(MatchRules, Vec<Piece>)> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Document<'a> {
        version: i64,
        #[serde(default)]
        r#match: RawMatch,
        #[serde(borrow, default)]
        entry: Vec<&'a RawValue>,
    }

    let Document { version, r#match, entry } = serde_json::from_str(text).ok()?;
    strict::check_json(text).ok()?;
    let place = |value: &RawValue| {
        let piece = value.get();
        // The value is borrowed from the text, so this is its offset.
        let start = piece.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
        Some(Piece { start: start as u32, end: (start + piece.len()) as u32 })
    };
    let pieces = entry.into_iter().map(place).collect::<Option<_>>()?;
    Some((Head { version, r#match }.rules()?, pieces))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{read::parse_whole, to_toml};

    /// What is read by pieces, and the pieces.
    fn read(text: &str) -> Option<(Inventory, Vec<&str>)> {
        let pieces = divide(text)?.1.into_iter().map(|piece| &text[piece.range()]).collect();
        Some((parse_pieces(text)?, pieces))
    }

    const HEAD: &str = "version = 1\n[match]\nignore-query = [\"a\"]\n";

    #[test]
    fn every_piece_is_an_entry_of_its_own() {
        let entries = ["[[entry]]\nurl = \"http://h/a\"\n\n", "[[entry]] # last\nurl = 'http://h/b'\nstatus = 404"];
        let text = format!("{HEAD}{}{}", entries[0], entries[1]);
        let (inventory, pieces) = read(&text).unwrap();
        assert_eq!(pieces, entries);
        assert_eq!(inventory, parse_whole(&text).unwrap());
        let json = format!(
            "{{\"entry\": [{{\"url\": \"http://h/a\"}} , {{\"url\": \"http://h/b\", \"status\": 404}}], {}",
            "\"match\": {\"ignore-query\": [\"a\"]}, \"version\": 1}"
        );
        let (of_json, pieces) = read(&json).unwrap();
        assert_eq!(pieces, ["{\"url\": \"http://h/a\"}", "{\"url\": \"http://h/b\", \"status\": 404}"]);
        assert_eq!(of_json, inventory);
        assert_eq!(entry_of(pieces[1], Form::Json, &mut String::new()).as_ref(), Some(&inventory.entries[1]));
    }

    #[test]
    fn documents_in_another_order_are_left_to_the_reader_of_the_whole() {
        for text in [
            format!("{HEAD}entry = [{{ url = \"http://h/a\" }}]\n"),
            "version = 1\nentry = [{ url = \"http://h/a\" }]\n".to_owned(),
            "version = 1\n[[entry]]\nurl = \"http://h/a\"\n[match]\nignore-query = []\n".to_owned(),
            "version = 1\n[[ entry ]]\nurl = \"http://h/a\"\n[[entry]]\nurl = \"http://h/b\"\n".to_owned(),
        ] {
            assert!(read(&text).is_none(), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_an_entry_divides_nothing() {
        let body = format!("hash = \"{}\", size = 16, text", crate::store::hash::NixHash::sha256(b""));
        for text in [
            format!("{HEAD}[[entry]]\nurl = \"http://h/\"\nbody = {{ {body} = \"\"\"\n[[entry]]\n\"\"\" }}\n"),
            format!("{HEAD}[[entry]]\nurl = \"http://h/\"\nbody = {{ {body} = '''\n[[entry]]\nurl = \"x\"''' }}\n"),
            format!("{HEAD}[[entry]]\nurl = \"http://h/\"\nsystems = [\n[[entry]]\n]\n"),
        ] {
            assert!(read(&text).is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_refused_as_a_whole_is_refused_in_pieces() {
        for entry in [
            "url = \"http://h/\"\nurl = \"http://h/\"",
            "url = \"http://h/\"\nheaders = { a = \"1\" }\n[entry.headers]\nb = \"2\"",
            "url = \"http://h/\"\n[entry.headers]\na = \"1\"\n\"a\" = \"2\"",
            "url = \"http://h/\"\nrequest-headers = { a = \"1\", a = \"2\" }",
            "url = \"http://h/\"\nrequest-headers = { a = \"1\", }",
            "url = \"http://h/\"\nrequest-headers = { a = \"1\",\n b = \"2\" }",
            "url = \"http://h/\\x41\"",
            "url = \"http://h/\\u0000\"",
            "url = \"http://h/\u{7f}\"",
            "url = \"http://h/\nstatus = 200",
            "url = \"http://h/\" status = 200",
            "url = http://h/",
            "u rl = \"http://h/\"",
            "url = \"http://h/\"\nstatus = 0200",
            "url = \"http://h/\"\nstatus = 2_0",
            "url = \"http://h/\"\n[entry]\nstatus = 404",
            "url = \"http://h/\"\n[entry.headers]\n[entry.headers]",
            "url = \"http://h/\"\n[other]",
            "url = \"http://h/\"\nversion = 1",
            "url = \"http://h/\" # \u{1}",
        ] {
            let text = format!("{HEAD}[[entry]]\n{entry}\n[[entry]]\nurl = \"http://h/\"\n");
            assert!(parse_whole(&text).is_err(), "{entry}");
            assert!(read(&text).is_none(), "{entry}");
        }
    }

    /// Lines of which entries are made, good and bad.
    const LINES: &str = "(url = \"http://h/[a-z]\"|url = 'http://h/'|status = (200|404|7)|status=\\+200|\
        method = \"PO\\\\\\\\ST\"|method = \"POST\"|systems = \\[\"a\", 'b',\\]|systems = \\[ # c\n\"a\"\n\\]|\
        redirects = \\[\\{ status = 302, location = \"/\\\\\\\\\" \\}\\]|\\[entry\\.headers\\]|\\[entry\\.body\\]|\
        \\[\\[entry\\.redirects\\]\\]|a = \"b\\\\\\\\n\"|\"x\\.y\" = \\[\"1\", \"2\"\\]|x\\.y = \"1\"|text = \"(\\\\\\\\u00e4|ä|\\\\\\\\\")\"|\
        size = [12]|hash = \"sha256-47DEQpj8HBSa\\+/TImW\\+5JCeuQeRkm5NMpJWZG3hSuFU=\"|# ä|\\[\\[entry\\]\\])\r?\n";

    proptest::proptest! {
        #[test]
        fn pieces_say_what_the_whole_says(lines in proptest::collection::vec(LINES, 0..12)) {
            let text = format!("version = 1\n[[entry]]\nurl = \"http://h/\"\n{}", lines.concat());
            if let Some((inventory, _)) = read(&text) {
                proptest::prop_assert_eq!(parse_whole(&text).map_err(|error| error.to_string()), Ok(inventory));
            }
        }

        #[test]
        fn what_is_written_is_read_by_pieces(text in "[ -~ä\\n\\t]{0,20}", value in "[ -~ä]{0,20}", count in 0..4usize) {
            let mut entry = Entry::get("http://h/".parse().unwrap());
            entry.headers.append("x.a", &value).unwrap();
            entry.request_headers.insert("accept".to_owned(), value);
            let hash = Some(crate::store::hash::NixHash::sha256(b""));
            let source = crate::inventory::Source::Text(text);
            entry.body = Some(crate::inventory::Body { hash, size: Some(1), name: None, source });
            let entries = vec![entry; count];
            let written = to_toml(&Inventory { entries, ..Inventory::default() });
            let (inventory, pieces) = read(&written).unwrap();
            proptest::prop_assert_eq!(pieces.len(), count);
            proptest::prop_assert_eq!(parse_whole(&written), Ok(inventory));
        }
    }

    #[test]
    fn entries_begin_in_their_lines() {
        let toml = "version = 1\n\n[[entry]]\nurl = \"http://h/a\"\n[[entry]]\nurl = \"http://h/b\"\n";
        assert_eq!(entry_lines(toml), [3, 5]);
        let json = "{\"version\": 1, \"entry\": [\n{\"url\": \"http://h/a\"},\n{\"url\": \"http://h/b\"}]}";
        assert_eq!(entry_lines(json), [2, 3]);
        assert_eq!(entry_lines("version = 2\n"), [0; 0]);
    }
}

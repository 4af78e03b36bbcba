//! An entry's piece of TOML, put into JSON: reading that takes a third of the time that the TOML takes by way of a tree.
//!
//! Only what entries are usually made of is known here: plain keys, `[entry.NAME]`, strings on one line, integers,
//! arrays, inline tables. All of it means the same in TOML 1.0 as what is written; what is not known, or is no TOML 1.0,
//! is left to the reader that knows all of TOML.

use toml_parser::{
    ErrorSink, ParseError, Source, Span,
    decoder::Encoding,
    parser::{EventReceiver, ValidateWhitespace, parse_document},
};

/// What can be open inside each other.
const DEPTH: usize = 8;
/// Keys that one table can have here: each is compared with all before it.
const KEYS: usize = 64;
/// Digits of an integer that surely fits into 63 bits.
const DIGITS: usize = 18;

/// Appends the JSON of the one entry in `piece`, which starts with `[[entry]]`, to `json`.
///
/// `None` where something in it is not known here; `json` is then incomplete.
pub fn to_json(piece: &str, json: &mut String) -> Option<()> {
    let source = Source::new(piece);
    let tokens = source.lex().into_vec();
    let mut transcoder = Transcoder {
        piece,
        json,
        open: Vec::with_capacity(DEPTH),
        keys: Vec::with_capacity(4 * DEPTH),
        heading: None,
        separated: false,
        is_known: true,
    };
    let mut errors = 0;
    parse_document(&tokens, &mut ValidateWhitespace::new(&mut transcoder, source), &mut |_: ParseError| errors += 1);
    transcoder.finish();
    (transcoder.is_known && errors == 0).then_some(())
}

struct Transcoder<'a> {
    piece: &'a str,
    json: &'a mut String,
    open: Vec<Open>,
    /// The keys of all open tables, the innermost last.
    keys: Vec<&'a str>,
    /// The names in a `[…]` that is being read, and how many there are.
    heading: Option<([&'a str; 2], usize)>,
    /// The last thing but white space was a comma.
    separated: bool,
    is_known: bool,
}

struct Open {
    kind: Kind,
    is_empty: bool,
    /// How many keys the tables around it have.
    keys_before: usize,
}

#[derive(PartialEq)]
enum Kind {
    /// `[[entry]]`, or `[entry.NAME]` in it.
    Table,
    InlineTable,
    Array,
}

impl<'a> Transcoder<'a> {
    fn unknown(&mut self) {
        self.is_known = false;
    }

    fn open(&mut self, kind: Kind) -> bool {
        self.json.push(if kind == Kind::Array { '[' } else { '{' });
        self.open.push(Open { kind, is_empty: true, keys_before: self.keys.len() });
        self.separated = false;
        if self.open.len() > DEPTH {
            self.unknown();
        }
        self.is_known
    }

    fn close(&mut self) {
        match self.open.pop() {
            Some(Open { kind, keys_before, .. }) => {
                self.keys.truncate(keys_before);
                self.json.push(if kind == Kind::Array { ']' } else { '}' });
            }
            None => self.unknown(),
        }
        self.separated = false;
    }

    fn finish(&mut self) {
        if self.open.is_empty() || self.open.iter().any(|open| open.kind != Kind::Table) {
            self.unknown();
        }
        while !self.open.is_empty() {
            self.close();
        }
    }

    /// Puts a comma where something comes before the next item of what is open.
    fn item(&mut self) {
        self.separated = false;
        match self.open.last_mut() {
            Some(open) if open.is_empty => open.is_empty = false,
            Some(_) => self.json.push(','),
            None => self.unknown(),
        }
    }

    fn is_in(&self, kind: &Kind) -> bool {
        self.open.last().is_some_and(|open| open.kind == *kind)
    }

    fn key(&mut self, name: &'a str) {
        self.item();
        let siblings = &self.keys[self.open.last().map_or(0, |open| open.keys_before)..];
        if siblings.len() >= KEYS || siblings.contains(&name) {
            self.unknown();
        }
        self.keys.push(name);
        self.quoted(name);
    }

    fn quoted(&mut self, text: &str) {
        self.json.push('"');
        self.json.push_str(text);
        self.json.push('"');
    }

    fn text(&mut self, span: Span) -> &'a str {
        let text = self.piece.get(span.start()..span.end());
        self.is_known &= text.is_some();
        text.unwrap_or_default()
    }

    /// What is between the quotes of a string that is spelled in JSON as in TOML.
    fn content(&mut self, span: Span, encoding: Encoding) -> &'a str {
        let (quote, is_spelled_the_same): (_, fn(&str) -> bool) = match encoding {
            Encoding::BasicString => ('"', is_the_same_in_json),
            Encoding::LiteralString => ('\'', |text| is_the_same_in_json(text) && !text.contains(['\\', '\''])),
            Encoding::MlBasicString | Encoding::MlLiteralString => return self.none(),
        };
        let text = self.text(span);
        let content = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
        match content.filter(|content| is_spelled_the_same(content)) {
            Some(content) => content,
            None => self.none(),
        }
    }

    fn none(&mut self) -> &'a str {
        self.unknown();
        ""
    }

    fn name(&mut self, span: Span, encoding: Option<Encoding>) -> &'a str {
        let name = match encoding {
            Some(encoding) => self.content(span, encoding),
            None => self.text(span),
        };
        let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let is_plain = match encoding {
            Some(_) => !name.contains('\\'),
            None => !name.is_empty() && name.bytes().all(is_bare),
        };
        if is_plain { name } else { self.none() }
    }
}

/// Whether the content of a basic string of TOML is written like that of a string of JSON. Both forbid control
/// characters, TOML also DEL; a tab stands for itself only in TOML.
fn is_the_same_in_json(content: &str) -> bool {
    let mut rest = content.as_bytes();
    while let Some(special) = rest.iter().position(|&byte| !IS_PLAIN[byte as usize]) {
        match rest[special..] {
            [b'\\', b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't', ..] => rest = &rest[special + 2..],
            _ => return false,
        }
    }
    true
}

/// Bytes that stand for themselves in strings of both.
const IS_PLAIN: [bool; 256] = {
    let mut table = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = false;
        byte += 1;
    }
    table[b'"' as usize] = false;
    table[b'\\' as usize] = false;
    table[0x7f] = false;
    table
};

impl EventReceiver for Transcoder<'_> {
    fn array_table_open(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.is_known &= self.open.is_empty();
        self.heading = Some(Default::default());
    }

    fn array_table_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        match self.heading.take() {
            Some((["entry", ""], 1)) => drop(self.open(Kind::Table)),
            _ => self.unknown(),
        }
    }

    fn std_table_open(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.heading = Some(Default::default());
    }

    fn std_table_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        match self.heading.take() {
            Some((["entry", name], 2)) if !self.open.is_empty() => {
                if self.open.len() > 1 {
                    self.close();
                }
                self.key(name);
                self.json.push(':');
                self.open(Kind::Table);
            }
            _ => self.unknown(),
        }
    }

    fn simple_key(&mut self, span: Span, encoding: Option<Encoding>, _: &mut dyn ErrorSink) {
        let name = self.name(span, encoding);
        match &mut self.heading {
            Some((names, count)) => match names.get_mut(*count) {
                Some(next) => {
                    *next = name;
                    *count += 1;
                }
                None => self.unknown(),
            },
            None => self.key(name),
        }
    }

    fn key_sep(&mut self, _: Span, _: &mut dyn ErrorSink) {
        // A dotted key.
        self.is_known &= self.heading.is_some();
    }

    fn key_val_sep(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.json.push(':');
    }

    fn inline_table_open(&mut self, _: Span, _: &mut dyn ErrorSink) -> bool {
        if self.is_in(&Kind::Array) {
            self.item();
        }
        self.open(Kind::InlineTable)
    }

    fn inline_table_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        // A comma before the brace is TOML 1.1.
        self.is_known &= !self.separated;
        self.close();
    }

    fn array_open(&mut self, _: Span, _: &mut dyn ErrorSink) -> bool {
        if self.is_in(&Kind::Array) {
            self.item();
        }
        self.open(Kind::Array)
    }

    fn array_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.close();
    }

    fn value_sep(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.separated = true;
    }

    fn scalar(&mut self, span: Span, encoding: Option<Encoding>, _: &mut dyn ErrorSink) {
        if self.is_in(&Kind::Array) {
            self.item();
        }
        match encoding {
            Some(encoding) => {
                let content = self.content(span, encoding);
                self.quoted(content);
            }
            None => {
                let digits = self.text(span);
                let is_number = digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.len() <= DIGITS;
                self.is_known &= is_number && (digits == "0" || !(digits.is_empty() || digits.starts_with('0')));
                self.json.push_str(digits);
            }
        }
    }

    fn newline(&mut self, _: Span, _: &mut dyn ErrorSink) {
        // A line that ends inside an inline table is TOML 1.1.
        self.is_known &= !self.is_in(&Kind::InlineTable);
    }

    fn comment(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.is_known &= !self.is_in(&Kind::InlineTable);
    }

    fn error(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.unknown();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(piece: &str) -> Option<String> {
        let mut json = String::new();
        to_json(piece, &mut json).map(|()| json)
    }

    #[test]
    fn an_entry_is_the_same_in_json() {
        let piece = "[[entry]] # one\nurl = \"http://h/ä\\\"\"\n'status' = 404\nsystems = [ \"a\",\n 'b', # two\n]\n\
                     redirects = [{ status = 302, location = \"/\" }, {}]\n[entry.headers]\n\"x.y\" = \"1\"\n[ entry . body ]\nsize = 0\n";
        let expected = "{\"url\":\"http://h/ä\\\"\",\"status\":404,\"systems\":[\"a\",\"b\"],\
                        \"redirects\":[{\"status\":302,\"location\":\"/\"},{}],\"headers\":{\"x.y\":\"1\"},\"body\":{\"size\":0}}";
        assert_eq!(json(piece).as_deref(), Some(expected));
    }

    #[test]
    fn what_is_not_known_is_left_alone() {
        for rest in [
            "a.b = 1",
            "a = 1.5",
            "a = true",
            "a = 2024-01-01",
            "a = '''b'''",
            "a = \"\\u00e4\"",
            "a = \"\t\"",
            "a = '\"'",
            "a = \"b",
            "a = 1234567890123456789",
            "a = { b = 1, }",
            "a = { b = 1,\n c = 2 }",
            "a = 1\na = 2",
            "a = 1\n\"a\" = 2",
            "a = 1\n[entry.a]",
            "a = [[[[[[[[[]]]]]]]]]",
            "[[entry.a]]",
            "[[entry]]",
            "[other]",
            "[entry.a.b]",
        ] {
            assert_eq!(json(&format!("[[entry]]\n{rest}\n")), None, "{rest}");
        }
        assert_eq!(json("a = 1\n"), None);
        assert_eq!(json(""), None);
    }
}

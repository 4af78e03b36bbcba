//! Texts that come from elsewhere, made safe for a terminal and for a shell.

/// Characters that a text keeps; signed URLs are long, but not longer than this.
const LONGEST: usize = 2000;

/// Whether `character` could make a terminal do something, or show a text in another order or as less than it is:
/// control characters (C0, DEL, C1), marks of direction, separators of lines, and tags that nothing shows.
pub fn is_deceptive(character: char) -> bool {
    let is_mark = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{e0000}'..='\u{e007f}'
    );
    is_mark || character.is_control()
}

/// `text` as one line without deceptive characters, and of bounded length.
pub fn printable(text: &str) -> String {
    let mut output = String::with_capacity(text.len().min(LONGEST));
    for (count, character) in text.chars().enumerate() {
        if count == LONGEST {
            output.push('…');
            break;
        }
        push_shown(&mut output, character);
    }
    output
}

/// All of `text` without deceptive characters, but with its lines and tabs.
pub fn printable_lines(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => output.push(character),
            other => push_shown(&mut output, other),
        }
    }
    output
}

fn push_shown(output: &mut String, character: char) {
    if is_deceptive(character) {
        // `\n`, `\r`, `\t`, and the others by their numbers.
        output.extend(character.escape_default());
    } else {
        output.push(character);
    }
}

/// `json` with deceptive characters, which serialisers leave as they are where JSON allows it, written as escapes. It
/// means the same: behind its ends of lines, JSON has such only in strings.
pub fn printable_json(json: &str) -> String {
    let mut output = String::with_capacity(json.len());
    for character in json.chars() {
        if is_deceptive(character) && character != '\n' {
            let mut units = [0; 2];
            character.encode_utf16(&mut units).iter().for_each(|unit| output.push_str(&format!("\\u{unit:04x}")));
        } else {
            output.push(character);
        }
    }
    output
}

/// What a message says and what it says to do: `WHAT; hint: DO` where it also stands within others, else in paragraphs.
pub fn what_and_hint(message: &str) -> (&str, Option<&str>) {
    match message.rsplit_once("\n\nhint: ").or_else(|| message.split_once("; hint: ")) {
        Some((what, hint)) => (what, Some(hint)),
        None => (message, None),
    }
}

/// `text` as one word of a POSIX shell, whatever is in it.
pub fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_spelled_out_and_length_is_bounded() {
        assert_eq!(printable("a\r\nb\x1b[31m\u{9b}\u{202e}ü"), "a\\r\\nb\\u{1b}[31m\\u{9b}\\u{202e}ü");
        let long = printable(&"x".repeat(10_000));
        assert!(long.ends_with('…') && long.chars().count() == LONGEST + 1);
    }

    #[test]
    fn lines_stay_lines_and_nothing_else_gets_through() {
        assert_eq!(
            printable_lines("a\nb\tc\x1b[2J\r\u{85}\u{2028}\u{e0041}"),
            "a\nb\tc\\u{1b}[2J\\r\\u{85}\\u{2028}\\u{e0041}"
        );
        for character in
            (0..0x20).chain(0x7f..0xa0).filter_map(char::from_u32).filter(|character| !matches!(character, '\n' | '\t'))
        {
            assert!(!printable_lines(&character.to_string()).contains(character), "{character:?}");
        }
    }

    #[test]
    fn json_means_the_same_when_it_is_printable() {
        let value = serde_json::json!({ "a\u{9b}": "\x1b\u{7f}\u{202e}\u{e0041} ü\n" });
        let shown = printable_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!shown.chars().any(|character| is_deceptive(character) && character != '\n'), "{shown:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn a_quoted_text_is_one_word() {
        assert_eq!(shell_quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(shell_quoted(""), "''");
    }

    /// Any text that a shell can hold, with much of what means something to one.
    const TEXT: &str = "([$`'\"\\\\!;&|<>(){}*?~#\n\t -]|[^\0]){0,40}";

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn a_shell_reads_back_what_was_quoted(text in TEXT) {
            let mut shell = std::process::Command::new("sh");
            let script = format!("v={}; printf '%s.' \"$v\"", shell_quoted(&text));
            let output = shell.args(["-euc", &script]).output().unwrap();
            proptest::prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), text + ".");
        }
    }

    #[test]
    fn a_message_brings_its_hint_in_either_form() {
        assert_eq!(what_and_hint("a; b"), ("a; b", None));
        assert_eq!(what_and_hint("a; hint: b"), ("a", Some("b")));
        assert_eq!(what_and_hint("a\nb\n\nhint: c"), ("a\nb", Some("c")));
    }
}

//! Texts that come from elsewhere, made safe for a terminal and for a shell.

/// Characters that a text keeps; signed URLs are long, but not longer than this.
const LONGEST: usize = 2000;

/// `text` without control characters and other characters that could deceive a terminal, and of bounded length.
pub fn printable(text: &str) -> String {
    let mut output = String::with_capacity(text.len().min(LONGEST));
    for (count, character) in text.chars().enumerate() {
        if count == LONGEST {
            output.push('…');
            break;
        }
        match character {
            // Marks that change the direction of what follows.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                output.extend(character.escape_unicode());
            }
            _ if character.is_control() => output.extend(character.escape_default()),
            _ => output.push(character),
        }
    }
    output
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
    fn a_quoted_text_is_one_word() {
        assert_eq!(shell_quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(shell_quoted(""), "''");
    }
}

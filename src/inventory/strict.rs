//! TOML 1.0 and nothing newer, because Nix reads the same file: what our parser knows of TOML 1.1 is refused here.

use toml_parser::{
    Source,
    lexer::{Token, TokenKind},
};

/// Finds the first thing in a well-formed document that TOML 1.0 does not have.
///
/// # Errors
/// Its byte offset, and what to do.
pub fn check(text: &str) -> Result<(), (usize, &'static str)> {
    let source = Source::new(text);
    let mut open = Vec::new();
    let mut comma = None;
    for token in source.lex() {
        let start = token.span().start();
        match token.kind() {
            TokenKind::LeftCurlyBracket | TokenKind::LeftSquareBracket => open.push(token.kind()),
            TokenKind::RightCurlyBracket if comma.is_some() => {
                return Err((comma.unwrap_or(start), "a comma before `}` is not TOML 1.0, so Nix cannot read it"));
            }
            TokenKind::RightCurlyBracket | TokenKind::RightSquareBracket => drop(open.pop()),
            TokenKind::Newline | TokenKind::Comment if open.last() == Some(&TokenKind::LeftCurlyBracket) => {
                return Err((start, "a line break inside `{ … }` is not TOML 1.0, so Nix cannot read it"));
            }
            TokenKind::BasicString | TokenKind::MlBasicString => check_escapes(text, token)?,
            _ => {}
        }
        match token.kind() {
            TokenKind::Comma if open.last() == Some(&TokenKind::LeftCurlyBracket) => comma = Some(start),
            TokenKind::Whitespace => {}
            _ => comma = None,
        }
    }
    Ok(())
}

fn check_escapes(text: &str, token: Token) -> Result<(), (usize, &'static str)> {
    let start = token.span().start();
    let raw = &text.as_bytes()[start..token.span().end()];
    let mut i = 0;
    while i + 1 < raw.len() {
        match (raw[i], raw[i + 1]) {
            (b'\\', b'e' | b'x') => {
                return Err((start + i, "`\\e` and `\\x` are not TOML 1.0, so Nix cannot read them: write `\\u00…`"));
            }
            (b'\\', _) => i += 2,
            _ => i += 1,
        }
    }
    match text[start..token.span().end()].contains("\\u0000") {
        true => Err((start, "Nix strings cannot hold a NUL")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_1_0_passes() {
        for text in [
            "a = { b = 1, c = [1,\n2,\n] }\n",
            "[x]\n'k.k' = \"\\\\e \\u001b\"\n",
            "a = '''\n\\e\n'''\n",
            "[[e]]\na = [\n  { b = 1 }, # comment\n]\n",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_only_toml_1_1_has_is_refused_where_it_stands() {
        for (text, offset) in
            [("a = {\n b = 1 }\n", 5), ("a = { b = 1, }\n", 11), ("a = \"x\\e\"\n", 6), ("a = \"\\x41\"\n", 5)]
        {
            assert_eq!(check(text).unwrap_err().0, offset, "{text}");
        }
    }
}

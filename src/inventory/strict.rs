//! TOML 1.0 and nothing newer, because Nix reads the same file: what our parser knows of TOML 1.1 is refused here.

use toml_parser::{
    Source,
    lexer::{Token, TokenKind},
};

const NUL: &str = "Nix strings cannot hold a NUL";

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
    for (offset, rest) in escapes(&text[start..token.span().end()]) {
        if rest.starts_with(['e', 'x']) {
            let message = "`\\e` and `\\x` are not TOML 1.0, so Nix cannot read them: write `\\u00…`";
            return Err((start + offset, message));
        }
        if rest.starts_with("u0000") || rest.starts_with("U00000000") {
            return Err((start + offset, NUL));
        }
    }
    Ok(())
}

/// Finds the first NUL in a well-formed JSON document, which has backslashes only in strings.
///
/// # Errors
/// Its byte offset, and what is wrong with it.
pub fn check_json(text: &str) -> Result<(), (usize, &'static str)> {
    match escapes(text).find(|(_, rest)| rest.starts_with("u0000")) {
        Some((offset, _)) => Err((offset, NUL)),
        None => Ok(()),
    }
}

/// Where each escape's backslash is, and what comes behind it.
fn escapes(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let offset = next + text[next..].find('\\')?;
        let rest = &text[offset + 1..];
        // The escaped character can be a backslash, which starts no escape of its own.
        next = offset + 1 + rest.chars().next().map_or(0, char::len_utf8);
        Some((offset, rest))
    })
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

    #[test]
    fn a_nul_is_refused_and_what_only_looks_like_one_is_not() {
        for (text, offset) in [(r#"a = "x\u0000""#, 6), (r#"a = "\\\u0000""#, 7), (r#"a = "\U00000000""#, 5)] {
            assert_eq!(check(text), Err((offset, NUL)), "{text}");
        }
        for text in [r#"a = "\\u0000 \\e""#, r#"a = "\\\\U00000000""#, r#"a = "\U00000001""#, r"a = '\u0000'"] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        assert_eq!(check_json(r#"{"a": "x\u0000"}"#), Err((8, NUL)));
        assert_eq!(check_json(r#"{"a": "x\\u0000 \u0001"}"#), Ok(()));
    }
}

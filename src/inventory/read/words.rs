//! What serde and the parsers say, in the inventory's own words.

use super::VERSION;

/// Puts serde's words for unknown and missing fields into the inventory's own.
pub(super) fn explain(message: &str) -> (String, Option<String>) {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((key, known)) if message.starts_with("unknown field") => {
            let nearest = known.iter().max_by(|a, b| strsim::jaro(key, a).total_cmp(&strsim::jaro(key, b)));
            let hint = nearest.map(|nearest| format!("did you mean `{nearest}`? Known here: {}", known.join(", ")));
            (format!("unknown key `{key}`"), hint)
        }
        Some((key, _)) if message.starts_with("missing field") => {
            let hint = (*key == "version").then(|| format!("put `version = {VERSION}` at the top"));
            (format!("the key `{key}` is missing"), hint)
        }
        _ => {
            let (message, hint) = match message.split_once("; hint: ") {
                Some((message, hint)) => (message, Some(hint.to_owned())),
                None => (message, None),
            };
            (in_plain_words(message.trim_end()), hint)
        }
    }
}

/// What the formats call their types, for serde's names of Rust's.
fn in_plain_words(message: &str) -> String {
    const WORDS: [(&str, &str); 6] = [
        ("u16", "a number from 0 to 65535"),
        ("u64", "a number that is not negative"),
        ("i64", "a number"),
        ("a sequence", "an array"),
        ("struct RawEntry", "an entry"),
        ("struct RawMatch", "a table"),
    ];
    let Some((what, expected)) = message.rsplit_once(", expected ") else { return message.to_owned() };
    let known = WORDS.iter().find(|(name, _)| *name == expected);
    format!("{what}, expected {}", known.map_or(expected, |(_, words)| words))
}

//! Canonical forms of JSON and of HTML forms.

use percent_encoding::percent_decode;
use serde_json::Value;
use url::form_urlencoded::byte_serialize;

/// Numbers from here on may be another number once they are read as a double, which RFC 8785 §3.2.2.3 asks for.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// JSON as RFC 8785 writes it; `None` for what is no JSON, or has a number that is too large to be told from its
/// neighbours. Of a member that comes twice in an object the last one counts.
pub(super) fn json(body: &[u8]) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_slice(body).ok()?;
    is_exact(&value).then(|| serde_json_canonicalizer::to_vec(&value).ok()).flatten()
}

fn is_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64().is_some_and(|number| number.abs() < MAX_EXACT),
        Value::Array(values) => values.iter().all(is_exact),
        Value::Object(members) => members.values().all(is_exact),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// The pairs of a form as the URL standard's parser and serialiser have them, sorted by name; `None` for what is not
/// text. What the percent-encoding stands for need not be.
pub(super) fn form(body: &[u8]) -> Option<Vec<u8>> {
    std::str::from_utf8(body).ok()?;
    let pairs = body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = pairs
        .map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            (decoded(&pair[..equals]), decoded(pair.get(equals + 1..).unwrap_or_default()))
        })
        .collect();
    pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
    let encoded = |bytes: &[u8]| byte_serialize(bytes).collect::<String>();
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    Some(pairs.join("&").into_bytes())
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = text.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    percent_decode(&spaced).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_with_one_meaning_has_one_form() {
        let canonical = |text: &str| json(text.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap());
        let expected = Some(r#"{"a":[1,2.5,"é"],"b":{"x":null,"y":true}}"#.to_owned());
        for text in [
            r#"{"a":[1,2.5,"é"],"b":{"x":null,"y":true}}"#,
            " { \"b\" : {\"y\":true,\"x\":null},\n\"a\":[1.0, 25e-1, \"\\u00e9\"] }\n",
        ] {
            assert_eq!(canonical(text), expected, "{text}");
        }
        assert_ne!(canonical("[1,2]"), canonical("[2,1]"), "the order of an array counts");
        assert!(canonical("[9007199254740991, -9007199254740991, 0.1]").is_some());
        for text in ["", "{", "nonsense", "[1] [2]", "9007199254740993", "[-18446744073709551617]", "1e300"] {
            assert_eq!(canonical(text), None, "{text}");
        }
    }

    #[test]
    fn forms_are_sorted_by_name_alone() {
        let canonical = |text: &str| form(text.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(canonical("b=2&a=%7e+x&b=1").as_deref(), Some("a=%7E+x&b=2&b=1"));
        assert_eq!(canonical("a=~%20x&b=2&b=1"), canonical("b=2&a=%7E+x&b=1"));
        assert_ne!(canonical("a=1&a=2"), canonical("a=2&a=1"), "the values of one name keep their order");
        assert_ne!(canonical("a=%FF"), canonical("a=%FE"), "what is no text is told apart, too");
        assert_eq!(canonical("a&&b=").as_deref(), Some("a=&b="));
        assert_eq!(form(b"\xff\xfe"), None);
    }
}

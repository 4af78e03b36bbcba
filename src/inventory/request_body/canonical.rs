//! Canonical forms of JSON and of HTML forms.

use serde_json::Value;
use url::form_urlencoded;

/// Numbers from here on may be another number once they are read as a double, which RFC 8785 §3.2.2.3 asks for.
const MAX_EXACT: u64 = 1 << 53;

/// JSON as RFC 8785 writes it; `None` for what is no JSON, or has an integer that the RFC's numbers cannot hold.
pub(super) fn json(body: &[u8]) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_slice(body).ok()?;
    is_exact(&value).then(|| serde_json_canonicalizer::to_vec(&value).ok()).flatten()
}

fn is_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            number.as_u64().is_none_or(|n| n <= MAX_EXACT)
                && number.as_i64().is_none_or(|n| n.unsigned_abs() <= MAX_EXACT)
        }
        Value::Array(values) => values.iter().all(is_exact),
        Value::Object(members) => members.values().all(is_exact),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// The pairs of a form, sorted by name; `None` for what is not text.
pub(super) fn form(body: &[u8]) -> Option<Vec<u8>> {
    std::str::from_utf8(body).ok()?;
    let mut pairs: Vec<_> = form_urlencoded::parse(body).collect();
    pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
    Some(form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish().into_bytes())
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
        for text in ["", "{", "nonsense", "[1] [2]", "9007199254740993", "[-18446744073709551614]"] {
            let exact = text.starts_with("[-");
            assert_eq!(canonical(text).is_some(), exact, "{text}: beyond 64 bits serde has doubles already");
        }
    }

    #[test]
    fn forms_are_sorted_by_name_alone() {
        let canonical = |text: &str| form(text.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(canonical("b=2&a=%7e+x&b=1").as_deref(), Some("a=%7E+x&b=2&b=1"));
        assert_eq!(canonical("a=~%20x&b=2&b=1"), canonical("b=2&a=%7E+x&b=1"));
        assert_ne!(canonical("a=1&a=2"), canonical("a=2&a=1"), "the values of one name keep their order");
        assert_eq!(form(b"\xff\xfe"), None);
    }
}

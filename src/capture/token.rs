//! Token endpoints: their answers are stored with a fixed dummy in the token's place, because a token is a secret and
//! replay asks for none.

use serde_json::Value;

use crate::url::NormalizedUrl;

/// What stands for a token in an inventory.
pub const DUMMY: &str = "buildproxy-dummy-token";

/// Members of a JSON answer that are tokens wherever they stand (RFC 6749 §5.1, OpenID Connect Core §3.1.3.3).
const TOKEN_MEMBERS: [&str; 3] = ["access_token", "refresh_token", "id_token"];

/// A token endpoint's answer.
#[derive(Debug, PartialEq, Eq)]
pub struct TokenAnswer {
    /// The tokens it gave.
    pub tokens: Vec<String>,
    /// The answer with the dummy in their place, otherwise byte for byte the same.
    pub without_tokens: Vec<u8>,
}

/// Recognises the answer of a token endpoint: a JSON object with a token of OAuth 2.0, or with a member `token` where
/// the URL's last path segment speaks of one (container registries).
pub fn recognise(url: &NormalizedUrl, body: &[u8]) -> Option<TokenAnswer> {
    let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(body) else {
        return None;
    };
    let last_segment = url.path().rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let is_token = |name: &str| {
        TOKEN_MEMBERS.contains(&name) || name == "token" && (last_segment.contains("token") || last_segment == "auth")
    };
    let tokens: Vec<String> = object
        .iter()
        .filter(|(name, _)| is_token(name))
        .filter_map(|(_, value)| value.as_str())
        .filter(|token| !token.is_empty())
        .map(str::to_owned)
        .collect();
    if tokens.is_empty() {
        return None;
    }
    let without_tokens = replace(body, &object, &tokens);
    Some(TokenAnswer { tokens, without_tokens })
}

fn replace(body: &[u8], object: &serde_json::Map<String, Value>, tokens: &[String]) -> Vec<u8> {
    let text = String::from_utf8_lossy(body);
    let replaced = tokens.iter().fold(text.into_owned(), |text, token| text.replace(token, DUMMY));
    // An escaped token is not found in the text: write the object anew.
    let still_there = |value: &Value| value.as_str().is_some_and(|text| tokens.iter().any(|token| token == text));
    match serde_json::from_str::<serde_json::Map<String, Value>>(&replaced) {
        Ok(now) if !now.values().any(still_there) => replaced.into_bytes(),
        _ => {
            let mut object = object.clone();
            object.values_mut().filter(|value| still_there(value)).for_each(|value| *value = DUMMY.into());
            Value::Object(object).to_string().into_bytes()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recognised(url: &str, body: &str) -> Option<String> {
        let answer = recognise(&url.parse().unwrap(), body.as_bytes())?;
        Some(String::from_utf8(answer.without_tokens).unwrap())
    }

    #[test]
    fn tokens_are_replaced_and_the_rest_stays() {
        let body = "{ \"access_token\": \"s3cret\",\n \"expires_in\": 300 }";
        let expected = "{ \"access_token\": \"buildproxy-dummy-token\",\n \"expires_in\": 300 }";
        assert_eq!(recognised("http://h/oauth", body).unwrap(), expected);
        let escaped = recognised("http://h/token?scope=x", r#"{"token":"a\/b"}"#).unwrap();
        assert_eq!(escaped, r#"{"token":"buildproxy-dummy-token"}"#);
    }

    #[test]
    fn other_answers_are_left_alone() {
        assert_eq!(recognised("http://h/packages", r#"{"token":"x"}"#), None);
        assert_eq!(recognised("http://h/token", "[]"), None);
        assert_eq!(recognised("http://h/token", "not json"), None);
    }
}

//! Token endpoints: their answers are stored with a fixed dummy in the token's place, because a token is a secret and
//! replay asks for none.

use std::io::Read;

use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, Method, header};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::{credentials::DUMMY, url::NormalizedUrl};

/// Members of a JSON answer that are tokens wherever they stand (RFC 6749 §5.1, OpenID Connect Core §3.1.3.3).
const TOKEN_MEMBERS: [&str; 3] = ["access_token", "refresh_token", "id_token"];

/// A token endpoint's answer.
#[derive(Debug, PartialEq, Eq)]
pub struct TokenAnswer {
    /// The tokens it gave.
    pub tokens: Vec<String>,
    /// The answer's text with the dummy in their place.
    pub without_tokens: String,
}

/// Recognises the answer of a token endpoint: JSON or a form with a token of OAuth 2.0 anywhere in it, or with a member
/// `token` where the URL's last path segment speaks of one (container registries), or in the answer to a `POST` or `PUT`
/// (npm's login).
pub fn recognise(method: &Method, url: &NormalizedUrl, headers: &HeaderMap, text: &str) -> Option<TokenAnswer> {
    let text = text.trim_start_matches('\u{feff}');
    let last_segment = url.path().rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let gives_tokens =
        last_segment.contains("token") || last_segment == "auth" || matches!(*method, Method::POST | Method::PUT);
    let is_token = |name: &str| TOKEN_MEMBERS.contains(&name) || name == "token" && gives_tokens;
    in_json(text, &is_token).or_else(|| in_form(text, headers))
}

fn in_json(text: &str, is_token: &dyn Fn(&str) -> bool) -> Option<TokenAnswer> {
    let mut value: Value = serde_json::from_str(text).ok()?;
    let mut tokens = Vec::new();
    replace(&mut value, is_token, &mut tokens);
    if tokens.is_empty() {
        return None;
    }
    // The text stays as it was, byte for byte, where the tokens can be found in it.
    let replaced = tokens.iter().fold(text.to_owned(), |text, token| text.replace(token, DUMMY));
    let is_same = serde_json::from_str::<Value>(&replaced).is_ok_and(|now| now == value);
    let without_tokens = if is_same { replaced } else { value.to_string() };
    Some(TokenAnswer { tokens, without_tokens })
}

/// `access_token=…&token_type=bearer`, as some answer where nobody asked for JSON.
fn in_form(text: &str, headers: &HeaderMap) -> Option<TokenAnswer> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_form = kind.starts_with("application/x-www-form-urlencoded") || text.starts_with("access_token=");
    let mut tokens = Vec::new();
    let parameters = text.split('&').filter(|_| is_form).map(|parameter| match parameter.split_once('=') {
        Some((name, token)) if TOKEN_MEMBERS.contains(&name) => {
            tokens.push(percent_decode_str(token).decode_utf8_lossy().into_owned());
            format!("{name}={DUMMY}")
        }
        _ => parameter.to_owned(),
    });
    let without_tokens = parameters.collect::<Vec<_>>().join("&");
    (!tokens.is_empty()).then_some(TokenAnswer { tokens, without_tokens })
}

/// Puts the dummy in the place of every token, which goes to `tokens`.
fn replace(value: &mut Value, is_token: &dyn Fn(&str) -> bool, tokens: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                match member {
                    Value::String(token) if is_token(name) && !token.is_empty() => {
                        tokens.push(std::mem::replace(token, DUMMY.to_owned()));
                    }
                    _ => replace(member, is_token, tokens),
                }
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(|element| replace(element, is_token, tokens)),
        _ => {}
    }
}

/// Longest text that is looked at, in bytes.
pub const MAX_TEXT: u64 = 1 << 20;

/// The text of a body, whose content coding is undone; `None` where it is none, or too long.
pub fn decoded(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut read = |reader: &mut dyn Read| reader.take(MAX_TEXT + 1).read_to_string(&mut text).is_ok();
    let coding = headers.get(header::CONTENT_ENCODING).and_then(|coding| coding.to_str().ok()).unwrap_or_default();
    let is_read = match coding.trim().to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" => read(&mut MultiGzDecoder::new(body)),
        "deflate" => read(&mut ZlibDecoder::new(body)),
        _ => read(&mut &*body),
    };
    (is_read && text.len() as u64 <= MAX_TEXT).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recognised(url: &str, body: &str) -> Option<String> {
        Some(recognise(&Method::GET, &url.parse().unwrap(), &HeaderMap::new(), body)?.without_tokens)
    }

    #[test]
    fn tokens_are_replaced_and_the_rest_stays() {
        let body = "{ \"access_token\": \"s3cret\",\n \"expires_in\": 300 }";
        let expected = "{ \"access_token\": \"buildproxy-dummy-token\",\n \"expires_in\": 300 }";
        assert_eq!(recognised("http://h/oauth", body).unwrap(), expected);
        let escaped = recognised("http://h/token?scope=x", r#"{"token":"a\/b"}"#).unwrap();
        assert_eq!(escaped, r#"{"token":"buildproxy-dummy-token"}"#);
        let nested = recognised("http://h/login", r#"{"data": [{"access_token": "abc"}]}"#).unwrap();
        assert_eq!(nested, r#"{"data": [{"access_token": "buildproxy-dummy-token"}]}"#);
        let form = recognised("http://h/login", "access_token=gho%5Fx&scope=repo").unwrap();
        assert_eq!(form, "access_token=buildproxy-dummy-token&scope=repo");
        let url = "http://h/-/user/me".parse().unwrap();
        let login = recognise(&Method::PUT, &url, &HeaderMap::new(), "\u{feff}{\"token\":\"npm_x\"}").unwrap();
        assert_eq!(login.without_tokens, r#"{"token":"buildproxy-dummy-token"}"#);
    }

    #[test]
    fn a_content_coding_does_not_hide_a_text() {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(br#"{"id_token":"abc"}"#).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        let text = decoded(&headers, &encoder.finish().unwrap()).unwrap();
        assert_eq!(text, r#"{"id_token":"abc"}"#);
    }

    #[test]
    fn other_answers_are_left_alone() {
        assert_eq!(recognised("http://h/packages", r#"{"token":"x"}"#), None);
        assert_eq!(recognised("http://h/token", "[]"), None);
        assert_eq!(recognised("http://h/token", "not json"), None);
    }
}

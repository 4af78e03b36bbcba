//! What of a request shows who asks: credentials in header fields, in the query and in the body. Pure decisions.
//!
//! Fields and parameters are known by their names, which are few words in many spellings. A capture remembers the values, so
//! that an answer that repeats one of them does not bring it into the inventory after all.

mod hidden;

use std::{collections::HashSet, fmt};

use data_encoding::{BASE64, BASE64_NOPAD};
use http::{HeaderMap, HeaderValue, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

pub use self::hidden::{hidden_in, is_hidden};
use crate::url::{NormalizedUrl, decoded_parameter};

/// What stands for a credential in an inventory, and in what is printed.
pub const DUMMY: &str = "buildproxy-dummy-token";

/// Names that are credentials, without their hyphens and underscores, though no rule says so.
const KNOWN_NAMES: [&str; 10] =
    ["cookie", "cookie2", "xjfrogartapi", "pwd", "pass", "passphrase", "jwt", "passcode", "jsessionid", "phpsessid"];

/// What a name contains that is a credential's.
const PARTS_OF_NAMES: [&str; 9] =
    ["secret", "password", "passwd", "apikey", "accesskey", "authkey", "privatekey", "authorization", "jwtassertion"];

/// Names that end in `token`, but tell where one is in a list.
const PLACES_IN_LISTS: [&str; 6] = ["page", "continu", "next", "sync", "cursor", "upload"];

/// Names that are credentials where the value looks like one, and something else elsewhere.
const AMBIGUOUS_NAMES: [&str; 7] = ["key", "auth", "pat", "session", "sessionid", "sid", "credential"];

/// How parameters of URLs begin that are signed for some minutes or days. Origins give them out: in redirects, and in
/// answers that list downloads.
const OF_SIGNATURES: [&str; 3] = ["xamz", "xgoog", "awsaccesskeyid"];

/// The shortest value that is looked for in answers, in bytes: shorter ones are in many texts by chance.
const SHORTEST: usize = 8;

/// The same for cookies, most of which are no secrets.
const SHORTEST_COOKIE: usize = 16;

/// How a value stands in a query (RFC 3986 §2.3).
const ENCODED_IN_QUERIES: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Secrets that are remembered. Clients that sign each request anew must not fill the memory.
const MOST_SECRETS: usize = 1000;

/// Whether the header field `name`, in lower case, carries a credential: of a request it makes that private, of an answer
/// it is left out.
pub fn is_field(name: &str) -> bool {
    let is_about_access = name.starts_with("access-control-") || name.starts_with("sec-");
    !is_about_access && is_name(&squashed(name))
}

fn squashed(name: &str) -> String {
    name.chars().filter(|character| character.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn is_name(squashed: &str) -> bool {
    let is_token = squashed.ends_with("token") && !PLACES_IN_LISTS.iter().any(|part| squashed.contains(part));
    is_token || KNOWN_NAMES.contains(&squashed) || PARTS_OF_NAMES.iter().any(|part| squashed.contains(part))
}

/// Whether a query parameter, or a member of a form, is a credential.
fn is_parameter(name: &str, value: &str) -> bool {
    let squashed = squashed(name);
    let is_of_signature = OF_SIGNATURES.iter().any(|start| squashed.starts_with(start)) || name == "__token__";
    !value.is_empty()
        && !is_of_signature
        && (is_name(&squashed) || AMBIGUOUS_NAMES.contains(&squashed.as_str()) && looks_random(value))
}

/// Long, with letters of both cases and digits, as keys are, and names, numbers and digests in hexadecimal are not.
fn looks_random(value: &str) -> bool {
    let value = value.trim_start_matches("0x");
    let has = |wanted: fn(&u8) -> bool| value.bytes().any(|byte| wanted(&byte));
    let is_hexadecimal = value.bytes().all(|byte| byte.is_ascii_hexdigit());
    value.len() >= 16
        && !is_hexadecimal
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_digit)
}

/// The name of the first request field that carries a credential.
pub fn in_fields(request: &HeaderMap) -> Option<&str> {
    // `Authorization` says most of how to provide it otherwise.
    let known = [header::AUTHORIZATION, header::COOKIE].into_iter().find(|name| request.contains_key(name));
    match known {
        Some(name) if name == header::AUTHORIZATION => Some("authorization"),
        Some(_) => Some("cookie"),
        None => request.keys().map(header::HeaderName::as_str).find(|name| is_field(name)),
    }
}

/// The pairs of name and value in one parameter of a query, decoded. Some servers read a `;` as `&`, and a value can be a
/// URL with a query of its own.
fn pairs(parameter: &str) -> Vec<(String, String)> {
    let decoded = decoded_parameter(parameter);
    let pieces = decoded.split(['&', ';', '?']).filter_map(|piece| piece.split_once('='));
    pieces.map(|(name, value)| (name.trim().to_owned(), value.to_owned())).collect()
}

/// A URL without the credentials in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bared {
    /// What is left.
    pub url: NormalizedUrl,
    /// What the first credential is called.
    pub name: Option<String>,
    /// The names of the parameters that are taken out.
    pub parameters: Vec<String>,
    /// The credentials.
    pub secrets: Vec<String>,
}

/// Takes those query parameters out of `url` that carry a credential. Of a URL to which an origin `sent` the client, its
/// parameters are the origin's; but what the client showed before, its `secrets`, stays its own wherever it comes back.
pub fn bared(url: &NormalizedUrl, sent: bool, secrets: &Secrets) -> Bared {
    let mut bared = Bared { url: url.clone(), name: None, parameters: Vec::new(), secrets: Vec::new() };
    for parameter in url.query().unwrap_or_default().split('&') {
        let brought = pairs(parameter).into_iter().filter(|(name, value)| !sent && is_parameter(name, value));
        let (mut names, values): (Vec<String>, Vec<String>) = brought.unzip();
        let whole = decoded_parameter(parameter.split('=').next().unwrap_or(parameter));
        if !names.is_empty() || secrets.are_in(&decoded_parameter(parameter)) {
            names.push(whole.clone());
            bared.name = bared.name.or_else(|| names.into_iter().next());
            bared.parameters.push(whole);
            bared.secrets.extend(values);
        }
    }
    if !bared.parameters.is_empty() {
        bared.url = url.without_query_parameters(|name| bared.parameters.iter().any(|one| one == name));
    }
    let (origin, rest) = bared.url.as_str().split_at(bared.url.origin().len());
    if let Some(rest) = secrets.replaced_in(rest) {
        bared.name = bared.name.or_else(|| Some("in the URL".to_owned()));
        // What takes its place is plain, so it is a URL still.
        bared.url = format!("{origin}{rest}").parse().unwrap_or_else(|_| NormalizedUrl::nobody());
    }
    bared
}

/// The credentials in the query of `url`.
pub fn shown_in(url: &NormalizedUrl) -> Secrets {
    let mut secrets = Secrets::default();
    secrets.add(bared(url, false, &Secrets::default()).secrets);
    secrets
}

/// The credentials in the fields of a request.
pub fn secrets_in_fields(request: &HeaderMap) -> Vec<String> {
    let fields = request.iter().filter(|(name, _)| is_field(name.as_str()));
    let values = fields.filter_map(|(name, value)| Some((name, value.to_str().ok()?)));
    let mut secrets: Vec<String> = values
        .flat_map(|(name, value)| match name.as_str() {
            "authorization" | "proxy-authorization" => of_authorization(value),
            "cookie" => value.split(';').filter_map(of_cookie).collect(),
            _ => vec![value.trim().to_owned()],
        })
        .collect();
    secrets.extend(request.get(header::REFERER).map(of_referer).unwrap_or_default());
    secrets
}

/// The password of Basic authorization (RFC 7617), or the user's name where that is the token; else what is behind the
/// scheme, where it is one word.
fn of_authorization(value: &str) -> Vec<String> {
    let (scheme, rest) = value.trim().split_once(' ').unwrap_or(("", value));
    let rest = rest.trim();
    let is_word = !rest.contains([' ', ',']);
    let decoded = BASE64.decode(rest.as_bytes()).or_else(|_| BASE64_NOPAD.decode(rest.as_bytes()));
    let pair =
        decoded.ok().and_then(|pair| String::from_utf8(pair).ok()).filter(|_| scheme.eq_ignore_ascii_case("basic"));
    let secret = pair.as_deref().and_then(|pair| match pair.split_once(':')? {
        (user, "" | "x-oauth-basic") => Some(user),
        (_, password) => Some(password),
    });
    let secret = secret.map(str::to_owned);
    secret.into_iter().chain(is_word.then(|| rest.to_owned())).collect()
}

/// The value of a cookie that can be a session's: most others are words, paths and numbers.
fn of_cookie(pair: &str) -> Option<String> {
    let (_, value) = pair.trim().split_once('=')?;
    let value = value.trim_matches('"');
    let is_mixed =
        value.bytes().any(|byte| byte.is_ascii_digit()) && value.bytes().any(|byte| byte.is_ascii_alphabetic());
    (value.len() >= SHORTEST_COOKIE && is_mixed && !value.contains(['/', ':'])).then(|| value.to_owned())
}

/// What a page's URL, which the client tells, would show.
fn of_referer(value: &HeaderValue) -> Vec<String> {
    let url = value.to_str().ok().and_then(|text| text.parse().ok());
    url.map(|url| bared(&url, false, &Secrets::default()).secrets).unwrap_or_default()
}

/// The credentials in a request's body: a form or JSON.
pub fn secrets_in_body(body: &[u8]) -> Vec<String> {
    let Ok(text) = std::str::from_utf8(body) else { return Vec::new() };
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        let mut secrets = Vec::new();
        add_members(&value, &mut secrets);
        return secrets;
    }
    let all = text.split('&').flat_map(pairs);
    all.filter(|(name, value)| is_parameter(name, value)).map(|(_, value)| value).collect()
}

fn add_members(value: &Value, secrets: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member.as_str() {
                    Some(text) if is_parameter(name, text) => secrets.push(text.to_owned()),
                    _ => add_members(member, secrets),
                }
            }
        }
        Value::Array(elements) => elements.iter().for_each(|element| add_members(element, secrets)),
        _ => {}
    }
}

/// What clients showed so far in a capture. It is kept in memory only.
#[derive(Default)]
pub struct Secrets(HashSet<String>);

impl Secrets {
    /// Remembers these, but for what cannot be told from other text.
    pub fn add(&mut self, secrets: impl IntoIterator<Item = String>) {
        for secret in secrets.into_iter().filter(|secret| is_telling(secret) && secret != DUMMY) {
            if self.0.len() < MOST_SECRETS {
                self.0.insert(utf8_percent_encode(&secret, ENCODED_IN_QUERIES).to_string());
                self.0.insert(secret);
            }
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them is in `text`.
    pub fn are_in(&self, text: &str) -> bool {
        self.0.iter().any(|secret| text.contains(secret.as_str()))
    }

    /// `text` with a dummy in the place of each; `None` where there is none in it.
    pub fn replaced_in(&self, text: &str) -> Option<String> {
        let mut found: Vec<&str> = self.0.iter().map(String::as_str).filter(|secret| text.contains(secret)).collect();
        // One can be a part of another.
        found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        (!found.is_empty()).then(|| found.iter().fold(text.to_owned(), |text, secret| text.replace(secret, DUMMY)))
    }
}

/// Whether `secret` is in no other text by chance: long, and, unless it is longer still, neither a word nor a number, such
/// as the password of those who log in as `anonymous`.
fn is_telling(secret: &str) -> bool {
    let is_word = secret.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_number = secret.bytes().all(|byte| byte.is_ascii_digit());
    secret.len() >= if is_word || is_number { 2 * SHORTEST } else { SHORTEST }
}

/// What it holds is not for logs.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

#[cfg(test)]
mod tests;

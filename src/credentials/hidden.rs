//! URLs as text, for logs: what is asked for can be no URL at all.

use super::{DUMMY, is_parameter, pairs, squashed};
use crate::url::{decoded_parameter, without_userinfo};

/// What stands before a parameter: in a query, and in a path (RFC 3986 §3.3).
const BEFORE_PARAMETERS: [char; 3] = ['?', '&', ';'];

/// `url` without userinfo and with a dummy for every credential in its parameters, and the credentials. Signatures are
/// among them, though an inventory has those of redirects: a log can be read before they have expired.
pub fn hidden_in(url: &str) -> (String, Vec<String>) {
    let url = without_userinfo(url);
    let (mut shown, mut secrets) = (String::with_capacity(url.len()), Vec::new());
    let mut rest = url.as_str();
    while !rest.is_empty() {
        let start = rest.len() - rest.trim_start_matches(BEFORE_PARAMETERS).len();
        let end = rest[start..].find(BEFORE_PARAMETERS).map_or(rest.len(), |end| start + end);
        shown.push_str(&rest[..start]);
        shown.push_str(&hidden_in_parameter(&rest[start..end], &mut secrets));
        rest = &rest[end..];
    }
    (shown, secrets)
}

fn hidden_in_parameter(parameter: &str, secrets: &mut Vec<String>) -> String {
    // Before the first parameter is the path, whose last part alone could be one.
    let place = parameter.rfind('/').map_or(0, |slash| slash + 1);
    let place = if parameter[..place].contains('=') { 0 } else { place };
    let found = pairs(&parameter[place..]);
    let found = found.into_iter().filter(|(name, value)| is_hidden(name, value));
    let before = secrets.len();
    secrets.extend(found.map(|(_, value)| value));
    if secrets.len() == before {
        return parameter.to_owned();
    }
    match parameter.split_once('=') {
        // What is encoded can be in front of it as well.
        Some((name, _)) if !decoded_parameter(name).contains('=') => format!("{name}={DUMMY}"),
        _ => format!("{}{DUMMY}", &parameter[..place]),
    }
}

/// Whether the value of a parameter, decoded, is not for logs.
pub fn is_hidden(name: &str, value: &str) -> bool {
    is_parameter(name, value) || is_signature(name)
}

/// Whether a parameter of this name signs a URL, so that whoever has that can use it.
fn is_signature(name: &str) -> bool {
    let squashed = squashed(name);
    ["signature", "securitytoken"].iter().any(|end| squashed.ends_with(end)) || squashed == "sig" || name == "__token__"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_hidden_wherever_a_url_has_them_and_nothing_else_is_changed() {
        for (url, expected) in [
            ("http://h.test/a?b=c&d", "http://h.test/a?b=c&d"),
            ("http://u:pw@h.test/a@b?x=%zz&&", "http://h.test/a@b?x=%zz&&"),
            ("https://h.test/a?token=s3&b=1", "https://h.test/a?token=DUMMY&b=1"),
            ("https://h.test/a?b=1&Password=x", "https://h.test/a?b=1&Password=DUMMY"),
            ("https://h.test/a;jsessionid=A1?b", "https://h.test/a;jsessionid=DUMMY?b"),
            ("https://h.test/a?b=1;api_key=x", "https://h.test/a?b=1;api_key=DUMMY"),
            ("https://h.test/?X-Amz-Signature=0a&X-Amz-Date=1", "https://h.test/?X-Amz-Signature=DUMMY&X-Amz-Date=1"),
            ("https://h.test/?sp=r&sig=Zm9v%3D", "https://h.test/?sp=r&sig=DUMMY"),
            ("https://h.test/?u=http%3A%2F%2Fo%2F%3Ftoken%3Dabc", "https://h.test/?u=DUMMY"),
            ("https://h.test/?a%3Db%26token%3Dx=1", "https://h.test/?DUMMY"),
            ("https://h.test/token=abc/x", "https://h.test/token=DUMMY"),
            ("https://h.test/a=b/c?page_token=3&token=", "https://h.test/a=b/c?page_token=3&token="),
            ("/a?token=x", "/a?token=DUMMY"),
            ("nonsense?token=x", "nonsense?token=DUMMY"),
            ("", ""),
        ] {
            assert_eq!(hidden_in(url).0, expected.replace("DUMMY", DUMMY), "{url}");
        }
        assert_eq!(hidden_in("http://h.test/?token=a+b%21&sig=c").1, ["a b!", "c"]);
    }
}

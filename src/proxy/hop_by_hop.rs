//! The one place that knows which header fields belong to a single connection (RFC 9110 §7.6.1).

use http::header::{self, HeaderMap, HeaderName};

/// Whether a field never travels past one connection, named by `Connection` or not. Comparing the name, which is in lower
/// case, costs less than hashing it.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Removes the fields of this connection from `headers`: those listed in RFC 9110 §7.6.1, the proxy's own
/// credentials, and whatever `Connection` names. `Content-Length` stays even where `Connection` names it: it frames
/// the body, and RFC 9110 §7.6.1 does not allow end-to-end fields there.
pub fn strip(headers: &mut HeaderMap) {
    let present: Vec<HeaderName> = headers.keys().filter(|name| is_hop_by_hop(name)).cloned().collect();
    let named = if present.contains(&header::CONNECTION) { named_by_connection(headers) } else { Vec::new() };
    for name in named.into_iter().chain(present) {
        headers.remove(name);
    }
}

/// Leaves one `Content-Length` of several that say the same, in fields or in one list (RFC 9110 §8.6); what is none goes.
/// A server that is given more than one number in it closes the connection without an answer.
pub fn say_length_once(headers: &mut HeaderMap) {
    let header::Entry::Occupied(fields) = headers.entry(header::CONTENT_LENGTH) else { return };
    let texts = fields.iter().map(|field| field.to_str().unwrap_or_default()).flat_map(|list| list.split(','));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let lengths: Vec<Option<u64>> =
        texts.map(|text| Some(text.trim()).filter(|text| is_number(text))?.parse().ok()).collect();
    match lengths[..] {
        [Some(first), ..] if lengths.iter().all(|length| *length == Some(first)) => {
            headers.insert(header::CONTENT_LENGTH, first.into());
        }
        _ => drop(headers.remove(header::CONTENT_LENGTH)),
    }
}

/// The field names that the `Connection` fields list.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let lists = headers.get_all(header::CONNECTION).into_iter();
    lists
        .flat_map(|list| list.as_bytes().split(|&byte| byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| *name != header::CONTENT_LENGTH && *name != header::HOST)
        .collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn connection_fields_go_and_end_to_end_fields_stay() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-Hop ,"),
            ("connection", "close, HTTP2-Settings, content-length, host"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authorization", "Basic c2VjcmV0"),
            ("te", "trailers"),
            ("trailer", "digest"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-hop", "1"),
            ("x-hop", "2"),
            ("http2-settings", "AAMAAABk"),
            ("authorization", "Basic b3JpZ2lu"),
            ("content-length", "3"),
            ("host", "files.example.test"),
            ("x-end", "kept"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "content-length", "host", "x-end"]);
    }

    #[test]
    fn a_connection_field_that_is_no_list_of_names_is_removed_all_the_same() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, HeaderValue::from_bytes(b"\xff, a b").unwrap());
        strip(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn a_length_is_said_once_or_not_at_all() {
        let said = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_LENGTH, HeaderValue::from_static(value));
            }
            say_length_once(&mut headers);
            let left: Vec<_> = headers.get_all(header::CONTENT_LENGTH).iter().cloned().collect();
            left
        };
        for same in [&["4"][..], &["4,4"], &["4", " 4"], &["4 , 4", "04"]] {
            assert_eq!(said(same), ["4"], "{same:?}");
        }
        for none in [&[][..], &["4,5"], &["+4"], &[""], &["4", "x"], &["4,"], &["99999999999999999999"]] {
            assert!(said(none).is_empty(), "{none:?}");
        }
    }
}

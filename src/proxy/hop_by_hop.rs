//! The one place that knows which header fields belong to a single connection (RFC 9110 §7.6.1).

use http::header::{self, HeaderMap, HeaderName};

/// The fields that never travel past one connection, named by `Connection` or not.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Removes the fields of this connection from `headers`: those listed in RFC 9110 §7.6.1, the proxy's own
/// credentials, and whatever `Connection` names. `Content-Length` stays even where `Connection` names it: it frames
/// the body, and RFC 9110 §7.6.1 does not allow end-to-end fields there.
pub fn strip(headers: &mut HeaderMap) {
    for name in named_by_connection(headers) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        // Comparing names costs less than hashing one.
        if headers.keys().any(|present| *present == name) {
            headers.remove(name);
        }
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
}

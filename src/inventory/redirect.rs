//! How clients follow redirects.

use http::Method;

/// Whether a client follows the redirect `status` of a request with `method` by a `GET` without the body, instead of by
/// the same request (RFC 9110 §15.4).
///
/// 301 and 302 let clients choose after a `POST`. They all choose `GET` unless told otherwise, and one recorded request
/// must not answer two.
pub fn becomes_get(status: u16, method: &Method) -> bool {
    match status {
        303 => *method != Method::GET && *method != Method::HEAD,
        301 | 302 => *method == Method::POST,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_method_changes_where_rfc_9110_says_so_and_clients_agree() {
        for (status, method, expected) in [
            (301, Method::POST, true),
            (302, Method::POST, true),
            (303, Method::POST, true),
            (303, Method::DELETE, true),
            (303, Method::HEAD, false),
            (303, Method::GET, false),
            (307, Method::POST, false),
            (308, Method::POST, false),
            (302, Method::PUT, false),
            (302, Method::GET, false),
        ] {
            assert_eq!(becomes_get(status, &method), expected, "{status} {method}");
        }
    }
}

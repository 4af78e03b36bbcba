//! What a client asks for when it follows a redirect (RFC 9110 §15.4).

use http::Method;

/// How the next request relates to the one that was redirected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// It has the same method and body.
    Same,
    /// It is a `GET` without a body.
    AsGet,
    /// The client chooses; most take [`AsGet`](Self::AsGet).
    Either,
}

/// How clients follow the redirect `status` of a request with `method`, and a body or none.
///
/// 303 turns all but `HEAD` into `GET` (§15.4.4); 301 and 302 let the client choose for `POST` (§15.4.2, §15.4.3); the
/// others keep the request. Where both come to the same it is [`Follow::Same`].
pub fn follow(status: u16, method: &Method, has_body: bool) -> Follow {
    match status {
        303 if *method == Method::HEAD || *method == Method::GET && !has_body => Follow::Same,
        303 => Follow::AsGet,
        301 | 302 if *method == Method::POST => Follow::Either,
        _ => Follow::Same,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_method_changes_where_rfc_9110_says_so() {
        for (status, method, has_body, expected) in [
            (303, Method::POST, true, Follow::AsGet),
            (303, Method::DELETE, false, Follow::AsGet),
            (303, Method::GET, true, Follow::AsGet),
            (303, Method::GET, false, Follow::Same),
            (303, Method::HEAD, false, Follow::Same),
            (301, Method::POST, true, Follow::Either),
            (302, Method::POST, false, Follow::Either),
            (302, Method::PUT, true, Follow::Same),
            (307, Method::POST, true, Follow::Same),
            (308, Method::POST, true, Follow::Same),
        ] {
            assert_eq!(follow(status, &method, has_body), expected, "{status} {method}");
        }
    }
}

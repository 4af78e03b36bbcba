//! What of an answer may be recorded, and what of a request makes it private. Pure decisions.

use globset::GlobSet;
use http::{HeaderMap, HeaderName, Method, header};

use super::origin::is_replaced;
use crate::{
    credentials,
    inventory::{Headers, is_about_the_bytes},
    url::NormalizedUrl,
};

/// Response header fields that an entry leaves out, beside the hop-by-hop ones: framing, clocks, session state, fields
/// that lead clients around the proxy, and what differs from one request to the next. A `*` stands for any
/// text.
pub const LEFT_OUT_HEADERS: &[&str] = &[
    // Framing and clocks: replay makes its own, or none.
    "content-length",
    "date",
    "age",
    "expires",
    // State and routes that must not outlive the capture.
    "set-cookie",
    "set-cookie2",
    "clear-site-data",
    "alt-svc",
    "strict-transport-security",
    "public-key-pins*",
    "expect-ct",
    "nel",
    "report-to",
    "reporting-endpoints",
    // Rate limits.
    "ratelimit*",
    "x-ratelimit-*",
    "x-rate-limit-*",
    "retry-after",
    // Identifiers and measurements of one request or one cache node.
    "via",
    "server-timing",
    "traceparent",
    "tracestate",
    "request-id",
    "x-request-id",
    "buildproxy-request",
    "x-correlation-id",
    "x-trace-id",
    "x-b3-*",
    "x-runtime",
    "x-response-time",
    "x-timer",
    "x-served-by",
    "x-cache",
    "x-cache-*",
    "x-cached-*",
    "x-varnish*",
    "x-proxy-cache",
    "cache-status",
    "cdn-*",
    "x-cdn-*",
    "cf-ray",
    "cf-cache-status",
    "cf-request-id",
    "x-amz-request-id",
    "x-amz-id-2",
    "x-amz-cf-*",
    "x-amzn-requestid",
    "x-amzn-trace-id",
    "x-azure-ref",
    "x-ms-request-id",
    "x-ms-correlation-request-id",
    "x-msedge-ref",
    "x-github-request-id",
    "x-fastly-request-id",
    "x-guploader-*",
    "x-cloud-trace-context",
    "x-vercel-id",
    "x-nf-request-id",
    "fly-request-id",
    "x-jfrog-*id",
    "x-*-node-id",
    "x-gitlab-meta",
];

/// Request header fields that an answer's `Vary` may name without making them part of the key (design rule: they say
/// how, for whom or with what secret the bytes travel, not which bytes are meant).
const NEVER_KEYED: &[HeaderName] =
    &[header::ACCEPT_ENCODING, header::USER_AGENT, header::ORIGIN, header::COOKIE, header::AUTHORIZATION];

/// Whether a request with the fields `asked` wants no answer that was stored before, however new (RFC 9111 §5.2.1.1,
/// §5.2.1.4, §5.4).
pub fn wants_no_stored_answer(asked: &HeaderMap) -> bool {
    let lists = match asked.contains_key(header::CACHE_CONTROL) {
        true => asked.get_all(header::CACHE_CONTROL),
        false => asked.get_all(header::PRAGMA),
    };
    let lists = lists.iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|directive| is_no_cache(directive) || is_max_age_zero(directive))
}

/// Whether the client takes what it asks for as something that changes: it wants no answer that is older than now.
/// `no-cache` says less, since some clients send that with everything.
pub fn expects_changes(asked: &HeaderMap) -> bool {
    let lists = asked.get_all(header::CACHE_CONTROL).iter().filter_map(|list| list.to_str().ok());
    let directives: Vec<_> = lists.flat_map(|list| list.split(',')).collect();
    directives.iter().any(|one| is_max_age_zero(one)) && !directives.iter().any(|one| is_no_cache(one))
}

fn is_no_cache(directive: &str) -> bool {
    directive.split('=').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("no-cache"))
}

fn is_max_age_zero(directive: &str) -> bool {
    let age = directive.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("max-age"));
    age.is_some_and(|(_, value)| value.trim().trim_matches('"').parse() == Ok(0u64))
}

/// Takes the fields out that were about the bytes of a body that is not kept as it came.
pub fn forget_the_bytes(headers: &mut Headers) {
    headers.retain(|name| !is_about_the_bytes(name) && name != "content-encoding");
}

/// Whether `name`, in lower case, is on the list of what entries leave out.
fn is_left_out(name: &str) -> bool {
    LEFT_OUT_HEADERS.iter().any(|pattern| match pattern.split_once('*') {
        Some((start, end)) => name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end),
        None => name == *pattern,
    })
}

/// The fields of an answer that its entry keeps. `headers` has lost its hop-by-hop fields already.
///
/// A value that is not UTF-8 is left out with a warning. The answer to a `HEAD` keeps its `Content-Length`: there it is
/// not framing but what the client asked for.
pub fn recorded_headers(method: &Method, url: &NormalizedUrl, headers: &HeaderMap) -> Headers {
    let mut recorded = Headers::default();
    for (name, value) in headers {
        let is_answer_of_head = *method == Method::HEAD && name == header::CONTENT_LENGTH;
        if credentials::is_field(name.as_str()) || is_left_out(name.as_str()) && !is_answer_of_head {
            continue;
        }
        let text = std::str::from_utf8(value.as_bytes()).ok();
        if text.and_then(|text| recorded.append(name.as_str(), text).ok()).is_none() {
            tracing::warn!("{url}: header `{name}` is not UTF-8 text and is not recorded");
        }
    }
    recorded
}

/// What the answer's `Vary` makes of the request: the fields that are part of the key, or `None` for `Vary: *`
/// (RFC 9110 §12.5.5).
pub fn varied(request: &HeaderMap, response: &HeaderMap) -> Option<Vec<(String, String)>> {
    let mut varied = Vec::new();
    let names = response.get_all(header::VARY).iter().filter_map(|value| value.to_str().ok());
    // Git's servers answer in the protocol version that this asks for, and do not say so.
    let of_git =
        response.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-git-"));
    let names = names.chain(of_git.then_some("git-protocol"));
    for name in names.flat_map(|list| list.split(',')).map(|name| name.trim().to_ascii_lowercase()) {
        if name == "*" {
            return None;
        }
        let is_ours = is_replaced(&name);
        if name.is_empty()
            || is_ours
            || NEVER_KEYED.iter().any(|never| never == name.as_str())
            || credentials::is_field(&name)
        {
            continue;
        }
        let values: Vec<_> =
            request.get_all(&name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        varied.push((name, values.join(", ")));
    }
    varied.sort();
    varied.dedup();
    Some(varied)
}

/// Whether the request asked by name for the media type that came. Who asks for nothing in particular can get another
/// one, though many servers do not say so by `Vary` (RFC 9110 §12.5.1).
pub fn is_asked_by_name(request: &HeaderMap, response: &HeaderMap) -> bool {
    let media_type = |text: &str| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let Some(came) = response.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(media_type) else {
        return false;
    };
    let accepted = request.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|list| list.split(',')).any(|range| media_type(range) == came)
}

/// Which URLs an option is for: the patterns of `--allow-private`, or of `--only`.
#[derive(Debug, Clone, Default)]
pub struct UrlGlobs(GlobSet);

impl UrlGlobs {
    /// Compiles URL globs.
    ///
    /// # Errors
    /// The first pattern that is no glob.
    pub fn new(patterns: &[String]) -> Result<Self, globset::Error> {
        let mut set = GlobSet::builder();
        for pattern in patterns {
            set.add(globset::Glob::new(pattern)?);
        }
        Ok(Self(set.build()?))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them matches `url`.
    pub fn covers(&self, url: &NormalizedUrl) -> bool {
        self.0.is_match(url.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn url(text: &str) -> NormalizedUrl {
        text.parse().unwrap()
    }

    #[test]
    fn volatile_and_stateful_headers_are_left_out_and_the_others_kept() {
        let headers = map(&[
            ("content-type", "text/plain"),
            ("etag", "\"x\""),
            ("set-cookie", "a=b"),
            ("x-ratelimit-remaining", "3"),
            ("x-jfrog-node-id", "n"),
            ("x-conan-server-capabilities", "revisions"),
            ("content-length", "3"),
            ("date", "now"),
        ]);
        let recorded = recorded_headers(&Method::GET, &url("http://h/"), &headers);
        let names: Vec<_> = recorded.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["content-type", "etag", "x-conan-server-capabilities"]);
        let of_head = recorded_headers(&Method::HEAD, &url("http://h/"), &headers);
        assert_eq!(of_head.get("content-length"), Some("3"));
    }

    #[test]
    fn vary_names_the_request_headers_of_the_key() {
        let request = map(&[("accept", "a/b"), ("user-agent", "curl")]);
        let keyed = |vary| varied(&request, &map(&[("vary", vary)]));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(keyed("Accept, accept-language"), Some(vec![pair("accept", "a/b"), pair("accept-language", "")]));
        assert_eq!(keyed("Accept-Encoding, User-Agent, Origin, Cookie, Authorization"), Some(vec![]));
        assert_eq!(keyed("Range, If-None-Match, Host"), Some(vec![]));
        assert_eq!(keyed("*"), None);
    }

    #[test]
    fn a_media_type_that_was_asked_for_by_name_may_not_come_to_others() {
        let is_asked = |accept, came| is_asked_by_name(&map(&[("accept", accept)]), &map(&[("content-type", came)]));
        let index = "application/vnd.pypi.simple.v1+json, text/html; q=0.1";
        assert!(is_asked(index, "application/vnd.pypi.simple.v1+json"));
        assert!(is_asked(index, "Text/HTML; charset=utf-8"));
        assert!(is_asked("application/json; q=0.8, */*", "application/json"));
        assert!(!is_asked("application/json; q=0.8, */*", "application/octet-stream"));
        assert!(!is_asked("*/*", "application/json"));
        assert!(!is_asked("text/*", "text/plain"));
        assert!(!is_asked_by_name(&map(&[("accept", "")]), &map(&[])));
    }

    #[test]
    fn who_asks_for_the_newest_expects_changes() {
        let expects = |control| expects_changes(&map(&[("cache-control", control)]));
        assert!(expects("max-age=0") && expects("no-transform, Max-Age=\"0\""));
        assert!(!expects("max-age=60") && !expects("no-cache") && !expects("no-cache, max-age=0"));
        assert!(!expects_changes(&map(&[("pragma", "max-age=0")])));
        let wants_none = |control| wants_no_stored_answer(&map(&[("cache-control", control)]));
        assert!(wants_none("max-age=0") && wants_none("no-cache") && !wants_none("max-age=60"));
    }

    #[test]
    fn an_option_is_for_the_urls_that_its_globs_match() {
        let allow = UrlGlobs::new(&["https://h/private/*".to_owned()]).unwrap();
        assert!(allow.covers(&url("https://h/private/a/b?c")));
        assert!(!allow.covers(&url("https://h/public")));
    }
}

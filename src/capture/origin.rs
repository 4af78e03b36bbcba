//! The client that asks the origins: the user's own upstream proxy and roots, no redirects and no decoding of its own.

use std::{collections::HashSet, error::Error, ffi::OsString, path::Path, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use rustls_native_certs::CertificateResult;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::whole::whole;

/// How long a connection may take to be made, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an origin may stay silent in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(300);

/// Header fields that an answer may have; hyper's own limit is 100, and some origins send more.
const MAX_FIELDS: usize = 1000;

/// Redirects that a download of our own follows; as many as curl does for `fetchurl` in nixpkgs.
const MAX_REDIRECTS: usize = 20;

/// Variables under which users tell one client of a root that others need not know.
const CLIENT_ROOTS: &[&str] =
    &["NIX_SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT", "NODE_EXTRA_CA_CERTS"];

/// The certificates that the user's clients trust without us.
#[derive(Debug, Clone, Default)]
pub struct TrustRoots(Vec<CertificateDer<'static>>);

impl TrustRoots {
    /// The platform's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` first, then the system's) and those that the user's
    /// environment names for single clients. What cannot be read is left out with a warning.
    pub fn load(environment: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let CertificateResult { certs, errors, .. } = rustls_native_certs::load_native_certs();
        for error in errors {
            // stdenv points SSL_CERT_FILE to a file that does not exist.
            tracing::debug!("a root certificate is left out: {error}");
        }
        let files: HashSet<_> = CLIENT_ROOTS.iter().filter_map(|name| environment(name)).collect();
        let mut roots = certs;
        for file in files.iter().map(Path::new).filter(|file| file.is_file()) {
            match CertificateDer::pem_file_iter(file) {
                Ok(certificates) => roots.extend(certificates.filter_map(Result::ok)),
                Err(error) => tracing::debug!("{} is left out: {error}", file.display()),
            }
        }
        roots.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
        roots.dedup();
        if roots.is_empty() {
            tracing::warn!(
                "there is no trusted root certificate here, so no https origin can be asked; set SSL_CERT_FILE"
            );
        }
        Self(roots)
    }

    /// All of them as PEM.
    pub fn to_pem(&self) -> String {
        self.0.iter().map(|certificate| pem::encode(&pem::Pem::new("CERTIFICATE", certificate.to_vec()))).collect()
    }

    fn client_config(&self) -> Result<ClientConfig, tokio_rustls::rustls::Error> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(self.0.iter().cloned());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// The client that asks the origins.
#[derive(Debug, Clone)]
pub struct Origin(reqwest::Client);

/// Why the client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum OriginSetupError {
    /// TLS.
    #[error("cannot set up TLS towards the origins: {0}")]
    Tls(#[from] tokio_rustls::rustls::Error),
    /// The client itself, for example an upstream proxy that is no URL.
    #[error("cannot set up the client that asks the origins: {}", causes(.0))]
    Client(#[from] reqwest::Error),
}

/// Why an origin could not be asked, or did not answer whole.
#[derive(Debug, thiserror::Error)]
#[error("{}", causes(.0))]
pub struct OriginError(#[source] reqwest::Error);

impl From<reqwest::Error> for OriginError {
    fn from(error: reqwest::Error) -> Self {
        // The URL is in the message around this one, and can hold a secret.
        Self(error.without_url())
    }
}

impl OriginError {
    /// Whether nobody answered in time, neither the connection nor the request.
    pub fn is_silence(&self) -> bool {
        self.0.is_timeout()
    }

    /// What the user can do, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        let text = self.to_string();
        match () {
            () if text.contains("UnknownIssuer") => Some(
                "the origin's certificate comes from a CA that is not trusted here; point SSL_CERT_FILE to its bundle",
            ),
            () if text.contains("CaUsedAsEndEntity") => Some(
                "the origin shows the certificate of a CA (`openssl req -x509` makes such); a server needs one of its own, \
                 signed by that",
            ),
            () if text.contains("InvalidContentType") => {
                Some("the origin does not speak TLS there; is it an http URL?")
            }
            () if text.contains("invalid peer certificate") => {
                Some("the origin's certificate is not valid for this host now")
            }
            () if text.contains("dns error") || text.contains("failed to lookup") => {
                Some("the host's name does not resolve here")
            }
            () => None,
        }
    }
}

/// An error and what is behind it, each said once.
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl Origin {
    /// A client that trusts `roots` and uses the proxies that the environment names.
    ///
    /// # Errors
    /// Where TLS or an upstream proxy cannot be set up.
    pub fn new(roots: &TrustRoots) -> Result<Self, OriginSetupError> {
        Self::build(roots, reqwest::redirect::Policy::none(), READ_TIMEOUT)
    }

    /// The same client, for downloads of our own: it follows redirects.
    ///
    /// # Errors
    /// Where TLS or an upstream proxy cannot be set up.
    pub fn following_redirects(roots: &TrustRoots) -> Result<Self, OriginSetupError> {
        Self::build(roots, reqwest::redirect::Policy::limited(MAX_REDIRECTS), READ_TIMEOUT)
    }

    /// One that waits no longer than this for an answer.
    #[cfg(test)]
    pub fn impatient(read_timeout: Duration) -> Self {
        Self::build(&TrustRoots::load(&|_| None), reqwest::redirect::Policy::none(), read_timeout).unwrap()
    }

    fn build(
        roots: &TrustRoots,
        redirects: reqwest::redirect::Policy,
        read_timeout: Duration,
    ) -> Result<Self, OriginSetupError> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(roots.client_config()?)
            .redirect(redirects)
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(read_timeout)
            .http1_title_case_headers()
            .http1_max_headers(MAX_FIELDS)
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http2_adaptive_window(true)
            .build()?;
        Ok(Self(client))
    }

    /// Asks for the whole representation without a content coding, whatever `headers` say, and gives the answer with its
    /// body still to come.
    ///
    /// # Errors
    /// Where the origin cannot be reached, or does not speak HTTP.
    pub async fn ask(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Option<reqwest::Body>,
    ) -> Result<http::Response<reqwest::Body>, OriginError> {
        let headers = whole_and_uncoded(&method, headers);
        let may_repeat = body.is_none() && method.is_idempotent();
        let mut request = self.0.request(method.clone(), url).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        let (mut was_repeated, mut refused) = (false, 0);
        loop {
            let again = request.try_clone().filter(|_| may_repeat);
            let (error, again) = match (request.send().await, again) {
                (Err(error), Some(again)) => (error, again),
                (answer, _) => return Ok(whole(&method, answer?.into())),
            };
            if was_closed(&error) && !was_repeated {
                // The origin closed a connection that it had kept open, just as we used it again (RFC 9112 §9.3.1).
                was_repeated = true;
            } else if was_refused(&error) && refused < MAX_REFUSALS {
                refused += 1;
            } else {
                return Err(error.into());
            }
            request = again;
        }
    }
}

/// Whether the origin says that it has not looked at the request (RFC 9113 §8.7): it ends a connection in good order,
/// or has too many streams.
fn was_refused(error: &reqwest::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        let refused = |error: &h2::Error| match error.reason() {
            Some(h2::Reason::NO_ERROR) => error.is_go_away() && error.is_remote(),
            Some(h2::Reason::REFUSED_STREAM) => error.is_reset() && error.is_remote(),
            _ => false,
        };
        if cause.downcast_ref().is_some_and(refused) {
            return true;
        }
        source = cause.source();
    }
    false
}

/// Whether the connection ended before any of the answer came.
fn was_closed(error: &reqwest::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) {
            return true;
        }
        let reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
        if cause.downcast_ref::<std::io::Error>().is_some_and(reset) {
            return true;
        }
        source = cause.source();
    }
    false
}

/// How often a request is sent again that the origin has not looked at. A server that ends each connection after a few
/// requests refuses most of those that a build asks in parallel, time and again.
const MAX_REFUSALS: usize = 50;

/// Request fields that ask for less than the whole representation, or under a condition (RFC 9110 §13.1, §14.2). The
/// answers to them are made from the whole.
const PARTIAL: [HeaderName; 6] = [
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
];

/// Whether the origin sees another field of this name, in lower case, than the client sent.
pub fn is_replaced(name: &str) -> bool {
    PARTIAL.iter().any(|partial| partial == name) || matches!(name, "host" | "expect" | "a-im" | "accept-encoding")
}

/// The request fields for the origin: the client's, without what asks for less than the whole representation, or for
/// another form of it (RFC 9110 §12.5.3). Conditions on what a request changes stay.
pub fn whole_and_uncoded(method: &Method, mut headers: HeaderMap) -> HeaderMap {
    headers.remove(header::HOST);
    headers.remove(header::EXPECT);
    if matches!(*method, Method::GET | Method::HEAD) {
        PARTIAL.iter().for_each(|name| drop(headers.remove(name)));
    }
    // A delta coding (RFC 3229) is less than the whole as well.
    headers.remove("a-im");
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    join_cookies(&mut headers);
    headers
}

/// Clients split `Cookie` over HTTP/2; over HTTP/1.1 it has to be one field (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // Field values joined by a separator are a field value.
    if let (true, Ok(joined)) = (crumbs.len() > 1, HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))) {
        headers.insert(header::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_asked_for_the_whole_without_a_coding() {
        let mut asked = HeaderMap::new();
        for (name, value) in
            [("range", "bytes=1-2"), ("if-none-match", "x"), ("accept-encoding", "gzip"), ("accept", "a/b")]
        {
            asked.insert(name, value.parse().unwrap());
        }
        asked.append("cookie", "a=1".parse().unwrap());
        asked.append("cookie", "b=2".parse().unwrap());
        let mut fields: Vec<_> = whole_and_uncoded(&Method::GET, asked.clone())
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        fields.sort();
        assert_eq!(fields, ["accept-encoding: identity", "accept: a/b", "cookie: a=1; b=2"]);
        assert!(whole_and_uncoded(&Method::PUT, asked).contains_key("if-none-match"), "a guard against overwriting");
    }

    #[test]
    fn what_cannot_be_set_up_is_said_with_its_cause() {
        let error = OriginSetupError::Tls(tokio_rustls::rustls::Error::DecryptError);
        assert_eq!(error.to_string(), "cannot set up TLS towards the origins: cannot decrypt peer's message");
        let error = OriginSetupError::Client(reqwest::Client::new().get("h").build().unwrap_err());
        let text = "cannot set up the client that asks the origins: builder error: relative URL without a base";
        assert_eq!(error.to_string(), text);
    }
}

//! The URI that a request is for, whatever form its target has (RFC 9112 §3.2 and §3.3, RFC 9110 §7.1).

use std::net::SocketAddr;

use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, header,
    uri::{Authority, PathAndQuery, Scheme},
};

use super::authority::HostPort;
use crate::{request_id::RequestIds, url::without_userinfo};

/// The host that is the proxy itself, whatever an inventory has. No real host has such a name: `internal` is reserved for
/// private use (ICANN Board, 2024-07-29), and this name is ours within it.
pub const OWN_HOST: &str = "buildproxy.internal";

/// How a request came here: what its target does not say itself.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The address of the proxy's end of the connection.
    pub own: SocketAddr,
    /// The address of the client's end, where that is known.
    pub peer: Option<SocketAddr>,
    /// Whether origins are asked: a request could come back from there.
    pub asks_origins: bool,
    /// Whether TLS was taken off.
    pub decrypted: bool,
    /// Whether what is answered goes to the client's socket as it is: not encrypted, and in no tunnel in another.
    pub is_direct: bool,
    /// Numbers its requests.
    pub ids: RequestIds,
    /// The CONNECT targets passed on the way, the last one innermost.
    pub tunnels: Vec<HostPort>,
}

/// Why a request's target is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// More than one `Host` field.
    #[error("the request has more than one Host header, which RFC 9112 §3.2 forbids")]
    RepeatedHost,
    /// A `Host` field or an authority that is no host with an optional port.
    #[error("the request names the host `{0}`, which is not HOST or HOST:PORT without userinfo")]
    InvalidHost(String),
    /// `:authority` and `Host` of one request.
    #[error("the request is for `{authority}` but its Host header says `{host}`, which RFC 9113 §8.3.1 forbids")]
    TwoHosts {
        /// The pseudo field.
        authority: String,
        /// The field.
        host: String,
    },
    /// Neither the target nor `Host` nor CONNECT names a host.
    #[error("the request names no host: it has no Host header, and it came without CONNECT")]
    NoHost,
    /// A form that its method does not have.
    #[error("`{0}` is not a target that this request's method can have (RFC 9112 §3.2)")]
    Form(String),
    /// A scheme other than `http` and `https`.
    #[error(
        "{url}: buildproxy answers http and https, not `{scheme}`: use an https:// URL of the same file, or fetch it \
         beforehand with Nix's fetchurl"
    )]
    Scheme {
        /// The scheme.
        scheme: String,
        /// What was asked for, without userinfo and query.
        url: String,
    },
    /// The proxy itself.
    #[error(
        "this is buildproxy's proxy port, not a web server: set http_proxy={proxy} and https_proxy={proxy} and ask \
         for the real URL"
    )]
    OwnAddress {
        /// The proxy's own URL.
        proxy: String,
    },
}

impl TargetError {
    /// The status that the client gets.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Scheme { .. } => StatusCode::NOT_IMPLEMENTED,
            Self::RepeatedHost
            | Self::InvalidHost(_)
            | Self::TwoHosts { .. }
            | Self::NoHost
            | Self::Form(_)
            | Self::OwnAddress { .. } => StatusCode::BAD_REQUEST,
        }
    }
}

impl Arrival {
    /// On a connection to `own`, before anything is known of it.
    pub fn at(own: SocketAddr) -> Self {
        let ids = RequestIds::default();
        Self { own, peer: None, asks_origins: false, decrypted: false, is_direct: false, ids, tunnels: Vec::new() }
    }

    /// The innermost CONNECT target.
    pub fn tunnel(&self) -> Option<&HostPort> {
        self.tunnels.last()
    }

    /// The scheme of a target that does not say it.
    fn scheme(&self) -> Scheme {
        if self.decrypted { Scheme::HTTPS } else { Scheme::HTTP }
    }
}

/// The absolute URI of what `request` asks for. Path and query stay byte for byte as they were sent.
///
/// 1. More than one `Host`, or an invalid one, is refused in every form (RFC 9112 §3.2).
/// 2. Absolute-form counts as it stands and `Host` is ignored (RFC 9112 §3.2.2), inside a TLS tunnel too.
/// 3. HTTP/2: a `Host` that differs from `:authority` in more than spelling is refused (RFC 9113 §8.3.1).
/// 4. Else the scheme is the connection's, and the authority that of `:authority`, `Host`, or CONNECT, in this order.
///    The SNI plays no part: it is for the certificate alone.
/// 5. A host without a port that is the CONNECT host has the CONNECT port, since that is where it was sent.
/// 6. The proxy's own address, where a client takes it for a web server, is the [host that is the proxy itself](OWN_HOST);
///    anywhere else it is refused, so that no request can come back to it. Where origins are asked, so is its port at
///    any host that no proxy's client has named: a web page whose host was made to mean this machine asks like that, and so
///    does a request that an origin's name has led back here.
///
/// | came by | target, `Host` | is for |
/// | --- | --- | --- |
/// | plain | `http://h.test/a`, any | `http://h.test/a` |
/// | plain | `/a`, `h.test` | `http://h.test/a` |
/// | CONNECT `h.test:8080` | `/a`, `H.test.` | `http://H.test.:8080/a` |
/// | CONNECT `h.test:443`, TLS | `/a`, `h.test` or none | `https://h.test/a` |
/// | CONNECT `h.test:8443`, TLS | `/a`, `h.test:443` | `https://h.test:443/a` |
/// | CONNECT `h.test:8443`, TLS | `/a`, `o.test` | `https://o.test/a` |
/// | CONNECT `[::1]:8443`, TLS | `/a`, `[0::1]` | `https://[0::1]:8443/a` |
/// | TLS with any SNI | `/a`, `h.test:8443` | `https://h.test:8443/a` |
/// | TLS with any SNI | `http://h.test/a`, any | `http://h.test/a` |
/// | TLS with any SNI | `/a`, none | refused |
///
/// A request without `Host` is accepted where its target or CONNECT names the host, although RFC 9112 §3.2 has servers
/// refuse it: nothing about it is in doubt, and hand-written clients send such.
///
/// Spellings are left as they are: [`NormalizedUrl`](crate::url::NormalizedUrl) makes them one.
///
/// `OPTIONS *` is the URI with an empty path, which the `http` crate shows as `/` (RFC 9110 §7.1).
///
/// # Errors
/// Where the target is ambiguous, of a form that the method does not have, or the proxy itself.
pub fn effective_uri<B>(request: &Request<B>, arrival: &Arrival) -> Result<Uri, TargetError> {
    let uri = request.uri();
    let field = host_field(request.headers())?;
    let host = || field.map(host_in).transpose();
    let (scheme, authority) = match (uri.scheme(), uri.authority()) {
        (Some(scheme), Some(authority)) if request.version() < Version::HTTP_2 => {
            // What says the same as the target is as valid, where that has no userinfo.
            if field.is_some_and(|field| field != authority.as_str() || field.as_bytes().contains(&b'@')) {
                host()?;
            }
            refuse_own_address(&host_port(authority)?, scheme, arrival)?;
            return web_scheme(scheme, uri).map(|()| uri.clone());
        }
        (Some(scheme), Some(authority)) => {
            let host = host()?;
            let authority = host_port(authority)?;
            refuse_second_host(&authority, host.as_ref(), scheme)?;
            (scheme.clone(), Some(authority))
        }
        (None, None) => (arrival.scheme(), host()?),
        _ => return Err(form_error(uri)),
    };
    web_scheme(&scheme, uri)?;
    let authority = with_tunnel_port(authority, &scheme, arrival).ok_or(TargetError::NoHost)?;
    let own = refuse_own_address(&authority, &scheme, arrival);
    let is_direct = !arrival.decrypted && arrival.tunnels.is_empty();
    let authority = match own {
        Ok(()) => {
            refuse_own_port(&authority, &scheme, arrival)?;
            authority.to_string()
        }
        Err(_) if is_direct => OWN_HOST.to_owned(),
        Err(error) => return Err(error),
    };
    let path = path_and_query(request)?;
    Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build().map_err(|_| form_error(uri))
}

fn form_error(uri: &Uri) -> TargetError {
    TargetError::Form(without_userinfo(&uri.to_string()))
}

/// The one `Host` field. An empty one says as much as none (RFC 9110 §7.2).
fn host_field(headers: &HeaderMap) -> Result<Option<&HeaderValue>, TargetError> {
    let mut fields = headers.get_all(header::HOST).into_iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(TargetError::RepeatedHost);
    }
    Ok(field.filter(|field| !field.is_empty()))
}

/// What a `Host` field says.
fn host_in(field: &HeaderValue) -> Result<HostPort, TargetError> {
    let invalid = || TargetError::InvalidHost(without_userinfo(&String::from_utf8_lossy(field.as_bytes())));
    let text = field.to_str().map_err(|_| invalid())?;
    text.parse().map_err(|_| invalid())
}

/// Host and port of an absolute URI.
fn host_port(authority: &Authority) -> Result<HostPort, TargetError> {
    HostPort::try_from(authority).map_err(|error| TargetError::InvalidHost(error.0))
}

/// `Host` beside `:authority` can only repeat it.
fn refuse_second_host(authority: &HostPort, host: Option<&HostPort>, scheme: &Scheme) -> Result<(), TargetError> {
    let port = |host: &HostPort| host.port().unwrap_or_else(|| default_port(scheme));
    match host {
        Some(host) if !host.same_host(authority) || port(host) != port(authority) => {
            Err(TargetError::TwoHosts { authority: authority.to_string(), host: host.to_string() })
        }
        _ => Ok(()),
    }
}

fn web_scheme(scheme: &Scheme, uri: &Uri) -> Result<(), TargetError> {
    if *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS {
        return Ok(());
    }
    let url = without_userinfo(&uri.to_string());
    let url = url.split('?').next().unwrap_or_default().to_owned();
    Err(TargetError::Scheme { scheme: scheme.to_string(), url })
}

fn default_port(scheme: &Scheme) -> u16 {
    if *scheme == Scheme::HTTPS { 443 } else { 80 }
}

/// `named`, completed with what CONNECT said, or CONNECT's own host where none was named.
fn with_tunnel_port(named: Option<HostPort>, scheme: &Scheme, arrival: &Arrival) -> Option<HostPort> {
    let Some(tunnel) = arrival.tunnel() else {
        return named;
    };
    let port = tunnel.port().filter(|port| *port != default_port(scheme));
    match named {
        None => Some(tunnel.with_port(port)),
        Some(named) if named.port().is_none() && named.same_host(tunnel) => Some(named.with_port(port)),
        Some(named) => Some(named),
    }
}

fn refuse_own_address(authority: &HostPort, scheme: &Scheme, arrival: &Arrival) -> Result<(), TargetError> {
    if !has_own_port(authority, scheme, arrival) || !authority.is_local_end(arrival.own.ip()) {
        return Ok(());
    }
    Err(own_address(arrival))
}

/// Refuses a request that was sent here as if this were the host that it names.
fn refuse_own_port(authority: &HostPort, scheme: &Scheme, arrival: &Arrival) -> Result<(), TargetError> {
    let is_sent_here = arrival.asks_origins && arrival.tunnel().is_none();
    if is_sent_here && has_own_port(authority, scheme, arrival) { Err(own_address(arrival)) } else { Ok(()) }
}

fn has_own_port(authority: &HostPort, scheme: &Scheme, arrival: &Arrival) -> bool {
    authority.port().unwrap_or_else(|| default_port(scheme)) == arrival.own.port()
}

fn own_address(arrival: &Arrival) -> TargetError {
    TargetError::OwnAddress { proxy: format!("http://{}", arrival.own) }
}

/// Path and query; nothing for `OPTIONS *`.
fn path_and_query<B>(request: &Request<B>) -> Result<PathAndQuery, TargetError> {
    match request.uri().path_and_query() {
        Some(path) if path.as_str().starts_with('/') => Ok(path.clone()),
        Some(path) if path == "*" && request.method() == Method::OPTIONS => Ok(PathAndQuery::from_static("/")),
        _ => Err(form_error(request.uri())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "127.0.0.1:34567";

    /// `way` is `plain` or `tls`, with the CONNECT target behind a space where there was one.
    fn arrival(way: &str) -> Arrival {
        let mut words = way.split(' ');
        let mut arrival = Arrival::at(OWN.parse().unwrap());
        arrival.decrypted = words.next() == Some("tls");
        arrival.tunnels = words.map(|target| target.parse().unwrap()).collect();
        arrival
    }

    fn request(version: Version, line: &str, hosts: &[&str]) -> Request<()> {
        let (method, target) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(target).version(version);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        request.body(()).unwrap()
    }

    fn target(way: &str, line: &str, hosts: &[&str]) -> Result<String, TargetError> {
        effective_uri(&request(Version::HTTP_11, line, hosts), &arrival(way)).map(|uri| uri.to_string())
    }

    #[test]
    fn absolute_form_counts_as_it_stands() {
        for (way, line, host, expected) in [
            ("plain", "GET http://h.test/a?b", "other.test", "http://h.test/a?b"),
            ("plain", "GET http://h.test", "h.test", "http://h.test/"),
            ("plain", "GET https://h.test:8443/a", "h.test", "https://h.test:8443/a"),
            ("tls h.test:8443", "GET http://h.test/a", "h.test:8443", "http://h.test/a"),
            ("tls h.test:443", "GET https://o.test/a", "h.test", "https://o.test/a"),
            ("plain", "GET HTTP://H.test/%7e//..//?x=%zz&", "h.test", "http://H.test/%7e//..//?x=%zz&"),
            ("plain", "GET http://u:p@h.test/", "h.test", "http://u:p@h.test/"),
        ] {
            assert_eq!(target(way, line, &[host]).as_deref(), Ok(expected), "{way}: {line}");
        }
    }

    #[test]
    fn origin_form_is_completed_from_host_and_connect() {
        for (way, line, hosts, expected) in [
            ("plain", "GET /a?b", &["h.test"][..], "http://h.test/a?b"),
            ("plain", "GET /a", &["h.test:8080"], "http://h.test:8080/a"),
            ("tls", "GET /a", &["h.test:34567"], "https://h.test:34567/a"),
            ("tls h.test:443", "GET /a", &["h.test"], "https://h.test/a"),
            ("tls h.test:8443", "GET /a", &["H.test."], "https://H.test.:8443/a"),
            ("tls h.test:8443", "GET /a", &["h.test:9"], "https://h.test:9/a"),
            ("tls h.test:8443", "GET /a", &["o.test"], "https://o.test/a"),
            ("tls h.test:8443", "GET /a", &[], "https://h.test:8443/a"),
            ("tls h.test:8443", "GET /a", &[""], "https://h.test:8443/a"),
            ("plain h.test:80", "GET /a", &["h.test"], "http://h.test/a"),
            ("plain h.test:443", "GET /a", &["h.test"], "http://h.test:443/a"),
            ("tls [::1]:8443", "GET /", &["[::1]"], "https://[::1]:8443/"),
            ("tls o.test:80 h.test:8443", "GET /", &[], "https://h.test:8443/"),
            ("plain", "GET //h/../%2F?&%zz", &["h.test"], "http://h.test//h/../%2F?&%zz"),
            ("plain", "OPTIONS *", &["h.test"], "http://h.test/"),
        ] {
            assert_eq!(target(way, line, hosts).as_deref(), Ok(expected), "{way}: {line} {hosts:?}");
        }
    }

    #[test]
    fn where_origins_are_asked_no_name_that_means_this_machine_leads_in() {
        let ask = |way: &str, line: &str, host: &str| {
            let arrival = Arrival { asks_origins: true, ..arrival(way) };
            effective_uri(&request(Version::HTTP_11, line, &[host]), &arrival).map(|uri| uri.to_string())
        };
        // As a browser asks for what a page from `evil.test` names, once that name means 127.0.0.1.
        for way in ["plain", "tls"] {
            let refused = ask(way, "GET /a", "evil.test:34567");
            assert!(matches!(refused, Err(TargetError::OwnAddress { .. })), "{way}: {refused:?}");
        }
        // As clients of a proxy ask.
        assert_eq!(ask("plain", "GET http://h.test:34567/a", "h.test").as_deref(), Ok("http://h.test:34567/a"));
        assert_eq!(ask("plain h.test:34567", "GET /a", "h.test").as_deref(), Ok("http://h.test:34567/a"));
        assert_eq!(ask("plain", "GET /a", "h.test").as_deref(), Ok("http://h.test/a"));
    }

    #[test]
    fn http2_takes_its_pseudo_fields_and_the_connect_port() {
        for (way, line, expected) in [
            ("tls h.test:443", "GET https://h.test/a?b", "https://h.test/a?b"),
            ("tls h.test:8443", "GET https://h.test/a", "https://h.test:8443/a"),
            ("tls h.test:8443", "GET https://o.test/a", "https://o.test/a"),
            ("tls", "GET http://h.test/a", "http://h.test/a"),
        ] {
            let uri = effective_uri(&request(Version::HTTP_2, line, &[]), &arrival(way));
            assert_eq!(uri.unwrap().to_string(), expected, "{way}: {line}");
        }
    }

    #[test]
    fn http2_has_one_host_or_none() {
        let ask = |line: &str, host: &str| {
            let request = request(Version::HTTP_2, line, &[host]);
            effective_uri(&request, &arrival("tls h.test:8443")).map(|uri| uri.to_string())
        };
        for host in ["h.test", "H.test.:443"] {
            assert_eq!(ask("GET https://h.test/a", host).as_deref(), Ok("https://h.test:8443/a"), "{host}");
        }
        assert_eq!(ask("GET /a", "o.test").as_deref(), Ok("https://o.test/a"), "without :authority");
        for host in ["o.test", "h.test:8443"] {
            let refused = TargetError::TwoHosts { authority: "h.test".into(), host: host.into() };
            assert_eq!(ask("GET https://h.test/a", host), Err(refused));
        }
    }

    #[test]
    fn ambiguous_targets_are_refused() {
        use TargetError::{Form, InvalidHost, NoHost, RepeatedHost, Scheme};
        for (way, line, hosts, error) in [
            ("plain", "GET /", &[][..], NoHost),
            ("tls", "GET /", &[""], NoHost),
            ("plain", "GET /", &["h.test", "h.test"], RepeatedHost),
            ("plain", "GET http://h.test/", &["h.test", "o.test"], RepeatedHost),
            ("plain", "GET http://h.test/", &["h test"], InvalidHost("h test".into())),
            ("plain", "GET /", &["u:s3cret@h.test"], InvalidHost("h.test".into())),
            ("plain", "GET http://u:s3cret@h.test/", &["u:s3cret@h.test"], InvalidHost("h.test".into())),
            ("plain", "GET http://h.test:99999/", &["h.test:99999"], InvalidHost("h.test:99999".into())),
            ("plain", "GET http://u:s3cret@h.test:99999/", &[], InvalidHost("h.test:99999".into())),
            ("plain", "GET u:s3cret@h.test:80", &["h.test"], Form("h.test:80".into())),
            ("plain", "GET /", &["h.test:99999"], InvalidHost("h.test:99999".into())),
            ("plain", "GET http://h.test:99999/", &[], InvalidHost("h.test:99999".into())),
            ("plain", "GET *", &["h.test"], Form("*".into())),
            ("plain", "GET h.test:80", &["h.test"], Form("h.test:80".into())),
            (
                "plain",
                "GET ftp://u:p@h.test/a?b",
                &["h.test"],
                Scheme { scheme: "ftp".into(), url: "ftp://h.test/a".into() },
            ),
        ] {
            assert_eq!(target(way, line, hosts), Err(error), "{way}: {line} {hosts:?}");
        }
    }

    #[test]
    fn the_proxy_itself_is_never_a_target() {
        for (way, line, host) in [
            ("plain", "GET http://127.0.0.1:34567/", "h.test"),
            ("plain", "GET http://u:p@LOCALHOST.:34567/", "h.test"),
            ("tls 127.0.0.1:34567", "GET /", "127.0.0.1"),
            ("tls", "GET /", OWN),
        ] {
            let error = target(way, line, &[host]).unwrap_err();
            assert_eq!(error.status(), StatusCode::BAD_REQUEST);
            assert!(error.to_string().contains("http_proxy=http://127.0.0.1:34567 "), "{way}: {line} {error}");
        }
        // Where it is taken for a web server, it says what it is.
        for host in [OWN, "localhost:34567"] {
            assert_eq!(target("plain", "GET /a?b", &[host]).unwrap(), "http://buildproxy.internal/a?b");
        }
        assert!(target("plain", "GET http://127.0.0.1:8080/", &[]).is_ok());
        assert!(target("plain", "GET http://h.test:34567/", &[]).is_ok());
    }

    #[test]
    fn two_hosts_of_one_request_are_both_named() {
        let error = TargetError::TwoHosts { authority: "a".to_owned(), host: "b".to_owned() };
        let text = "the request is for `a` but its Host header says `b`, which RFC 9113 §8.3.1 forbids";
        assert_eq!(error.to_string(), text);
    }
}

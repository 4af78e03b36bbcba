//! Host and port, as `Host`, `:authority` and CONNECT name them.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use http::uri;
use rustls_pki_types::ServerName;
use url::Host;

use crate::url::without_userinfo;

/// A host with an optional port: `uri-host [ ":" port ]` (RFC 9110 §7.2), no userinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    host: String,
    port: Option<u16>,
}

/// A text that is no host with an optional port; without userinfo, which is one reason for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not HOST or HOST:PORT without userinfo, with an IPv6 address in brackets and a port below 65536")]
pub struct AuthorityError(pub String);

/// A host that no certificate can name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither an IP address nor a DNS name of labels of 1 to 63 letters, digits, `-` and `_`")]
pub struct HostError(pub String);

/// `host` as TLS knows it: a DNS name without a trailing dot, or an address without brackets. Underscores are no host
/// names' (RFC 1123 §2.1) but real ones have them. The rules are those by which the TLS library reads an SNI.
///
/// # Errors
/// Where it is neither.
pub fn server_name(host: &str) -> Result<ServerName<'_>, HostError> {
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let name = bracketed.unwrap_or_else(|| host.strip_suffix('.').unwrap_or(host));
    // Brackets are for IPv6 addresses alone, and one dot was taken off.
    let is_bare = bracketed.is_none_or(|address| address.contains(':')) && !name.ends_with('.');
    match ServerName::try_from(name) {
        Ok(name) if is_bare => Ok(name),
        _ => Err(HostError(without_userinfo(host))),
    }
}

/// The alternative names that a certificate for `host` carries (RFC 5280 §4.2.1.6), in lower case, an address without
/// brackets. A DNS name stands without a trailing dot; where the client wrote one it stands a second time as it was
/// written, because OpenSSL and Python take out no dot of what they compare.
///
/// # Errors
/// Where no certificate can name it.
pub fn alternative_names(host: &str) -> Result<Vec<String>, HostError> {
    let name = server_name(host)?;
    let mut names = vec![name.to_str().to_ascii_lowercase()];
    if matches!(name, ServerName::DnsName(_)) && host.ends_with('.') {
        names.push(host.to_ascii_lowercase());
    }
    Ok(names)
}

impl HostPort {
    /// The host as it was sent, an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, where one was sent.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The same host with `port`, or with none.
    #[must_use]
    pub fn with_port(&self, port: Option<u16>) -> Self {
        Self { host: self.host.clone(), port }
    }

    /// Whether both name one host: case, a trailing dot and the spelling of an address make no difference.
    pub fn same_host(&self, other: &Self) -> bool {
        match (self.as_in_url(), other.as_in_url()) {
            (Ok(one), Ok(other)) => one == other,
            _ => self.bare_host().eq_ignore_ascii_case(other.bare_host()),
        }
    }

    /// Whether this host is the machine end of `address`: that address, or a name or address of the machine itself.
    pub fn is_local_end(&self, address: IpAddr) -> bool {
        let ip = match self.as_in_url() {
            Ok(Host::Ipv4(ip)) => IpAddr::from(ip),
            Ok(Host::Ipv6(ip)) => IpAddr::from(ip).to_canonical(),
            // RFC 6761 §6.3: these names are loopback without asking anyone.
            Ok(Host::Domain(name)) => return name == "localhost" || name.ends_with(".localhost"),
            Err(_) => return false,
        };
        ip == address.to_canonical() || ip.is_loopback() || ip.is_unspecified()
    }

    /// What the host is in a URL, where `127.1` is an address too.
    fn as_in_url(&self) -> Result<Host, url::ParseError> {
        Host::parse(self.bare_host())
    }

    /// What stands in `text`, whose characters can stand in an authority.
    fn split(text: &str) -> Option<Self> {
        let host_length = match text.strip_prefix('[') {
            Some(rest) => rest.find(']')? + 2,
            None => text.find(':').unwrap_or(text.len()),
        };
        let (host, rest) = text.split_at(host_length);
        if host.is_empty() || host.contains('@') {
            return None;
        }
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            // `HOST:` is HOST (RFC 3986 §3.2.3).
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            _ => return None,
        };
        Some(Self { host: host.to_owned(), port })
    }

    fn bare_host(&self) -> &str {
        self.host.strip_suffix('.').unwrap_or(&self.host)
    }
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> Self {
        let host = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        Self { host, port: Some(address.port()) }
    }
}

impl FromStr for HostPort {
    type Err = AuthorityError;

    fn from_str(text: &str) -> Result<Self, AuthorityError> {
        let refused = || AuthorityError(without_userinfo(text));
        // The http crate knows which characters can stand in an authority; it allows more than a host and a port.
        uri::Authority::try_from(text).map_err(|_| refused())?;
        Self::split(text).ok_or_else(refused)
    }
}

/// Without the userinfo, which can stand before them.
impl TryFrom<&uri::Authority> for HostPort {
    type Error = AuthorityError;

    fn try_from(authority: &uri::Authority) -> Result<Self, AuthorityError> {
        let text = authority.as_str();
        let host_port = text.rsplit_once('@').map_or(text, |(_, host_port)| host_port);
        Self::split(host_port).ok_or_else(|| AuthorityError(host_port.to_owned()))
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> HostPort {
        text.parse().unwrap()
    }

    #[test]
    fn host_and_port_are_told_apart() {
        for (text, host, port) in [
            ("files.example.test", "files.example.test", None),
            ("Files.Example.test.:8080", "Files.Example.test.", Some(8080)),
            ("127.0.0.1:443", "127.0.0.1", Some(443)),
            ("[::1]", "[::1]", None),
            ("[2001:db8::2]:8443", "[2001:db8::2]", Some(8443)),
            ("h:", "h", None),
            ("h:00080", "h", Some(80)),
        ] {
            assert_eq!((parsed(text).host(), parsed(text).port()), (host, port), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_and_port_is_refused() {
        for text in ["", ":80", "h:65536", "h:+80", "h:a", "::1", "[::1", "[::1]80", "u@h", "u:p@h:1", "h/x", "a b"] {
            assert_eq!(text.parse::<HostPort>(), Err(AuthorityError(without_userinfo(text))));
        }
        let message = "u:s3cret@h.test".parse::<HostPort>().unwrap_err().to_string();
        assert!(message.contains("`h.test` is not HOST or HOST:PORT without userinfo"), "{message}");
    }

    #[test]
    fn one_host_in_two_spellings_is_one_host() {
        assert!(parsed("Files.Example.test.:80").same_host(&parsed("files.example.TEST:90")));
        assert!(parsed("[::1]").same_host(&parsed("[0:0::0:1]:80")));
        assert!(!parsed("files.example.test").same_host(&parsed("example.test")));
    }

    #[test]
    fn hosts_that_no_certificate_can_name_are_told() {
        let (long_label, long_name) = ("a".repeat(64), "a.".repeat(128));
        for host in [
            "",
            ".",
            "a..b",
            "a.b..",
            "a b",
            "*.example.test",
            "[::1",
            "[127.0.0.1]",
            "[a.test]",
            "ex\u{e4}mple.test",
            "a-.test",
            "127.1",
            &long_label,
            &long_name,
        ] {
            assert_eq!(server_name(host), Err(HostError(host.to_owned())));
        }
        for (host, name) in [("Under_score.test.", "under_score.test"), ("[::1]", "::1"), ("127.0.0.1", "127.0.0.1")] {
            assert_eq!(server_name(host).unwrap().to_str().to_ascii_lowercase(), name);
        }
    }

    #[test]
    fn a_trailing_dot_is_named_where_it_was_written() {
        assert_eq!(alternative_names("H.test.").unwrap(), ["h.test", "h.test."]);
        assert_eq!(alternative_names("h.test").unwrap(), ["h.test"]);
        assert_eq!(alternative_names("127.0.0.1.").unwrap(), ["127.0.0.1"]);
    }

    #[test]
    fn every_name_of_this_end_is_known() {
        let own = IpAddr::from([192, 0, 2, 7]);
        for host in [
            "192.0.2.7",
            "[::ffff:192.0.2.7]",
            "127.0.0.1",
            "127.1",
            "0x7f000001",
            "127.9.9.9",
            "[::1]",
            "0.0.0.0",
            "[::]",
        ] {
            assert!(parsed(host).is_local_end(own), "{host}");
        }
        for name in ["LocalHost.", "proxy.localhost"] {
            assert!(parsed(name).is_local_end(own), "{name}");
        }
        for other in ["192.0.2.8", "files.example.test", "notlocalhost", "[2001:db8::1]"] {
            assert!(!parsed(other).is_local_end(own), "{other}");
        }
    }
}

//! A line of the access log, in the combined format of Apache and nginx.

use std::{fmt, net::IpAddr, time::SystemTime};

use http::{HeaderName, Version, header};
use serde::Serialize;

use super::hiding::Hider;
use crate::proxy::Answered;

/// What nginx has for a client that left before there was an answer.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// A request that is over, without secrets. Shown, it is a line of the combined format; the number of the request is where
/// the name of a user at the client's end once was (RFC 1413), which programs pass over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The number of the request.
    pub request: String,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// When the request was over.
    #[serde(skip)]
    pub time: SystemTime,
    /// The method.
    pub method: String,
    /// What was asked for.
    pub url: String,
    /// The protocol and its version.
    pub protocol: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// The bytes of its body that were sent.
    pub bytes: u64,
    /// Where the client says that it found the URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub referer: Option<String>,
    /// What the client says that it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

impl Entry {
    /// What `answered` comes to, without what `hider` finds in it.
    pub(super) fn new(answered: &Answered, time: SystemTime, hider: &mut Hider) -> Self {
        hider.learn(&answered.headers);
        let field =
            |name: HeaderName| answered.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        Self {
            request: answered.id.to_string(),
            client: answered.client.map(|client| client.ip().to_canonical()),
            time,
            method: answered.method.to_string(),
            url: hider.url(&answered.uri.to_string()),
            protocol: protocol(answered.version),
            status: answered.status.map_or(CLIENT_CLOSED_REQUEST, |status| status.as_u16()),
            bytes: answered.sent,
            referer: field(header::REFERER).map(|referer| hider.url(&referer)),
            user_agent: field(header::USER_AGENT).map(|agent| hider.text(&agent)),
        }
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.client {
            Some(client) => write!(f, "{client}")?,
            None => f.write_str("-")?,
        }
        write!(f, " {} - [{}] ", self.request, Day(self.time))?;
        write!(f, "\"{} {} {}\" ", Escaped(&self.method), Escaped(&self.url), self.protocol)?;
        write!(f, "{} {} ", self.status, self.bytes)?;
        let [referer, agent] = [&self.referer, &self.user_agent].map(|field| Escaped(field.as_deref().unwrap_or("-")));
        write!(f, "\"{referer}\" \"{agent}\"")
    }
}

/// `10/Oct/2000:13:55:36 +0000`.
struct Day(SystemTime);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `Tue, 10 Oct 2000 13:55:36 GMT` (RFC 9110 §5.6.7): every part has its place.
        let date = httpdate::fmt_http_date(self.0);
        let part = |range: std::ops::Range<usize>| date.get(range).unwrap_or_default();
        write!(f, "{}/{}/{}:{} +0000", part(5..7), part(8..11), part(12..16), part(17..25))
    }
}

/// A text as nginx writes it (`ngx_http_log_escape`): whatever is not plain ASCII, or could end the text, as `\xHH`.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in self.0.split_inclusive(|c: char| c == '"' || c == '\\' || !(' '..='~').contains(&c)) {
            let is_plain = |byte: &u8| (b' '..=b'~').contains(byte) && !matches!(byte, b'"' | b'\\');
            let plain = piece.bytes().take_while(is_plain).count();
            f.write_str(&piece[..plain])?;
            piece[plain..].bytes().try_for_each(|byte| write!(f, "\\x{byte:02X}"))?;
        }
        Ok(())
    }
}

//! What the awkward origin answers, by path.

use std::{
    io::{self, Write},
    thread::sleep,
    time::Duration,
};

use super::{After, Request};
use crate::common::pattern;

/// What a login needs, and what a test then looks for on the disk.
pub const USER: &str = "builder";
pub const PASSWORD: &str = "hunter2-very-secret";
pub const TOKEN: &str = "tok-5ecret-bearer-0123456789";
pub const COOKIE: &str = "session=c00kie-5ecret-987654321";
pub const MODIFIED: &str = "Wed, 01 May 2024 10:00:00 GMT";
pub const ETAG: &str = "\"v1-etag\"";

type Headers<'a> = &'a [(&'a str, &'a str)];

/// Writes the answer to `request`, which is the `visit`th of its method and target.
pub fn answer(request: &Request, visit: usize, out: &mut impl Write) -> io::Result<After> {
    let get = request.method == "GET" || request.method == "HEAD";
    let host = request.header("host").unwrap_or("localhost");
    let here = |path: &str| format!("{}://{host}{path}", request.scheme);
    match request.path() {
        path if path.starts_with("/plain/") => {
            let body = pattern(request.number("size").unwrap_or(1000));
            whole(out, request, 200, &[("content-type", "application/octet-stream")], &body)
        }
        "/empty" => whole(out, request, 200, &[], b""),
        "/always-304" => no_body(out, "304 Not Modified", &[("etag", ETAG)]),
        "/reset-content" => no_body(out, "205 Reset Content", &[("content-length", "0"), ("x-kind", "reset")]),
        "/hints" => {
            head(out, "100 Continue", &[])?;
            head(out, "103 Early Hints", &[("link", "</style.css>; rel=preload"), ("x-early", "1")])?;
            out.flush()?;
            whole(out, request, 200, &[("x-final", "1")], b"the final answer\n")
        }
        "/no-content" => no_body(out, "204 No Content", &[("x-kind", "none")]),
        "/missing" => whole(out, request, 404, &[("content-type", "text/plain")], b"there is no such thing\n"),
        "/echo" => {
            let text = [request.method.as_bytes(), b" ", &request.body, b"\n"].concat();
            whole(out, request, 200, &[("content-type", "text/plain")], &text)
        }
        "/counter" => whole(out, request, 200, &[], format!("count {visit}\n").as_bytes()),
        // There once, and then no more.
        path if path.starts_with("/once/") && visit == 1 => whole(out, request, 200, &[], &pattern(6000)),
        path if path.starts_with("/once/") => {
            let status = path.trim_start_matches("/once/").parse().unwrap_or(404);
            whole(out, request, status, &[], b"no more\n")
        }
        "/releases/latest/tool" if visit == 1 => redirect(out, 302, "/plain/releases/1.2.3/tool"),
        "/releases/latest/tool" => redirect(out, 302, "/plain/releases/1.3.0/tool?size=7"),
        "/page" => whole(out, request, 200, &[("content-type", "text/html")], b"<p>a page</p>\n"),
        // Gives back what it got.
        "/reflect" => {
            let fields: String = request.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
            let given = request.header("x-give").unwrap_or("nothing");
            whole(out, request, 200, &[("x-given", given), ("x-session-token", TOKEN)], fields.as_bytes())
        }
        "/bounce" => redirect(out, 302, &format!("/plain/target{}", request.target.trim_start_matches("/bounce"))),
        "/vary-on-all" => {
            let headers = [("vary", "X-My-Secret, Referer, Proxy-Authorization, X-Kind")];
            whole(out, request, 200, &headers, b"varied\n")
        }
        "/api" => whole(out, request, 200, &[("content-type", "application/json")], b"{\"version\": 2}\n"),
        "/busy-429" if visit == 1 => whole(out, request, 429, &[("retry-after", "0")], b"slow down\n"),
        "/busy-503" if visit == 1 => whole(out, request, 503, &[("retry-after", "0")], b"maintenance\n"),
        "/busy-429" | "/busy-503" => whole(out, request, 200, &[], b"at last\n"),

        "/status-999" => no_body(out, "999 Out of range", &[("content-length", "0")]),
        "/moved" => redirect(out, 302, "/echo"),
        "/to-itself" if visit == 1 => redirect(out, 302, "/to-itself"),
        "/to-itself" => whole(out, request, 200, &[], b"arrived\n"),
        "/to-counter" => redirect(out, 302, "/counter"),
        "/token/form" => whole(out, request, 200, &[], format!("access_token={TOKEN}&scope=repo").as_bytes()),
        "/token/nested" => {
            let body = format!("{{\"data\": [{{\"access_token\": \"{TOKEN}\"}}]}}");
            whole(out, request, 200, &[("x-auth-token", TOKEN)], body.as_bytes())
        }
        "/both-lengths" => {
            head(out, "200 OK", &[("content-length", "5"), ("transfer-encoding", "chunked")])?;
            out.write_all(b"a\r\n0123456789\r\n0\r\n\r\n")?;
            Ok(After::Close)
        }
        "/coded-to-the-end" => {
            head(out, "200 OK", &[("transfer-encoding", "identity"), ("connection", "close")])?;
            out.write_all(b"until the end\n")?;
            Ok(After::Close)
        }

        "/redirect/3" => redirect(out, 302, &here("/redirect/2")),
        "/redirect/2" => redirect(out, 301, "/redirect/1?relative"),
        "/redirect/1" => redirect(out, 302, "../plain/end-of-chain?X-Amz-Signature=abc%2Fdef&X-Amz-Expires=5"),
        "/temporary" => redirect(out, 307, "/echo"),
        "/see-other" => redirect(out, 303, "/plain/see-other-result"),
        "/loop" => redirect(out, 302, "/loop"),

        "/chunked" => chunked(out, request, &pattern(5000), true),
        "/trailers" => trailers(out, request),
        "/truncated-chunked" => chunked(out, request, &pattern(5000), false),
        "/truncated" => {
            head(out, "200 OK", &[("content-length", "5000")])?;
            out.write_all(&pattern(2500))?;
            Ok(After::Cut)
        }
        "/until-close" => until_close(out).map(|()| After::Close),
        "/until-cut" => until_close(out).map(|()| After::Cut),
        "/http-1.0" => {
            write!(out, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nold style")?;
            Ok(After::Close)
        }
        "/slow" => slow(out, request, 4),
        "/slow-then-cut" if visit == 1 => slow(out, request, 2).map(|_| After::Cut),
        "/slow-then-cut" => slow(out, request, 4),
        "/big" => big(out, request),

        "/gzip" if request.header("accept-encoding").is_some_and(|value| value.contains("gzip")) => {
            let headers = [("content-encoding", "gzip"), ("vary", "Accept-Encoding")];
            whole(out, request, 200, &headers, &gzip(&pattern(3000)))
        }
        "/gzip" => whole(out, request, 200, &[("vary", "Accept-Encoding")], &pattern(3000)),
        "/gzip-always" => whole(out, request, 200, &[("content-encoding", "gzip")], &gzip(&pattern(3000))),
        "/vary" => {
            let json = request.header("accept").is_some_and(|value| value.contains("json"));
            let body = if json { "{\"kind\": \"json\"}\n" } else { "kind: text\n" };
            whole(out, request, 200, &[("vary", "Accept")], body.as_bytes())
        }
        // As many mirrors do: `Accept` counts, and no `Vary` says so.
        "/silent-vary" => {
            let json = request.header("accept").is_some_and(|value| value.contains("json"));
            whole(out, request, 200, &[], if json { b"{\"kind\": \"json\"}\n" } else { b"kind: text\n" })
        }
        "/vary-star" => whole(out, request, 200, &[("vary", "*")], b"who knows\n"),

        "/set-cookie" => {
            let cookie = format!("{COOKIE}; Path=/; HttpOnly");
            whole(out, request, 200, &[("set-cookie", &cookie)], b"a cookie for you\n")
        }
        "/needs-cookie" if request.header("cookie").is_some_and(|value| value.contains(COOKIE)) => {
            whole(out, request, 200, &[], b"for cookie bearers\n")
        }
        "/needs-cookie" => whole(out, request, 403, &[], b"no cookie, no cake\n"),
        "/basic" | "/token/members" if !has_basic(request) => {
            whole(out, request, 401, &[("www-authenticate", "Basic realm=\"tests\"")], b"who are you?\n")
        }
        "/basic" => whole(out, request, 200, &[], b"for members\n"),
        "/token/members" | "/token/anyone" => {
            let body = format!("{{\"access_token\": \"{TOKEN}\", \"token_type\": \"bearer\", \"expires_in\": 300}}\n");
            whole(out, request, 200, &[("content-type", "application/json")], body.as_bytes())
        }
        "/bearer" if request.header("authorization") == Some(&format!("Bearer {TOKEN}")) => {
            whole(out, request, 200, &[], b"for token bearers\n")
        }
        "/bearer" => whole(out, request, 401, &[("www-authenticate", "Bearer realm=\"tests\"")], b"a token, please\n"),

        "/cached" => cached(out, request),
        "/odd-headers" => odd_headers(out, request),
        "/restless-headers" => {
            let id = format!("{visit}-{}", std::process::id());
            let headers = [
                ("date", "Thu, 02 May 2024 10:00:00 GMT"),
                ("age", "17"),
                ("expires", "Thu, 02 May 2024 11:00:00 GMT"),
                ("alt-svc", "h3=\":443\"; ma=86400"),
                ("strict-transport-security", "max-age=31536000"),
                ("set-cookie", COOKIE),
                ("x-request-id", &id),
                ("x-github-request-id", &id),
                ("x-amz-request-id", &id),
                ("cf-ray", &id),
                ("x-ratelimit-remaining", &id),
                ("keep-alive", "timeout=5"),
                ("x-kept", "yes"),
            ];
            whole(out, request, 200, &headers, b"restless\n")
        }
        _ if get => whole(out, request, 404, &[], b"the awkward origin does not know this path\n"),
        _ => whole(out, request, 405, &[], b"the awkward origin does not know this path\n"),
    }
}

fn head(out: &mut impl Write, status: &str, headers: Headers<'_>) -> io::Result<()> {
    let mut text = format!("HTTP/1.1 {status}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    out.write_all(text.as_bytes())
}

fn no_body(out: &mut impl Write, status: &str, headers: Headers<'_>) -> io::Result<After> {
    head(out, status, headers)?;
    Ok(After::Keep)
}

/// An ordinary answer with its Content-Length; without the body for HEAD.
fn whole(out: &mut impl Write, request: &Request, status: u16, headers: Headers<'_>, body: &[u8]) -> io::Result<After> {
    let length = body.len().to_string();
    let status = format!("{status} Whatever");
    head(out, &status, &[headers, &[("content-length", &length)]].concat())?;
    if request.method != "HEAD" {
        out.write_all(body)?;
    }
    Ok(After::Keep)
}

fn redirect(out: &mut impl Write, status: u16, location: &str) -> io::Result<After> {
    let headers = [("location", location), ("content-length", "5")];
    head(out, &format!("{status} Elsewhere"), &headers)?;
    out.write_all(b"there")?;
    Ok(After::Keep)
}

/// The first `pieces` of four, with a pause of `?ms=N` after each.
fn slow(out: &mut impl Write, request: &Request, pieces: usize) -> io::Result<After> {
    head(out, "200 OK", &[("content-length", "4000"), ("etag", ETAG)])?;
    for piece in pattern(4000).chunks(1000).take(pieces) {
        out.write_all(piece)?;
        out.flush()?;
        sleep(Duration::from_millis(request.number("ms").unwrap_or(100) as u64));
    }
    Ok(After::Keep)
}

/// A chunked body with two trailers, one of them announced.
fn trailers(out: &mut impl Write, request: &Request) -> io::Result<After> {
    head(out, "200 OK", &[("transfer-encoding", "chunked"), ("trailer", "X-Checksum")])?;
    if request.method != "HEAD" {
        out.write_all(b"5\r\nhello\r\n6\r\n world\r\n0\r\nX-Checksum: 17\r\nX-Unannounced: 1\r\n\r\n")?;
    }
    Ok(After::Keep)
}

/// Several chunks, one with an extension, and a trailer; or, where it is not `finished`, no last chunk.
fn chunked(out: &mut impl Write, request: &Request, body: &[u8], finished: bool) -> io::Result<After> {
    head(out, "200 OK", &[("transfer-encoding", "chunked"), ("content-type", "text/plain")])?;
    if request.method == "HEAD" {
        return Ok(After::Keep);
    }
    for (index, piece) in body.chunks(1700).enumerate() {
        let extension = if index == 1 { ";note=\"odd\"" } else { "" };
        write!(out, "{:X}{extension}\r\n", piece.len())?;
        out.write_all(piece)?;
        out.write_all(b"\r\n")?;
        out.flush()?;
    }
    if !finished {
        return Ok(After::Cut);
    }
    out.write_all(b"0\r\nX-Trailer: end\r\n\r\n")?;
    Ok(After::Keep)
}

fn until_close(out: &mut impl Write) -> io::Result<()> {
    head(out, "200 OK", &[("connection", "close"), ("content-type", "text/plain")])?;
    out.write_all(&pattern(4000))
}

/// `?mib=N` of bytes that differ from block to block, never held in memory as a whole.
fn big(out: &mut impl Write, request: &Request) -> io::Result<After> {
    let mib = request.number("mib").unwrap_or(1);
    let length = (mib << 20).to_string();
    head(out, "200 OK", &[("content-length", &length), ("content-type", "application/octet-stream")])?;
    if request.method != "HEAD" {
        big_blocks(mib, |block| out.write_all(block))?;
    }
    Ok(After::Keep)
}

/// The bytes of `/big?mib=N`, block by block.
pub fn big_blocks<E>(mib: usize, mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let mut block = pattern(1 << 20);
    for index in 0..mib {
        block[..8].copy_from_slice(&(index as u64).to_be_bytes());
        each(&block)?;
    }
    Ok(())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default()
}

fn has_basic(request: &Request) -> bool {
    let credentials = data_encoding::BASE64.encode(format!("{USER}:{PASSWORD}").as_bytes());
    request.header("authorization") == Some(&format!("Basic {credentials}"))
}

/// A representation with validators: 304 and single ranges as any file server has them.
fn cached(out: &mut impl Write, request: &Request) -> io::Result<After> {
    let body = pattern(2000);
    let validators = [("etag", ETAG), ("last-modified", MODIFIED), ("accept-ranges", "bytes")];
    let unchanged = request.header("if-none-match") == Some(ETAG)
        || (request.header("if-none-match").is_none() && request.header("if-modified-since") == Some(MODIFIED));
    if unchanged {
        return no_body(out, "304 Not Modified", &validators);
    }
    let range = request.header("range").and_then(|value| value.strip_prefix("bytes=")?.split_once('-'));
    let Some((first, last)) = range.and_then(|(first, last)| Some((first.parse::<usize>().ok()?, last))) else {
        return whole(out, request, 200, &validators, &body);
    };
    let last = last.parse().unwrap_or(body.len() - 1).min(body.len() - 1);
    let part = format!("bytes {first}-{last}/{}", body.len());
    whole(out, request, 206, &[validators.as_slice(), &[("content-range", &part)]].concat(), &body[first..=last])
}

/// Repeated fields, and values that a careless writer of TOML, Nix or shell breaks on.
fn odd_headers(out: &mut impl Write, request: &Request) -> io::Result<After> {
    let body = b"odd\n";
    write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len())?;
    out.write_all(b"Link: </a>; rel=\"next\"\r\nLink: </b>; rel=\"last\"\r\nX-Twice: same\r\nX-Twice: same\r\n")?;
    out.write_all(b"Content-Disposition: attachment; filename=\"a \\\"quoted\\\" name.txt\"\r\n")?;
    out.write_all(b"X-Nix: ${builtins.abort \"no\"} ''${x}\r\nX-Shell: $(exit 1) `id` \\n\r\nX-Empty:\r\n")?;
    out.write_all("X-UTF8: grüße — ✓\r\n".as_bytes())?;
    out.write_all(b"X-Latin1: gr\xfc\xdfe\r\nx.dotted.name: 1\r\nX-Tab: a\tb\r\n\r\n")?;
    if request.method != "HEAD" {
        out.write_all(body)?;
    }
    Ok(After::Keep)
}

//! HAR 1.2, with the bodies in it: written as it is made, so that no body is ever in memory as a whole.
//!
//! What HAR has no place for but an import needs is in the member `_buildproxy`, which other programs pass over.

use std::{
    cell::RefCell,
    fmt,
    fs::File,
    io::{self, Read, Write},
    path::PathBuf,
};

use data_encoding::BASE64;
use http::{Method, StatusCode};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::of_system;
use crate::{
    inventory::{
        Body, BodyFiles, Entry, Headers, Inventory, Located, MatchRules, Source, UrlMatch, becomes_get,
        request_body::BodyDigest,
    },
    store::regular,
    text::printable_json,
    url::{NormalizedUrl, decoded_parameter},
};

/// Longest body, in bytes, that is looked at whether it is text.
const MAX_TEXT: u64 = 1 << 20;
/// Bytes of a body that are encoded at a time; they make whole groups of base64.
const CHUNK: usize = 3 << 16;

/// Why an inventory cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Bodies are not there. One line each.
    #[error("{}", .0.join("\n"))]
    Bodies(Vec<String>),
    /// A body cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Its file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// Writes what `inventory` has for `system`, with the bodies that `files` finds, or without any. Gives a remark on
/// everything that HAR cannot say.
///
/// # Errors
/// Where bodies are missing (nothing is written then), or where something cannot be read or written.
pub fn write(
    mut output: impl Write,
    inventory: &Inventory,
    system: &str,
    files: Option<&BodyFiles>,
) -> Result<Vec<String>, ExportError> {
    let (entries, others) = of_system(inventory, system);
    let places = entries.iter().map(|entry| place(entry, files)).collect::<Vec<_>>();
    let missing: Vec<String> = places.iter().filter_map(|place| place.as_ref().err().cloned()).collect();
    if !missing.is_empty() {
        return Err(ExportError::Bodies(missing));
    }
    let mut remarks: Vec<String> = others.into_iter().collect();
    if inventory.match_rules != MatchRules::default() {
        remarks.push("the rules of `[match]`".to_owned());
    }
    let creator = json!({ "name": "buildproxy", "version": env!("CARGO_PKG_VERSION") });
    let start = format!("{{\"log\":{{\"version\":\"1.2\",\"creator\":{creator},\"entries\":[");
    output.write_all(start.as_bytes()).map_err(ExportError::Write)?;
    let mut number = 0;
    for (entry, place) in entries.into_iter().zip(places) {
        remarks.extend(unsaid(entry));
        let place = place.unwrap_or(Place::Left);
        for exchange in exchanges(entry, place)? {
            let separator = if number == 0 { "\n" } else { ",\n" };
            output.write_all(separator.as_bytes()).map_err(ExportError::Write)?;
            let exchange = exchange.started(number);
            serde_json::to_writer(Printable(&mut output), &exchange).map_err(|error| match exchange.failure() {
                Some(failure) => failure,
                None => ExportError::Write(error.into()),
            })?;
            number += 1;
        }
    }
    output.write_all(b"\n]}}\n").and_then(|()| output.flush()).map_err(ExportError::Write)?;
    Ok(remarks)
}

/// JSON that can be shown on a terminal. The serialiser writes whole characters.
struct Printable<W>(W);

impl<W: Write> Write for Printable<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Most of it is base64.
        let is_plain = bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
        match str::from_utf8(bytes) {
            Ok(text) if !is_plain => self.0.write_all(printable_json(text).as_bytes()),
            _ => self.0.write_all(bytes),
        }
        .map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// What of an entry HAR cannot say.
fn unsaid(entry: &Entry) -> Vec<String> {
    let request = format!("{} {}", entry.method, entry.url);
    let mut unsaid = Vec::new();
    if entry.url_match == UrlMatch::Prefix {
        unsaid.push(format!("{request}: that it is for every URL that starts so"));
    }
    if !entry.systems.is_empty() {
        unsaid.push(format!("{request}: that it is only for {}", entry.systems.join(" and ")));
    }
    if entry.request_body.is_some() {
        unsaid.push(format!("{request}: the request's body, of which only the digest is known"));
    }
    let varied = entry.headers.get("vary").unwrap_or_default().to_ascii_lowercase();
    for name in entry.request_headers.keys().filter(|name| !varied.contains(name.as_str())) {
        unsaid.push(format!("{request}: that the request header `{name}` counts, which no `vary` says"));
    }
    let Some(body) = &entry.body else { return unsaid };
    if body.name.as_ref().is_some_and(|name| *name != entry.url.store_path_name()) {
        unsaid.push(format!("{request}: the name of its body"));
    }
    match &body.source {
        Source::Fetch(Some(from)) => unsaid.push(format!("{request}: that its body is fetched from {from}")),
        Source::StorePath { path, .. } => unsaid.push(format!("{request}: that its body is in {path}")),
        _ => {}
    }
    unsaid
}

/// Where a body's bytes are.
enum Place {
    /// Not to be written.
    Left,
    Text(String),
    File {
        path: PathBuf,
        size: u64,
    },
}

fn place(entry: &Entry, files: Option<&BodyFiles>) -> Result<Place, String> {
    let (Some(body), Some(files)) = (&entry.body, files) else { return Ok(Place::Left) };
    let located = files.locate(body).and_then(|located| match located {
        Located::Text(text) => Ok(Place::Text(text.to_owned())),
        Located::Store(path) | Located::Beside(path) => {
            files.check_size(body, &path).map(|size| Place::File { path, size })
        }
    });
    located.map_err(|error| format!("{} {}: {error}", entry.method, entry.url))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Exchange {
    started_date_time: String,
    time: u8,
    request: Value,
    response: Response,
    cache: Value,
    timings: Value,
    #[serde(rename = "_buildproxy")]
    ours: Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    status: u16,
    status_text: &'static str,
    http_version: &'static str,
    cookies: [(); 0],
    headers: Vec<Value>,
    content: Content,
    #[serde(rename = "redirectURL")]
    redirect_url: String,
    headers_size: i8,
    body_size: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    size: u64,
    mime_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Text>,
    #[serde(rename = "_encoded", skip_serializing_if = "std::ops::Not::not")]
    is_encoded: bool,
}

/// The request and the answer of each redirect of an entry, then its final ones.
fn exchanges(entry: &Entry, place: Place) -> Result<Vec<Exchange>, ExportError> {
    let (mut method, mut url, mut digest) = (entry.method.clone(), entry.url.clone(), entry.request_body);
    let mut exchanges = Vec::new();
    for hop in &entry.redirects {
        let mut headers = headers(&hop.headers);
        headers.push(json!({ "name": "location", "value": hop.location }));
        let content = Content { size: 0, mime_type: String::new(), encoding: None, text: None, is_encoded: false };
        let answer = Response::new(hop.status, headers, hop.location.clone(), content);
        exchanges.push(Exchange::new(entry, &method, &url, digest, answer));
        let Ok(next) = url.join(&hop.location) else { return Ok(exchanges) };
        url = next;
        if becomes_get(hop.status, &method) {
            (method, digest) = (Method::GET, None);
        }
    }
    let location = entry.headers.get("location").unwrap_or_default().to_owned();
    let answer = Response::new(entry.status, headers(&entry.headers), location, content(entry, place)?);
    exchanges.push(Exchange::new(entry, &method, &url, digest, answer));
    Ok(exchanges)
}

fn content(entry: &Entry, place: Place) -> Result<Content, ExportError> {
    let text = match place {
        Place::Left => None,
        Place::Text(text) => Some(Text::Plain(text)),
        Place::File { path, size } => Some(Text::of_file(path, size)?),
    };
    let size = match &text {
        Some(Text::Plain(text)) => text.len() as u64,
        Some(Text::Base64(file)) => file.size,
        None => entry.body_size().unwrap_or(0),
    };
    let is_encoded = entry.headers.get("content-encoding").is_some() && text.is_some();
    let encoding = text.as_ref().and_then(|text| matches!(text, Text::Base64(_)).then_some("base64"));
    let mime_type = entry.headers.get("content-type").unwrap_or_default().to_owned();
    Ok(Content { size, mime_type, encoding, text, is_encoded })
}

fn headers(headers: &Headers) -> Vec<Value> {
    let fields = headers.iter().flat_map(|(name, values)| values.into_iter().map(move |value| (name, value)));
    fields.map(|(name, value)| json!({ "name": name, "value": value })).collect()
}

impl Exchange {
    fn new(
        entry: &Entry,
        method: &Method,
        url: &NormalizedUrl,
        digest: Option<BodyDigest>,
        response: Response,
    ) -> Self {
        let asked = entry.request_headers.iter().filter(|(_, value)| !value.is_empty());
        let asked: Vec<Value> = asked.map(|(name, value)| json!({ "name": name, "value": value })).collect();
        let query = url.query().unwrap_or_default().split('&').filter(|parameter| !parameter.is_empty());
        let query = query.map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            json!({ "name": decoded_parameter(name), "value": decoded_parameter(value) })
        });
        let request = json!({
            "method": method.as_str(), "url": url.as_str(), "httpVersion": "HTTP/1.1", "cookies": [], "headers": asked,
            "queryString": query.collect::<Vec<_>>(), "headersSize": -1, "bodySize": if digest.is_some() { -1 } else { 0 },
        });
        let source = entry.body.as_ref().map(|body| source_name(body));
        let mut ours = json!({});
        if let Some(source) = source {
            ours["source"] = json!(source);
        }
        if let Some(digest) = digest {
            ours["request-body"] = json!(digest.hash);
            if let Some(form) = digest.form.name() {
                ours["request-body-as"] = json!(form);
            }
        }
        let timings = json!({ "send": 0, "wait": 0, "receive": 0 });
        Self { started_date_time: String::new(), time: 0, request, response, cache: json!({}), timings, ours }
    }

    /// An inventory knows no times: each request is a millisecond after the one before.
    fn started(mut self, number: u64) -> Self {
        let (seconds, milliseconds) = (number / 1000, number % 1000);
        let (minutes, hours) = (seconds / 60 % 60, seconds / 3600 % 24);
        let day = 1 + (seconds / 86_400) % 28;
        self.started_date_time =
            format!("1970-01-{day:02}T{hours:02}:{minutes:02}:{:02}.{milliseconds:03}Z", seconds % 60);
        self
    }

    /// Why its body could not be read.
    fn failure(&self) -> Option<ExportError> {
        let Some(Text::Base64(file)) = &self.response.content.text else { return None };
        let source = file.failure.borrow_mut().take()?;
        Some(ExportError::Read { path: file.path.clone(), source })
    }
}

fn source_name(body: &Body) -> &'static str {
    match body.source {
        Source::Fetch(_) => "fetch",
        Source::File(_) => "file",
        Source::Text(_) => "text",
        Source::StorePath { .. } => "store-path",
    }
}

impl Response {
    fn new(status: u16, headers: Vec<Value>, redirect_url: String, content: Content) -> Self {
        let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        // A body can have more bytes than HAR's readers count.
        let body_size = i64::try_from(content.size).unwrap_or(-1);
        Self {
            status,
            status_text: reason.unwrap_or_default(),
            http_version: "HTTP/1.1",
            cookies: [],
            headers,
            content,
            redirect_url,
            headers_size: -1,
            body_size,
        }
    }
}

/// A body in JSON.
enum Text {
    Plain(String),
    Base64(Base64File),
}

impl Text {
    /// Short bodies that are UTF-8 are text, all others base64.
    fn of_file(path: PathBuf, size: u64) -> Result<Self, ExportError> {
        let failed = |source| ExportError::Read { path: path.clone(), source };
        let mut file = regular::open(&path).map_err(failed)?;
        if size <= MAX_TEXT {
            let mut bytes = Vec::new();
            (&file).take(size).read_to_end(&mut bytes).map_err(failed)?;
            if let Ok(text) = String::from_utf8(bytes) {
                return Ok(Self::Plain(text));
            }
            file = regular::open(&path).map_err(failed)?;
        }
        Ok(Self::Base64(Base64File { path, size, file: RefCell::new(file), failure: RefCell::default() }))
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(text) => serializer.serialize_str(text),
            // Piece by piece: the serialiser never has it as a whole.
            Self::Base64(file) => serializer.collect_str(file),
        }
    }
}

/// A file that displays as base64.
struct Base64File {
    path: PathBuf,
    size: u64,
    file: RefCell<File>,
    failure: RefCell<Option<io::Error>>,
}

impl fmt::Display for Base64File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut file = self.file.borrow_mut();
        let mut left = self.size;
        let mut buffer = vec![0; CHUNK];
        while left > 0 {
            let length = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
            if let Err(error) = file.read_exact(&mut buffer[..length]) {
                *self.failure.borrow_mut() = Some(error);
                return Err(fmt::Error);
            }
            f.write_str(&BASE64.encode(&buffer[..length]))?;
            left -= length as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! The bytes of a body, from what a HAR file has of it.
//!
//! Browsers decode texts, and count some of them decoded. So a text is taken where something tells that its bytes are those
//! that were sent: the answer's `Content-Length`, else the file's own count. Where neither does, it is taken if its charset
//! is certain; a byte order mark may be missing then, so nobody else is expected to get the same bytes.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use data_encoding::BASE64;
use http::{HeaderMap, Method, StatusCode, header};
use serde::Deserialize;

use super::raw::{Raw, whole};

/// How many characters at the start of a text may name its charset, as HTML, XML and CSS do.
const PROLOGUE: usize = 1024;

const ABSENT_REQUEST: &str = "the file does not have the body of the request";

/// What is said of a whole file, or where it is.
#[derive(Debug, Default)]
pub struct Setting {
    /// The folder with the bodies that Playwright does not write into the file itself.
    pub folder: Option<PathBuf>,
    /// Whether sizes are those of texts as they are in the file, which tell nothing.
    pub counts_texts: bool,
}

/// The content of an answer, or what was posted.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Content {
    size: Option<f64>,
    compression: Option<f64>,
    text: Option<Raw>,
    encoding: Option<Raw>,
    mime_type: Option<Raw>,
    comment: Option<Raw>,
    /// The file with the bytes, in Playwright's folder.
    #[serde(rename = "_file")]
    file: Option<Raw>,
    /// Whether the text still has its content coding: in buildproxy's own exports.
    #[serde(rename = "_encoded")]
    is_encoded: Option<bool>,
}

/// The bytes of a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Bytes {
    /// All of them.
    pub bytes: Vec<u8>,
    /// Whether something tells that they are what was sent.
    pub are_certain: bool,
}

impl Content {
    /// Whether what the file has of it has no content coding any more, though it was sent with one.
    pub fn is_decoded(&self, headers: &HeaderMap) -> bool {
        is_coded(headers) && self.is_encoded != Some(true)
    }

    /// The bytes of an answer; none where it is empty.
    ///
    /// # Errors
    /// Why they are not known.
    pub fn answer(
        &self,
        method: &Method,
        status: StatusCode,
        headers: &HeaderMap,
        setting: &Setting,
    ) -> Result<Option<Bytes>, String> {
        if *method == Method::HEAD || matches!(status.as_u16(), 100..=199 | 204 | 304) {
            return Ok(None);
        }
        let size = whole(self.size);
        let length = content_length(headers).filter(|_| !self.is_decoded(headers));
        let has_nothing = self.file.is_none() && self.text.as_ref().is_none_or(|text| text.as_bytes().is_empty());
        if has_nothing && (status.is_redirection() || length.or(size) == Some(0)) {
            return Ok(None);
        }
        if has_nothing && (self.text.is_none() || size.is_none()) {
            return Err(self.absence());
        }
        // mitmproxy counts what was sent, others what it was decoded to.
        let compression = self.compression.filter(|compression| compression.fract() == 0.0);
        let decoded = self.size.zip(compression).and_then(|(size, compression)| whole(Some(size + compression)));
        let counted = size.into_iter().chain(decoded).filter(|_| !setting.counts_texts || self.is_base64());
        let sizes: Vec<u64> = match length {
            Some(length) => vec![length],
            None => counted.collect(),
        };
        let bytes = self.bytes(&sizes, &self.charset(headers), setting)?;
        Ok(Some(bytes).filter(|found| !found.bytes.is_empty()))
    }

    /// The bytes of a request body. A request without one has no `content`.
    ///
    /// # Errors
    /// Why they are not known.
    pub fn posted(
        content: Option<Self>,
        size: Option<u64>,
        headers: &HeaderMap,
        setting: &Setting,
    ) -> Result<Vec<u8>, String> {
        match content {
            Some(content) => content.of_request(size, headers, setting),
            None if content_length(headers).or(size).unwrap_or(0) == 0 => Ok(Vec::new()),
            None => Err(ABSENT_REQUEST.to_owned()),
        }
    }

    fn of_request(&self, size: Option<u64>, headers: &HeaderMap, setting: &Setting) -> Result<Vec<u8>, String> {
        let size = content_length(headers).or(size);
        let has_nothing = self.file.is_none() && self.text.as_ref().is_none_or(|text| text.as_bytes().is_empty());
        match size {
            Some(0) if has_nothing => Ok(Vec::new()),
            _ if has_nothing => Err(ABSENT_REQUEST.to_owned()),
            _ => {
                let sizes: Vec<u64> = size.into_iter().collect();
                let found = self.bytes(&sizes, &self.charset(headers), setting);
                found.map(|found| found.bytes).map_err(|error| error.replace("its body", "the request's body"))
            }
        }
    }

    fn is_base64(&self) -> bool {
        self.encoding.as_ref().is_some_and(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"base64"))
    }

    fn absence(&self) -> String {
        let comment = self.comment.as_ref().map(Raw::to_text).filter(|comment| !comment.is_empty());
        let comment = comment.map(|comment| format!(" ({comment})")).unwrap_or_default();
        format!("the file does not have its body{comment}: export it with content")
    }

    /// The charset that the media type names, in lower case.
    fn charset(&self, headers: &HeaderMap) -> Option<String> {
        let of_headers = headers.get(header::CONTENT_TYPE).map(|kind| String::from_utf8_lossy(kind.as_bytes()));
        let kind = of_headers.or_else(|| self.mime_type.as_ref().map(Raw::to_text))?.to_ascii_lowercase();
        let charset = kind.split(';').skip(1).find_map(|parameter| parameter.trim().strip_prefix("charset="));
        charset.map(|charset| charset.trim().trim_matches(['"', '\'']).to_owned())
    }

    /// The bytes, of which there are as many as one of `sizes` says, where that says anything.
    fn bytes(&self, sizes: &[u64], charset: &Option<String>, setting: &Setting) -> Result<Bytes, String> {
        let certain = |bytes: Vec<u8>| match sizes.is_empty() || sizes.contains(&(bytes.len() as u64)) {
            true => Ok(Bytes { bytes, are_certain: true }),
            false => Err(differs(bytes.len(), sizes)),
        };
        if let Some(name) = &self.file {
            return match String::from_utf8(self.read(name, setting)?) {
                Ok(text) => self.of_text(&text, sizes, charset.as_deref()),
                // It was never a text.
                Err(error) => certain(error.into_bytes()),
            };
        }
        let encoding = self.encoding.as_ref().map(Raw::to_text).unwrap_or_default();
        match (&self.text, encoding.as_ref()) {
            (None, _) => certain(Vec::new()),
            (Some(Raw::Text(text)), "") => self.of_text(text, sizes, charset.as_deref()),
            (Some(Raw::Bytes(bytes)), "") if sizes.is_empty() => Err(differs(bytes.len(), sizes)),
            (Some(Raw::Bytes(bytes)), "") => certain(bytes.clone()),
            (Some(text), _) if self.is_base64() => certain(of_base64(text.as_bytes())?),
            (Some(_), other) => Err(format!("its body is written as `{other}`, which is not known")),
        }
    }

    /// The file `name` of Playwright's folder.
    fn read(&self, name: &Raw, setting: &Setting) -> Result<Vec<u8>, String> {
        let name = name.to_text();
        let name = Path::new(name.as_ref());
        // A file from somewhere else may name anything that its reader can read.
        let is_plain = matches!(name.components().collect::<Vec<_>>()[..], [Component::Normal(_)]);
        let Some(folder) = setting.folder.as_ref().filter(|_| is_plain) else {
            return Err(format!("its body is in `{}`, which is not beside the file", name.display()));
        };
        let path = folder.join(name);
        let is_file = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
        let bytes = if is_file { fs::read(&path).ok() } else { None };
        bytes.ok_or_else(|| format!("its body is in {}, which cannot be read", path.display()))
    }

    /// The bytes that were decoded to `text`.
    fn of_text(&self, text: &str, sizes: &[u64], charset: Option<&str>) -> Result<Bytes, String> {
        let is_utf8 = matches!(charset, None | Some("utf-8" | "utf8"));
        // Every charset in use has ASCII as it is, but for the wide ones.
        let is_narrow = charset.is_none_or(|charset| !charset.starts_with("utf-16") && !charset.starts_with("utf-32"));
        let as_it_is = (is_utf8 || text.is_ascii() && is_narrow).then(|| text.as_bytes().to_vec());
        let in_latin1 = || latin1(text).filter(|_| is_latin1(charset));
        let is_replaced = text.contains(char::REPLACEMENT_CHARACTER);
        if !sizes.is_empty() {
            let fits = |bytes: &Vec<u8>| sizes.contains(&(bytes.len() as u64));
            let marked = || (is_utf8 && !text.is_empty()).then(|| format!("\u{feff}{text}").into_bytes());
            let found = as_it_is.filter(fits).or_else(|| in_latin1().filter(fits)).or_else(|| marked().filter(fits));
            let is_known = is_utf8 || is_narrow && text.is_ascii() || is_latin1(charset);
            let reason = || if is_known { differs(text.len(), sizes) } else { undecided(charset) };
            let bytes = found.ok_or_else(reason)?;
            return Ok(Bytes { bytes, are_certain: !is_replaced });
        }
        let is_certain_utf8 = charset.is_some() || text.is_ascii() || self.says_utf8(text);
        let bytes = as_it_is.filter(|_| is_certain_utf8 && !is_replaced);
        let bytes = bytes.or_else(|| in_latin1().filter(|_| charset.is_some()));
        Ok(Bytes { bytes: bytes.ok_or_else(|| undecided(charset))?, are_certain: false })
    }

    /// Whether `text` is UTF-8 though no header says so: by its media type, or because it says so itself.
    fn says_utf8(&self, text: &str) -> bool {
        let kind = self.mime_type.as_ref().map(|kind| kind.to_text().to_ascii_lowercase()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        // RFC 8259 §8.1, RFC 9239 §4.2.
        let is_by_kind = kind.ends_with("/json") || kind.ends_with("+json") || kind.ends_with("javascript");
        let prologue: String = text.chars().take(PROLOGUE).collect();
        is_by_kind || prologue.to_ascii_lowercase().contains("utf-8")
    }
}

fn is_coded(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity")
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn differs(length: usize, sizes: &[u64]) -> String {
    match sizes.first() {
        Some(size) => {
            format!("the file has {length} bytes of its body, and says that it has {size}: it may be cut short")
        }
        None => undecided(None),
    }
}

/// Why a text in this charset is not taken.
fn undecided(charset: Option<&str>) -> String {
    let of = charset.map_or("without a declared charset".to_owned(), |charset| format!("decoded from `{charset}`"));
    format!("the file has its body as text {of}, which does not tell the bytes")
}

fn of_base64(code: &[u8]) -> Result<Vec<u8>, String> {
    let decoded = match code.iter().any(u8::is_ascii_whitespace) {
        true => BASE64.decode(&code.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<_>>()),
        false => BASE64.decode(code),
    };
    decoded.map_err(|error| format!("its body is no base64: {error}"))
}

/// Whether a text of `charset` that is in Latin-1 has its bytes in it. windows-1252 is what browsers take for Latin-1; they
/// have the same characters where both have any.
fn is_latin1(charset: Option<&str>) -> bool {
    matches!(charset, None | Some("iso-8859-1" | "latin1" | "us-ascii" | "ascii" | "windows-1252" | "cp1252"))
}

/// The bytes of `text` in ISO 8859-1, where it has them all.
fn latin1(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect()
}

//! `--check-bodies`: hashes each body before its first use.

use std::{
    collections::HashMap,
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OnceCell;

use super::body::{BodyError, OpenBody};
use crate::{
    inventory::index::EntryId,
    store::hash::{Hasher, NixHash},
};

/// Bytes that one read asks for.
const CHUNK: usize = 256 * 1024;

/// Which bodies were found to have their hash.
#[derive(Debug, Default)]
pub struct BodyChecks(Mutex<HashMap<EntryId, Arc<OnceCell<()>>>>);

impl BodyChecks {
    /// Hashes the body of `entry`, unless that was done; requests that come meanwhile wait for it. A body that failed
    /// is hashed again the next time: someone may have put it right. `remedy` says what to do about its file.
    ///
    /// # Errors
    /// Where the bytes are not those of `expected`, or cannot be read.
    pub async fn check(
        &self,
        entry: EntryId,
        body: &OpenBody,
        expected: NixHash,
        remedy: impl Fn(&Path) -> String,
    ) -> Result<(), BodyError> {
        let cell = {
            let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.entry(entry).or_default())
        };
        let work = || async {
            let (body, remedy) = (body.clone(), remedy(body.path().unwrap_or(Path::new(""))));
            let hashing = tokio::task::spawn_blocking(move || verify(&body, expected, remedy));
            hashing.await.unwrap_or_else(|error| Err(BodyError::Read(io::Error::other(error))))
        };
        cell.get_or_try_init(work).await.copied()
    }
}

fn verify(body: &OpenBody, expected: NixHash, remedy: String) -> Result<(), BodyError> {
    let what = || body.path().map_or_else(|| "the body's `text`".to_owned(), |path| path.display().to_string());
    let unreadable =
        |error: io::Error| BodyError::Read(io::Error::new(error.kind(), format!("cannot read {}: {error}", what())));
    let actual = hash(body, Hasher::new(expected.algo())).map_err(unreadable)?;
    if actual == expected {
        return Ok(());
    }
    Err(BodyError::Hash { what: what(), expected: Box::new(expected), actual: Box::new(actual), remedy })
}

fn hash(body: &OpenBody, mut hasher: Hasher) -> io::Result<NixHash> {
    let file = match body {
        OpenBody::Text(text) => {
            hasher.update(text);
            return Ok(hasher.finish());
        }
        OpenBody::Mapped(file) => file.file(),
        OpenBody::Read { file, .. } => file,
    };
    let mut buffer = vec![0; CHUNK];
    let mut position = 0;
    loop {
        match file.read_at(&mut buffer, position) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(length) => {
                hasher.update(&buffer[..length]);
                position += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

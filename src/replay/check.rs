//! `--check-bodies`: hashes each body before its first use, and again where its file is not the same any more.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OnceCell;

use super::body::{BodyError, OpenBody};
use crate::{
    inventory::index::EntryId,
    store::{
        hash::{HashAlgo, Hasher, NixHash, hash_file},
        state::FileState,
    },
};

/// Which bodies were found to have their hash.
#[derive(Debug, Default)]
pub struct BodyChecks(Mutex<HashMap<EntryId, Check>>);

/// What was found about one file.
#[derive(Debug)]
struct Check {
    file: Option<FileState>,
    outcome: Arc<OnceCell<()>>,
}

impl BodyChecks {
    /// Hashes the body of `entry`, unless that was done for the file that it is; requests that come meanwhile wait for it. A
    /// body that failed is hashed again the next time: someone may have put it right. `remedy` says what to do about its file.
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
            let file = body.state().copied();
            let mut checks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Check { file, outcome: Arc::default() };
            let check = checks.entry(entry).or_insert_with(new);
            if check.file != file {
                *check = new();
            }
            Arc::clone(&check.outcome)
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
    let actual = hash(body, expected.algo()).map_err(unreadable)?;
    if actual == expected {
        return Ok(());
    }
    Err(BodyError::Hash { what: what(), expected: Box::new(expected), actual: Box::new(actual), remedy })
}

fn hash(body: &OpenBody, algo: HashAlgo) -> io::Result<NixHash> {
    match (body, body.file()) {
        (OpenBody::Text(text), _) => {
            let mut hasher = Hasher::new(algo);
            hasher.update(text);
            Ok(hasher.finish())
        }
        (_, Some(file)) => hash_file(file, algo, |_| {}),
        (_, None) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

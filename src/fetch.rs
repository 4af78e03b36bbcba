//! Downloading what an inventory says that anyone can download, checked against its hashes: for people without Nix.

use std::{collections::HashMap, sync::Arc};

use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    capture::Origin,
    inventory::{Body, BodyFiles, Inventory, Located, Source},
    store::{
        embedded::{EmbeddedStore, StoreError},
        hash::NixHash,
        path::StorePath,
        spool::{Spool, SpooledContent},
    },
};

/// Downloads at a time.
const PARALLEL: usize = 4;

/// A body that has to be downloaded.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where from.
    pub url: String,
    /// The store path that it gets.
    pub path: StorePath,
    /// Its size in bytes.
    pub size: u64,
    hash: NixHash,
}

/// Why a body could not be downloaded.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The origin did not give it.
    #[error("{url}: {reason}")]
    Origin {
        /// Where it was asked.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The origin gave something else.
    #[error(
        "{url}: the bytes are not those that the inventory pins\n  expected {expected}, {expected_size} bytes\n  \
         received {received}, {received_size} bytes\n  hint: the origin changed them; look at what changed, then capture again"
    )]
    Changed {
        /// Where it was asked.
        url: String,
        /// The hash in the inventory.
        expected: NixHash,
        /// The size in the inventory, in bytes.
        expected_size: u64,
        /// The hash of what came.
        received: NixHash,
        /// The size of what came, in bytes.
        received_size: u64,
    },
    /// The store did not take it.
    #[error("{url}: {source}")]
    Store {
        /// Where it was asked.
        url: String,
        /// What went wrong.
        source: StoreError,
    },
    /// The bytes could not be written.
    #[error("{url}: {source}")]
    Write {
        /// Where it was asked.
        url: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The `fetch` bodies that none of the stores has, each once.
pub fn missing(inventory: &Inventory, files: &BodyFiles) -> Vec<Wanted> {
    let mut wanted: HashMap<StorePath, Wanted> = HashMap::new();
    let mut order = Vec::new();
    for entry in &inventory.entries {
        let Some(body) = &entry.body else { continue };
        let Some((path, one)) = wanted_body(entry.url.as_str(), body) else { continue };
        let is_there = matches!(files.locate(body), Ok(Located::Store(_)));
        if !is_there && wanted.insert(path.clone(), one).is_none() {
            order.push(path);
        }
    }
    order.iter().filter_map(|path| wanted.remove(path)).collect()
}

fn wanted_body(entry_url: &str, body: &Body) -> Option<(StorePath, Wanted)> {
    let Source::Fetch(url) = &body.source else {
        return None;
    };
    let (path, hash, size) = (body.store_path()?, body.hash?, body.size?);
    let url = url.clone().unwrap_or_else(|| entry_url.to_owned());
    Some((path.clone(), Wanted { url, path, size, hash }))
}

/// Downloads `wanted` into `store`, a few at a time. `progress` is told how many bytes more have come.
pub async fn fetch(
    wanted: Vec<Wanted>,
    store: &EmbeddedStore,
    origin: &Origin,
    progress: impl Fn(u64) + Clone + Send + 'static,
) -> Vec<Result<Wanted, FetchError>> {
    let slots = Arc::new(Semaphore::new(PARALLEL));
    let mut downloads = JoinSet::new();
    let spool = store.spool_dir(&format!("fetch-{}", std::process::id()));
    for (number, one) in wanted.into_iter().enumerate() {
        let (store, origin, progress) = (store.clone(), origin.clone(), progress.clone());
        let (slots, file) = (Arc::clone(&slots), spool.join(number.to_string()));
        downloads.spawn(async move {
            // The semaphore is never closed.
            let _slot = slots.acquire().await;
            download(&one, Spool::new(file), &store, &origin, progress).await.map(|()| one)
        });
    }
    let results = downloads.join_all().await;
    // It is empty now, and harmless where it stays.
    let _ = std::fs::remove_dir(spool);
    results
}

async fn download(
    wanted: &Wanted,
    mut spool: Spool,
    store: &EmbeddedStore,
    origin: &Origin,
    progress: impl Fn(u64),
) -> Result<(), FetchError> {
    let url = || wanted.url.clone();
    let failed = |reason: String| FetchError::Origin { url: url(), reason };
    let write = |source| FetchError::Write { url: url(), source };
    let answer = origin.ask(Method::GET, &wanted.url, HeaderMap::new(), None).await;
    let answer = answer.map_err(|error| failed(error.to_string()))?;
    if answer.status() != http::StatusCode::OK {
        return Err(failed(format!("the origin answered {}", answer.status())));
    }
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failed(format!("the answer did not arrive whole: {error}")))?;
        if let Some(data) = frame.data_ref() {
            progress(data.len() as u64);
            tokio::task::block_in_place(|| spool.write(data)).map_err(write)?;
        }
    }
    let spooled = spool.finish().map_err(write)?;
    if (spooled.hash, spooled.size) != (wanted.hash, wanted.size) {
        if let SpooledContent::File(file) = &spooled.content {
            // It goes with the spool folder otherwise.
            let _ = std::fs::remove_file(file);
        }
        return Err(FetchError::Changed {
            url: url(),
            expected: wanted.hash,
            expected_size: wanted.size,
            received: spooled.hash,
            received_size: spooled.size,
        });
    }
    let stored = tokio::task::block_in_place(|| match &spooled.content {
        SpooledContent::Memory(bytes) => store.insert_bytes(bytes, wanted.path.name()),
        SpooledContent::File(file) => store.adopt(file, &spooled.hash, spooled.size, wanted.path.name()),
    });
    stored.map(drop).map_err(|source| FetchError::Store { url: url(), source })
}

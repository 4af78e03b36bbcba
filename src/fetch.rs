//! Downloading what an inventory says that anyone can download, checked against its hashes: into the store, for people
//! without Nix, or only to see whether the origins still give it.

mod unmeasured;

use std::{collections::HashSet, fmt, future::Future, io, sync::Arc};

use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    capture::Origin,
    inventory::{Body, BodyFiles, Entry, Inventory, Located, Source},
    store::{
        embedded::{EmbeddedStore, StoreError},
        hash::{Hasher, NixHash},
        path::StorePath,
        spool::{SPOOL_MEMORY, Spool, SpooledContent},
    },
};

pub use unmeasured::{Unmeasured, measure};

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

/// What tells one body from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The hash.
    pub hash: NixHash,
    /// The size in bytes.
    pub size: u64,
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} bytes", self.hash, self.size)
    }
}

/// What came where a body was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// All of it.
    Whole(Box<Pin>),
    /// More than this many bytes, where the download was stopped.
    MoreThan(u64),
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(pin) => pin.fmt(f),
            Self::MoreThan(size) => write!(f, "more than {size} bytes"),
        }
    }
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
        "{url}: the bytes are not those that the inventory pins\n  expected {expected}\n  received {received}\n  \
         hint: the origin changed them; look at what changed, then capture again"
    )]
    Changed {
        /// Where it was asked.
        url: String,
        /// What the inventory pins.
        expected: Box<Pin>,
        /// What came.
        received: Received,
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
        source: io::Error,
    },
}

/// The `fetch` bodies that none of the stores has, each once.
pub fn missing(inventory: &Inventory, files: &BodyFiles) -> Vec<Wanted> {
    let is_missing = |body: &Body| !matches!(files.locate(body), Ok(Located::Store(_)));
    let mut seen = HashSet::new();
    let wanted =
        inventory.entries.iter().filter(|entry| entry.body.as_ref().is_some_and(is_missing)).filter_map(wanted);
    wanted.filter(|one| seen.insert(one.path.clone())).collect()
}

/// The `fetch` bodies of all entries, each URL once.
pub fn all(inventory: &Inventory) -> Vec<Wanted> {
    let mut seen = HashSet::new();
    inventory.entries.iter().filter_map(wanted).filter(|one| seen.insert((one.url.clone(), one.hash))).collect()
}

fn wanted(entry: &Entry) -> Option<Wanted> {
    let body = entry.body.as_ref()?;
    let Source::Fetch(url) = &body.source else {
        return None;
    };
    let url = url.clone().unwrap_or_else(|| entry.url.to_string());
    Some(Wanted { url, path: body.store_path()?, size: body.size?, hash: body.hash? })
}

/// Downloads `wanted` into `store`, a few at a time. `progress` is told how many bytes more have come.
///
/// # Errors
/// Where the store has no room for unfinished bodies. What is wrong with one body is its own result.
pub async fn fetch(
    wanted: Vec<Wanted>,
    store: &EmbeddedStore,
    origin: &Origin,
    progress: impl Fn(u64) + Clone + Send + 'static,
) -> io::Result<Vec<Result<Wanted, FetchError>>> {
    let (folder, _claim) = store.temporary_spool()?;
    let results = each(wanted, |number, one| {
        let (store, origin, progress) = (store.clone(), origin.clone(), progress.clone());
        let file = folder.path().join(number.to_string());
        let spool = Spool::with(file, one.hash.algo(), SPOOL_MEMORY);
        async move { into_store(&one, spool, &store, &origin, progress).await.map(|()| one) }
    });
    Ok(results.await)
}

/// Downloads `wanted` only to see whether the origins still give it. `progress` is told how many bytes more have come.
pub async fn check(
    wanted: Vec<Wanted>,
    origin: &Origin,
    progress: impl Fn(u64) + Clone + Send + 'static,
) -> Vec<Result<Wanted, FetchError>> {
    let results = each(wanted, |_, one| {
        let (origin, progress) = (origin.clone(), progress.clone());
        async move {
            let (mut hasher, mut size) = (Hasher::new(one.hash.algo()), 0);
            download(&one, &origin, progress, |data| {
                hasher.update(data);
                size += data.len() as u64;
                Ok(())
            })
            .await?;
            one.compare(Pin { hash: hasher.finish(), size }).map(|()| one)
        }
    });
    results.await
}

/// Does the work for each of `wanted`, a few at a time.
async fn each<F>(wanted: Vec<Wanted>, work: impl Fn(usize, Wanted) -> F) -> Vec<Result<Wanted, FetchError>>
where
    F: Future<Output = Result<Wanted, FetchError>> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(PARALLEL));
    let mut downloads = JoinSet::new();
    for (number, one) in wanted.into_iter().enumerate() {
        let (work, slots) = (work(number, one), Arc::clone(&slots));
        downloads.spawn(async move {
            // The semaphore is never closed.
            let _slot = slots.acquire().await;
            work.await
        });
    }
    downloads.join_all().await
}

async fn into_store(
    wanted: &Wanted,
    mut spool: Spool,
    store: &EmbeddedStore,
    origin: &Origin,
    progress: impl Fn(u64),
) -> Result<(), FetchError> {
    download(wanted, origin, progress, |data| tokio::task::block_in_place(|| spool.write(data))).await?;
    let spooled = spool.finish().map_err(|source| FetchError::Write { url: wanted.url.clone(), source })?;
    let name = &wanted.path.name();
    wanted.compare(Pin { hash: spooled.hash, size: spooled.size })?;
    let stored = tokio::task::block_in_place(|| match &spooled.content {
        SpooledContent::Memory(bytes) => store.insert_pinned(bytes, &spooled.hash, name),
        SpooledContent::File(file) => store.adopt(file, &spooled.hash, spooled.size, name),
    });
    stored.map(drop).map_err(|source| FetchError::Store { url: wanted.url.clone(), source })
}

/// Asks as `fetchurl` does, without credentials, and gives the bytes to `sink` as they come.
async fn download(
    wanted: &Wanted,
    origin: &Origin,
    progress: impl Fn(u64),
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), FetchError> {
    let failed = |reason: String| FetchError::Origin { url: wanted.url.clone(), reason };
    let answer = origin.ask(Method::GET, &wanted.url, HeaderMap::new(), None).await;
    let answer = answer.map_err(|error| failed(error.to_string()))?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Err(failed(format!("the origin wants credentials: it answered {}", answer.status())));
        }
        status => return Err(failed(format!("the origin answered {status}"))),
    }
    let (mut body, mut size) = (answer.into_body(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failed(format!("the answer did not arrive whole: {error}")))?;
        if let Some(data) = frame.data_ref() {
            progress(data.len() as u64);
            size += data.len() as u64;
            if size > wanted.size {
                return Err(wanted.changed(Received::MoreThan(wanted.size)));
            }
            sink(data).map_err(|source| FetchError::Write { url: wanted.url.clone(), source })?;
        }
    }
    Ok(())
}

impl Wanted {
    fn compare(&self, received: Pin) -> Result<(), FetchError> {
        match received == self.pin() {
            true => Ok(()),
            false => Err(self.changed(Received::Whole(Box::new(received)))),
        }
    }

    fn changed(&self, received: Received) -> FetchError {
        FetchError::Changed { url: self.url.clone(), expected: Box::new(self.pin()), received }
    }

    fn pin(&self) -> Pin {
        Pin { hash: self.hash, size: self.size }
    }
}

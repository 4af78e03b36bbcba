//! Downloading what an inventory says that anyone can download, checked against its hashes: into the store, for people
//! without Nix or before it builds, or only to see whether the origins still give it.

mod check;
mod unmeasured;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    future::Future,
    io,
    path::PathBuf,
    sync::Arc,
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    capture::{Origin, OriginError},
    inventory::{Body, BodyFiles, Entry, Inventory, Located, Source},
    store::{
        deposit::{Bytes, Deposit, NewBody},
        embedded::StoreError,
        hash::NixHash,
        nix::{NixError, NixStore},
        path::{FileIngestionMethod, StorePath, build_ca_path},
        spool::{SPOOL_MEMORY, Spool, Spooled, SpooledContent},
    },
};

pub use check::check;
pub use unmeasured::{Unmeasured, measure};

/// Downloads at a time.
const PARALLEL: usize = 4;

/// How much is downloaded before Nix is asked to take it, in bodies and bytes. Each time costs some processes, and a fetch that
/// is killed has to download the last of it again.
const GROUP_BODIES: usize = 200;
const GROUP_BYTES: u64 = 256 << 20;

/// A body that has to be downloaded.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where from.
    pub url: String,
    /// Where else, if it is not there.
    pub others: Vec<String>,
    /// The store path that it gets.
    pub path: StorePath,
    /// Its size in bytes.
    pub size: u64,
    /// Its hash.
    pub hash: NixHash,
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
    /// The origin did not answer in time.
    #[error("{url}: {reason}")]
    Silent {
        /// Where it was asked.
        url: String,
        /// How long was waited for what.
        reason: String,
    },
    /// The origin answered with something else than 200.
    #[error("{url}: {} {status}", if wants_credentials(*.status) { "the origin wants credentials: it answered" } else { "the origin answered" })]
    Status {
        /// Where it was asked.
        url: String,
        /// What it answered.
        status: StatusCode,
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

/// The `fetch` bodies that none of the stores has, each once, with all URLs that have it.
pub fn missing(inventory: &Inventory, files: &BodyFiles) -> Vec<Wanted> {
    let is_missing = |body: &Body| !matches!(files.locate(body), Ok(Located::Store(_)));
    let (mut missing, mut places) = (Vec::<Wanted>::new(), HashMap::new());
    let entries = inventory.entries.iter().filter(|entry| entry.body.as_ref().is_some_and(is_missing));
    for one in entries.filter_map(wanted) {
        let known = *places.entry(one.path.clone()).or_insert(missing.len());
        match missing.get_mut(known) {
            Some(known) if known.url == one.url || known.others.contains(&one.url) => {}
            Some(known) => known.others.push(one.url),
            None => missing.push(one),
        }
    }
    missing
}

/// A `fetch` body that is in a store, but not valid in the Nix store.
#[derive(Debug, Clone)]
pub struct Outside {
    /// The store path that it gets there.
    pub path: StorePath,
    /// Its size in bytes.
    pub size: u64,
    hash: NixHash,
    file: PathBuf,
}

impl Outside {
    /// The body as the Nix store takes it.
    pub fn as_new(&self) -> NewBody<'_> {
        let Self { path, size, hash, file } = self;
        NewBody { path: path.clone(), hash: *hash, size: *size, bytes: Bytes::File(file) }
    }
}

/// The `fetch` bodies that are in a store with all their bytes, but not valid in the Nix store, each once; and those that
/// are in its folder, neither valid nor with their bytes, as if they were missing.
///
/// # Errors
/// Where Nix cannot be asked.
pub fn outside(
    inventory: &Inventory,
    files: &BodyFiles,
    nix: &NixStore,
) -> Result<(Vec<Outside>, Vec<Wanted>), NixError> {
    let mut seen = HashSet::new();
    let wanted = inventory.entries.iter().filter_map(wanted).filter(|one| seen.insert(one.path.clone()));
    let wanted: Vec<Wanted> = wanted.collect();
    let valid = nix.valid(&wanted.iter().map(|one| one.path.clone()).collect::<Vec<_>>())?;
    let (mut outside, mut broken) = (Vec::new(), Vec::new());
    for one in wanted.into_iter().filter(|one| !valid.contains(&one.path)) {
        match files.stores.find_whole(&one.path, one.size, &one.hash) {
            Some(file) => outside.push(Outside { path: one.path, size: one.size, hash: one.hash, file }),
            None if nix.file(&one.path).is_some() => broken.push(one),
            None => {}
        }
    }
    Ok((outside, broken))
}

/// The `fetch` bodies of all entries, each URL once.
pub fn all(inventory: &Inventory) -> Vec<Wanted> {
    let mut seen = HashSet::new();
    inventory.entries.iter().filter_map(wanted).filter(|one| seen.insert((one.url.clone(), one.hash))).collect()
}

/// What has to be asked for the `fetch` body of `entry`.
pub fn wanted(entry: &Entry) -> Option<Wanted> {
    match &entry.body.as_ref()?.source {
        Source::Fetch(url) => wanted_from(entry, url.clone().unwrap_or_else(|| entry.url.to_string())),
        _ => None,
    }
}

/// What has to be asked for the bytes of `entry`, whatever their source, at `url`.
pub fn wanted_from(entry: &Entry, url: String) -> Option<Wanted> {
    let body = entry.body.as_ref()?;
    let name = body.name.clone().unwrap_or_else(|| entry.url.store_path_name());
    let (size, hash) = (body.size?, body.hash?);
    Some(Wanted { url, others: Vec::new(), path: build_ca_path(&name, FileIngestionMethod::Flat, &hash), size, hash })
}

/// Downloads `wanted` into the stores of `deposit`, a few at a time. `progress` is told how many bytes more have come.
///
/// # Errors
/// Where the store has no room for unfinished bodies. What is wrong with one body is its own result.
pub async fn fetch(
    wanted: Vec<Wanted>,
    deposit: &mut Deposit,
    origin: &Origin,
    progress: impl Fn(u64) + Clone + Send + 'static,
) -> io::Result<Vec<Result<Wanted, FetchError>>> {
    let folder = deposit.embedded().temporary_spool()?;
    let mut results = Vec::new();
    for (number, group) in groups(wanted).into_iter().enumerate() {
        let downloaded = each(group, |within, one| {
            let (origin, progress) = (origin.clone(), progress.clone());
            let file = folder.path().join(format!("{number}-{within}"));
            async move { from_any(one, file, &origin, progress).await }
        });
        let downloaded = downloaded.await;
        results.extend(tokio::task::block_in_place(|| into_stores(downloaded, deposit)));
    }
    Ok(results)
}

/// Splits `wanted` into groups that are downloaded before their bodies are stored together.
fn groups(wanted: Vec<Wanted>) -> Vec<Vec<Wanted>> {
    let (mut groups, mut bytes) = (Vec::<Vec<Wanted>>::new(), 0u64);
    for one in wanted {
        bytes = bytes.saturating_add(one.size);
        match groups.last_mut() {
            Some(group) if group.len() < GROUP_BODIES && bytes <= GROUP_BYTES => group.push(one),
            _ => {
                bytes = one.size;
                groups.push(vec![one]);
            }
        }
    }
    groups
}

/// Stores what was downloaded: in the Nix store what that takes, the rest in the embedded one.
fn into_stores(
    downloaded: Vec<Result<(Wanted, Spooled), FetchError>>,
    deposit: &mut Deposit,
) -> Vec<Result<Wanted, FetchError>> {
    deposit.add(&downloaded.iter().flatten().map(|(one, spooled)| one.as_new(spooled)).collect::<Vec<_>>());
    let store = |(one, spooled): (Wanted, Spooled)| match deposit.store(&one.as_new(&spooled)) {
        Ok(()) => Ok(one),
        Err(source) => Err(FetchError::Store { url: one.url, source }),
    };
    downloaded.into_iter().map(|downloaded| downloaded.and_then(store)).collect()
}

/// Does the work for each of `wanted`, a few at a time.
async fn each<F, T>(wanted: Vec<Wanted>, work: impl Fn(usize, Wanted) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
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

/// Downloads a body from the first of its URLs that gives it. Where none does, what the first one said counts.
async fn from_any(
    one: Wanted,
    file: PathBuf,
    origin: &Origin,
    progress: impl Fn(u64) + Clone,
) -> Result<(Wanted, Spooled), FetchError> {
    let algo = one.hash.algo();
    let spool = || Spool::with(file.clone(), algo, SPOOL_MEMORY);
    let first = match whole(&one, spool(), origin, progress.clone()).await {
        Ok(spooled) => return Ok((one, spooled)),
        Err(error) => error,
    };
    for url in &one.others {
        tracing::info!("asking {url} for the same bytes");
        let there = Wanted { url: url.clone(), others: Vec::new(), ..one.clone() };
        match whole(&there, spool(), origin, progress.clone()).await {
            Ok(spooled) => return Ok((there, spooled)),
            Err(error) => tracing::info!("{error}"),
        }
    }
    Err(first)
}

/// Downloads a body, and checks it.
async fn whole(
    wanted: &Wanted,
    mut spool: Spool,
    origin: &Origin,
    progress: impl Fn(u64),
) -> Result<Spooled, FetchError> {
    download(wanted, origin, progress, |data| tokio::task::block_in_place(|| spool.write(data))).await?;
    let spooled = spool.finish().map_err(|source| FetchError::Write { url: wanted.url.clone(), source })?;
    wanted.compare(Pin { hash: spooled.hash, size: spooled.size }).map(|()| spooled)
}

/// Asks as `fetchurl` does, without credentials, and gives the bytes to `sink` as they come.
async fn download(
    wanted: &Wanted,
    origin: &Origin,
    progress: impl Fn(u64),
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), FetchError> {
    let failed = |reason: String| FetchError::Origin { url: wanted.url.clone(), reason };
    let answer = origin.ask(Method::GET, &wanted.url, as_fetchurl(), None).await;
    let answer = answer.map_err(|error| match error.is_silence() {
        true => FetchError::Silent { url: wanted.url.clone(), reason: error.to_string() },
        false => failed(error.to_string()),
    })?;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status { url: wanted.url.clone(), status: answer.status() });
    }
    let (mut body, mut size) = (answer.into_body(), 0);
    while let Some(frame) = body.frame().await {
        let cut = |error| failed(format!("the answer did not arrive whole: {}", OriginError::from(error)));
        let frame = frame.map_err(cut)?;
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

/// Whether an origin answers so whom it does not know.
pub fn wants_credentials(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED)
}

/// What `fetchurl` sends: curl's fields, and no credentials. Some origins answer browsers with a page.
fn as_fetchurl() -> HeaderMap {
    let fields = [
        (header::ACCEPT, HeaderValue::from_static("*/*")),
        (
            header::USER_AGENT,
            HeaderValue::from_static(concat!("curl/8 Nixpkgs buildproxy/", env!("CARGO_PKG_VERSION"))),
        ),
    ];
    fields.into_iter().collect()
}

impl Wanted {
    fn as_new<'a>(&self, spooled: &'a Spooled) -> NewBody<'a> {
        let bytes = match &spooled.content {
            SpooledContent::Memory(bytes) => Bytes::Memory(bytes),
            SpooledContent::File(file) => Bytes::File(file),
        };
        NewBody { path: self.path.clone(), hash: self.hash, size: self.size, bytes }
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::path::StorePathName;

    #[test]
    fn groups_have_all_in_order_and_an_end() {
        let wanted = |size: u64| {
            let hash = NixHash::sha256(&size.to_le_bytes());
            let path = build_ca_path(&StorePathName::sanitized("b"), FileIngestionMethod::Flat, &hash);
            Wanted { url: "http://h/".to_owned(), others: Vec::new(), path, size, hash }
        };
        let sizes: Vec<u64> = (0..1000).map(|n| if n % 150 == 0 { GROUP_BYTES - 5 } else { n }).collect();
        let groups = groups(sizes.iter().map(|size| wanted(*size)).collect());
        for group in &groups {
            let bytes: u64 = group.iter().map(|one| one.size).sum();
            assert!((1..=GROUP_BODIES).contains(&group.len()) && bytes <= GROUP_BYTES, "{} {bytes}", group.len());
        }
        assert!(groups.len() > 5);
        assert_eq!(groups.iter().flatten().map(|one| one.size).collect::<Vec<_>>(), sizes);
        let oversized = super::groups(vec![wanted(3 * GROUP_BYTES), wanted(u64::MAX), wanted(1)]);
        assert_eq!(oversized.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
        assert!(super::groups(Vec::new()).is_empty());
    }
}

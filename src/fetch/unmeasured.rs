//! Downloading what is known by its hash alone, to learn its size.

use std::{path::PathBuf, sync::Arc};

use tokio::{sync::Semaphore, task::JoinSet};

use super::{FetchError, PARALLEL, Wanted, download};
use crate::{
    capture::Origin,
    store::{
        hash::{Hasher, NixHash},
        path::{FileIngestionMethod, StorePathName, build_ca_path},
        spool::{Spool, Spooled},
    },
};

/// A body of unknown size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmeasured {
    /// Where from, in the order in which they are tried.
    pub urls: Vec<String>,
    /// Its hash.
    pub hash: NixHash,
}

/// Downloads `wanted`, each to the new file that stands beside it unless it is small, a few at a time. The results are in
/// the order of `wanted`. `progress` is told how many bytes more have come.
pub async fn measure(
    wanted: Vec<(Unmeasured, PathBuf)>,
    origin: &Origin,
    progress: impl Fn(u64) + Clone + Send + 'static,
) -> Vec<Result<Spooled, FetchError>> {
    let slots = Arc::new(Semaphore::new(PARALLEL));
    let mut downloads = JoinSet::new();
    for (number, (one, file)) in wanted.into_iter().enumerate() {
        let (slots, origin, progress) = (Arc::clone(&slots), origin.clone(), progress.clone());
        downloads.spawn(async move {
            // The semaphore is never closed.
            let _slot = slots.acquire().await;
            (number, one.download(file, &origin, progress).await)
        });
    }
    let mut results = downloads.join_all().await;
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

impl Unmeasured {
    /// From the first of its URLs that has it.
    async fn download(
        self,
        file: PathBuf,
        origin: &Origin,
        progress: impl Fn(u64) + Clone,
    ) -> Result<Spooled, FetchError> {
        let mut failure = None;
        for url in &self.urls {
            match self.download_from(url, file.clone(), origin, progress.clone()).await {
                Ok(spooled) => return Ok(spooled),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let nowhere = || FetchError::Origin { url: self.hash.to_string(), reason: "there is no URL for it".to_owned() };
        Err(failure.unwrap_or_else(nowhere))
    }

    async fn download_from(
        &self,
        url: &str,
        file: PathBuf,
        origin: &Origin,
        progress: impl Fn(u64),
    ) -> Result<Spooled, FetchError> {
        let path = build_ca_path(&StorePathName::sanitized(""), FileIngestionMethod::Flat, &self.hash);
        let wanted = Wanted { url: url.to_owned(), others: Vec::new(), path, size: u64::MAX, hash: self.hash };
        let mut spool = Spool::new(file);
        let mut hasher = Hasher::new(self.hash.algo());
        download(&wanted, origin, progress, |data| {
            hasher.update(data);
            tokio::task::block_in_place(|| spool.write(data))
        })
        .await?;
        let received = hasher.finish();
        if received != self.hash {
            let reason = format!("the bytes have the hash {received}, and not {}: the origin changed them", self.hash);
            return Err(FetchError::Origin { url: url.to_owned(), reason });
        }
        spool.finish().map_err(|source| FetchError::Write { url: url.to_owned(), source })
    }
}

//! Asking origins only to see whether they still give what an inventory pins.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use super::{FetchError, Pin, Wanted, download, each};
use crate::{capture::Origin, store::hash::Hasher, url::NormalizedUrl};

/// Hosts, with scheme and port, that let a request wait in vain. They are asked nothing more: each time would take minutes.
#[derive(Clone, Default)]
struct SilentHosts(Arc<Mutex<HashSet<String>>>);

/// Downloads `wanted` only to see whether the origins still give it; the error is what they give instead. `progress` is told
/// how many bytes more have come.
pub async fn check(
    wanted: Vec<Wanted>,
    origin: &Origin,
    progress: impl Fn(u64) + Clone + Send + 'static,
) -> Vec<(Wanted, Result<(), FetchError>)> {
    let silent = SilentHosts::default();
    let results = each(wanted, |_, one| {
        let (origin, progress, silent) = (origin.clone(), progress.clone(), silent.clone());
        async move {
            let same = match silent.refusal(&one.url) {
                Some(refusal) => Err(refusal),
                None => ask(&one, &origin, progress).await,
            };
            silent.learn(&same);
            (one, same)
        }
    });
    results.await
}

async fn ask(one: &Wanted, origin: &Origin, progress: impl Fn(u64)) -> Result<(), FetchError> {
    let (mut hasher, mut size) = (Hasher::new(one.hash.algo()), 0);
    let whole = download(one, origin, progress, |data| {
        hasher.update(data);
        size += data.len() as u64;
        Ok(())
    });
    whole.await?;
    one.compare(Pin { hash: hasher.finish(), size })
}

impl SilentHosts {
    fn host(url: &str) -> Option<String> {
        Some(url.parse::<NormalizedUrl>().ok()?.origin().to_owned())
    }

    fn hosts(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why `url` is not asked, where its host was silent before.
    fn refusal(&self, url: &str) -> Option<FetchError> {
        let host = Self::host(url).filter(|host| self.hosts().contains(host))?;
        let reason = format!("not asked, because {host} had not answered another request in time");
        Some(FetchError::Silent { url: url.to_owned(), reason })
    }

    fn learn(&self, result: &Result<(), FetchError>) {
        if let Err(FetchError::Silent { url, .. }) = result {
            self.hosts().extend(Self::host(url));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, net::TcpListener, thread, time::Duration};

    use super::*;
    use crate::{
        fetch::PARALLEL,
        store::{
            hash::NixHash,
            path::{FileIngestionMethod, StorePathName, build_ca_path},
        },
    };

    #[tokio::test]
    async fn a_host_that_does_not_answer_is_not_waited_for_again_and_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, asked) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let connections = listener.incoming().map(|connection| {
                let mut connection = connection.unwrap();
                assert!(connection.read(&mut [0; 1000]).unwrap() > 0);
                sender.send(()).unwrap();
                connection
            });
            // They stay open.
            connections.collect::<Vec<_>>()
        });
        let wanted = |number: usize| {
            let hash = NixHash::sha256(&number.to_le_bytes());
            let path = build_ca_path(&StorePathName::sanitized("b"), FileIngestionMethod::Flat, &hash);
            Wanted { url: format!("http://127.0.0.1:{port}/{number}"), others: Vec::new(), path, size: 1, hash }
        };
        let all = 5 * PARALLEL;
        let origin = Origin::impatient(Duration::from_millis(300));
        let results = check((0..all).map(wanted).collect(), &origin, |_| {}).await;
        let refused = results.iter().filter(|(_, result)| {
            result.as_ref().is_err_and(|error| error.to_string().contains("not asked, because http://127.0.0.1"))
        });
        assert_eq!((results.len(), refused.count()), (all, all - PARALLEL));
        assert!(results.iter().all(|(_, result)| matches!(result, Err(FetchError::Silent { .. }))));
        assert_eq!(asked.try_iter().count(), PARALLEL);
    }
}

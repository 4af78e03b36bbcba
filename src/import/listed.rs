//! Answers that a list has by the hashes of their bodies.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use http::{HeaderMap, Method, StatusCode};

use super::har::Unheard;
use crate::{
    capture::{Origin, Retelling, Retold},
    fetch::{self, Unmeasured},
    inventory::MatchRules,
    store::{
        Stores,
        hash::NixHash,
        path::{FileIngestionMethod, StorePathName, build_ca_path},
        regular,
        spool::{Spool, Spooled},
    },
    url::NormalizedUrl,
};

/// What a list has.
#[derive(Debug, Default, PartialEq)]
pub struct List {
    /// The answers, in its order.
    pub answers: Vec<Listed>,
    /// What of it cannot be in an inventory.
    pub dropped: Vec<Unheard>,
    /// The rules by which it compares requests.
    pub match_rules: MatchRules,
}

/// The answer to a `GET`.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// The URL.
    pub url: NormalizedUrl,
    /// The status code.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: ListedBody,
}

/// What a list knows of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListedBody {
    /// That it is empty.
    Empty,
    /// All of it.
    Text(String),
    /// A file that has it.
    File(PathBuf),
    /// Its hash, under which it can be downloaded.
    Hash {
        /// Where from, in the order in which they are tried.
        urls: Vec<String>,
        /// The name of its store path.
        name: StorePathName,
        /// Its hash.
        hash: NixHash,
    },
}

impl List {
    /// Adds an answer, unless its URL, or one that its body comes from, has credentials in it: they may not be kept, and
    /// without them it is no answer for others.
    pub fn add(&mut self, url: &str, answer: Listed) {
        let from = match &answer.body {
            ListedBody::Hash { urls, .. } => urls.as_slice(),
            ListedBody::Empty | ListedBody::Text(_) | ListedBody::File(_) => &[],
        };
        let is_private = |url: &str| crate::url::without_userinfo(url) != url;
        match is_private(url) || from.iter().any(|url| is_private(url)) {
            true => self.drop(url, "its URL has credentials in it"),
            false => self.answers.push(answer),
        }
    }

    /// Leaves an answer out.
    pub fn drop(&mut self, url: &str, reason: impl ToString) {
        let request = format!("GET {}", crate::url::without_userinfo(url));
        self.dropped.push(Unheard::new(request, reason));
    }

    /// The bodies that have to be downloaded: none of `stores` has them. Each with the number of its answer.
    pub fn absent(&self, stores: &Stores) -> Vec<(usize, Unmeasured)> {
        let absent = self.answers.iter().enumerate().filter(|(_, answer)| answer.body.find(stores).is_none());
        let unmeasured = absent.filter_map(|(number, answer)| match &answer.body {
            ListedBody::Hash { urls, hash, .. } => Some((number, Unmeasured { urls: urls.clone(), hash: *hash })),
            _ => None,
        });
        unmeasured.collect()
    }

    /// Downloads `absent` to where `retelling` spools.
    pub async fn fetch(
        absent: Vec<(usize, Unmeasured)>,
        retelling: &Retelling,
        origin: &Origin,
        progress: impl Fn(u64) + Clone + Send + 'static,
    ) -> Vec<(usize, Result<Spooled, fetch::FetchError>)> {
        let (numbers, wanted): (Vec<usize>, Vec<Unmeasured>) = absent.into_iter().unzip();
        let file = |number: usize| retelling.spool().join(format!("fetched-{number}"));
        let wanted = wanted.into_iter().zip(&numbers).map(|(one, number)| (one, file(*number))).collect();
        numbers.into_iter().zip(fetch::measure(wanted, origin, progress).await).collect()
    }

    /// Tells all answers; `fetched` has the bodies that were downloaded, by the numbers of their answers.
    pub fn tell(
        self,
        mut fetched: Vec<(usize, Result<Spooled, String>)>,
        stores: &Stores,
        retelling: &Retelling,
    ) -> Vec<Unheard> {
        for (number, answer) in self.answers.into_iter().enumerate() {
            let Listed { url, status, headers, body } = answer;
            let spool = || Spool::new(retelling.spool().join(format!("copied-{number}")));
            let of_file =
                |path: &Path| copy(path, spool()).map_err(|error| format!("cannot copy {}: {error}", path.display()));
            let found = body.find(stores);
            // What a list has as a whole is not to be downloaded: it changes, or is somebody's own.
            let is_public = !matches!(body, ListedBody::Text(_) | ListedBody::File(_));
            let body = match (&body, found) {
                (ListedBody::Empty, _) => Ok(None),
                (ListedBody::Text(text), _) => Ok(Some(Spooled::in_memory(text.clone().into_bytes()))),
                (ListedBody::File(path), _) => of_file(path).map(Some),
                (ListedBody::Hash { .. }, Some(path)) => of_file(&path).map(Some),
                (ListedBody::Hash { hash, .. }, None) => match fetched.iter().position(|(of, _)| *of == number) {
                    Some(place) => fetched.swap_remove(place).1.map(Some),
                    None => Err(format!(
                        "the list has only the hash of its body ({hash}), which is in no store, and `--no-fetch` was given"
                    )),
                },
            };
            retelling.tell(Retold {
                method: Method::GET,
                url,
                asked: HeaderMap::new(),
                request_body: Vec::new(),
                status,
                headers,
                is_decoded: false,
                is_public,
                body,
            });
        }
        self.dropped
    }
}

impl ListedBody {
    /// Its file in a store.
    fn find(&self, stores: &Stores) -> Option<PathBuf> {
        let Self::Hash { name, hash, .. } = self else { return None };
        stores.find(&build_ca_path(name, FileIngestionMethod::Flat, hash))
    }
}

fn copy(path: &Path, mut spool: Spool) -> io::Result<Spooled> {
    let mut file = regular::open(path)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return spool.finish(),
            read => spool.write(&buffer[..read])?,
        }
    }
}

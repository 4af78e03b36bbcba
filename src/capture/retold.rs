//! Answers that somebody else recorded, such as those in a HAR file: what may be recorded of them, how redirects become
//! chains and where bodies go is decided as in a capture, by the same code.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use http::{HeaderMap, Method, StatusCode};

use super::{
    finish::{Beside, read_inventory, write_inventory},
    journal::{Journal, JournalFolder},
    policy::UrlGlobs,
    recorder::{AnswerHead, Recorder},
    session::{CaptureError, CaptureOptions, Summary},
};
use crate::{
    inventory::{self, Inventory, MatchRules, is_about_the_bytes, request_body::BodyDigest},
    proxy::{ListenOn, hop_by_hop},
    store::{Stores, spool::Spooled},
    url::NormalizedUrl,
};

/// Where retold answers go.
#[derive(Debug)]
pub struct RetoldOptions {
    /// The inventory to write or add to.
    pub inventory: PathBuf,
    /// Where bodies go.
    pub stores: Stores,
    /// Which answers that needed credentials may be recorded.
    pub allow_private: UrlGlobs,
    /// The Nix system that they are for.
    pub system: String,
    /// The rules that a new inventory gets.
    pub match_rules: MatchRules,
}

/// One request with its answer, as somebody else recorded them.
#[derive(Debug)]
pub struct Retold {
    /// The request's method.
    pub method: Method,
    /// The request's URL.
    pub url: NormalizedUrl,
    /// The request's header fields, credentials included.
    pub asked: HeaderMap,
    /// The digests of the request body, none for an empty one; or why they are not known.
    pub request_body: Result<Vec<BodyDigest>, String>,
    /// The status code.
    pub status: StatusCode,
    /// The answer's header fields.
    pub headers: HeaderMap,
    /// Whether the body was decoded, so that neither its coding nor what its headers say of the bytes holds any more.
    pub is_decoded: bool,
    /// Whether somebody else gets the same bytes under this URL, as far as the source of this knows.
    pub is_public: bool,
    /// The whole body; `None` is an empty one; or why it is not known.
    pub body: Result<Option<Spooled>, String>,
}

/// Takes in what somebody else recorded.
#[derive(Debug)]
pub struct Retelling {
    options: CaptureOptions,
    match_rules: MatchRules,
    folder: JournalFolder,
    recorder: Recorder,
}

impl Retelling {
    /// Checks that everything can be read and written. Until [`finish`](Self::finish) the inventory stays as it is.
    ///
    /// # Errors
    /// Where something cannot be read or written.
    pub fn start(options: RetoldOptions) -> Result<Self, CaptureError> {
        let RetoldOptions { inventory, stores, allow_private, system, match_rules } = options;
        // What belongs beside the inventory is beside the file, not beside a link to it.
        let inventory = fs::canonicalize(&inventory).unwrap_or(inventory);
        // Nothing listens: the proxy is the part of a capture that this does without.
        let listen = ListenOn::Address(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        read_inventory(&inventory)?;
        if inventory.parent().is_some_and(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
            return Err(CaptureError::NoFolder(inventory));
        }
        stores.embedded().prepare()?;
        let folder = JournalFolder::create(&inventory)?;
        let journal = folder.start(stores.embedded(), &folder.lock()?)?;
        let recorder = Recorder::new(journal, allow_private.clone(), UrlGlobs::default(), std::sync::Arc::default());
        let options = CaptureOptions {
            inventory,
            stores,
            listen,
            allow_private,
            only: UrlGlobs::default(),
            proxy_loopback: false,
            system,
        };
        Ok(Self { options, match_rules, folder, recorder })
    }

    /// Where bodies can be spooled until they are told.
    pub fn spool(&self) -> &Path {
        self.journal().spool()
    }

    fn journal(&self) -> &Journal {
        self.recorder.journal()
    }

    /// Takes one exchange in. The order of the calls is that of the requests.
    pub fn tell(&self, mut told: Retold) {
        hop_by_hop::strip(&mut told.headers);
        if told.is_decoded {
            told.headers.remove(http::header::CONTENT_ENCODING);
            let about: Vec<_> = told.headers.keys().filter(|name| is_about_the_bytes(name.as_str())).cloned().collect();
            about.into_iter().for_each(|name| {
                told.headers.remove(name);
            });
        }
        let asked = self.recorder.asked_before(&told.method, told.url, &told.asked, told.is_public && !told.is_decoded);
        self.recorder.head_arrived(&asked, told.status, &told.headers);
        let answered = self.recorder.arrivals();
        let head = AnswerHead { status: told.status, headers: told.headers, is_delimited: true, answered };
        match (told.request_body, told.body) {
            (Ok(digests), Ok(body)) => self.recorder.record(&asked, &head, digests, Ok(body)),
            (Err(reason), _) | (_, Err(reason)) => self.recorder.failed(&asked, reason),
        }
    }

    /// Writes the inventory.
    ///
    /// # Errors
    /// Where something cannot be written; the inventory is as it was then.
    pub fn finish(self) -> Result<Summary, CaptureError> {
        let lock = self.folder.lock()?;
        let beside = Beside { folder: &self.folder, lock: &lock };
        let path = &self.options.inventory;
        let unrecorded = self.recorder.close();
        let is_new = !path.exists();
        if is_new && self.match_rules != MatchRules::default() {
            let empty = Inventory { match_rules: self.match_rules.clone(), entries: Vec::new() };
            inventory::write(&empty, path).map_err(|source| CaptureError::Write { path: path.clone(), source })?;
        }
        let summary = write_inventory(&self.options, &beside, &[], self.journal(), unrecorded, false);
        if is_new && summary.is_err() {
            // It has at most the rules. Where it stays, it does no harm.
            let _ = fs::remove_file(path);
        }
        // It can be told again, so nobody takes this over.
        self.journal().remove()?;
        summary
    }

    /// Forgets everything that was told.
    ///
    /// # Errors
    /// Where what was spooled cannot be removed.
    pub fn abandon(self) -> Result<(), CaptureError> {
        Ok(self.journal().remove()?)
    }
}

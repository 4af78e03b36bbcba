//! Answers that somebody else recorded, such as those in a HAR file: what may be recorded of them, how redirects become
//! chains and where bodies go is decided as in a capture, by the same code.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    finish::{Beside, read_inventory, write_inventory},
    journal::{Journal, JournalFolder},
    policy::UrlGlobs,
    recorder::{AnswerHead, Recorder},
    retold::Retold,
    session::{CaptureError, CaptureOptions, Summary},
};
use crate::{
    inventory::{self, Inventory, MatchRules, is_about_the_bytes},
    proxy::{ListenOn, hop_by_hop},
    store::Stores,
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

/// Takes in what somebody else recorded.
#[derive(Debug)]
pub struct Retelling {
    options: CaptureOptions,
    match_rules: MatchRules,
    folder: JournalFolder,
    /// What captures and imports that died had recorded, which is older than what is told now.
    dead: Vec<Journal>,
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
        let lock = folder.lock()?;
        let dead = folder.take_over(&lock)?;
        let journal = folder.start(stores.embedded(), &lock)?;
        let recorder = Recorder::new(journal, allow_private.clone(), UrlGlobs::default(), Arc::default());
        let options = CaptureOptions {
            inventory,
            stores,
            listen,
            allow_private,
            only: UrlGlobs::default(),
            proxy_loopback: false,
            system,
        };
        Ok(Self { options, match_rules, folder, dead, recorder })
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
        match told.body {
            Ok(body) => self.recorder.record(&asked, &head, told.request_body, Ok(body)),
            Err(reason) => self.recorder.failed(&asked, told.request_body, reason),
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
        let summary = write_inventory(&self.options, &beside, &self.dead, self.journal(), unrecorded, false);
        if is_new && summary.is_err() {
            // It has at most the rules. Where it stays, it does no harm.
            let _ = fs::remove_file(path);
        }
        if summary.is_ok() {
            self.dead.iter().try_for_each(Journal::remove)?;
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

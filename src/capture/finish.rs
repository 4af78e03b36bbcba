//! From journals to the written inventory: bodies get their places, entries are merged, the file is replaced.

use std::{fs, io, path::Path};

use http::Method;

use super::{
    assemble::{Assembled, Omission, Place, StoredBody, assemble},
    exchange::{Exchange, LeftOut, Outcome, RecordedBytes},
    journal::{FolderLock, Journal, JournalFolder},
    roots,
    session::{CaptureError, CaptureOptions, Summary},
};
use crate::{
    beside::{self, BesideFolder},
    inventory::{self, Entry, FileForm, Inventory, ReadError, Source},
    secrets::{self, Suspect},
    store::{
        deposit::{Bytes, Deposit, NewBody},
        path::{FileIngestionMethod, build_ca_path},
    },
    url::NormalizedUrl,
};

/// The inventory at `path`; an empty one where there is no file.
pub fn read_inventory(path: &Path) -> Result<Inventory, CaptureError> {
    match inventory::read_with_form(path) {
        Err(ReadError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Inventory::default()),
        Err(error) => Err(error.into()),
        Ok((inventory, FileForm::Toml)) => Ok(inventory),
        Ok((_, FileForm::Json | FileForm::Compiled)) => Err(CaptureError::IsNoToml(path.to_owned())),
    }
}

/// The folder beside the inventory, which nobody else changes meanwhile.
#[derive(Clone, Copy)]
pub struct Beside<'a> {
    /// The folder.
    pub folder: &'a JournalFolder,
    /// What keeps others away.
    pub lock: &'a FolderLock,
}

/// Merges what dead captures and this one recorded into the inventory. `unrecorded` is what the journal of this one does
/// not know of.
pub fn write_inventory(
    options: &CaptureOptions,
    beside: &Beside,
    dead: &[Journal],
    own: &Journal,
    unrecorded: Vec<Omission>,
    prune: bool,
) -> Result<Summary, CaptureError> {
    let path = &options.inventory;
    let before = read_inventory(path)?;
    let (deposit, summary) = (Deposit::new(&options.stores), Summary::default());
    let mut merging = Merging { options, deposit, in_nix: Vec::new(), inventory: before.clone(), summary };
    for journal in dead {
        // What a dead capture did not come to ask is not known, so it prunes nothing.
        merging.summary.recovered += merging.add(journal, Vec::new(), false)?;
    }
    merging.add(own, unrecorded, prune)?;
    merging.summary.total = merging.inventory.entries.len();
    merging.summary.beside = beside::bytes(&merging.inventory);
    inventory::write(&merging.inventory, path).map_err(|source| CaptureError::Write { path: path.clone(), source })?;
    // What only replaced entries referred to, or this capture wrote in vain.
    let written = before.entries.iter().chain(&merging.summary.recorded);
    BesideFolder::of(path).remove_unused(written, &merging.inventory.entries);
    merging.keep_in_nix_store(beside)?;
    Ok(merging.summary)
}

struct Merging<'a> {
    options: &'a CaptureOptions,
    deposit: Deposit,
    /// The bodies that the Nix store took. Their own bytes are there until the journals go.
    in_nix: Vec<StoredBody>,
    inventory: Inventory,
    summary: Summary,
}

impl Merging<'_> {
    /// Merges one journal and gives the number of its exchanges.
    fn add(&mut self, journal: &Journal, unrecorded: Vec<Omission>, prune: bool) -> Result<usize, CaptureError> {
        let exchanges = journal.exchanges()?;
        let count = exchanges.len();
        // Who asks for nothing went past the proxy, or has all of it in a cache.
        let nothing_asked = exchanges.is_empty() && unrecorded.is_empty();
        self.summary.unpruned |= prune && nothing_asked;
        let prune = prune && !nothing_asked;
        self.ignore_credentials(&exchanges);
        let Assembled { entries, mut left_out, kept: by_rule, sequences } = assemble(exchanges, &self.inventory);
        self.summary.sequences.extend(sequences);
        by_rule.into_iter().for_each(|(why, count)| *self.summary.kept.entry(why).or_default() += count);
        left_out.extend(unrecorded);
        let entries = self.without_secrets(entries, &mut left_out);
        let stored = entries.iter().filter_map(|(_, body)| body.as_ref()).filter(|body| body.place == Place::Store);
        self.deposit.add(&stored.map(new_body).collect::<Vec<_>>());
        let mut kept = Vec::new();
        for (mut entry, body) in entries {
            match body.as_ref().map(|body| keep(self.options, &self.deposit, body, &mut entry)).transpose() {
                Ok(_) => {
                    kept.push(entry);
                    let took = |body: &StoredBody| self.deposit.is_in_nix(&new_body(body).path);
                    self.in_nix.extend(body.filter(|body| body.place == Place::Store && took(body)));
                }
                Err(Unkept::Gone(reason)) => {
                    let reason = LeftOut::NotStored(reason);
                    left_out.push(Omission { method: entry.method, url: entry.url, reason });
                }
                Err(Unkept::Failed(error)) => return Err(error),
            }
        }
        let unanswered: Vec<(Method, NormalizedUrl)> =
            left_out.iter().map(|omission| (omission.method.clone(), omission.url.clone())).collect();
        let system = &self.options.system;
        let (inventory, changes) = inventory::merge_capture(&self.inventory, kept.clone(), &unanswered, system, prune);
        self.inventory = inventory;
        self.summary.changes.extend(changes);
        self.summary.left_out.extend(left_out);
        self.summary.recorded.extend(kept);
        Ok(count)
    }

    /// Has requests compared without those query parameters that were credentials: what is recorded of such a request has
    /// none, and whoever builds it has others.
    fn ignore_credentials(&mut self, exchanges: &[Exchange]) {
        let recorded = exchanges.iter().filter(|exchange| matches!(exchange.outcome, Outcome::Answered(_)));
        for name in recorded.flat_map(|exchange| &exchange.bared_of) {
            if self.inventory.match_rules.ignore(name) {
                self.summary.ignored.push(name.clone());
            }
        }
    }

    /// Leaves out what looks like a long-lived key, unless it is allowed: an inventory is committed.
    fn without_secrets(
        &self,
        entries: Vec<(Entry, Option<StoredBody>)>,
        left_out: &mut Vec<Omission>,
    ) -> Vec<(Entry, Option<StoredBody>)> {
        let mut is_clean = |(entry, body): &(Entry, Option<StoredBody>)| {
            let allowed = self.options.allow_private.covers(&entry.url);
            let suspect = secrets::in_entry(entry).or_else(|| in_kept_file(body.as_ref()?));
            let Some(suspect) = suspect.filter(|_| !allowed) else { return true };
            let reason = LeftOut::Secret(suspect.what.to_owned(), suspect.place);
            left_out.push(Omission { method: entry.method.clone(), url: entry.url.clone(), reason });
            false
        };
        entries.into_iter().filter(|one| is_clean(one)).collect()
    }

    /// Keeps the bodies in the Nix store from garbage collection, and says what is not there. Those that were collected
    /// before go to the embedded store after all.
    fn keep_in_nix_store(&mut self, beside: &Beside) -> Result<(), CaptureError> {
        let Some(nix) = self.options.stores.nix_store() else { return Ok(()) };
        let kept = roots::keep(&nix, &self.inventory, beside.folder, beside.lock);
        let collected = self.deposit.forget_collected();
        for body in self.in_nix.iter().map(new_body).filter(|body| collected.contains(&body.path)) {
            self.deposit.store(&body)?;
        }
        if self.deposit.count_in_nix() > 0 {
            self.summary.nix_store = Some(nix.dir().to_owned());
        }
        self.summary.warning = self.deposit.warning().or_else(|| kept.err().map(|error| roots::not_kept(&error)));
        Ok(())
    }
}

/// What looks like a secret in a body that is kept beside the inventory. What anybody can fetch is none.
fn in_kept_file(body: &StoredBody) -> Option<Suspect> {
    if body.place != Place::Beside || body.size > secrets::MOST_BYTES {
        return None;
    }
    match &body.bytes {
        RecordedBytes::Inline(bytes) => secrets::in_bytes(bytes),
        // One that is gone is found so where it is stored.
        RecordedBytes::Spooled(file) => secrets::in_bytes(&fs::read(file).ok()?),
    }
}

/// Why a body has not got its place.
enum Unkept {
    /// Its bytes are not there any more; there is no use in trying again.
    Gone(String),
    /// They are there, and another try can be better.
    Failed(CaptureError),
}

/// Puts a body where its entry says that it is, and completes what the entry says.
fn keep(options: &CaptureOptions, deposit: &Deposit, body: &StoredBody, entry: &mut Entry) -> Result<(), Unkept> {
    let kept = match body.place {
        Place::Store => deposit.store(&new_body(body)).map_err(CaptureError::Store),
        Place::Beside => {
            let folder = BesideFolder::of(&options.inventory);
            if let Some(Source::File(file)) = entry.body.as_mut().map(|body| &mut body.source) {
                *file = folder.relative(file);
            }
            folder.write(body.name.as_str(), bytes(body)).map_err(CaptureError::from)
        }
    };
    // It may have got there before what failed, and is found there by another try.
    let is_in_store = || deposit.embedded().find(&new_body(body).path).is_some();
    kept.map_err(|error| match &body.bytes {
        RecordedBytes::Spooled(file) if !file.exists() && !is_in_store() => {
            Unkept::Gone(format!("its bytes are gone: {error}"))
        }
        _ => Unkept::Failed(error),
    })
}

fn bytes(body: &StoredBody) -> Bytes<'_> {
    match &body.bytes {
        RecordedBytes::Inline(bytes) => Bytes::Memory(bytes),
        RecordedBytes::Spooled(file) => Bytes::File(file),
    }
}

fn new_body(body: &StoredBody) -> NewBody<'_> {
    let path = build_ca_path(&body.name, FileIngestionMethod::Flat, &body.hash);
    NewBody { path, hash: body.hash, size: body.size, bytes: bytes(body) }
}

//! From journals to the written inventory: bodies get their places, entries are merged, the file is replaced.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use http::Method;

use super::{
    assemble::{Assembled, Omission, Place, StoredBody, assemble},
    exchange::{LeftOut, RecordedBytes},
    journal::{FolderLock, Journal, JournalFolder},
    roots,
    session::{CaptureError, CaptureOptions, Summary},
};
use crate::{
    inventory::{self, Entry, Inventory, ReadError, Source},
    store::{
        deposit::{Bytes, Deposit, NewBody},
        path::{FileIngestionMethod, build_ca_path},
    },
    url::NormalizedUrl,
};

/// The inventory at `path`; an empty one where there is no file.
pub fn read_inventory(path: &Path) -> Result<Inventory, CaptureError> {
    match inventory::read(path) {
        Err(ReadError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Inventory::default()),
        Err(error) => Err(error.into()),
        Ok(_) if !inventory::is_toml(path) => Err(CaptureError::IsNoToml(path.to_owned())),
        Ok(inventory) => Ok(inventory),
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
    merging.summary.beside = bytes_beside(&merging.inventory);
    inventory::write(&merging.inventory, path).map_err(|source| CaptureError::Write { path: path.clone(), source })?;
    remove_unused_files(path, &before, &merging.summary.recorded, &merging.inventory);
    merging.keep_in_nix_store(beside)?;
    Ok(merging.summary)
}

/// The size of all `file` bodies, each file once.
fn bytes_beside(inventory: &Inventory) -> u64 {
    let bodies = inventory.entries.iter().filter_map(|entry| entry.body.as_ref());
    let files: HashMap<&str, u64> = bodies
        .filter_map(|body| match &body.source {
            Source::File(file) => Some((file.as_str(), body.size.unwrap_or(0))),
            _ => None,
        })
        .collect();
    files.values().sum()
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
        let Assembled { entries, mut left_out, kept: by_rule } = assemble(exchanges, &self.inventory);
        by_rule.into_iter().for_each(|(why, count)| *self.summary.kept.entry(why).or_default() += count);
        left_out.extend(unrecorded);
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
            let (folder, folder_name) = bodies_folder(&options.inventory);
            if let Some(Source::File(file)) = entry.body.as_mut().map(|body| &mut body.source) {
                *file = format!("{folder_name}/{file}");
            }
            write_beside(&folder, body)
        }
    };
    kept.map_err(|error| match &body.bytes {
        RecordedBytes::Spooled(file) if !file.exists() => Unkept::Gone(format!("its bytes are gone: {error}")),
        _ => Unkept::Failed(error),
    })
}

/// The folder for `file` bodies, and its name as entries write it: `inventory.bodies` beside `inventory.toml`.
fn bodies_folder(inventory: &Path) -> (PathBuf, String) {
    let stem = inventory.file_stem().unwrap_or_default().to_string_lossy();
    let name = format!("{stem}.bodies");
    (inventory.with_file_name(&name), name)
}

fn new_body(body: &StoredBody) -> NewBody<'_> {
    let bytes = match &body.bytes {
        RecordedBytes::Inline(bytes) => Bytes::Memory(bytes),
        RecordedBytes::Spooled(file) => Bytes::File(file),
    };
    let path = build_ca_path(&body.name, FileIngestionMethod::Flat, &body.hash);
    NewBody { path, hash: body.hash, size: body.size, bytes }
}

fn write_beside(folder: &Path, body: &StoredBody) -> Result<(), CaptureError> {
    let path = folder.join(body.name.as_str());
    let failed = |source| CaptureError::Write { path: path.clone(), source };
    fs::create_dir_all(folder).map_err(failed)?;
    let attributes = folder.join(".gitattributes");
    if !attributes.exists() {
        // Line endings are part of the hash.
        inventory::write_atomically(&attributes, &mut &b"* -text\n"[..]).map_err(failed)?;
    }
    match &body.bytes {
        RecordedBytes::Inline(bytes) => inventory::write_atomically(&path, &mut bytes.as_slice()).map_err(failed),
        RecordedBytes::Spooled(file) => {
            let mut spooled = File::open(file).map_err(failed)?;
            inventory::write_atomically(&path, &mut spooled).map_err(failed)
        }
    }
}

/// Removes files beside the inventory that only replaced entries referred to, or that this capture wrote in vain.
fn remove_unused_files(path: &Path, before: &Inventory, recorded: &[Entry], now: &Inventory) {
    let files = |entries: &[Entry]| -> Vec<String> {
        let bodies = entries.iter().filter_map(|entry| entry.body.as_ref());
        bodies
            .filter_map(|body| if let Source::File(file) = &body.source { Some(file.clone()) } else { None })
            .collect()
    };
    let (_, folder_name) = bodies_folder(path);
    let used = files(&now.entries);
    for file in files(&before.entries).into_iter().chain(files(recorded)) {
        let ours = file.strip_prefix(&folder_name).and_then(|rest| rest.strip_prefix('/'));
        let is_ours = ours.is_some_and(|name| !name.contains('/') && name != "..");
        if is_ours && !used.contains(&file) {
            // A file that stays is no harm: nothing refers to it.
            let _ = fs::remove_file(path.with_file_name(&folder_name).join(ours.unwrap_or_default()));
        }
    }
}

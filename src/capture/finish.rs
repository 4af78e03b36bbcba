//! From journals to the written inventory: bodies get their places, entries are merged, the file is replaced.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use http::Method;

use super::{
    assemble::{Assembled, Omission, Place, StoredBody, assemble},
    exchange::{LeftOut, RecordedBytes},
    journal::Journal,
    session::{CaptureError, CaptureOptions, Summary},
};
use crate::{
    inventory::{self, BodiesFolder, Entry, Inventory, ReadError, Source},
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

/// Merges what dead captures and this one recorded into the inventory. `unrecorded` is what the journal of this one does
/// not know of.
pub fn write_inventory(
    options: &CaptureOptions,
    dead: &[Journal],
    own: &Journal,
    unrecorded: Vec<Omission>,
    prune: bool,
) -> Result<Summary, CaptureError> {
    let path = &options.inventory;
    let before = read_inventory(path)?;
    let mut merging = Merging { options, inventory: before.clone(), summary: Summary::default() };
    for journal in dead {
        // What a dead capture did not come to ask is not known, so it prunes nothing.
        merging.summary.recovered += merging.add(journal, Vec::new(), false)?;
    }
    merging.add(own, unrecorded, prune)?;
    let Merging { inventory, mut summary, .. } = merging;
    summary.total = inventory.entries.len();
    inventory::write(&inventory, path).map_err(|source| CaptureError::Write { path: path.clone(), source })?;
    remove_unused_files(path, &before, &summary.recorded, &inventory);
    Ok(summary)
}

struct Merging<'a> {
    options: &'a CaptureOptions,
    inventory: Inventory,
    summary: Summary,
}

impl Merging<'_> {
    /// Merges one journal and gives the number of its exchanges.
    fn add(&mut self, journal: &Journal, unrecorded: Vec<Omission>, prune: bool) -> Result<usize, CaptureError> {
        let exchanges = journal.exchanges()?;
        let count = exchanges.len();
        let Assembled { entries, mut left_out } = assemble(exchanges, &self.inventory);
        left_out.extend(unrecorded);
        let mut kept = Vec::new();
        for (mut entry, body) in entries {
            match body.map(|body| keep(self.options, &body, &mut entry)).transpose() {
                Ok(_) => kept.push(entry),
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
}

/// Why a body has not got its place.
enum Unkept {
    /// Its bytes are not there any more; there is no use in trying again.
    Gone(String),
    /// They are there, and another try can be better.
    Failed(CaptureError),
}

/// Puts a body where its entry says that it is, and completes what the entry says.
fn keep(options: &CaptureOptions, body: &StoredBody, entry: &mut Entry) -> Result<(), Unkept> {
    let kept = match body.place {
        Place::Store => store(options, body),
        Place::Beside => {
            let folder = BodiesFolder::of(&options.inventory);
            if let Some(Source::File(file)) = entry.body.as_mut().map(|body| &mut body.source) {
                *file = format!("{}/{file}", folder.name);
            }
            write_beside(&folder, body)
        }
    };
    kept.map_err(|error| match &body.bytes {
        RecordedBytes::Spooled(file) if !file.exists() => Unkept::Gone(format!("its bytes are gone: {error}")),
        _ => Unkept::Failed(error),
    })
}

fn store(options: &CaptureOptions, body: &StoredBody) -> Result<(), CaptureError> {
    match &body.bytes {
        RecordedBytes::Inline(bytes) => options.store.insert_bytes(bytes, &body.name)?,
        RecordedBytes::Spooled(file) => options.store.adopt(file, &body.hash, body.size, &body.name)?,
    };
    Ok(())
}

fn write_beside(folder: &BodiesFolder, body: &StoredBody) -> Result<(), CaptureError> {
    let name = body.name.as_str();
    let put = match &body.bytes {
        RecordedBytes::Inline(bytes) => folder.put(name, &mut bytes.as_slice()),
        RecordedBytes::Spooled(file) => File::open(file).and_then(|mut spooled| folder.put(name, &mut spooled)),
    };
    put.map_err(|source| CaptureError::Write { path: folder.path.join(name), source })
}

/// Removes files beside the inventory that only replaced entries referred to, or that this capture wrote in vain.
fn remove_unused_files(path: &Path, before: &Inventory, recorded: &[Entry], now: &Inventory) {
    let files = |entries: &[Entry]| -> Vec<String> {
        let bodies = entries.iter().filter_map(|entry| entry.body.as_ref());
        bodies
            .filter_map(|body| if let Source::File(file) = &body.source { Some(file.clone()) } else { None })
            .collect()
    };
    let folder = BodiesFolder::of(path);
    let used = files(&now.entries);
    for file in files(&before.entries).into_iter().chain(files(recorded)) {
        let ours = file.strip_prefix(&folder.name).and_then(|rest| rest.strip_prefix('/'));
        let is_ours = ours.is_some_and(|name| !name.contains('/') && name != "..");
        if is_ours && !used.contains(&file) {
            // A file that stays is no harm: nothing refers to it.
            let _ = fs::remove_file(folder.path.join(ours.unwrap_or_default()));
        }
    }
}

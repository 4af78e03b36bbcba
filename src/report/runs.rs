//! What the last capture and the last replay of an inventory left for the page: `.buildproxy/NAME.capture.json` and
//! `.buildproxy/NAME.replay.json`.
//!
//! They are conveniences that git does not see. Nothing is written where there is no `.buildproxy/` yet: in a sandbox, for
//! one, the inventory's folder is no place to write to.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    capture::{FOLDER, Timeline},
    inventory,
    replay::Report,
};

/// What a run left.
#[derive(Debug, Default, Deserialize)]
pub struct LastRuns {
    /// The times of the last capture.
    pub capture: Option<Timeline>,
    /// The report of the last replay.
    pub replay: Option<Value>,
}

impl LastRuns {
    /// Of the inventory at `path`. What is not there, or is of another version, is left out.
    pub fn of(path: &Path) -> Self {
        Self { capture: read(path, "capture"), replay: read(path, "replay") }
    }
}

/// Keeps the times of a capture of the inventory at `path`.
///
/// # Errors
/// Where the file cannot be written.
pub fn keep_capture(path: &Path, timeline: &Timeline) -> io::Result<()> {
    keep(path, "capture", timeline)
}

/// Keeps the report of a replay of the inventory at `path`.
///
/// # Errors
/// Where the file cannot be written.
pub fn keep_replay(path: &Path, report: &Report) -> io::Result<()> {
    keep(path, "replay", report)
}

/// Whether there is a place for what a run of the inventory at `path` leaves.
pub fn has_place(path: &Path) -> bool {
    place(path, "replay").is_some()
}

/// Where a run leaves what it has to say, where there is a folder for it.
fn place(inventory: &Path, run: &str) -> Option<PathBuf> {
    let folder = inventory.parent()?.join(FOLDER);
    let name = inventory.file_name()?.to_str()?;
    folder.is_dir().then(|| folder.join(format!("{name}.{run}.json")))
}

fn keep(inventory: &Path, run: &str, value: &impl Serialize) -> io::Result<()> {
    match place(inventory, run) {
        Some(place) => inventory::write_atomically(&place, &mut serde_json::to_vec(value)?.as_slice()),
        None => Ok(()),
    }
}

fn read<T: DeserializeOwned>(inventory: &Path, run: &str) -> Option<T> {
    let place = place(inventory, run)?;
    let bytes = fs::read(&place).ok()?;
    serde_json::from_slice(&bytes).inspect_err(|error| tracing::warn!("{}: {error}", place.display())).ok()
}

//! `buildproxy move`.

use std::path::PathBuf;

use globset::GlobBuilder;

use super::{Common, DONE, FAILED, FOUND, USAGE, bars::Bar, block_on, kept, no_glob, output};
use crate::{
    beside,
    capture::{FolderLock, JournalFolder},
    fetch,
    inventory::{BodyFiles, Entry, Inventory},
    relocate::{self, Move, Obstacle, Place, Target},
};

/// Give bodies another source, without touching their hashes
#[derive(clap::Args)]
#[command(after_help = "Examples:
  buildproxy move --to file 'https://a.example/nightly/*'     keep what changes
  buildproxy move --to store-path 'https://a.example/*.pack'  keep it out of git
  buildproxy move --to fetch 'https://a.example/foo.tar.gz'   asks the origin

All of them or none: where the bytes of one body cannot be found, or an origin gives others, nothing is changed, and \
the exit code is 1. Files beside the inventory that nothing needs any more are removed. What was changed is printed as \
a diff.")]
pub struct Relocate {
    /// The new source
    #[arg(long, value_name = "SOURCE", value_enum)]
    to: Target,
    /// Print what would be changed, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print what is moved, or why it cannot be, as JSON on stdout
    #[arg(long)]
    json: bool,
    /// Globs of the URLs of entries; `*` stands for any text
    #[arg(required = true, value_name = "URL-GLOB")]
    urls: Vec<String>,
}

/// An inventory that is about to be changed, and what keeps others from doing that meanwhile.
pub struct Editing {
    pub path: PathBuf,
    pub inventory: Inventory,
    pub files: BodyFiles,
    folder: JournalFolder,
    lock: FolderLock,
}

impl Editing {
    /// Reads the inventory, which has to be TOML.
    pub fn start(common: &Common) -> Result<Self, u8> {
        let path = common.inventory_file();
        // First without the lock, whose folder is not to be made beside what is no inventory.
        common.read_toml()?;
        let folder = JournalFolder::create(&path);
        let (lock, folder) = folder.and_then(|folder| Ok((folder.lock()?, folder))).map_err(|error| {
            output::error(&error);
            FAILED
        })?;
        Ok(Self { inventory: common.read_toml()?, files: common.body_files(), path, folder, lock })
    }

    /// Carries out `moves` in `changed`, which is the inventory or what has become of it. Gives all that is changed, as a diff.
    pub fn apply(&self, changed: &Inventory, moves: &[Move], common: &Common) -> Result<String, u8> {
        let place = Place { path: &self.path, files: &self.files, folder: &self.folder, lock: &self.lock };
        let (now, warning) = relocate::apply(changed, moves, &place).map_err(|error| {
            output::error(&error);
            if common.read_inventory().is_ok_and(|there| there == self.inventory) {
                output::hint("nothing was changed");
            }
            FAILED
        })?;
        if !common.quiet {
            warning.iter().for_each(output::warning);
            let moved: Vec<Entry> = moves.iter().filter_map(|one| now.entries.get(one.entry).cloned()).collect();
            kept::large(&moved, beside::bytes(&now)).into_iter().for_each(output::warning);
        }
        Ok(relocate::diff(&self.inventory, &now))
    }
}

impl Relocate {
    pub fn run(self, common: &Common) -> u8 {
        self.try_run(common).unwrap_or_else(|code| code)
    }

    fn try_run(self, common: &Common) -> Result<u8, u8> {
        let editing = Editing::start(common)?;
        let picked = pick(&editing.inventory, &self.urls)?;
        let planned = relocate::plan(&editing.inventory, &editing.path, &picked, self.to, &editing.files);
        let (moves, obstacles): (Vec<_>, Vec<_>) = planned.into_iter().partition(Result::is_ok);
        let moves: Vec<Move> = moves.into_iter().flatten().collect();
        let mut obstacles: Vec<Obstacle> = obstacles.into_iter().filter_map(Result::err).collect();
        if obstacles.is_empty() {
            obstacles = ask(&moves, common)?;
        }
        if !obstacles.is_empty() {
            self.report(&[], &obstacles, String::new);
            obstacles.iter().for_each(|obstacle| output::error(obstacle));
            output::hint("nothing was changed");
            return Ok(FOUND);
        }
        let dry = || moves.iter().map(|one| format!("{} -> {}\n", one.url, one.target())).collect();
        match self.dry_run {
            true => self.report(&moves, &[], dry),
            false => {
                let diff = editing.apply(&editing.inventory, &moves, common)?;
                self.report(&moves, &[], || diff);
            }
        }
        if !common.quiet {
            let verb = if self.dry_run { "would move" } else { "moved" };
            let bodies = output::count(moves.len(), "body", "bodies");
            output::done(verb, format!("{bodies} to {}", self.to));
        }
        Ok(DONE)
    }
}

impl Relocate {
    /// What is moved and what is in the way, as data; without `--json` the text that `lines` makes.
    fn report(&self, moves: &[Move], obstacles: &[Obstacle], lines: impl FnOnce() -> String) {
        if !self.json {
            return output::data(&lines());
        }
        let moved = |one: &Move| serde_json::json!({ "entry": one.entry, "url": one.url, "from": one.from(), "to": one.target() });
        let moves: Vec<_> = moves.iter().map(moved).collect();
        output::json(&serde_json::json!({ "moves": moves, "obstacles": obstacles, "dry-run": self.dry_run }));
    }
}

/// The entries with a body whose URL one of `globs` matches; each has to match one.
fn pick(inventory: &Inventory, globs: &[String]) -> Result<Vec<usize>, u8> {
    let mut picked = Vec::new();
    for pattern in globs {
        let matcher = GlobBuilder::new(pattern).build().map_err(|error| no_glob("URL-GLOB", &error))?;
        let matcher = matcher.compile_matcher();
        let entries = inventory.entries.iter().enumerate();
        let matching = entries.filter(|(_, entry)| entry.body.is_some() && matcher.is_match(entry.url.as_str()));
        let before = picked.len();
        picked.extend(matching.map(|(index, _)| index));
        if picked.len() == before {
            output::error(&format!("no entry with a body has a URL that `{pattern}` matches"));
            output::hint("`buildproxy paths` lists the URLs");
            return Err(USAGE);
        }
    }
    picked.sort_unstable();
    picked.dedup();
    Ok(picked)
}

/// Asks the origins of what is to be fetched; gives what they do not give.
fn ask(moves: &[Move], common: &Common) -> Result<Vec<Obstacle>, u8> {
    let wanted: Vec<_> = moves.iter().filter_map(|one| one.wanted.clone()).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let origin = super::fetch::anonymous_origin()?;
    let total = wanted.iter().map(|one| one.size).sum();
    let progress = Bar::new("asking", Some(total), common.quiet);
    let asked = block_on(async { Ok(fetch::check(wanted, &origin, progress.counter()).await) })?;
    drop(progress);
    let failed = asked.into_iter().filter_map(|(wanted, result)| Some((wanted.url, result.err()?)));
    Ok(failed
        .map(|(url, error)| {
            let text = error.to_string();
            let reason = text.strip_prefix(&format!("{url}: ")).unwrap_or(&text).to_owned();
            Obstacle { url, reason }
        })
        .collect())
}

//! What is on disk when the power goes: the order in which files and folders are written, synced, renamed and removed,
//! read from the system calls of each command that writes an inventory.
//!
//! A file system keeps, after a power cut, what was synced; of the rest anything can be there or not. So a file is safe
//! when it was synced after its last write, and its name when its folder was.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
    process::Command,
};

use crate::{
    calls,
    commands::Scenario,
    common::{Awkward, Workdir},
    shows,
    state::{copied, with_inventory},
    strace::changes,
};

/// What is not safe yet.
struct Unsafe {
    root: PathBuf,
    cwd: PathBuf,
    /// Files that were written and not synced.
    contents: BTreeSet<PathBuf>,
    /// Names that were given or taken away, in folders that were not synced.
    names: BTreeSet<PathBuf>,
}

/// What a line of strace names: strings, and the paths of descriptors.
fn operands(line: &str) -> (Vec<String>, Vec<PathBuf>) {
    let line = line.replace(r"\\", "").replace("\\\"", "");
    let strings = line.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    let outside: String = line.split('"').step_by(2).collect();
    let paths = outside.split('<').skip(1).filter_map(|rest| rest.split('>').next());
    (strings, paths.filter(|path| path.starts_with('/')).map(PathBuf::from).collect())
}

impl Unsafe {
    fn resolved(&self, path: &str) -> PathBuf {
        let mut resolved = PathBuf::new();
        for part in self.cwd.join(path).components() {
            match part {
                Component::ParentDir => drop(resolved.pop()),
                Component::CurDir => {}
                part => resolved.push(part),
            }
        }
        resolved
    }

    /// Whether anybody misses it: what starts with a dot is temporary, or no data.
    fn is_data(&self, path: &Path) -> bool {
        let below = path.strip_prefix(&self.root).ok().filter(|below| !below.starts_with("tmp"));
        below.is_some_and(|below| !below.iter().any(|part| part.to_str().unwrap().starts_with('.')))
    }

    fn data(&self) -> Vec<&PathBuf> {
        self.contents.iter().chain(&self.names).filter(|path| self.is_data(path)).collect()
    }

    fn inventory(&self) -> PathBuf {
        self.cwd.join("inventory.toml")
    }

    /// Follows a call; says what is wrong with its being done now.
    fn follow(&mut self, name: &str, line: &str) -> Result<(), String> {
        if line.contains(" = -1 ") {
            return Ok(());
        }
        let (strings, paths) = operands(line);
        match name {
            "openat" => drop(self.names.insert(paths.last().unwrap().clone())),
            "write" | "writev" | "pwrite64" | "sendfile" => drop(self.contents.insert(paths[0].clone())),
            "copy_file_range" | "splice" => drop(self.contents.insert(paths[1].clone())),
            "fsync" | "fdatasync" => {
                self.contents.remove(&paths[0]);
                self.names.retain(|path| path.parent() != Some(&paths[0]));
            }
            "mkdir" => drop(self.names.insert(self.resolved(&strings[0]))),
            "rename" | "renameat" | "renameat2" => {
                let (from, to) = (self.resolved(&strings[0]), self.resolved(&strings[1]));
                let was_written = self.contents.remove(&from);
                if self.is_data(&to) && was_written {
                    return Err(format!("{} gets its name before it is synced", to.display()));
                }
                self.names.remove(&from);
                if to == self.inventory() {
                    // That of a new folder is synced together with the inventory's.
                    let bodies = self.cwd.join("inventory.bodies");
                    if let Some(path) = self.data().into_iter().find(|path| **path != bodies) {
                        return Err(format!("the inventory is replaced before {} is safe", path.display()));
                    }
                }
                self.names.insert(to);
            }
            "unlink" | "unlinkat" => {
                let path = paths.first().filter(|_| name == "unlinkat").unwrap_or(&self.cwd).join(&strings[0]);
                let path = self.resolved(path.to_str().unwrap());
                let is_journal = path.file_name().unwrap().to_str().unwrap().starts_with("journal-");
                if let Some(needed) = self.data().first().filter(|_| is_journal || self.is_data(&path)) {
                    return Err(format!("{} is removed before {} is safe", path.display(), needed.display()));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// How many calls `command` made in `work`, each of them at a time when a power cut would have done no harm.
fn checked(work: &Workdir, command: &Command) -> usize {
    let root = work.root().to_owned();
    let calls = changes(command, &root);
    let (contents, names) = (BTreeSet::new(), BTreeSet::new());
    let mut now = Unsafe { cwd: root.join("work"), root, contents, names };
    for (step, ((name, _), line)) in calls.iter().enumerate() {
        if let Err(reason) = now.follow(name, line) {
            let before: Vec<&str> = calls[..=step].iter().rev().take(12).map(|(_, line)| line.as_str()).collect();
            panic!("{reason}; the last calls, backwards:\n{}", before.join("\n"));
        }
    }
    assert!(now.data().is_empty(), "{command:?} ends before {:?} is safe", now.data());
    assert!(calls.iter().any(|((name, _), _)| name.starts_with("rename")), "{command:?} wrote something");
    calls.len()
}

#[test]
fn a_power_cut_at_any_moment_finds_an_inventory_whose_bodies_are_on_disk() {
    let origin = Awkward::start();
    let work = copied(&with_inventory(&origin));
    let mut figures = vec![format!("`capture`: {}", checked(&work, &calls::capture(&work, &origin)))];
    let first = Workdir::new();
    figures.push(format!("the first `capture`: {}", checked(&first, &calls::capture(&first, &origin))));
    for scenario in [
        Scenario::new("rm -r \"$store\"", &["fetch"]),
        Scenario::apart(&["merge", "other/inventory.toml"]),
        Scenario::exported(&["import", "all.har"]),
        Scenario::new("", &["move", "--to", "file", "ORIGIN/plain/large*"]),
        Scenario::new("bp move --to file '*/plain/large*'", &["move", "--to", "store-path", "ORIGIN/plain/large*"]),
        Scenario::new("", &["verify", "--refetch", "--fix"]),
    ] {
        if scenario.name() == "fetch" {
            // It needs nothing that the origin has no more.
            let text = String::from_utf8(scenario.before.read("inventory.toml")).unwrap();
            let entries = text.split("\n[[entry]]").filter(|entry| !entry.contains("/once/"));
            scenario.before.write("inventory.toml", entries.collect::<Vec<_>>().join("\n[[entry]]"));
        }
        let work = copied(&scenario.before);
        figures.push(format!("`{}`: {}", scenario.name(), checked(&work, &scenario.command(&work))));
    }
    shows!(
        Capture,
        "the system calls of every command that writes (strace): what is not synced is not needed yet, at each of them",
        "calls checked: {}",
        figures.join(", ")
    );
}

//! `buildproxy merge`.

use std::path::{Path, PathBuf};

use super::{Common, DONE, FAILED, FOUND, USAGE, describe, is_same_file, kept, output, real_file};
use crate::{
    beside::{self, BesideFolder, Moving},
    capture::{FolderLock, JournalFolder},
    inventory::{self, Conflict, Entry, FileForm, Input, Inventory, United, toml_of_rules, unite},
    text::printable,
};

/// Unite inventories, such as the captures of several systems, into one
#[derive(clap::Args)]
#[command(after_help = "Examples:
  buildproxy merge x86_64-linux=pc.toml aarch64-linux=board.toml -o both.toml
  buildproxy merge x86_64-linux,aarch64-linux=both.toml riscv64-linux=new.toml
  buildproxy merge theirs.toml

Without -o the result goes to the inventory (-i), which takes part if it is there; a file named with -o is replaced. \
What all systems are answered alike becomes one entry for all; the rest is for the systems that it was captured on. \
Where the same system is answered in different ways, both sides are shown and nothing is written (exit code 1). Bodies \
that lie beside the inventories come along. A name with a `=` in it can be given as ./NAME.")]
pub struct Merge {
    /// The inventories, each with the systems that it was captured on; without, its entries are for those that they
    /// name, or all
    #[arg(value_name = "[SYSTEM,…=]FILE", required = true, value_parser = parse)]
    files: Vec<Given>,
    /// Where the result goes [default: the inventory, `-i`]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where they contradict each other, take what this one of the files says; of several, the first that says something
    #[arg(long, value_name = "FILE")]
    prefer: Vec<PathBuf>,
}

/// One file, with the systems that it is for.
#[derive(Debug, Clone, PartialEq)]
struct Given {
    systems: Vec<String>,
    path: PathBuf,
}

// Clap wants a result.
#[allow(clippy::unnecessary_wraps)]
fn parse(text: &str) -> Result<Given, String> {
    let is_system = |text: &str| {
        let is_part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        text.split_once('-').is_some_and(|(machine, system)| is_part(machine) && is_part(system))
    };
    let labelled = text.split_once('=').filter(|(systems, _)| systems.split(',').all(is_system));
    Ok(match labelled {
        Some((systems, path)) => Given { systems: systems.split(',').map(str::to_owned).collect(), path: path.into() },
        None => Given { systems: Vec::new(), path: text.into() },
    })
}

impl Merge {
    pub fn run(self, common: &Common) -> u8 {
        self.try_run(common).unwrap_or_else(|code| code)
    }

    fn try_run(mut self, common: &Common) -> Result<u8, u8> {
        let target = self.output.clone().unwrap_or_else(|| common.inventory.clone());
        let is_named = self.files.iter().any(|given| is_same_file(&given.path, &target));
        if self.output.is_none() && target.exists() && !is_named {
            self.files.insert(0, Given { systems: Vec::new(), path: target.clone() });
        }
        if target.exists() && !target.is_file() {
            output::error(&format!("{} is no file, and an inventory has its bodies beside it", target.display()));
            output::hint("name a file with `-o`");
            return Err(USAGE);
        }
        let form = inventory::read_with_form(&target).ok().map(|(_, form)| form);
        if form.is_some_and(|form| form != FileForm::Toml) {
            output::error(&format!("{} is no TOML, and inventories are written as TOML", target.display()));
            output::hint("name another file with `-o`");
            return Err(USAGE);
        }
        // What a capture writes between the reading and the writing would be lost.
        let takes_part = self.files.iter().any(|given| is_same_file(&given.path, &target));
        let _lock = (takes_part && form.is_some()).then(|| lock(&target)).transpose()?;
        let inputs = self.files.iter().map(read).collect::<Result<Vec<Input>, u8>>()?;
        let united = unite(&inputs, &self.preferred()?).map_err(|conflicts| {
            conflicts.iter().for_each(|conflict| say_conflict(conflict, &inputs));
            hint(&conflicts, &inputs);
            FOUND
        })?;
        self.write(united, &target, common)
    }

    /// The numbers of the inputs that count in a conflict.
    fn preferred(&self) -> Result<Vec<usize>, u8> {
        let number = |preferred: &PathBuf| {
            let is_it = |given: &Given| given.path == *preferred || is_same_file(&given.path, preferred);
            self.files.iter().position(is_it).ok_or_else(|| {
                output::error(&format!("--prefer {}: it is none of the files that are merged", preferred.display()));
                output::hint("name it as it is named among them");
                USAGE
            })
        };
        self.prefer.iter().map(number).collect()
    }

    fn write(&self, united: United, target: &Path, common: &Common) -> Result<u8, u8> {
        // What belongs beside the inventory is beside the file, not beside a link to it.
        let real = real_file(target);
        let United { match_rules, entries: united, narrowed } = united;
        let mut moving = Moving::into(BesideFolder::of(&real));
        let (mut entries, mut brought): (Vec<Entry>, Vec<Entry>) = (Vec::new(), Vec::new());
        for (input, mut entry) in united {
            let from = &self.files[input].path;
            let is_own = is_same_file(from, &real);
            if let Some(body) = entry.body.as_mut().filter(|_| !is_own) {
                moving.add(body, &common.body_files_of(from)).map_err(|error| {
                    output::error(&format!("{}: {error}", describe::request(&entry)));
                    FOUND
                })?;
            }
            brought.extend((!is_own).then(|| entry.clone()));
            entries.push(entry);
        }
        moving.copy().map_err(|error| {
            output::error(&error);
            FAILED
        })?;
        let united = Inventory { match_rules, entries };
        inventory::write(&united, &real).map_err(|error| {
            output::error(&format!("cannot write {}: {error}", target.display()));
            FAILED
        })?;
        if !common.quiet {
            self.report(&united, &narrowed, target);
            kept::large(&brought, beside::bytes(&united)).into_iter().for_each(output::warning);
        }
        Ok(DONE)
    }

    fn report(&self, united: &Inventory, narrowed: &[String], target: &Path) {
        for request in narrowed {
            output::warning(printable(&format!(
                "{request}: one answer was for all systems, and is now for those that are named alone"
            )));
        }
        let for_all = united.entries.iter().filter(|entry| entry.systems.is_empty()).count();
        let inventories = output::count(self.files.len(), "inventory", "inventories");
        let entries = output::count(for_all, "entry", "entries");
        let for_some = united.entries.len() - for_all;
        output::done("merged", format!("{inventories}: {entries} for all systems, {for_some} for some"));
        let entries = output::count(united.entries.len(), "entry", "entries");
        output::done("wrote", format!("{} ({entries})", target.display()));
    }
}

/// Keeps captures from writing to the inventory at `path` between its being read and written.
fn lock(path: &Path) -> Result<FolderLock, u8> {
    let locked = JournalFolder::create(&real_file(path)).and_then(|folder| folder.lock());
    locked.map_err(|error| {
        output::error(&error);
        FAILED
    })
}

fn read(given: &Given) -> Result<Input, u8> {
    let inventory = inventory::read(&given.path).map_err(|error| {
        output::error(&error);
        USAGE
    })?;
    Ok(Input { name: given.path.display().to_string(), systems: given.systems.clone(), inventory })
}

/// What contradicts what, with both sides.
fn say_conflict(conflict: &Conflict, inputs: &[Input]) {
    let on = match &conflict.systems[..] {
        [] => String::new(),
        systems => format!(" on {}", systems.join(" and ")),
    };
    let mut lines = format!("they differ on {}{on}", printable(&conflict.about));
    for side in &conflict.sides {
        let name = &inputs[side.input].name;
        for answer in &side.answers {
            lines.push_str(&format!("\n  {}: {}", printable(name), describe::answer(answer)));
        }
        if side.answers.is_empty() {
            lines.push_str(&format!("\n  {}:", printable(name)));
            let rules = toml_of_rules(&side.rules);
            rules.lines().skip(1).for_each(|line| lines.push_str(&format!("\n    {}", printable(line))));
        }
    }
    output::error(&lines);
}

fn hint(conflicts: &[Conflict], inputs: &[Input]) {
    let mut ways = Vec::new();
    if inputs.iter().any(|input| input.systems.is_empty())
        && conflicts.iter().any(|one| !one.sides[0].answers.is_empty())
    {
        ways.push("say which system each was captured on: `buildproxy merge x86_64-linux=A aarch64-linux=B`");
    }
    if conflicts.iter().any(|conflict| conflict.can_choose) {
        ways.push("choose one with `--prefer FILE`, which can be given several times");
    }
    if conflicts.iter().any(|conflict| !conflict.can_choose) {
        ways.push("write the rules into both inventories, and keep one answer for what they make the same");
    }
    output::hint(&ways.join(", or "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_are_told_from_names_of_files() {
        let given = |systems: &[&str], path: &str| Given {
            systems: systems.iter().map(|&system| system.to_owned()).collect(),
            path: path.into(),
        };
        assert_eq!(parse("x86_64-linux=a=b.toml").unwrap(), given(&["x86_64-linux"], "a=b.toml"));
        let two = given(&["x86_64-linux", "aarch64-darwin"], "a.toml");
        assert_eq!(parse("x86_64-linux,aarch64-darwin=a.toml").unwrap(), two);
        for path in ["a.toml", "a=b.toml", "./x86_64-linux=a.toml", "a-b-c=d", "-=x"] {
            assert_eq!(parse(path).unwrap(), given(&[], path));
        }
    }
}

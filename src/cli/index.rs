//! `buildproxy index`.

use std::{io::Write, path::PathBuf};

use super::{Common, DONE, FAILED, USAGE, is_same_file, output};
use crate::inventory::{self, FileForm, current_system};

/// Compile an inventory, so that `replay` starts at once however large it is
#[derive(clap::Args)]
#[command(after_help = "Example:
  buildproxy index -i inventory.toml -o inventory.index
  buildproxy replay -i inventory.index -- cmake -B build

Every command reads it in place of the inventory, which stays the truth: make it anew when that has changed. Bodies \
that are kept beside the inventory are looked for beside the compiled one.")]
pub struct Compile {
    /// Where the compiled inventory goes
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The Nix system that it is for, if not this one; on others replay works, and starts as from TOML
    #[arg(long, value_name = "SYSTEM")]
    system: Option<String>,
}

impl Compile {
    pub fn run(self, common: &Common) -> u8 {
        self.try_run(common).unwrap_or_else(|code| code)
    }

    fn try_run(self, common: &Common) -> Result<u8, u8> {
        let system = self.system.unwrap_or_else(current_system);
        let index = common.open_index(&system)?;
        let is_compiled = || matches!(inventory::read_with_form(&common.inventory), Ok((_, FileForm::Compiled)));
        if is_same_file(&self.output, &common.inventory) && !is_compiled() {
            common.spare_the_inventory(&self.output)?;
        }
        let compiled = index.compile().map_err(|error| {
            output::error(&format!("{}: {error}", common.inventory.display()));
            USAGE
        })?;
        inventory::write_output(&self.output, |mut file| file.write_all(&compiled)).map_err(|error| {
            output::error(&format!("cannot write {}: {error}", self.output.display()));
            FAILED
        })?;
        if !common.quiet {
            let entries = output::count(index.inventory_len(), "entry", "entries");
            output::done("wrote", format!("{} ({entries}, for {system})", self.output.display()));
        }
        Ok(DONE)
    }
}

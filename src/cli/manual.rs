//! `buildproxy man`: the manual pages, made from the program's arguments, for packages to install.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Command, CommandFactory};
use clap_mangen::roff::{Roff, roman};

use super::{Cli, DONE, FAILED, output};

/// Write the manual pages, one for each command
#[derive(clap::Args)]
pub struct Man {
    /// The folder that they go into
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Man {
    pub fn run(self) -> u8 {
        let mut command = Cli::command().disable_help_subcommand(true);
        command.build();
        match pages(&command, &self.dir) {
            Ok(()) => DONE,
            Err(error) => {
                output::error(&format!("cannot write the manual pages into {}: {error}", self.dir.display()));
                FAILED
            }
        }
    }
}

/// The page of `command`, and those of its own commands.
fn pages(command: &Command, dir: &Path) -> io::Result<()> {
    let page = clap_mangen::Man::new(command.clone());
    fs::write(dir.join(page.get_filename()), text(command, &page)?)?;
    let mut shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    shown.try_for_each(|command| pages(command, dir))
}

/// What the help has at its end is part of the description, and examples have a section of their own, in which every line
/// stays one.
fn text(command: &Command, page: &clap_mangen::Man) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    let (mut prose, mut examples) = (Roff::new(), Roff::new());
    for block in blocks(command) {
        if !is_example(&block) {
            prose.control("PP", []).text([roman(block)]);
            continue;
        }
        // Not as far in as text is: lines of eighty columns stay whole in a terminal of eighty.
        examples.control("SH", ["EXAMPLES"]).control("nf", []).control("in", ["2"]);
        for line in block.lines().filter_map(|line| line.strip_prefix("  ")) {
            examples.text([roman(line)]);
        }
        examples.control("in", []).control("fi", []);
    }
    prose.to_writer(&mut text)?;
    page.render_options_section(&mut text)?;
    if command.has_subcommands() {
        page.render_subcommands_section(&mut text)?;
    }
    examples.to_writer(&mut text)?;
    page.render_version_section(&mut text)?;
    Ok(text)
}

/// What stands at the end of the help of `command`: examples, and paragraphs.
pub fn blocks(command: &Command) -> Vec<String> {
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    after.trim_end().split("\n\n").filter(|block| !block.is_empty()).map(ToOwned::to_owned).collect()
}

/// Whether such a part has lines that are to stay as they are.
pub fn is_example(block: &str) -> bool {
    block.lines().any(|line| line.starts_with("  "))
}

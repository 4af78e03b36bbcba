//! `buildproxy completions` and `buildproxy man`: what packages install beside the program, made from its arguments.

use std::{
    io,
    path::{Path, PathBuf},
};

use clap::{Command, CommandFactory, ValueEnum};
use clap_complete::{Generator, Shell, generate};
use clap_complete_nushell::Nushell;

use super::{Cli, DONE, FAILED, output};

/// Print the completions of a shell
#[derive(clap::Args)]
#[command(after_help = "Examples:
  source <(buildproxy completions bash)
  buildproxy completions zsh >\"${fpath[1]}/_buildproxy\"
  buildproxy completions fish >~/.config/fish/completions/buildproxy.fish
  buildproxy completions nushell | save -f ($nu.data-dir | path join vendor autoload buildproxy.nu)

The Nix package has them, and the manual pages, installed already.")]
pub struct Completions {
    /// The shell
    shell: Completed,
}

/// The shells that there are completions for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Completed {
    Bash,
    Elvish,
    Fish,
    Nushell,
    Powershell,
    Zsh,
}

impl Completions {
    pub fn run(self) -> u8 {
        let shell = match self.shell {
            Completed::Nushell => return print(Nushell),
            Completed::Bash => Shell::Bash,
            Completed::Elvish => Shell::Elvish,
            Completed::Fish => Shell::Fish,
            Completed::Powershell => Shell::PowerShell,
            Completed::Zsh => Shell::Zsh,
        };
        print(shell)
    }
}

fn print(generator: impl Generator) -> u8 {
    let mut script = Vec::new();
    generate(generator, &mut Cli::command(), "buildproxy", &mut script);
    output::data(&String::from_utf8_lossy(&script));
    DONE
}

/// Write the manual pages, one for each command
#[derive(clap::Args)]
pub struct Man {
    /// The folder that they go into
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Man {
    pub fn run(self) -> u8 {
        let mut command = Cli::command();
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
    clap_mangen::Man::new(command.clone()).generate_to(dir)?;
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
    shown.into_iter().try_for_each(|command| pages(command, dir))
}

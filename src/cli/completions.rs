//! `buildproxy completions`, made from the program's arguments.

use clap::{Arg, Command, CommandFactory, ValueEnum, ValueHint};
use clap_complete::{Generator, Shell, generate};
use clap_complete_nushell::Nushell;

use super::{Cli, DONE, output};

/// Print the completions of a shell
#[derive(clap::Args)]
#[command(after_help = "Examples:
  source <(buildproxy completions bash)                     in ~/.bashrc
  source <(buildproxy completions zsh)                      in ~/.zshrc, last
  buildproxy completions fish >~/.config/fish/completions/buildproxy.fish
  eval (buildproxy completions elvish | slurp)              in elvish's rc.elv
  buildproxy completions nushell | save -f completions.nu   then `source` it

The Nix package has them installed already, and the manual pages: bash (with its package bash-completion), zsh, fish and \
nushell find them by themselves; elvish by `use buildproxy` in its rc.elv.")]
pub struct Completions {
    /// The shell
    shell: Completed,
}

/// What bash completes after `--`, which what is generated leaves out.
const COMMANDS_IN_BASH: &str = include_str!("completions.bash");
/// The same for elvish, and values.
const VALUES_IN_ELVISH: &str = include_str!("completions.elv");
/// The same for fish. What zsh is given does it by itself.
const COMMANDS_IN_FISH: &str = include_str!("completions.fish");

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
        output::data(&match self.shell {
            Completed::Bash => made_by(Shell::Bash) + COMMANDS_IN_BASH,
            Completed::Elvish => {
                made_by(Shell::Elvish) + &values_in_elvish(&offered(&Cli::command())) + VALUES_IN_ELVISH
            }
            Completed::Fish => made_by(Shell::Fish) + COMMANDS_IN_FISH,
            Completed::Nushell => made_by(Nushell),
            Completed::Powershell => made_by(Shell::PowerShell),
            Completed::Zsh => made_by(Shell::Zsh),
        });
        DONE
    }
}

fn made_by(generator: impl Generator) -> String {
    let mut script = Vec::new();
    generate(generator, &mut offered(&Cli::command()), "buildproxy", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// `command` without what is hidden, which the generators do not leave out, and with what shells complete values by.
fn offered(command: &Command) -> Command {
    let arguments = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    let mut offered = Command::new(command.get_name().to_owned()).version(env!("CARGO_PKG_VERSION"));
    if let Some(about) = command.get_about() {
        offered = offered.about(about.clone());
    }
    offered.args(arguments.cloned().map(hinted)).subcommands(shown.map(self::offered))
}

/// The name that a value has in the help says what it is. Where that is neither a file nor a folder, names of files would
/// only be in the way.
fn hinted(argument: Arg) -> Arg {
    let name = argument.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    let hint = match name {
        "DIR" => ValueHint::DirPath,
        "CMD" => ValueHint::CommandWithArguments,
        _ if name.ends_with("FILE") || matches!(name, "A" | "B") => ValueHint::FilePath,
        _ => ValueHint::Other,
    };
    if argument.get_action().takes_values() { argument.value_hint(hint) } else { argument }
}

/// The values of the options that have a list of them, by command and option, as a map of elvish.
fn values_in_elvish(all: &Command) -> String {
    let mut pairs = String::new();
    for command in all.get_subcommands() {
        for argument in command.get_arguments().filter(|argument| argument.get_action().takes_values()) {
            let values: Vec<_> =
                argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
            if !values.is_empty() {
                // One without a name stands behind the command.
                let before = argument.get_long().map_or(command.get_name().to_owned(), |long| format!("--{long}"));
                pairs += &format!(" &'{} {before}'=[{}]", command.get_name(), values.join(" "));
            }
        }
    }
    format!("var buildproxy-values = [{pairs}]\n")
}

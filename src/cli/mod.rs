//! The command line: one file a subcommand, with its arguments and its printing.
//!
//! stdout is data, stderr is everything else.

mod background;
mod bars;
mod capture;
mod child;
mod completions;
mod describe;
mod diff;
mod doctor;
#[cfg(test)]
mod documentation;
mod env;
mod export;
mod fetch;
mod import;
mod index;
mod isolation;
mod kept;
mod listen;
mod logging;
mod manual;
mod merge;
mod output;
mod page;
mod paths;
mod progress;
mod push;
mod refetch;
mod relocate;
mod replay;
mod report;
mod signals;
mod usage;
mod verify;

use std::{
    io, panic,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{
    Args, Parser, Subcommand,
    builder::{OsStr, Resettable},
};
use tokio::runtime::Runtime;

use self::logging::LogFormat;
use crate::{
    inventory::{
        self, BodyFiles, FileForm, Inventory,
        index::{Index, IndexError},
    },
    store::Stores,
    text::printable,
};

/// The command did what it should.
const DONE: u8 = 0;
/// A check found something.
const FOUND: u8 = 1;
/// Bad usage or an unreadable inventory; nothing was started.
const USAGE: u8 = 2;
/// buildproxy itself failed.
const FAILED: u8 = 3;
/// Requests were missed, or a body was missing or damaged.
const INCOMPLETE: u8 = 4;

/// Records what a build downloads, and answers the same requests again inside the Nix sandbox.
#[derive(Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Examples:
  buildproxy capture -- cmake -B build   record what it downloads, once
  buildproxy verify                      is every body there, with its hash?
  buildproxy replay -- cmake -B build    the same build, offline")]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes; below what is the command's own.
#[derive(Args)]
#[command(next_help_heading = "Options of every command")]
struct Common {
    /// The inventory
    #[arg(short, long, value_name = "FILE", default_value = "inventory.toml", global = true)]
    inventory: PathBuf,
    /// The one store to read and write, instead of the Nix store and the embedded one
    #[arg(long, value_name = "DIR", env = unless_empty("BUILDPROXY_STORE"), global = true, hide_env_values = true)]
    store: Option<PathBuf>,
    /// Leave the Nix store out: read and write the embedded store only
    #[arg(long, global = true)]
    no_nix_store: bool,
    /// Say more; twice for everything
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// How stderr is written, but for what the command says
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value_t = LogFormat::Text,
        env = unless_empty(logging::FORMAT_VARIABLE),
        hide_env_values = true,
        global = true
    )]
    log_format: LogFormat,
}

#[derive(Subcommand)]
enum Command {
    Capture(capture::Capture),
    Replay(replay::Replay),
    Stop(background::Stop),
    Verify(verify::Verify),
    Fetch(fetch::Fetch),
    Paths(paths::Paths),
    #[command(name = "move")]
    Relocate(relocate::Relocate),
    Push(push::Push),
    Index(index::Compile),
    Report(report::Report),
    Diff(diff::Diff),
    Merge(merge::Merge),
    Import(import::Import),
    Export(export::Export),
    Env(env::Env),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
    #[command(hide = true)]
    Man(manual::Man),
    Isolated(isolation::Inside),
    IsolatedKeeper(isolation::Keeper),
}

impl Common {
    /// Refuses to write something else to where the inventory is.
    fn spare_the_inventory(&self, output: &Path) -> Result<(), u8> {
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        if real(output).is_none_or(|output| Some(output) != real(&self.inventory)) {
            return Ok(());
        }
        output::error(&format!("{} is the inventory itself, which this would replace", output.display()));
        output::hint("name another file with `-o`");
        Err(USAGE)
    }

    /// Reads the inventory; says what is wrong with it and gives the exit code otherwise.
    fn read_inventory(&self) -> Result<Inventory, u8> {
        inventory::read(&self.inventory).map_err(|error| self.unreadable(&error.into()))
    }

    /// Reads the inventory in order to edit it, which only TOML can be; says what is wrong with it and gives the exit code
    /// otherwise.
    fn read_toml(&self) -> Result<Inventory, u8> {
        let read = inventory::read_with_form(&self.inventory).map_err(|error| self.unreadable(&error.into()))?;
        let (inventory, FileForm::Toml) = read else {
            let path = self.inventory.display();
            output::error(&format!("{path} is no TOML: only an inventory that people can read is edited"));
            output::hint("edit the inventory that it was made of");
            return Err(USAGE);
        };
        Ok(inventory)
    }

    /// Reads the inventory to look up what it has for `system`; says what is wrong with it and gives the exit code otherwise.
    fn open_index(&self, system: &str) -> Result<Index, u8> {
        Index::open(&self.inventory, system).map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, error: &IndexError) -> u8 {
        match error {
            IndexError::TooLarge => output::error(&format!("{}: {error}", self.inventory.display())),
            IndexError::Read(_) => output::error(error),
        }
        if !self.inventory.exists() {
            output::hint("name another with `-i FILE`, or record one with `buildproxy capture -- COMMAND`");
        }
        USAGE
    }

    fn stores(&self) -> Stores {
        Stores::open(self.store.clone(), !self.no_nix_store)
    }

    /// The inventory's file.
    fn inventory_file(&self) -> PathBuf {
        real_file(&self.inventory)
    }

    fn body_files(&self) -> BodyFiles {
        self.body_files_of(&self.inventory)
    }

    /// Where the bodies of the inventory at `path` are.
    fn body_files_of(&self, path: &Path) -> BodyFiles {
        let inventory = real_file(path);
        let folder = inventory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        BodyFiles { inventory_dir: folder.to_owned(), stores: self.stores() }
    }
}

/// Says that what `option` was given is no glob.
fn no_glob(option: &str, error: &globset::Error) -> u8 {
    let glob = printable(error.glob().unwrap_or_default());
    output::error(&format!("{option}: `{glob}` is not a glob: {}", error.kind()));
    output::hint("`*` is any text, `?` any character, `[ab]` one of them, `{a,b}` one of several texts");
    USAGE
}

/// What belongs beside an inventory is beside the file, not beside a link to it.
fn real_file(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Whether both are there and are one.
fn is_same_file(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    real(a).is_some_and(|a| Some(a) == real(b))
}

/// The name of a variable that clap reads; of one that is empty, as scripts leave it, no name.
fn unless_empty(name: &'static str) -> Resettable<OsStr> {
    let is_empty = std::env::var_os(name).is_some_and(|value| value.is_empty());
    if is_empty { Resettable::Reset } else { Resettable::Value(name.into()) }
}

/// Runs the command that the arguments name and gives its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { DONE };
            usage::say(error);
            return ExitCode::from(code);
        }
    };
    // A handshake that fails is what the doctor looks for.
    let is_quiet = cli.common.quiet || matches!(cli.command, Command::Doctor(_));
    logging::start(&cli.common, is_quiet);
    let Cli { common, command } = cli;
    let code = match command {
        Command::Capture(command) => command.run(&common),
        Command::Replay(command) => command.run(&common),
        Command::Stop(command) => command.run(common.quiet),
        Command::Verify(command) => command.run(&common),
        Command::Fetch(command) => command.run(&common),
        Command::Paths(command) => command.run(&common),
        Command::Relocate(command) => command.run(&common),
        Command::Push(command) => command.run(&common),
        Command::Index(command) => command.run(&common),
        Command::Report(command) => command.run(&common),
        Command::Diff(command) => command.run(),
        Command::Merge(command) => command.run(&common),
        Command::Import(command) => command.run(&common),
        Command::Export(command) => command.run(&common),
        Command::Env(command) => command.run(),
        Command::Doctor(command) => command.run(&common),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
        Command::Isolated(command) => command.run(),
        Command::IsolatedKeeper(command) => command.run(),
    };
    let is_lost = code == DONE && output::has_lost_data();
    ExitCode::from(if is_lost { FAILED } else { code })
}

/// A new runtime. Where it gets no threads tokio panics, and on its way out waits for ever for those that it got: so the
/// program ends where the panic begins.
fn runtime() -> io::Result<Runtime> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|panic| {
        let reason = panic.payload().downcast_ref::<String>().map_or("no threads", String::as_str);
        output::error(&format!("cannot start: {reason}"));
        output::hint("a limit of processes or of memory is too low (`ulimit -u`, `ulimit -v`)");
        std::process::exit(FAILED.into());
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    panic::set_hook(hook);
    runtime
}

/// Runs `work` on a new runtime. What still runs in the background when it is done is left behind.
fn block_on<T>(work: impl Future<Output = Result<T, u8>>) -> Result<T, u8> {
    let runtime = runtime().map_err(|error| {
        output::error(&format!("cannot start: {error}"));
        FAILED
    })?;
    let result = runtime.block_on(work);
    // Dropping it would wait for blocking work, such as the hashing of a large body.
    runtime.shutdown_background();
    result
}

//! `--isolate`, and the hidden command by which it works.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

use clap::Args;

use super::{DONE, FAILED, child, output};
use crate::isolate::{self, Isolated};

/// The arguments of the commands that can isolate the command that they run.
#[derive(Args)]
pub struct Isolation {
    /// Let the command reach the proxy and nothing else, and give it a fresh home without caches and credentials (Linux)
    #[arg(long, conflicts_with = "allow_remote")]
    pub isolate: bool,
    /// With --isolate: leave this variable as it is; HOME for the home that you have
    #[arg(long, value_name = "NAME", requires = "isolate")]
    keep_env: Vec<String>,
}

impl Isolation {
    /// The place for `command`, with `listen` in it for the proxy; `None` where it is not to be isolated.
    ///
    /// # Errors
    /// The exit code, where it cannot be isolated; what is wrong is said.
    pub fn start(&self, command: &[OsString], listen: SocketAddr) -> Result<Option<Isolated>, u8> {
        if !self.isolate {
            return Ok(None);
        }
        let isolated =
            Isolated::start(command, listen, &self.keep_env, output::format_arguments()).map_err(|error| {
                output::error(&error);
                FAILED
            })?;
        if let Some(reason) = isolated.unseen() {
            output::warning(format!("what goes past the proxy is refused, but cannot be seen here: {reason}"));
        }
        Ok(Some(isolated))
    }
}

/// The inner side of `--isolate`
#[derive(Args)]
#[command(hide = true)]
pub struct Inside {
    /// Where to listen
    listen: SocketAddr,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What cleans up after `--isolate` where buildproxy was killed
#[derive(Args)]
#[command(hide = true)]
pub struct Keeper {
    /// What is to be removed
    folder: PathBuf,
}

impl Keeper {
    pub fn run(self) -> u8 {
        isolate::keep(&self.folder).map_or(FAILED, |()| DONE)
    }
}

impl Inside {
    pub fn run(self) -> u8 {
        match isolate::go_inside(self.listen, &self.command) {
            Err(Some(error)) => child::cannot_run(&self.command, &error),
            // The other side says it.
            Err(None) => FAILED,
        }
    }
}

//! Cleans up after an isolated run that was killed, when this program can do nothing more itself: another process of it,
//! which waits for that.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Write, stdin, stdout},
    os::fd::AsFd,
    path::Path,
    process::{Child, Command, Stdio},
};

use super::{home, leftovers};

/// The hidden command of this program that waits.
const SUBCOMMAND: &str = "isolated-keeper";
/// What it is told when there is nothing to do; where its input ends without, it cleans up.
const ALL_IS_DONE: u8 = b'.';

/// That process.
#[derive(Debug)]
pub struct Keeper(Child);

impl Keeper {
    /// Starts it, for the processes in `network` and for `folder`.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(network: &File, folder: &Path) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([OsStr::new(SUBCOMMAND), folder.as_os_str()]);
        // It has nothing to say, so that its output can hold the network for it. It keeps nobody's folder busy.
        command.stdin(Stdio::piped()).stdout(network.try_clone()?).stderr(Stdio::null()).current_dir("/");
        command.spawn().map(Self)
    }

    /// Ends it: there is nothing to clean up.
    pub fn dismiss(mut self) {
        // Where it was killed, there is nobody to tell.
        let _ = self.0.stdin.take().map(|mut stdin| stdin.write_all(&[ALL_IS_DONE]));
        let _ = self.0.wait();
    }
}

/// Waits for the end of whoever started this process, then ends what is in the network that stdout holds, and removes
/// `folder`; unless it is told that all is done.
///
/// # Errors
/// Where stdin or stdout is something else.
pub fn keep(folder: &Path) -> io::Result<()> {
    // The keys of a terminal are for the command. It fails only for the leader of a process group.
    let _ = rustix::process::setsid();
    let mut told = Vec::new();
    stdin().read_to_end(&mut told)?;
    if told != [ALL_IS_DONE] {
        leftovers::end(&File::from(stdout().as_fd().try_clone_to_owned()?));
        home::remove(folder)?;
    }
    Ok(())
}

//! A place of its own for a test: home, store, inventory, and an environment without this machine's proxies and roots.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Awkward, Entries, Outcome, run};

/// A temporary folder with `home/`, `tmp/`, `store/` and `work/`, the folder in which commands run.
pub struct Workdir {
    root: tempfile::TempDir,
}

impl Workdir {
    pub fn new() -> Self {
        let root = tempfile::Builder::new().prefix("bp-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for folder in ["home", "tmp", "work"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        Self { root }
    }

    /// Everything that this test's programs could have written.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// `name` in the folder in which commands run.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("work").join(name)
    }

    pub fn store(&self) -> PathBuf {
        self.root.path().join("store")
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    #[track_caller]
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("cannot read {name}: {error}"))
    }

    /// Takes away what programs have kept at home and in the folder for temporary files.
    pub fn empty_home(&self) {
        for folder in ["home", "tmp"].map(|name| self.root.path().join(name)) {
            fs::remove_dir_all(&folder).unwrap();
            fs::create_dir(&folder).unwrap();
        }
    }

    pub fn inventory(&self) -> Entries {
        Entries::read(&self.path("inventory.toml"))
    }

    /// `program` with this place as its home and no variable of this machine's but PATH.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
        command.env_clear().env("PATH", path).env("LANG", "C.UTF-8").env("GIT_CONFIG_NOSYSTEM", "1");
        command.env("HOME", self.root.path().join("home")).env("TMPDIR", self.root.path().join("tmp"));
        command.current_dir(self.root.path().join("work"));
        command
    }

    /// `buildproxy SUBCOMMAND --store …`, to be completed.
    pub fn buildproxy(&self, subcommand: &str) -> Command {
        self.buildproxy_with(subcommand, &self.store())
    }

    fn buildproxy_with(&self, subcommand: &str, store: &Path) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_buildproxy"));
        command.arg(subcommand).arg("--store").arg(store);
        command
    }

    /// `buildproxy capture --proxy-loopback`, to be completed, with `ca` as the only root that origins may have.
    pub fn capturing(&self, ca: &str) -> Command {
        self.capturing_into(ca, &self.store())
    }

    /// The same, into another store.
    pub fn capturing_into(&self, ca: &str, store: &Path) -> Command {
        let file = self.root.path().join("origin-ca.pem");
        fs::write(&file, ca).unwrap();
        let mut command = self.buildproxy_with("capture", store);
        command.arg("--proxy-loopback").env("SSL_CERT_FILE", file);
        command
    }

    /// Captures `command`, a program with its arguments, from `origin`.
    #[track_caller]
    pub fn capture<S: AsRef<OsStr>>(&self, origin: &Awkward, command: impl IntoIterator<Item = S>) -> Outcome {
        run(self.capturing(&origin.ca.pem).arg("--").args(command))
    }

    /// Captures a shell script from `origin`; it ends at its first failure.
    #[track_caller]
    pub fn capture_sh(&self, origin: &Awkward, script: &str) -> Outcome {
        self.capture(origin, ["sh", "-euc", script])
    }

    /// `buildproxy replay --proxy-loopback`, to be completed.
    pub fn replaying(&self) -> Command {
        let mut command = self.buildproxy("replay");
        command.arg("--proxy-loopback");
        command
    }

    /// Replays a shell script where there is no network; it ends at its first failure.
    #[track_caller]
    pub fn replay_sh(&self, script: &str) -> Outcome {
        run(&mut in_empty_network(self.replaying().arg("--").args(["sh", "-euc", script])))
    }
}

impl Default for Workdir {
    fn default() -> Self {
        Self::new()
    }
}

/// `command` in a network namespace of its own, with nothing but its own loopback in it.
pub fn in_empty_network(command: &Command) -> Command {
    within(command, "-rn", r#"ip link set lo up && exec "$@""#)
}

/// `command` by the shell script `prelude`, in the new namespaces that `unshare` makes for `flags`. The process keeps
/// its number, so that signals and memory are those of the command itself.
pub fn within(command: &Command, flags: &str, prelude: &str) -> Command {
    behind(&["unshare", flags, "sh", "-euc", prelude, "sh"], command)
}

/// `command` as the last arguments of `program`, which ends as that.
pub fn behind(program: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(program[0]);
    outer.args(&program[1..]).arg(command.get_program()).args(command.get_args());
    outer.env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            outer.env(name, value);
        }
    }
    if let Some(folder) = command.get_current_dir() {
        outer.current_dir(folder);
    }
    outer
}

//! The Nix store, by way of Nix's own commands: what is valid in it, putting files into it, and what keeps them there.
//!
//! Nothing here writes below the store's folder itself. Whether it is a daemon's, a user's own or one below another root
//! is between Nix and its environment, which its commands get as it is.

mod commands;
mod place;
mod registration;

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

pub use commands::NixError;
pub use place::NixPlace;
pub use registration::{Registration, flat_content_address};

use super::{
    deposit::{Bytes, NewBody},
    embedded::regular_file,
    hash::HashAlgo,
    path::{StorePath, StorePathName, build_text_path},
};
use commands::{batches, output, run};

const NIX_STORE: &str = "nix-store";
const NIX_INSTANTIATE: &str = "nix-instantiate";
const NIX: &str = "nix";

/// What makes the commands of `nix` that are experimental work whatever the configuration says.
const EXPERIMENTAL: [&str; 2] = ["--extra-experimental-features", "nix-command"];

/// Evaluating a text of ours must not depend on what the user allows the expressions of others.
const OUR_EXPRESSION: [&str; 6] = ["--option", "pure-eval", "false", "--option", "restrict-eval", "false"];

/// The Nix store of this environment, where there is one that takes files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NixStore {
    place: NixPlace,
}

impl NixStore {
    /// The store at `place`, where Nix's commands are in `PATH` and can put files there. Starts nothing.
    pub fn open(place: &NixPlace) -> Option<Self> {
        (place.takes_files() && commands::is_in_path(NIX_STORE)).then(|| Self { place: place.clone() })
    }

    /// The folder with its files.
    pub fn dir(&self) -> &Path {
        &self.place.dir
    }

    /// The file of `path`, valid or not.
    pub fn file(&self, path: &StorePath) -> Option<PathBuf> {
        regular_file(path.to_path(self.dir()))
    }

    /// Those of `paths` that are valid: registered, and there. Asks no substituter.
    ///
    /// # Errors
    /// Where Nix cannot be asked.
    pub fn valid(&self, paths: &[StorePath]) -> Result<HashSet<StorePath>, NixError> {
        let mut valid: HashSet<StorePath> = paths.iter().cloned().collect();
        for paths in path_batches(paths) {
            let mut command = Command::new(NIX_STORE);
            command.args(["--check-validity", "--print-invalid"]).args(paths.iter().map(StorePath::to_absolute_path));
            for invalid in printed_paths(&run(NIX_STORE, &mut command, "")?)? {
                valid.remove(&invalid);
            }
        }
        Ok(valid)
    }

    /// What Nix has registered of `paths`; nothing of those that are not valid. `None` where it keeps no database.
    ///
    /// # Errors
    /// Where Nix cannot be asked, or answers in a way that is not known here.
    pub fn registrations(&self, paths: &[StorePath]) -> Result<Option<HashMap<StorePath, Registration>>, NixError> {
        if !self.place.has_database() {
            return Ok(None);
        }
        // Of others `nix path-info` would ask the substituters.
        let valid: Vec<StorePath> = self.valid(paths)?.into_iter().collect();
        let mut registrations = HashMap::new();
        for paths in path_batches(&valid) {
            let ask = |format: &[&str]| {
                let mut command = Command::new(NIX);
                command.args(EXPERIMENTAL).args(["path-info", "--offline", "--json"]).args(format);
                run(NIX, command.args(paths.iter().map(StorePath::to_absolute_path)), "")
            };
            // 2.33 wants to be told the format soon, earlier ones do not know how to.
            let json = ask(&[]).or_else(|error| ask(&["--json-format", "2"]).map_err(|_| error))?;
            let unknown = || NixError::unexpected(NIX, "what it printed for `path-info --json` is not understood");
            registrations.extend(registration::read(&json).ok_or_else(unknown)?);
        }
        Ok(Some(registrations))
    }

    /// Puts `bodies` into the store, by links in the empty folder `scratch`. Gives those that are there now, and on disk;
    /// their own files stay. Those that are valid already are read for nothing: leave them out.
    ///
    /// The result is an error where Nix did not take one, or took it as something else; the others after it are not added.
    pub fn add(&self, bodies: &[NewBody], scratch: &Path) -> (Vec<StorePath>, Result<(), NixError>) {
        let mut added = Vec::new();
        let result = self.add_each(bodies, scratch, &mut added);
        match write_out(self.dir(), &added) {
            Ok(()) => (added, result),
            Err(error) => (Vec::new(), result.and(Err(NixError::io(NIX_STORE, error)))),
        }
    }

    fn add_each(&self, bodies: &[NewBody], scratch: &Path, added: &mut Vec<StorePath>) -> Result<(), NixError> {
        for algo in [HashAlgo::Sha256, HashAlgo::Sha512] {
            let of_algo: Vec<&NewBody> = bodies.iter().filter(|body| body.hash.algo() == algo).collect();
            let length = |body: &&NewBody| scratch.as_os_str().len() + body.path.to_string().len() + 8;
            for batch in batches(&of_algo, length) {
                let folder = scratch.join("batch");
                let files = self.lay_out(batch, &folder)?;
                let mut command = Command::new(NIX_STORE);
                command.args(["--add-fixed", algo.as_str()]).args(&files);
                let (printed, result) = output(NIX_STORE, &mut command, "");
                for (body, path) in batch.iter().zip(printed_paths(&printed)?) {
                    self.check_added(body, &path)?;
                    added.push(path);
                }
                // It is in a folder that goes as a whole later, where this fails.
                let _ = fs::remove_dir_all(&folder);
                result?;
            }
        }
        Ok(())
    }

    /// Makes a file for each of `bodies` that has its name, each in a folder of its own below `folder`: as a link, where it
    /// has a file there.
    fn lay_out(&self, bodies: &[&NewBody], folder: &Path) -> Result<Vec<PathBuf>, NixError> {
        let one = |(number, body): (usize, &&NewBody)| -> io::Result<PathBuf> {
            let own = folder.join(number.to_string());
            fs::create_dir_all(&own)?;
            let named = own.join(body.path.name().as_str());
            match body.bytes {
                Bytes::Memory(bytes) => fs::write(&named, bytes)?,
                Bytes::File(file) => {
                    fs::hard_link(file, &named).or_else(|_| fs::copy(file, &named).map(drop))?;
                }
            }
            Ok(named)
        };
        bodies.iter().enumerate().map(one).collect::<io::Result<_>>().map_err(|error| {
            let reason = format!("cannot lay out files in {}: {error}", folder.display());
            NixError::io(NIX_STORE, io::Error::new(error.kind(), reason))
        })
    }

    /// Checks that Nix took `body` for what it is, and to where it is looked for.
    fn check_added(&self, body: &NewBody, path: &StorePath) -> Result<(), NixError> {
        let unexpected = |what| Err(NixError::unexpected(NIX_STORE, what));
        if *path != body.path {
            return unexpected(format!("it added {path} where {} was expected: the bytes are others", body.path));
        }
        let file = path.to_path(self.dir());
        match fs::symlink_metadata(&file) {
            Ok(metadata) if metadata.len() == body.size => Ok(()),
            Ok(metadata) => unexpected(format!("{} has {} of {} bytes", file.display(), metadata.len(), body.size)),
            Err(error) => unexpected(format!(
                "{} is not there: {error} (is NIX_REMOTE a store on another machine?)",
                file.display()
            )),
        }
    }

    /// Makes one object in the store, called `name`, that refers to all of `paths`, which have to be valid: a list of them.
    ///
    /// # Errors
    /// Where Nix does not make it, or one of `paths` is not valid.
    pub fn list_object(&self, name: &StorePathName, paths: &[StorePath]) -> Result<StorePath, NixError> {
        let content: String = paths.iter().map(|path| path.to_absolute_path() + "\n").collect();
        let expected = build_text_path(name, content.as_bytes(), paths);
        let list: String = paths.iter().map(|path| format!("\"{}\"\n", path.to_absolute_path())).collect();
        // Names of store paths have no character that a string of Nix would need escaped.
        let expression = format!(
            "builtins.toFile \"{name}\" (builtins.concatStringsSep \"\" \
             (map (path: builtins.storePath path + \"\\n\") [\n{list}]))\n"
        );
        let mut command = Command::new(NIX_INSTANTIATE);
        command.args(["--eval", "--read-write-mode", "--json"]).args(OUR_EXPRESSION).arg("-");
        let printed = run(NIX_INSTANTIATE, &mut command, &expression)?;
        match printed.trim().trim_matches('"') == expected.to_absolute_path() {
            true => Ok(expected),
            false => Err(NixError::unexpected(NIX_INSTANTIATE, format!("it made {} of a list", printed.trim()))),
        }
    }

    /// Keeps `object`, and what it refers to, from garbage collection as long as the link `root` exists, which is made or
    /// replaced.
    ///
    /// # Errors
    /// Where Nix does not do it.
    pub fn add_root(&self, object: &StorePath, root: &Path) -> Result<(), NixError> {
        let mut command = Command::new(NIX_STORE);
        command.args(["--realise", &object.to_absolute_path(), "--indirect", "--add-root"]).arg(root);
        run(NIX_STORE, &mut command, "").map(drop)
    }

    /// Copies `object`, and what it refers to, to the store `url`, as the user's configuration says. Nix shows on stderr
    /// what it does, and why it fails.
    ///
    /// # Errors
    /// Where it does.
    pub fn copy(&self, object: &StorePath, url: &OsStr, quiet: bool) -> Result<(), NixError> {
        let mut command = Command::new(NIX);
        command.args(EXPERIMENTAL).args(quiet.then_some("--quiet")).args(["copy", "--to"]).arg(url);
        command.arg(object.to_absolute_path()).stdin(Stdio::null()).stdout(Stdio::null());
        let status = command.status().map_err(|error| NixError::io(NIX, error))?;
        match status.success() {
            true => Ok(()),
            false => Err(NixError::failed(NIX, format!("copy --to {}: {status}", url.to_string_lossy()))),
        }
    }
}

/// Waits until what Nix put into its folder `dir` is on disk, as Nix itself does not: what it was made of is removed soon.
/// The whole file system at once: of 2,000 small files that took 0.1 s, and 7 s one by one.
#[cfg(target_os = "linux")]
fn write_out(dir: &Path, added: &[StorePath]) -> io::Result<()> {
    if !added.is_empty() {
        rustix::fs::syncfs(File::open(dir)?)?;
    }
    Ok(())
}

/// Other systems have no call for it.
#[cfg(not(target_os = "linux"))]
fn write_out(dir: &Path, added: &[StorePath]) -> io::Result<()> {
    added.iter().try_for_each(|path| File::open(path.to_path(dir))?.sync_all())
}

fn path_batches(paths: &[StorePath]) -> Vec<&[StorePath]> {
    batches(paths, |path| path.to_absolute_path().len())
}

/// The store paths that a command printed, one a line.
fn printed_paths(printed: &str) -> Result<Vec<StorePath>, NixError> {
    let base = |line: &str| line.rsplit('/').next().and_then(|base| StorePath::from_base_name(base).ok());
    let path = |line: &str| base(line).ok_or_else(|| NixError::unexpected(NIX_STORE, format!("it printed `{line}`")));
    printed.lines().map(str::trim).filter(|line| !line.is_empty()).map(path).collect()
}

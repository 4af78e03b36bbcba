//! Where the Nix store of this environment is: the folder with its files, and whether it keeps a database.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use percent_encoding::percent_decode;

use crate::store::path::STORE_DIR;

/// The Nix store that the environment names: `NIX_STORE_DIR`, else what `NIX_REMOTE` says, else `/nix/store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NixPlace {
    /// The folder with the files. Of a store below another root (`local?root=/x`) that is `/x/nix/store`, though its paths
    /// are called `/nix/store/…` all the same.
    pub dir: PathBuf,
    /// The folder with the database.
    state: PathBuf,
    /// Where the daemon listens, where there is one.
    socket: PathBuf,
    /// What `NIX_REMOTE` says; empty where Nix chooses.
    remote: Vec<u8>,
    /// Whether its paths start with `/nix/store`. Others have other digests, too: they are only looked at.
    has_our_paths: bool,
}

impl NixPlace {
    /// The place that the variables given by `variable` name. Touches no file.
    pub fn of(variable: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let folder = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let remote = variable("NIX_REMOTE").unwrap_or_default().into_vec();
        let (root, real, state) = (root(&remote), setting(&remote, "real"), setting(&remote, "state"));
        let store_dir = folder("NIX_STORE_DIR").filter(|dir| dir != Path::new(STORE_DIR));
        let below =
            |path: &str| root.as_ref().map_or_else(|| path.into(), |root| root.join(path.trim_start_matches('/')));
        let state = state.or_else(|| root.is_none().then(|| folder("NIX_STATE_DIR"))?);
        let state = state.unwrap_or_else(|| below("/nix/var/nix"));
        let socket = folder("NIX_DAEMON_SOCKET_PATH").unwrap_or_else(|| state.join("daemon-socket/socket"));
        let has_our_paths = store_dir.is_none();
        let dir = store_dir.or(real).unwrap_or_else(|| below(STORE_DIR));
        Self { dir, state, socket, remote, has_our_paths }
    }

    /// Whether Nix can be asked to put files here: its paths are ours, and its folder is there, or is one that Nix was told
    /// to make.
    pub fn takes_files(&self) -> bool {
        self.has_our_paths && (self.dir.is_dir() || root(&self.remote).is_some())
    }

    /// Whether a Nix has registered what is here. Without that (a container that was given `/nix/store` alone) Nix would make a new
    /// database, and know of nothing.
    pub fn has_database(&self) -> bool {
        let is_elsewhere = [b"daemon".as_slice(), b"unix:", b"ssh"].iter().any(|start| self.remote.starts_with(start));
        is_elsewhere || self.state.join("db/db.sqlite").exists() || self.socket.exists()
    }
}

/// The root below which the store `remote` has its files: `local?root=/x`, or `/x` alone.
fn root(remote: &[u8]) -> Option<PathBuf> {
    if remote.starts_with(b"/") {
        let path = remote.split(|&byte| byte == b'?').next().unwrap_or_default();
        return Some(decoded(path));
    }
    setting(remote, "root")
}

/// The setting `name` in the query of a store's URL, where it is not empty.
fn setting(remote: &[u8], name: &str) -> Option<PathBuf> {
    let query = remote.splitn(2, |&byte| byte == b'?').nth(1)?;
    let value =
        query.split(|&byte| byte == b'&').find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    value.filter(|value| !value.is_empty()).map(decoded)
}

fn decoded(path: &[u8]) -> PathBuf {
    let bytes: Vec<u8> = percent_decode(path).collect();
    OsStr::from_bytes(&bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(variables: &[(&str, &str)]) -> NixPlace {
        NixPlace::of(&|wanted| {
            let value = variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
            value.map(OsString::from)
        })
    }

    #[test]
    fn the_store_is_where_the_environment_says() {
        let dir = |variables: &[(&str, &str)]| place(variables).dir.display().to_string();
        assert_eq!(dir(&[]), "/nix/store");
        for remote in ["", "daemon", "auto", "local", "unix:///run/nix.sock", "local?root=", "ssh-ng://builder"] {
            assert_eq!(dir(&[("NIX_REMOTE", remote)]), "/nix/store", "{remote}");
        }
        for remote in ["local?root=/x", "/x", "local?state=/s&root=/x", "auto?root=%2Fx", "/x?priority=1"] {
            assert_eq!(dir(&[("NIX_REMOTE", remote)]), "/x/nix/store", "{remote}");
        }
        assert_eq!(dir(&[("NIX_REMOTE", "local?root=/a%20b%ff")]).chars().count(), "/a b?/nix/store".len());
        assert_eq!(dir(&[("NIX_REMOTE", "local?root=/x&real=/y/z")]), "/y/z");
        assert_eq!(dir(&[("NIX_REMOTE", "local?root=/x"), ("NIX_STORE_DIR", "/nix/store")]), "/x/nix/store");
        assert_eq!(dir(&[("NIX_REMOTE", "local?root=/x"), ("NIX_STORE_DIR", "/s")]), "/s");
    }

    #[test]
    fn a_store_with_other_paths_or_without_a_folder_takes_no_files() {
        let there = tempfile::tempdir().unwrap();
        let named = there.path().to_str().unwrap();
        assert!(!place(&[("NIX_STORE_DIR", named)]).takes_files());
        assert!(place(&[("NIX_REMOTE", &format!("local?real={named}"))]).takes_files());
        assert!(!place(&[("NIX_REMOTE", "local?real=/not/there")]).takes_files());
        assert!(place(&[("NIX_REMOTE", "local?root=/not/there")]).takes_files());
    }

    #[test]
    fn a_database_is_looked_for_where_nix_keeps_it() {
        let root = tempfile::tempdir().unwrap();
        let named = root.path().to_str().unwrap();
        let has = |variables: &[(&str, &str)]| place(variables).has_database();
        let (chroot, state) = (format!("local?root={named}"), format!("local?state={named}/nix/var/nix"));
        assert!(!has(&[("NIX_REMOTE", &chroot)]));
        std::fs::create_dir_all(root.path().join("nix/var/nix/db")).unwrap();
        std::fs::write(root.path().join("nix/var/nix/db/db.sqlite"), "").unwrap();
        assert!(has(&[("NIX_REMOTE", &chroot)]) && has(&[("NIX_REMOTE", &state)]));
        assert!(has(&[("NIX_STATE_DIR", &format!("{named}/nix/var/nix"))]));
        assert!(has(&[("NIX_REMOTE", "daemon")]));
    }
}

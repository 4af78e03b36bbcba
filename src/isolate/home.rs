//! A home of its own for an isolated command, and an environment that leads to none of the user's caches and credentials.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::proxy::environment::with_java_home;

/// Variables that lead to the user's configuration, caches, credentials and helper programs; an isolated command has none
/// of them.
pub const HIDDEN: &[&str] = &[
    // The folders below the home (XDG Base Directory Specification).
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_RUNTIME_DIR",
    // Caches, and configuration that can hold credentials.
    "AWS_CONFIG_FILE",
    "AWS_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "BUN_INSTALL_CACHE_DIR",
    "BUNDLE_USER_HOME",
    "CARGO_HOME",
    "CARGO_INSTALL_ROOT",
    "CLOUDSDK_CONFIG",
    "COMPOSER_HOME",
    "COMPOSER_CACHE_DIR",
    "CONAN_HOME",
    "CONAN_USER_HOME",
    "CPM_SOURCE_CACHE",
    "CURL_HOME",
    "DENO_DIR",
    "DOCKER_CONFIG",
    "GEM_SPEC_CACHE",
    "GIT_CONFIG_GLOBAL",
    "GNUPGHOME",
    "GOCACHE",
    "GOENV",
    "GOMODCACHE",
    "GOPATH",
    "GRADLE_USER_HOME",
    "HF_HOME",
    "KUBECONFIG",
    "NETRC",
    "NUGET_PACKAGES",
    "NPM_CONFIG_CACHE",
    "NPM_CONFIG_USERCONFIG",
    "PERL_CPANM_HOME",
    "PIP_CACHE_DIR",
    "PIP_CONFIG_FILE",
    "PIPENV_CACHE_DIR",
    "POETRY_CACHE_DIR",
    "POETRY_CONFIG_DIR",
    "UV_CACHE_DIR",
    "UV_CONFIG_FILE",
    "VCPKG_DEFAULT_BINARY_CACHE",
    "VCPKG_DOWNLOADS",
    "WGETRC",
    "YARN_CACHE_FOLDER",
    "YARN_GLOBAL_FOLDER",
    "npm_config_cache",
    "npm_config_userconfig",
    // Programs that are asked for passwords, or that download on their own.
    "DBUS_SESSION_BUS_ADDRESS",
    "DOCKER_HOST",
    "GIT_ASKPASS",
    "GPG_AGENT_INFO",
    "SSH_AGENT_PID",
    "SSH_ASKPASS",
    "SSH_AUTH_SOCK",
];

/// Parts of names, between underscores, of variables that hold credentials; and so does what ends in `_KEY`. An isolated
/// command has none of these.
pub const CREDENTIAL_WORDS: &[&str] =
    &["TOKEN", "AUTHTOKEN", "PASSWORD", "PASSWD", "SECRET", "CREDENTIAL", "CREDENTIALS", "APIKEY", "AUTH", "NETRC"];

/// Where version managers have their toolchains, below the home, and the variable that leads there. They stay: their
/// programs are in `PATH`, and are of no use without them.
pub const TOOLCHAINS: &[(&str, &str)] = &[
    ("ASDF_DATA_DIR", ".asdf"),
    ("ELAN_HOME", ".elan"),
    ("GOENV_ROOT", ".goenv"),
    ("JENV_ROOT", ".jenv"),
    ("NODENV_ROOT", ".nodenv"),
    ("NVM_DIR", ".nvm"),
    ("PYENV_ROOT", ".pyenv"),
    ("RBENV_ROOT", ".rbenv"),
    ("RUSTUP_HOME", ".rustup"),
    ("VOLTA_HOME", ".volta"),
];

/// A folder with an empty home in it, which is gone when this is dropped.
#[derive(Debug)]
pub struct Home {
    folder: PathBuf,
    home: PathBuf,
}

impl Home {
    /// A new one in the temporary folder.
    ///
    /// # Errors
    /// Where it cannot be made, or its path is no UTF-8.
    pub fn create() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("buildproxy-isolated-").tempdir()?;
        if folder.path().to_str().is_none() {
            let message = format!("the temporary folder {} is not UTF-8", folder.path().display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let home = folder.path().join("home");
        fs::create_dir(&home)?;
        Ok(Self { folder: folder.keep(), home })
    }

    /// The folder that the home is in; what else is put there is gone with it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What differs in `environment` for a command with this home; `None` is to be unset. The variables in `keep` stay,
    /// and so do those that the proxy's own environment sets.
    pub fn variables(
        &self,
        environment: &[(OsString, OsString)],
        proxy: &[(String, Option<String>)],
        keep: &[String],
    ) -> Vec<(String, Option<String>)> {
        let of_proxy = |name: &str| proxy.iter().any(|(known, _)| known == name);
        let names = environment.iter().filter_map(|(name, _)| name.to_str());
        let hidden = names.filter(|name| is_hidden(name) && !of_proxy(name) && !keep.iter().any(|kept| kept == name));
        let mut variables: Vec<_> = hidden.map(|name| (name.to_owned(), None)).collect();
        let value = |name: &str| environment.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        let own_home = value("HOME").filter(|home| !home.is_empty());
        for (name, folder) in TOOLCHAINS {
            let folder = own_home.map(|home| Path::new(home).join(folder)).filter(|folder| folder.is_dir());
            if value(name).is_none()
                && let Some(folder) = folder.as_deref().and_then(Path::to_str)
            {
                variables.push(((*name).to_owned(), Some(folder.to_owned())));
            }
        }
        if keep.iter().any(|kept| kept == "HOME") {
            return variables;
        }
        // Its path was checked to be text.
        let home = self.home.to_string_lossy().into_owned();
        let java = proxy.iter().find(|(name, _)| name == "JAVA_TOOL_OPTIONS").and_then(|(_, value)| value.as_deref());
        // Java does not look at HOME, but into the system's list of users.
        variables.push(("JAVA_TOOL_OPTIONS".to_owned(), Some(with_java_home(java.unwrap_or_default(), &home))));
        variables.push(("HOME".to_owned(), Some(home)));
        variables
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.folder) {
            tracing::warn!("cannot remove the temporary home {}: {error}", self.folder.display());
        }
    }
}

/// Removes a folder, also where some in it are read-only, as Go's downloads are.
pub fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(folder)?;
            fs::remove_dir_all(folder)
        }
        result => result,
    }
}

fn make_writable(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for item in fs::read_dir(folder)? {
        let item = item?;
        // Not where links lead.
        if item.file_type()?.is_dir() {
            make_writable(&item.path())?;
        }
    }
    Ok(())
}

fn is_hidden(name: &str) -> bool {
    let is_credential =
        || name.split('_').any(|part| CREDENTIAL_WORDS.iter().any(|word| word.eq_ignore_ascii_case(part)));
    HIDDEN.contains(&name) || name.to_ascii_uppercase().ends_with("_KEY") || is_credential()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(environment: &[(&str, &str)], keep: &[&str]) -> Vec<(String, Option<String>)> {
        let environment: Vec<_> = environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let proxy = [("JAVA_TOOL_OPTIONS", Some("-Da=b")), ("WGETRC", Some("/ours"))];
        let proxy = proxy.map(|(name, value): (&str, Option<&str>)| (name.to_owned(), value.map(str::to_owned)));
        let keep: Vec<_> = keep.iter().map(|name| (*name).to_owned()).collect();
        Home::create().unwrap().variables(&environment, &proxy, &keep)
    }

    #[test]
    fn caches_and_credentials_are_hidden_unless_they_are_kept() {
        let environment = [
            ("CARGO_HOME", "/c"),
            ("GITHUB_TOKEN", "t"),
            ("npm_config__authToken", "t"),
            ("AWS_SECRET_ACCESS_KEY", "k"),
            ("TOKENIZERS_PARALLELISM", "1"),
            ("GIT_CONFIG_KEY_0", "a.b"),
            ("WGETRC", "/theirs"),
            ("MY_TOKEN", "m"),
            ("PATH", "/bin"),
        ];
        let variables = variables(&environment, &["MY_TOKEN"]);
        let unset: Vec<_> = variables.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        assert_eq!(unset, ["CARGO_HOME", "GITHUB_TOKEN", "npm_config__authToken", "AWS_SECRET_ACCESS_KEY"]);
    }

    #[test]
    fn the_documentation_says_what_is_hidden_and_what_stays() {
        let page = include_str!("../../docs/clients.md");
        let list = |names: Vec<String>| names.join(", ");
        let quoted = |names: &[&str]| list(names.iter().map(|name| format!("`{name}`")).collect());
        let toolchains = list(TOOLCHAINS.iter().map(|(name, folder)| format!("`{name}` (`~/{folder}`)")).collect());
        for names in [quoted(HIDDEN), quoted(CREDENTIAL_WORDS), toolchains] {
            assert!(page.contains(&format!("\n{names}")), "docs/clients.md needs this list:\n{names}");
        }
    }

    #[test]
    fn java_gets_the_home_that_the_others_have() {
        let variables = variables(&[("HOME", "/home/me")], &[]);
        let value = |name: &str| variables.iter().find(|(known, _)| known == name).unwrap().1.clone().unwrap();
        assert!(value("HOME").ends_with("/home") && value("HOME").contains("/buildproxy-isolated-"));
        assert_eq!(value("JAVA_TOOL_OPTIONS"), format!("-Da=b -Duser.home={}", value("HOME")));
    }

    #[test]
    fn a_home_that_is_kept_is_javas_too() {
        let variables = variables(&[("HOME", "/home/me"), ("CARGO_HOME", "/c")], &["HOME"]);
        assert_eq!(variables, [("CARGO_HOME".to_owned(), None)]);
    }

    #[test]
    fn toolchains_below_the_users_home_are_still_found() {
        let home = tempfile::tempdir().unwrap();
        for folder in [".rustup", ".pyenv"] {
            fs::create_dir(home.path().join(folder)).unwrap();
        }
        let path = home.path().to_str().unwrap();
        let variables = variables(&[("HOME", path), ("PYENV_ROOT", "/elsewhere")], &[]);
        assert!(variables.contains(&("RUSTUP_HOME".to_owned(), Some(format!("{path}/.rustup")))));
        assert!(!variables.iter().any(|(name, _)| ["PYENV_ROOT", "NVM_DIR"].contains(&name.as_str())));
    }

    #[test]
    fn a_home_with_read_only_folders_is_removed_whole() {
        let home = Home::create().unwrap();
        let path = home.home.clone();
        fs::create_dir_all(path.join("go/pkg")).unwrap();
        fs::write(path.join("go/pkg/file"), "").unwrap();
        fs::set_permissions(path.join("go/pkg"), fs::Permissions::from_mode(0o500)).unwrap();
        make_writable(&path).unwrap();
        assert_eq!(fs::metadata(path.join("go/pkg")).unwrap().permissions().mode() & 0o777, 0o700);
        let folder = home.folder().to_owned();
        drop(home);
        assert!(!path.exists() && !folder.exists());
    }
}

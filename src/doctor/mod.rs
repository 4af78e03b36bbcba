//! Whether this machine has what captures and replays need: Nix, a store, a port, an inventory, and clients that come.

mod clients;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
};

use serde::Serialize;

use crate::{
    inventory::{self, ReadError},
    proxy::Listener,
    store::Stores,
    text::{printable, what_and_hint},
};

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it is.
    pub state: State,
    /// What was found, in words.
    pub text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How it is with what was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should be.
    Good,
    /// Something will not work as it is, which not everybody needs.
    Warning,
    /// No capture and no replay works.
    Bad,
}

impl Finding {
    fn good(text: String) -> Self {
        Self { state: State::Good, text, hint: None }
    }

    fn bad(error: &impl ToString) -> Self {
        let text = error.to_string();
        let (text, hint) = what_and_hint(&text);
        Self { state: State::Bad, text: text.to_owned(), hint: hint.map(str::to_owned) }
    }

    fn with_hint(state: State, text: String, hint: &str) -> Self {
        Self { state, text, hint: Some(hint.to_owned()) }
    }
}

/// Checks everything; `inventory` is the file that other commands would read.
pub async fn check(inventory: &Path, stores: &Stores) -> Vec<Finding> {
    let mut findings = vec![nix(stores), embedded(stores), port().await];
    findings.extend(of_inventory(inventory));
    match clients::check().await {
        Ok(clients) => findings.extend(clients),
        Err(error) => findings.push(Finding::with_hint(
            State::Bad,
            format!("the proxy cannot start: {error}"),
            "the folder for temporary files ($TMPDIR, else /tmp) has to be writable",
        )),
    }
    findings
}

/// Which Nix there is, and whether bodies go to its store.
fn nix(stores: &Stores) -> Finding {
    let version = Command::new("nix-store").arg("--version").output().ok().filter(|output| output.status.success());
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    match (version, stores.nix_store()) {
        (Some(version), Some(store)) => {
            Finding::good(format!("{}; bodies go to {}", printable(&version), store.dir().display()))
        }
        (Some(version), None) => Finding::with_hint(
            State::Warning,
            format!("{}, but bodies do not go to its store", printable(&version)),
            "leave out --store, BUILDPROXY_STORE and --no-nix-store, and set no NIX_STORE_DIR of your own",
        ),
        (None, _) => Finding::with_hint(
            State::Warning,
            "there is no Nix: bodies go to the embedded store".to_owned(),
            "captures and replays work without; packages are built where there is one",
        ),
    }
}

fn embedded(stores: &Stores) -> Finding {
    let store = stores.embedded();
    match store.prepare() {
        Ok(()) => Finding::good(format!("the embedded store {} can be written", store.dir().display())),
        Err(error) => Finding::bad(&error),
    }
}

async fn port() -> Finding {
    match Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await {
        Ok(listener) => Finding::good(format!("a port can be opened: {}", listener.local_addr())),
        Err(error) => Finding::with_hint(
            State::Bad,
            format!("no port can be opened on 127.0.0.1: {error}"),
            "in a sandbox of Darwin, a package needs __darwinAllowLocalNetworking = true",
        ),
    }
}

/// The inventory, where there is one.
fn of_inventory(path: &Path) -> Option<Finding> {
    let shown = path.display();
    match inventory::read(path) {
        Ok(inventory) => {
            let count = inventory.entries.len();
            let noun = if count == 1 { "entry" } else { "entries" };
            Some(Finding::good(format!("{shown} can be read: {count} {noun}")))
        }
        Err(ReadError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => Some(Finding::bad(&error)),
    }
}

//! `buildproxy push`.

use std::ffi::OsString;

use super::{Common, DONE, FAILED, INCOMPLETE, USAGE, output};
use crate::{
    capture,
    fetch::Outside,
    inventory::Inventory,
    push::{self, Closure},
    store::{
        deposit::Deposit,
        nix::{NixPlace, NixStore},
        path::{StorePath, StorePathName},
    },
    url::without_userinfo,
};

/// Copy the bodies that are in stores to a binary cache of Nix
#[derive(clap::Args)]
#[command(after_help = "Example:
  buildproxy push --to ssh://cache.example.org

Any store that `nix copy --to` knows will do: file://, ssh://, s3://, http://, with its settings (`?compression=zstd`, \
`?secret-key=FILE`) in the URL, and Nix configured as it is. What is only in the embedded store is put into the Nix \
store first. Where a body is missing nothing is copied, and the exit code is 4; it is 3 where `nix copy` fails.")]
pub struct Push {
    /// The store to copy to, as `nix copy --to` takes it
    #[arg(long, value_name = "URL")]
    to: OsString,
    /// Print the store paths that are copied as JSON on stdout
    #[arg(long)]
    json: bool,
}

impl Push {
    pub fn run(self, common: &Common) -> u8 {
        self.try_run(common).unwrap_or_else(|code| code)
    }

    fn try_run(self, common: &Common) -> Result<u8, u8> {
        if common.no_nix_store {
            output::error(
                &"`push` copies from the Nix store, which `--no-nix-store` leaves out; hint: run it without that",
            );
            return Err(USAGE);
        }
        if self.to.is_empty() {
            output::error(
                &"--to names no store; hint: `ssh://HOST`, `s3://BUCKET`, `file:///FOLDER` and whatever else `nix copy` takes",
            );
            return Err(USAGE);
        }
        // What is printed may be kept in a log.
        let to = without_userinfo(&self.to.to_string_lossy());
        let inventory = common.read_inventory()?;
        let nix = nix_store()?;
        let files = common.body_files();
        let closure = push::closure(&inventory, &files, &nix).map_err(failed)?;
        if !closure.missing.is_empty() {
            return Err(say_missing(&closure));
        }
        if !closure.objects.is_empty() {
            add(&closure, &nix, Deposit::into_nix(Some(nix.clone()), files.stores.embedded().clone()))?;
            let object = object(&inventory, &closure, &nix, common)?;
            // Nix has said why on stderr.
            nix.copy(&object, &self.to, common.quiet).map_err(failed)?;
        }
        if self.json {
            let paths: Vec<String> = closure.objects.iter().map(StorePath::to_absolute_path).collect();
            output::json(&serde_json::json!({ "to": to, "paths": paths }));
        }
        if !common.quiet {
            let objects = output::count(closure.objects.len(), "store path", "store paths");
            output::done("pushed", format!("{objects} to {to}"));
        }
        Ok(DONE)
    }
}

fn failed(error: impl std::error::Error) -> u8 {
    output::error(&error);
    FAILED
}

/// The Nix store, whatever `--store` says: that is where bodies are taken from.
fn nix_store() -> Result<NixStore, u8> {
    let place = NixPlace::of(&|name| std::env::var_os(name));
    NixStore::open(&place).ok_or_else(|| {
        let dir = place.dir.display();
        output::error(&format!("`push` needs Nix: there is no `nix-store` in PATH that could put files into {dir}"));
        output::hint(
            "install Nix, or say by NIX_REMOTE where its store is; NIX_STORE_DIR has to be /nix/store, or unset",
        );
        FAILED
    })
}

fn say_missing(closure: &Closure) -> u8 {
    for missing in &closure.missing {
        output::error(&format!("{}: {}", missing.url, missing.reason));
    }
    output::say("nothing was pushed");
    INCOMPLETE
}

/// Puts into the Nix store what is only elsewhere.
fn add(closure: &Closure, nix: &NixStore, mut deposit: Deposit) -> Result<(), u8> {
    deposit.add(&closure.outside.iter().map(Outside::as_new).collect::<Vec<_>>());
    match deposit.refusal() {
        None => Ok(()),
        Some(refusal) => {
            output::error(&format!("{} does not take the bodies: {refusal}", nix.dir().display()));
            Err(FAILED)
        }
    }
}

/// The object that refers to the whole closure: the one that keeps it beside the inventory, where that can be written.
fn object(inventory: &Inventory, closure: &Closure, nix: &NixStore, common: &Common) -> Result<StorePath, u8> {
    match capture::keep_beside(nix, inventory, &common.inventory_file()) {
        Ok(Some(object)) => return Ok(object),
        Ok(None) => {}
        Err(error) => output::warning(capture::not_kept(&error)),
    }
    nix.list_object(&StorePathName::sanitized("buildproxy-inventory"), &closure.objects).map_err(failed)
}

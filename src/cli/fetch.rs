//! `buildproxy fetch`.

use super::{Common, DONE, FAILED, FOUND, block_on, output};
use crate::{
    capture::{Origin, TrustRoots},
    fetch,
};

/// Download the bodies that are missing from the store, each checked against its hash
#[derive(clap::Args)]
#[command(after_help = "Example:
  buildproxy fetch -i inventory.toml

For people without Nix: with it, `nix build` fetches them. Exit code 1 where a body could not be had
or is not the one that the inventory pins.")]
pub struct Fetch {}

impl Fetch {
    pub fn run(self, common: &Common) -> u8 {
        self.try_run(common).unwrap_or_else(|code| code)
    }

    fn try_run(self, common: &Common) -> Result<u8, u8> {
        let inventory = common.read_inventory()?;
        let files = common.body_files();
        let store = files.stores.embedded();
        let missing = fetch::missing(&inventory, &files);
        let (count, total) = (missing.len(), missing.iter().map(|wanted| wanted.size).sum());
        store.prepare().map_err(|error| {
            output::error(&error);
            FAILED
        })?;
        let origin = anonymous_origin()?;
        let progress = output::progress(total, "fetching", common.quiet);
        let results = {
            let progress = progress.clone();
            block_on(async {
                let results = fetch::fetch(missing, store, &origin, move |bytes| progress.inc(bytes)).await;
                results.map_err(|error| {
                    output::error(&format!("cannot write to the store {}: {error}", store.dir().display()));
                    FAILED
                })
            })?
        };
        progress.finish_and_clear();
        let errors: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        errors.iter().for_each(|error| output::error(error));
        if !common.quiet {
            let fetched: u64 = results.iter().flatten().map(|wanted| wanted.size).sum();
            let bodies = output::count(count - errors.len(), "body", "bodies");
            output::say(match count {
                0 => format!("{} nothing: every body that can be fetched is there", output::bold("fetched")),
                _ => format!(
                    "{} {bodies}, {}, into {}",
                    output::bold("fetched"),
                    output::bytes(fetched),
                    store.dir().display()
                ),
            });
        }
        Ok(if errors.is_empty() { DONE } else { FOUND })
    }
}

/// A client that asks as anybody can.
pub fn anonymous_origin() -> Result<Origin, u8> {
    let roots = TrustRoots::load(&|name| std::env::var_os(name));
    Origin::following_redirects(&roots).map_err(|error| {
        output::error(&error);
        FAILED
    })
}

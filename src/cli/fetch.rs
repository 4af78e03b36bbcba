//! `buildproxy fetch`.

use super::{Common, DONE, FAILED, FOUND, bars::Bar, block_on, output};
use crate::{
    capture::{self, Origin, TrustRoots},
    fetch::{self, FetchError, Wanted},
    inventory::{BodyFiles, Inventory},
    store::deposit::{Deposit, NewBody},
};

/// Download the bodies that are missing from the store, each checked against its hash
#[derive(clap::Args)]
#[command(after_help = "Example:
  buildproxy fetch -i inventory.toml

Where there is a Nix store they go there, with those that are only in the embedded one, and are kept from its garbage \
collection as long as the inventory exists. Exit code 1 where a body could not be had or is not the one that the \
inventory pins.")]
pub struct Fetch {}

impl Fetch {
    pub fn run(self, common: &Common) -> u8 {
        self.try_run(common).unwrap_or_else(|code| code)
    }

    fn try_run(self, common: &Common) -> Result<u8, u8> {
        let inventory = common.read_inventory()?;
        let files = common.body_files();
        let mut deposit = Deposit::new(&files.stores);
        deposit.embedded().prepare().map_err(|error| {
            output::error(&error);
            FAILED
        })?;
        let mut missing = fetch::missing(&inventory, &files);
        let (moved, broken) = into_nix_store(&inventory, &files, &mut deposit);
        missing.extend(broken);
        let results = download(missing, &mut deposit, common)?;
        let errors: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        errors.iter().for_each(|error| output::error(error));
        let kept = files.stores.nix_store().map(|nix| capture::keep_beside(&nix, &inventory, &common.inventory_file()));
        let warning = deposit.warning().or_else(|| kept?.err().map(|error| capture::not_kept(&error)));
        if !common.quiet {
            print_summary(&results, moved, &deposit, &files);
            warning.iter().for_each(output::warning);
        }
        Ok(if errors.is_empty() { DONE } else { FOUND })
    }
}

fn download(missing: Vec<Wanted>, deposit: &mut Deposit, common: &Common) -> Result<Vec<Fetched>, u8> {
    let origin = anonymous_origin()?;
    let total = missing.iter().map(|one| one.size).sum();
    let progress = Bar::new("fetching", Some(total), common.quiet);
    let counter = progress.counter();
    let store = deposit.embedded().dir().to_owned();
    block_on(async {
        let results = fetch::fetch(missing, deposit, &origin, counter).await;
        results.map_err(|error| {
            output::error(&format!("cannot write to the store {}: {error}", store.display()));
            FAILED
        })
    })
}

type Fetched = Result<Wanted, FetchError>;

/// Puts what is here already into the Nix store, too. Gives how many bodies that were, and those that have to be downloaded
/// although a file is in their place.
fn into_nix_store(inventory: &Inventory, files: &BodyFiles, deposit: &mut Deposit) -> (usize, Vec<Wanted>) {
    let Some(nix) = deposit.nix() else { return (0, Vec::new()) };
    match fetch::outside(inventory, files, nix) {
        Ok((outside, broken)) => {
            deposit.add(&outside.iter().map(fetch::Outside::as_new).collect::<Vec<NewBody>>());
            (deposit.count_in_nix(), broken)
        }
        Err(error) => {
            deposit.refuse(error);
            (0, Vec::new())
        }
    }
}

fn print_summary(results: &[Fetched], moved: usize, deposit: &Deposit, files: &BodyFiles) {
    let nix_dir = files.stores.nix_store_dir().filter(|_| deposit.count_in_nix() > 0);
    let embedded = deposit.embedded().dir();
    let dir = nix_dir.filter(|_| deposit.refusal().is_none()).unwrap_or(embedded).display();
    let fetched: Vec<&Wanted> = results.iter().flatten().collect();
    if moved > 0 {
        output::done("put", format!("{} that had been fetched before, into {dir}", bodies(moved)));
    }
    let size = output::bytes(fetched.iter().map(|one| one.size).sum());
    output::done(
        "fetched",
        match results.len() {
            0 => "nothing: every body that can be fetched is there".to_owned(),
            _ => format!("{}, {size}, into {dir}", bodies(fetched.len())),
        },
    );
}

fn bodies(count: usize) -> String {
    output::count(count, "body", "bodies")
}

/// A client that asks as anybody can.
pub fn anonymous_origin() -> Result<Origin, u8> {
    let roots = TrustRoots::load(&|name| std::env::var_os(name));
    Origin::following_redirects(&roots).map_err(|error| {
        output::error(&error);
        FAILED
    })
}

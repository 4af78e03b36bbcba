//! `buildproxy import`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::{Common, DONE, FAILED, FOUND, USAGE, block_on, capture, output};
use crate::{
    capture::{CaptureError, Retelling, RetoldOptions, Summary, UrlGlobs},
    import::{self, Format, ImportError, har::Unheard, listed::List, mitm_cache, nix_buildproxy},
    inventory::{self, MatchRules, current_system},
    text::printable,
};

/// Take over what other programs recorded: HAR, mitm-cache's lock files, nix-buildproxy's lists
#[derive(clap::Args)]
#[command(after_help = "Examples:
  buildproxy import browser.har
  buildproxy import proxy_content.nix -o inventory.toml
  mitmdump -n -r flows --set hardump=flows.har && buildproxy import flows.har

The rules of a capture hold: redirects become chains, secrets stay out, bodies go to the store or beside
the inventory, which is added to where it is there. The lists of mitm-cache and nix-buildproxy have only
the hashes of bodies: those that are in no store are downloaded and checked, because an inventory has
their sizes. What cannot be taken over is listed at the end; exit code 1 where there is such.")]
pub struct Import {
    /// The file to import
    file: PathBuf,
    /// Where it goes [default: the inventory, `-i`]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What the file is [default: what it looks like]
    #[arg(long, value_name = "FORMAT")]
    from: Option<From>,
    /// Download nothing: leave out what is in no store
    #[arg(long)]
    no_fetch: bool,
    /// Take answers to requests that carried credentials, for URLs that match; kept as files, not fetched
    #[arg(long, value_name = "URL-GLOB")]
    allow_private: Vec<String>,
    /// The Nix system that it was recorded on, if not this one
    #[arg(long, value_name = "SYSTEM")]
    system: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum From {
    /// HAR 1.2, of browsers and mitmproxy
    Har,
    /// A lock file of mitm-cache, or of nixpkgs for Gradle
    MitmCache,
    /// proxy_content.nix
    NixBuildproxy,
}

impl Import {
    pub fn run(self, common: &Common) -> u8 {
        self.try_run(common).unwrap_or_else(|code| code)
    }

    fn try_run(self, common: &Common) -> Result<u8, u8> {
        let target = self.output.clone().unwrap_or_else(|| common.inventory.clone());
        let format = match self.from {
            Some(From::Har) => Format::Har,
            Some(From::MitmCache) => Format::MitmCache,
            Some(From::NixBuildproxy) => Format::NixBuildproxy,
            None => import::recognise(&self.file).map_err(|error| usage(&error))?,
        };
        let list = self.list(format)?;
        let match_rules = list.as_ref().map(|list| list.match_rules.clone()).unwrap_or_default();
        self.check_rules(&match_rules, &target)?;
        let options = RetoldOptions {
            inventory: target.clone(),
            stores: common.stores(),
            allow_private: UrlGlobs::new(&self.allow_private).map_err(|error| {
                output::error(&format!("--allow-private: {error}"));
                USAGE
            })?,
            system: self.system.clone().unwrap_or_else(current_system),
            match_rules,
        };
        let retelling = Retelling::start(options).map_err(|error| capture_failed(&error))?;
        let told = match list {
            None => import::tell_har(&self.file, &retelling).map_err(|error| usage(&error)),
            Some(list) => self.tell(list, &retelling, common),
        };
        let unheard = match told {
            Ok(unheard) => unheard,
            Err(code) => {
                retelling.abandon().map_err(|error| capture_failed(&error))?;
                return Err(code);
            }
        };
        let summary = retelling.finish().map_err(|error| capture_failed(&error))?;
        let is_whole = unheard.is_empty() && summary.left_out.is_empty();
        say(&summary, &unheard, &target, common);
        Ok(if is_whole { DONE } else { FOUND })
    }

    /// What the file lists, where it is no HAR.
    fn list(&self, format: Format) -> Result<Option<List>, u8> {
        let damaged = |reason: String| usage(&ImportError::Damaged { path: self.file.clone(), reason });
        match format {
            Format::Har => Ok(None),
            Format::NixBuildproxy => nix_buildproxy::read(&self.file).map(Some).map_err(damaged),
            Format::MitmCache => {
                let text = std::fs::read_to_string(&self.file)
                    .map_err(|source| usage(&ImportError::Io { path: self.file.clone(), source }))?;
                mitm_cache::read(&text).map(Some).map_err(damaged)
            }
        }
    }

    /// Rules of an import would change what is there already, and are not added to it.
    fn check_rules(&self, rules: &MatchRules, target: &Path) -> Result<(), u8> {
        if *rules == MatchRules::default() || !target.exists() {
            return Ok(());
        }
        let there = inventory::read(target).map_err(|error| usage(&error))?;
        if rules.ignore_query.iter().all(|glob| there.match_rules.ignore_query.contains(glob)) {
            return Ok(());
        }
        output::error(&format!(
            "{} compares requests without their query, and the inventory {} does not",
            self.file.display(),
            target.display()
        ));
        output::hint("import into a file of its own (`-o other.toml`), then `buildproxy merge other.toml`");
        Err(USAGE)
    }

    /// Downloads what is in no store, and tells it all.
    fn tell(&self, list: List, retelling: &Retelling, common: &Common) -> Result<Vec<Unheard>, u8> {
        let stores = common.stores();
        let absent = if self.no_fetch { Vec::new() } else { list.absent(&stores) };
        let mut fetched = Vec::new();
        if !absent.is_empty() {
            let origin = super::fetch::anonymous_origin()?;
            let progress = output::counted_progress("fetching", common.quiet);
            let bar = progress.clone();
            let results =
                block_on(async { Ok(List::fetch(absent, retelling, &origin, move |bytes| bar.inc(bytes)).await) })?;
            progress.finish_and_clear();
            fetched =
                results.into_iter().map(|(number, one)| (number, one.map_err(|error| error.to_string()))).collect();
        }
        Ok(list.tell(fetched, &stores, retelling))
    }
}

fn usage(error: &dyn std::fmt::Display) -> u8 {
    output::error(error);
    USAGE
}

fn capture_failed(error: &CaptureError) -> u8 {
    output::error(error);
    if error.is_usage() { USAGE } else { FAILED }
}

fn say(summary: &Summary, unheard: &[Unheard], target: &Path, common: &Common) {
    for Unheard { request, reason } in unheard {
        output::warning(printable(&format!("{request} is not imported: {reason}")));
    }
    capture::omissions(&summary.left_out).into_iter().for_each(output::warning);
    if common.quiet {
        return;
    }
    output::done("imported", capture::answers(&summary.recorded));
    capture::say_changes(&summary.changes);
    let entries = output::count(summary.total, "entry", "entries");
    output::done("wrote", format!("{} ({entries})", target.display()));
    summary.warning.iter().for_each(output::warning);
}

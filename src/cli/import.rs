//! `buildproxy import`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::{Common, DONE, FAILED, FOUND, USAGE, bars::Bar, block_on, capture, kept, no_glob, output};
use crate::{
    capture::{CaptureError, Retelling, RetoldOptions, Summary, UrlGlobs},
    import::{self, Format, ImportError, Input, har::Unheard, listed::List, mitm_cache, nix_buildproxy},
    inventory::{self, MatchRules, current_system},
    secrets,
    text::printable,
};

/// Take over what other programs recorded: HAR, mitm-cache's lock files, nix-buildproxy's lists
#[derive(clap::Args)]
#[command(after_help = "Examples:
  buildproxy import browser.har
  buildproxy import proxy_content.nix -o inventory.toml
  mitmdump -n -r flows --set hardump=flows.har && buildproxy import flows.har

The rules of a capture hold: redirects become chains, secrets stay out, bodies go to the store or beside the \
inventory, which is added to where it is there. The lists of mitm-cache and nix-buildproxy have only the hashes of \
bodies: those that are in no store are downloaded and checked, because an inventory has their sizes. What cannot be \
taken over is listed at the end; exit code 1 where there is such.")]
pub struct Import {
    /// The file to import, `-` for the standard input
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
    /// Print what was imported and what was not as JSON
    #[arg(long)]
    json: bool,
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

/// What there is to take in: exchanges that are still to be read, or a list.
enum Taken {
    Har(Input),
    List(List),
}

impl Import {
    pub fn run(self, common: &Common) -> u8 {
        self.try_run(common).unwrap_or_else(|code| code)
    }

    fn try_run(self, common: &Common) -> Result<u8, u8> {
        let target = self.output.clone().unwrap_or_else(|| common.inventory.clone());
        let input = Input::open(&self.file).map_err(|error| usage(&error))?;
        let format = match self.from {
            Some(From::Har) => match input.recognise() {
                // What holds a HAR file, or can be made one, is none yet.
                Err(error @ (ImportError::IsArchive(_) | ImportError::IsFlows(_))) => return Err(usage(&error)),
                _ => Format::Har,
            },
            Some(From::MitmCache) => Format::MitmCache,
            Some(From::NixBuildproxy) => Format::NixBuildproxy,
            None => input.recognise().map_err(|error| usage(&error))?,
        };
        let source = self.source(input, format)?;
        let match_rules = match &source {
            Taken::Har(_) => MatchRules::default(),
            Taken::List(list) => list.match_rules.clone(),
        };
        self.check_rules(&match_rules, &target)?;
        let options = RetoldOptions {
            inventory: target.clone(),
            stores: common.stores(),
            allow_private: UrlGlobs::new(&self.allow_private).map_err(|error| no_glob("--allow-private", &error))?,
            system: self.system.clone().unwrap_or_else(current_system),
            match_rules,
        };
        let retelling = Retelling::start(options).map_err(|error| capture_failed(&error))?;
        let told = match source {
            Taken::Har(input) => import::tell_har(input, &retelling).map_err(|error| usage(&error)),
            Taken::List(list) => self.tell(list, &retelling, common),
        };
        let unheard = match told {
            Ok(unheard) => unheard,
            Err(code) => {
                retelling.abandon().map_err(|error| capture_failed(&error))?;
                return Err(code);
            }
        };
        let summary = retelling.finish().map_err(|error| capture_failed(&error))?;
        let is_whole = unheard.iter().all(|one| one.is_needless) && summary.left_out.is_empty();
        if self.json {
            output::json(&as_json(&summary, &unheard));
        }
        say(&summary, &unheard, &target, common);
        Ok(if is_whole { DONE } else { FOUND })
    }

    /// What there is to take in.
    fn source(&self, input: Input, format: Format) -> Result<Taken, u8> {
        let damaged = |reason: String| usage(&ImportError::damaged(self.file.clone(), &reason));
        match format {
            Format::Har => Ok(Taken::Har(input)),
            Format::NixBuildproxy => nix_buildproxy::read(input.path()).map(Taken::List).map_err(damaged),
            Format::MitmCache => {
                let text = input.into_text().map_err(|error| usage(&error))?;
                mitm_cache::read(&text).map(Taken::List).map_err(damaged)
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
            let progress = Bar::new("fetching", None, common.quiet);
            let results = block_on(async { Ok(List::fetch(absent, retelling, &origin, progress.counter()).await) })?;
            drop(progress);
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

fn as_json(summary: &Summary, unheard: &[Unheard]) -> serde_json::Value {
    let unheard = unheard.iter().map(|one| {
        let Unheard { request, reason, is_needless } = one;
        serde_json::json!({ "request": secrets::redacted(request), "reason": reason, "needless": is_needless })
    });
    let left_out = summary.left_out.iter().map(|one| {
        let request = format!("{} {}", one.method, one.url);
        serde_json::json!({ "request": secrets::redacted(&request), "reason": one.reason.to_string(), "needless": false })
    });
    serde_json::json!({
        "answers": summary.recorded.len(),
        "entries": summary.total,
        "left-out": unheard.chain(left_out).collect::<Vec<_>>(),
    })
}

fn say(summary: &Summary, unheard: &[Unheard], target: &Path, common: &Common) {
    for Unheard { request, reason, .. } in unheard {
        // Each for itself: a URL can be so long that no reason would fit behind it.
        let (request, reason) = (printable(&secrets::redacted(request)), printable(reason));
        output::warning(format!("{request} is not imported: {reason}"));
    }
    capture::omissions(&summary.left_out).into_iter().for_each(output::warning);
    if common.quiet {
        return;
    }
    capture::recovered(summary);
    output::done("imported", capture::answers(&summary.recorded));
    capture::say_changes(&summary.changes);
    kept::sequences(&summary.sequences).into_iter().for_each(output::warning);
    kept::large(&summary.recorded, summary.beside).into_iter().for_each(output::warning);
    kept::say_ignored(&summary.ignored);
    let entries = output::count(summary.total, "entry", "entries");
    output::done("wrote", format!("{} ({entries})", target.display()));
    summary.warning.iter().for_each(output::warning);
}

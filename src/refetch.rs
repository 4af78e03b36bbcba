//! Whether the origins still give a stranger what an inventory says that they do, and what to do where they do not.

use std::{collections::HashMap, fmt};

use http::StatusCode;
use serde::Serialize;

use crate::{
    capture::Origin,
    fetch::{self, FetchError, Wanted, wants_credentials},
    inventory::{Entry, Inventory, Source, Why, pinned_by_redirect},
    store::hash::NixHash,
};

/// What became of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The same bytes.
    Same,
    /// Other bytes.
    Changed,
    /// Nothing is there any more.
    Gone,
    /// The origin gives it only to those it knows.
    NeedsCredentials,
    /// The origin could not be asked, or did not answer as it should; that can be better tomorrow.
    Unreachable,
}

impl Verdict {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Self; 5] = [Self::Same, Self::Changed, Self::Gone, Self::NeedsCredentials, Self::Unreachable];

    fn of(result: &Result<(), FetchError>) -> Self {
        match result {
            Ok(()) => Self::Same,
            Err(FetchError::Changed { .. }) => Self::Changed,
            Err(FetchError::Status { status, .. }) if wants_credentials(*status) => Self::NeedsCredentials,
            Err(FetchError::Status { status: StatusCode::NOT_FOUND | StatusCode::GONE, .. }) => Self::Gone,
            Err(FetchError::Status { status: StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS, .. }) => Self::Gone,
            Err(
                FetchError::Status { .. }
                | FetchError::Origin { .. }
                | FetchError::Silent { .. }
                | FetchError::Store { .. }
                | FetchError::Write { .. },
            ) => Self::Unreachable,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "same",
            Self::Changed => "changed",
            Self::Gone => "gone",
            Self::NeedsCredentials => "needs credentials",
            Self::Unreachable => "unreachable",
        })
    }
}

/// What to do about a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "action")]
pub enum Proposal {
    /// Fetch it from where its redirects name a version; that gives the same bytes.
    FetchFrom {
        /// There.
        url: String,
    },
    /// Keep the recorded bytes with the inventory.
    Keep {
        /// What could be done besides, where there is something.
        besides: Option<&'static str>,
    },
    /// Let Nix have what the origin wants, or keep the bytes.
    Credentials,
    /// Ask again.
    Later,
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FetchFrom { url } => {
                write!(
                    f,
                    "write `fetch = \"{url}\"` into its body: its redirects lead there, and it gives the same bytes"
                )
            }
            Self::Keep { besides } => {
                f.write_str("keep the recorded bytes: `buildproxy move --to file`")?;
                besides.iter().try_for_each(|besides| write!(f, "; or {besides}"))
            }
            Self::Credentials => f.write_str(
                "keep the recorded bytes: `buildproxy move --to file`; or let Nix log in, by `netrc-file` or by \
                 `impureEnvVars` of a derivation, or use `requireFile`",
            ),
            Self::Later => f.write_str("ask again later"),
        }
    }
}

/// One URL that was asked.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Asked {
    /// The URL.
    pub url: String,
    /// The entries that it is for, counted from 0.
    pub entries: Vec<usize>,
    /// What became of it.
    pub verdict: Verdict,
    /// What happened, with what was expected; empty where it is the same.
    pub message: String,
    /// What to do, where there is something to be done.
    pub proposal: Option<Proposal>,
    /// Whether `--fix` did it.
    pub fixed: bool,
}

/// Asks for every `fetch` body of `inventory`, each URL once, a few at a time, in the order of the file. `progress` is told
/// how many bytes more have come.
pub async fn refetch(
    inventory: &Inventory,
    origin: &Origin,
    progress: impl Fn(u64) + Clone + Send + 'static,
) -> Vec<Asked> {
    let entries = of_each(inventory);
    let results = fetch::check(fetch::all(inventory), origin, progress.clone()).await;
    let mut all: Vec<(Vec<usize>, Wanted, Result<(), FetchError>)> = results
        .into_iter()
        .map(|(wanted, result)| {
            let of = entries.get(&(wanted.url.clone(), wanted.hash)).cloned().unwrap_or_default();
            (of, wanted, result)
        })
        .collect();
    all.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    let pinned = pinned(inventory, &all, origin, progress).await;
    let asked = |(entries, wanted, result): (Vec<usize>, Wanted, Result<(), FetchError>)| {
        let verdict = Verdict::of(&result);
        let first = entries.first().and_then(|&index| inventory.entries.get(index));
        let known = pinned.get(&wanted.url).cloned();
        let proposal = first.and_then(|entry| propose(verdict, entry, known));
        let message = result.err().map(|error| error.to_string()).unwrap_or_default();
        Asked { url: wanted.url, entries, verdict, message, proposal, fixed: false }
    };
    all.into_iter().map(asked).collect()
}

/// The entries that each body is of, by the URL that is asked and the hash.
fn of_each(inventory: &Inventory) -> HashMap<(String, NixHash), Vec<usize>> {
    let mut entries: HashMap<(String, NixHash), Vec<usize>> = HashMap::new();
    for (index, entry) in inventory.entries.iter().enumerate() {
        if let Some(wanted) = fetch::wanted(entry) {
            entries.entry((wanted.url, wanted.hash)).or_default().push(index);
        }
    }
    entries
}

/// For what changed or is gone, the URL on the way of its redirects that names a version, where that gives the same bytes.
async fn pinned(
    inventory: &Inventory,
    all: &[(Vec<usize>, Wanted, Result<(), FetchError>)],
    origin: &Origin,
    progress: impl Fn(u64) + Clone + Send + 'static,
) -> HashMap<String, String> {
    let mut candidates = HashMap::new();
    for (entries, wanted, result) in all {
        let entry = entries.first().and_then(|&index| inventory.entries.get(index));
        let is_lost = matches!(Verdict::of(result), Verdict::Changed | Verdict::Gone);
        let own = entry.filter(|entry| is_lost && entry.url.as_str() == wanted.url);
        if let Some((entry, url)) = own.and_then(|entry| Some((entry, pinned_by_redirect(entry)?))) {
            candidates.insert(url.to_string(), (wanted.url.clone(), entry));
        }
    }
    let wanted = candidates.iter().filter_map(|(url, (_, entry))| fetch::wanted_from(entry, url.clone())).collect();
    let checked = fetch::check(wanted, origin, progress).await;
    let same = checked.into_iter().filter(|(_, result)| result.is_ok());
    same.filter_map(|(wanted, _)| Some((candidates.get(&wanted.url)?.0.clone(), wanted.url))).collect()
}

fn propose(verdict: Verdict, entry: &Entry, pinned: Option<String>) -> Option<Proposal> {
    match (verdict, pinned) {
        (Verdict::Same, _) => None,
        (Verdict::Changed | Verdict::Gone, Some(url)) => Some(Proposal::FetchFrom { url }),
        (Verdict::Changed | Verdict::Gone, None) => {
            let rule = Why::of(entry, crate::inventory::Seen { anonymous: true, changed: false });
            let besides = match rule {
                Why::Moving => Some("let the build ask for a commit or a version instead, and capture that"),
                _ if verdict == Verdict::Changed => {
                    Some("record what is there now: `buildproxy capture --only URL-GLOB -- CMD`")
                }
                _ => Some("name another URL that gives these bytes: `fetch = \"URL\"` in its body"),
            };
            Some(Proposal::Keep { besides })
        }
        (Verdict::NeedsCredentials, _) => Some(Proposal::Credentials),
        (Verdict::Unreachable, _) => Some(Proposal::Later),
    }
}

/// Does in `inventory` what needs no bytes moved: fetches from URLs that were seen to give the same.
pub fn fetch_from_pinned(inventory: &mut Inventory, asked: &mut [Asked]) {
    for one in asked {
        let Some(Proposal::FetchFrom { url }) = &one.proposal else { continue };
        for &index in &one.entries {
            if let Some(body) = inventory.entries.get_mut(index).and_then(|entry| entry.body.as_mut()) {
                body.source = Source::Fetch(Some(url.clone()));
                one.fixed = true;
            }
        }
    }
}

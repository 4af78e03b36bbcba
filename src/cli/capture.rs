//! `buildproxy capture`.

use std::{collections::BTreeSet, ffi::OsString, future, sync::Arc, time::Duration};

use tokio::{task::JoinHandle, time::sleep};

use super::{
    Common, DONE, FAILED, USAGE, block_on, child,
    isolation::Isolation,
    kept,
    listen::Listen,
    logging::{AccessLogOption, LogFormat},
    no_glob, output,
    page::Page,
    progress,
    signals::Signals,
};

use crate::{
    access_log::AccessLog,
    capture::{self, CaptureOptions, LeftOut, Omission, Stopwatch, Summary, UrlGlobs, Watching},
    inventory::{self, Change, ChangeKind, Entry, Source},
    isolate,
    proxy::ListenOn,
    replay::current_system,
    report::{
        self,
        live::{self, LiveCapture},
    },
    secrets,
    text::{printable, shell_quoted},
};

/// How long a download may go on whose client has gone, once the command has ended.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may go on before people are told.
const NOTICED: Duration = Duration::from_secs(1);

/// What to do about a capture of nothing.
const NOTHING_CAME: &str = "nothing was asked of the proxy: what was needed came from a cache, or was asked for past it; \
                            `buildproxy capture --isolate -- COMMAND` gives an empty home and names what goes past the proxy";

/// Run a command (or a shell) behind the capturing proxy, then write the inventory
#[derive(clap::Args)]
#[command(after_help = "Example:
  buildproxy capture -- cmake -B build

The exit code is the command's own. Bodies go to the store; what nobody could download again goes beside the \
inventory. A capture that was killed is taken over by the next one. A download goes on when its client leaves, and is \
recorded.")]
pub struct Capture {
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    isolation: Isolation,
    #[command(flatten)]
    access_log: AccessLogOption,
    /// Record answers to requests that carried credentials, for URLs that match; kept as files, not fetched, and found
    /// whatever the credential in the query
    #[arg(long, value_name = "URL-GLOB")]
    allow_private: Vec<String>,
    /// Record only what matches, and answer everything else from the inventory, where it has it: to refresh one entry of a
    /// large build
    #[arg(long, value_name = "URL-GLOB", conflicts_with = "prune")]
    only: Vec<String>,
    /// Drop entries that this run did not ask for, unless it failed or asked for nothing; says which
    #[arg(long)]
    prune: bool,
    /// The command and its arguments [default: your shell]
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Capture {
    pub fn run(self, common: &Common) -> u8 {
        self.try_run(common).unwrap_or_else(|code| code)
    }

    fn try_run(self, common: &Common) -> Result<u8, u8> {
        let listen = self.listen.address()?;
        let stopwatch = Arc::<Stopwatch>::default();
        let live = LiveCapture { inventory: common.inventory_file(), stopwatch: Arc::clone(&stopwatch) };
        let (control, goes_on) = live::router(Arc::new(live));
        let access_log = self.access_log.start(common, true)?;
        let on_answer = access_log.as_ref().map(AccessLog::callback);
        let watching = Watching { stopwatch: Arc::clone(&stopwatch), on_answer, control: control.clone() };
        let mut options = CaptureOptions {
            inventory: common.inventory.clone(),
            stores: common.stores(),
            listen: ListenOn::Address(listen),
            allow_private: globs("--allow-private", &self.allow_private)?,
            only: globs("--only", &self.only)?,
            proxy_loopback: self.listen.proxy_loopback,
            system: current_system(),
        };
        let in_shell = self.command.is_empty();
        let command = if in_shell { shell() } else { self.command };
        let (ended, result, was_asked, failures) = block_on(async {
            let isolated = self.isolation.start(&command, listen)?;
            if let Some(isolated) = &isolated {
                options.listen = isolated.listen_on();
            }
            let capture = capture::Capture::start(options, watching).await.map_err(|error| {
                output::error(&error);
                if error.is_usage() { USAGE } else { FAILED }
            })?;
            tracing::debug!("capturing at http://{}", capture.address());
            let is_watched = !common.quiet && common.log_format == LogFormat::Text && output::is_watched();
            let page = match &isolated {
                Some(_) if is_watched => Page::show(control).await,
                None if is_watched => {
                    output::done("watch", format!("at http://{}/", capture.address()));
                    None
                }
                _ => None,
            };
            // Before the command starts: from then on there is always somebody who takes them.
            let mut signals = Signals::new().map_err(|error| {
                output::error(&format!("cannot take over signals: {error}"));
                FAILED
            })?;
            let telling = is_watched.then(|| tokio::spawn(progress::tell(Arc::clone(&stopwatch), in_shell)));
            let ended = child::run(&command, capture.environment(), isolated, &mut signals).await;
            telling.inspect(JoinHandle::abort);
            let code = ended.code;
            if self.prune && code != DONE {
                output::warning(
                    "the command failed, so nothing is pruned: it may not have asked for all that it needs",
                );
            }
            let (was_asked, failures) = (capture.was_asked(), capture.handshake_failures());
            let is_drawn = is_watched && output::stderr_has_colour();
            let give_up = async {
                tokio::select! {
                    () = patience(common.quiet || is_drawn) => {}
                    _ = signals.received() => {}
                }
            };
            drop(goes_on);
            let drawing = is_drawn.then(|| {
                tokio::spawn(async {
                    sleep(NOTICED).await;
                    let _drawn = progress::drawn(stopwatch);
                    future::pending::<()>().await;
                })
            });
            let result = capture.finish(self.prune && code == DONE, give_up).await;
            if let Some(drawing) = drawing {
                drawing.abort();
                // Only then is nothing of it left on the terminal.
                let _ = drawing.await;
            }
            if let Some(page) = page {
                page.end().await;
            }
            if let Some(log) = access_log {
                log.close().await;
            }
            Ok::<_, u8>((ended, result, was_asked, failures.list()))
        })?;
        let code = ended.code;
        let summary = result.map_err(|error| {
            output::error(&error);
            output::hint(
                "what was recorded is kept in .buildproxy beside the inventory; the next capture takes it over",
            );
            if code == DONE { FAILED } else { code }
        })?;
        if !common.quiet {
            failures.iter().for_each(|failure| output::warning(printable(&failure.to_string())));
            isolate::sentences(&ended.bypasses).into_iter().for_each(output::warning);
            print_summary(&summary, common);
            if !self.only.is_empty() && was_asked && asked_nothing(&summary) {
                output::warning("the command asked for nothing that `--only` names: globs are for whole URLs");
            }
            if !was_asked && ended.has_run && !self.isolation.isolate {
                output::hint(NOTHING_CAME);
            }
        }
        if let Err(error) = report::keep_capture(&common.inventory_file(), &summary.timeline) {
            tracing::info!("the timeline of this capture is not kept: {error}");
        }
        let not_stored = summary.left_out.iter().any(|omission| matches!(omission.reason, LeftOut::NotStored(_)));
        Ok(if code == DONE && not_stored { FAILED } else { code })
    }
}

fn globs(option: &str, patterns: &[String]) -> Result<UrlGlobs, u8> {
    UrlGlobs::new(patterns).map_err(|error| no_glob(option, &error))
}

/// The time that downloads have whose clients have left; says what is waited for where people would notice.
async fn patience(quiet: bool) {
    sleep(NOTICED).await;
    if !quiet {
        output::say(progress::WAITING);
    }
    sleep(PATIENCE - NOTICED).await;
}

/// The user's shell, which says where it is.
fn shell() -> Vec<OsString> {
    output::say("buildproxy: what you download in this shell is recorded; `exit` ends the capture");
    vec![std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into())]
}

fn print_summary(summary: &Summary, common: &Common) {
    for line in omissions(&summary.left_out) {
        output::warning(line);
    }
    recovered(summary);
    output::done("captured", answers(&summary.recorded));
    let sources = sources(&summary.recorded);
    if !sources.is_empty() {
        output::say(format!("         {sources}"));
    }
    kept::passed_through(&summary.left_out).into_iter().for_each(output::say);
    kept::reasons(&summary.kept).into_iter().for_each(output::say);
    if summary.unpruned {
        output::warning(
            "nothing is pruned, because the command asked for nothing: it may have had all of it in a cache, or gone \
             past the proxy",
        );
    }
    say_changes(&summary.changes);
    kept::say_ignored(&summary.ignored);
    let entries = output::count(summary.total, "entry", "entries");
    let bodies = summary.nix_store.as_ref().map(|dir| format!(", bodies in {}", dir.display())).unwrap_or_default();
    output::done("wrote", format!("{} ({entries}){bodies}", common.inventory.display()));
    kept::sequences(&summary.sequences).into_iter().for_each(output::warning);
    kept::large(&summary.recorded, summary.beside).into_iter().for_each(output::warning);
    summary.warning.iter().for_each(output::warning);
}

/// Whether nothing that was to be recorded was asked for.
fn asked_nothing(summary: &Summary) -> bool {
    summary.recorded.is_empty() && summary.left_out.iter().all(|omission| omission.reason == LeftOut::NotSelected)
}

/// What was taken over from those that died.
pub fn recovered(summary: &Summary) {
    if summary.recovered > 0 {
        let exchanges = output::count(summary.recovered, "exchange", "exchanges");
        output::done("recovered", format!("{exchanges} from a capture that was interrupted"));
    }
}

/// How much was recorded.
pub fn answers(recorded: &[Entry]) -> String {
    if recorded.is_empty() {
        return "nothing".to_owned();
    }
    let hosts: BTreeSet<&str> = recorded.iter().map(|entry| entry.url.authority()).collect();
    let chains = recorded.iter().filter(|entry| !entry.redirects.is_empty()).count();
    let mut parts = vec![
        format!(
            "{} from {}",
            output::count(recorded.len(), "answer", "answers"),
            output::count(hosts.len(), "host", "hosts")
        ),
        output::bytes(recorded.iter().filter_map(Entry::body_size).sum()),
    ];
    if chains > 0 {
        parts.push(output::count(chains, "redirect chain", "redirect chains"));
    }
    parts.join(", ")
}

/// Where the recorded bodies are, in words; empty where there are none.
fn sources(recorded: &[Entry]) -> String {
    let count = |wanted: fn(&Source) -> bool| {
        recorded.iter().filter_map(|entry| entry.body.as_ref()).filter(|body| wanted(&body.source)).count()
    };
    let kinds = [
        (count(|source| matches!(source, Source::Fetch(_))), "that Nix can fetch again"),
        (count(|source| matches!(source, Source::File(_))), "kept as files beside the inventory"),
        (count(|source| matches!(source, Source::Text(_))), "written into the inventory"),
    ];
    let kinds = kinds.iter().filter(|(count, _)| *count > 0).map(|(count, place)| format!("{count} {place}"));
    kinds.collect::<Vec<_>>().join(", ")
}

/// Says what differs from the inventory before, key by key. New keys are in the count.
pub fn say_changes(changes: &[Change]) {
    for change in changes {
        let (verb, reason) = match change.kind {
            ChangeKind::Added => continue,
            ChangeKind::Replaced => ("replaced", ""),
            ChangeKind::Pruned => ("pruned", ""),
            ChangeKind::Covered => ("not added", ": an entry with `match = \"prefix\"` answers it"),
        };
        output::done(verb, format!("{}{reason}", printable(&change.request)));
    }
}

/// What is not recorded and why, each once.
pub fn omissions(left_out: &[Omission]) -> Vec<String> {
    let mut said = BTreeSet::new();
    left_out
        .iter()
        .filter(|omission| omission.reason != LeftOut::NotSelected)
        .map(|Omission { method, url, reason }| {
            // Each for itself: a URL can be so long that no reason would fit behind it.
            let (url_text, reason_text) = (printable(&secrets::redacted(url.as_str())), printable(&reason.to_string()));
            let line = format!("{method} {url_text} is not recorded: {reason_text}");
            match reason {
                LeftOut::Secret(..) => format!(
                    "{line}\n  hint: if that is no secret, or one that everyone who has the inventory may know, record it with \
                     --allow-private {}",
                    shell_quoted(&kept::glob_without_secrets(url.as_str()))
                ),
                LeftOut::NeededCredentials(_) => format!(
                    "{line}\n  hint: record it with --allow-private {}; it is then kept as a file, readable for everyone \
                     who has the inventory\n  or let who builds provide it: a `fetchurl` with a netrc, or a `requireFile`, \
                     among the `extraEntries` of mkBuildproxy",
                    shell_quoted(&inventory::literal_glob(url.as_str()))
                ),
                LeftOut::Failed(_) | LeftOut::NotWhole(_) | LeftOut::NotStored(_) | LeftOut::NotSelected => line,
            }
        })
        .filter(|line| said.insert(line.clone()))
        .collect()
}

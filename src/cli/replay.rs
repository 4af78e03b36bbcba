//! `buildproxy replay`.

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

use http::StatusCode;
use rustix::process::Pid;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Common, DONE, FAILED, INCOMPLETE, USAGE, background, block_on, child,
    isolation::Isolation,
    listen::Listen,
    logging::{AccessLogOption, LogFormat},
    output,
    signals::Signals,
};
use crate::{
    access_log::AccessLog,
    inventory,
    isolate::Isolated,
    proxy::{ClientEnvironment, ListenOn, Running, StartOptions, raise_descriptor_limit},
    replay::{ReplayOptions, Replayer, Report, current_system},
    report::{
        self,
        live::{self, LiveReplay},
    },
};

/// Run a command behind the replaying proxy, or serve until SIGINT or SIGTERM
#[derive(clap::Args)]
#[command(after_help = "Examples:
  buildproxy replay -- cmake -B build
  buildproxy replay --env-file env.sh &      then: source env.sh
  eval \"$(buildproxy replay --background --parent-pid $$)\"; …; buildproxy stop

The exit code is the command's own; 4 where it succeeded although requests were missed, or a body was missing or \
damaged.")]
pub struct Replay {
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    isolation: Isolation,
    #[command(flatten)]
    access_log: AccessLogOption,
    /// The status of the answer to a request that no entry answers
    #[arg(long, value_name = "N", default_value_t = 404, value_parser = clap::value_parser!(u16).range(400..=599))]
    miss_status: u16,
    /// Do not let misses make the run fail
    #[arg(long)]
    allow_misses: bool,
    /// Hash every body before its first use, and again when its file is another or was written to
    #[arg(long)]
    check_bodies: bool,
    /// Write the environment as `export` lines to this file once the server is ready
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    env_file: Option<PathBuf>,
    /// Return once the server is ready, print the environment for `eval`, and leave the server running
    #[arg(long, conflicts_with = "command")]
    background: bool,
    /// End the server when this process ends
    #[arg(long, value_name = "PID", conflicts_with = "command", value_parser = clap::value_parser!(i32).range(1..))]
    parent_pid: Option<i32>,
    /// The Nix system whose answers are given, if not this one
    #[arg(long, value_name = "SYSTEM")]
    system: Option<String>,
    /// Print the report as JSON on stdout
    #[arg(long)]
    json: bool,
    /// Where a server in the background keeps its state
    #[arg(long, hide = true, value_name = "DIR")]
    background_state: Option<PathBuf>,
    /// The command and its arguments
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Replay {
    pub fn run(self, common: &Common) -> u8 {
        self.try_run(common).unwrap_or_else(|code| code)
    }

    fn try_run(self, common: &Common) -> Result<u8, u8> {
        let address = self.listen.address()?;
        if self.isolation.isolate && self.command.is_empty() {
            output::error(&"--isolate needs a command to isolate");
            output::hint("buildproxy replay --isolate -- COMMAND");
            return Err(USAGE);
        }
        let system = self.system.clone().unwrap_or_else(current_system);
        let index = common.open_index(&system)?;
        if self.background {
            return background::start();
        }
        let access_log = self.access_log.start(common, self.background_state.is_none())?;
        let options = ReplayOptions {
            // clap let nothing else in.
            miss_status: StatusCode::from_u16(self.miss_status).unwrap_or(StatusCode::NOT_FOUND),
            check_bodies: self.check_bodies,
            system,
        };
        let inventory = common.inventory_file();
        let replayer = Arc::new(Replayer::with_index(index, common.body_files(), options));
        let (ending, was_asked, failures) = block_on(async {
            let isolated = self.isolation.start(&self.command, address)?;
            let listen_on = isolated.as_ref().map_or(ListenOn::Address(address), Isolated::listen_on);
            let live = LiveReplay { inventory: inventory.clone(), replayer: Arc::clone(&replayer) };
            let (control, goes_on) = live::router(Arc::new(live));
            let start = StartOptions {
                listen_on,
                user_roots: None,
                proxy_loopback: self.listen.proxy_loopback,
                held_per_client: 0,
                asks_origins: false,
                on_answer: access_log.as_ref().map(AccessLog::callback),
                control,
            };
            let proxy = Running::start(start, Arc::clone(&replayer).service()).await.map_err(|error| {
                output::error(&error);
                FAILED
            })?;
            let ending = self.serve(proxy.environment(), isolated).await?;
            let (was_asked, failures) = (proxy.was_asked(), proxy.handshake_failures());
            drop(goes_on);
            proxy.stop().await;
            if let Some(log) = access_log {
                log.close().await;
            }
            Ok::<_, u8>((ending, was_asked, failures.list()))
        })?;
        let is_written_whole = self.json || self.background_state.is_some() || report::has_place(&inventory);
        let run = if is_written_whole { replayer.report() } else { replayer.summary() };
        let bypasses = if let Ending::Command(ended) = &ending { &ended.bypasses[..] } else { &[] };
        let run = run.with_failed_handshakes(&failures).with_bypasses(bypasses);
        if let Err(error) = report::keep_replay(&inventory, &run) {
            tracing::info!("the report of this replay is not kept: {error}");
        }
        let failed = matches!(&ending, Ending::Command(ended) if ended.code != DONE);
        let has_run = !matches!(&ending, Ending::Command(ended) if !ended.has_run);
        let hint = run.hint(failed, was_asked).filter(|_| has_run && !self.isolation.isolate);
        let code = match &ending {
            Ending::Command(ended) if ended.code != DONE => ended.code,
            _ if run.failed(self.allow_misses) => INCOMPLETE,
            _ => DONE,
        };
        match (&self.background_state, ending) {
            (Some(state), Ending::Parent) => background::abandoned(state),
            (Some(state), _) => {
                let hint = hint.map(|hint| format!("\nhint: {hint}\n")).unwrap_or_default();
                background::ended(state, &format!("{run}{hint}"), &run, code);
            }
            (None, _) => self.report(&run, common),
        }
        if let Some(hint) = hint.filter(|_| self.background_state.is_none() && !common.quiet) {
            output::hint(hint);
        }
        Ok(code)
    }

    /// Runs the command, or waits for the end.
    async fn serve(&self, environment: &ClientEnvironment, isolated: Option<Isolated>) -> Result<Ending, u8> {
        let failed = |what: &str, error: io::Error| {
            output::error(&format!("{what}: {error}"));
            FAILED
        };
        if !self.command.is_empty() {
            let mut signals = Signals::new().map_err(|error| failed("cannot take over signals", error))?;
            let ended = child::run(&self.command, environment, isolated, &mut signals).await;
            return Ok(Ending::Command(ended));
        }
        raise_descriptor_limit();
        let mut end = End::new(self.parent_pid).map_err(|error| failed("cannot wait for a signal", error))?;
        let lines = environment.shell_lines();
        if let Some(file) = &self.env_file {
            let written = inventory::write_output(file, |mut file| file.write_all(lines.as_bytes()));
            written.map_err(|error| failed(&format!("cannot write {}", file.display()), error))?;
        }
        if let Some(state) = &self.background_state {
            background::ready(state, &lines).map_err(|error| failed("cannot go to the background", error))?;
        } else if self.env_file.is_none() {
            output::data(&lines);
        }
        Ok(end.wait().await)
    }

    fn report(&self, report: &Report, common: &Common) {
        if self.json {
            output::json(report);
        }
        let has_warnings =
            !report.unused.is_empty() || !report.failed_handshakes.is_empty() || !report.bypasses.is_empty();
        let is_good = !report.failed(false) && !has_warnings;
        // Who collects logs wants to know of an end that was as it should be, too.
        let is_worth_saying = !is_good || common.verbose > 0 || common.log_format == LogFormat::Json;
        if is_worth_saying && !common.quiet {
            output::report(is_good, report.to_string().trim_end(), json!(report));
        }
    }
}

/// Why a run is over.
enum Ending {
    /// The command ended.
    Command(child::Ended),
    /// Somebody ended the server.
    Signal,
    /// The process ended that the server was for.
    Parent,
}

/// What ends a server without a command.
struct End {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    parent: Option<Pid>,
}

impl End {
    /// Takes over the signals from here on.
    fn new(parent: Option<i32>) -> io::Result<Self> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, parent: parent.and_then(Pid::from_raw) })
    }

    async fn wait(&mut self) -> Ending {
        let parent = async {
            match self.parent {
                Some(parent) => background::end_of_process(parent).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Ending::Signal,
            _ = self.terminate.recv() => Ending::Signal,
            () = parent => Ending::Parent,
        }
    }
}

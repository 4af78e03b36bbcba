//! A capture from its start to the written inventory.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::Router;
use rustix::fs::Access;
use tokio::sync::mpsc;

use super::{
    assemble::{Omission, Sequence},
    finish::{Beside, read_inventory, write_inventory},
    journal::{Journal, JournalError, JournalFolder},
    origin::{Origin, OriginSetupError, TrustRoots},
    policy::UrlGlobs,
    recorder::Recorder,
    service::CaptureService,
    timeline::{Stopwatch, Timeline},
};
use crate::{
    beside::Unwritable,
    inventory::{BodyFiles, Change, Entry, Inventory, ReadError, Why, index::IndexError},
    proxy::{self, AnswerCallback, ClientEnvironment, HandshakeFailures, ListenOn, Running},
    replay::{ReplayOptions, Replayer},
    store::{Stores, embedded::StoreError},
};

/// What a capture needs to know.
#[derive(Debug)]
pub struct CaptureOptions {
    /// The inventory to write or add to.
    pub inventory: PathBuf,
    /// Where bodies go, and have been until then.
    pub stores: Stores,
    /// Where the proxy listens.
    pub listen: ListenOn,
    /// Which answers that needed credentials may be recorded.
    pub allow_private: UrlGlobs,
    /// What is recorded, where that is not all. Other requests are answered from the inventory, where it has them.
    pub only: UrlGlobs,
    /// Whether loopback goes through the proxy too.
    pub proxy_loopback: bool,
    /// The Nix system that the capture is made on.
    pub system: String,
}

/// How people can look at a capture while it goes on.
#[derive(Default)]
pub struct Watching {
    /// What takes the times of the requests.
    pub stopwatch: Arc<Stopwatch>,
    /// What is told of each request that is over.
    pub on_answer: Option<AnswerCallback>,
    /// What the proxy answers for itself.
    pub control: Router,
}

/// Why a capture cannot start or end.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The inventory that is there cannot be read.
    #[error(transparent)]
    Inventory(#[from] ReadError),
    /// The inventory that is there is JSON, or compiled.
    #[error("{} is no TOML, and captures are written as TOML\n\nhint: capture into a new file: `-i inventory.toml`", .0.display())]
    IsNoToml(PathBuf),
    /// The folder of the inventory is not there.
    #[error("cannot write the inventory {}: its folder does not exist\n\nhint: make it with `mkdir -p`, or name another file with `-i`", .0.display())]
    NoFolder(PathBuf),
    /// The inventory that is there cannot be replayed from.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The store cannot take bodies.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal cannot be kept.
    #[error("cannot keep a journal beside the inventory: {0}")]
    Journal(#[from] JournalError),
    /// The proxy cannot start.
    #[error(transparent)]
    Proxy(#[from] proxy::StartError),
    /// The client that asks the origins cannot be made.
    #[error(transparent)]
    Origin(#[from] OriginSetupError),
    /// A body beside the inventory cannot be written.
    #[error(transparent)]
    Beside(#[from] Unwritable),
    /// The inventory cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl CaptureError {
    /// Whether the cause is what the user gave, rather than what happened.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Inventory(_) | Self::IsNoToml(_) | Self::NoFolder(_))
    }
}

/// What answers the requests that are not recorded; `None` where all are.
fn known(options: &CaptureOptions, inventory: Inventory) -> Result<Option<Arc<Replayer>>, IndexError> {
    if options.only.is_empty() {
        return Ok(None);
    }
    let inventory_dir = options.inventory.parent().map(Path::to_owned).unwrap_or_default();
    let files = BodyFiles { inventory_dir, stores: options.stores.clone() };
    let replay = ReplayOptions { system: options.system.clone(), ..ReplayOptions::default() };
    Replayer::new(inventory, files, replay).map(Arc::new).map(Some)
}

/// A running capture.
pub struct Capture {
    options: CaptureOptions,
    folder: JournalFolder,
    dead: Vec<Journal>,
    recorder: Arc<Recorder>,
    stopwatch: Arc<Stopwatch>,
    proxy: Running,
    running: mpsc::Receiver<Infallible>,
}

/// What a capture did.
#[derive(Debug, Default)]
pub struct Summary {
    /// The entries that this capture asked for, as recorded.
    pub recorded: Vec<Entry>,
    /// What the merge did to the inventory.
    pub changes: Vec<Change>,
    /// What is not recorded, and why.
    pub left_out: Vec<Omission>,
    /// Whether nothing was pruned, because nothing was asked for.
    pub unpruned: bool,
    /// Requests that were answered in different ways.
    pub sequences: Vec<Sequence>,
    /// Exchanges taken over from captures that died.
    pub recovered: usize,
    /// How many of the recorded bodies are not fetched again, by the rule that says so.
    pub kept: BTreeMap<Why, usize>,
    /// Query parameters that requests are now compared without, because they are credentials.
    pub ignored: Vec<String>,
    /// The number of entries in the inventory now.
    pub total: usize,
    /// The size in bytes of all files beside the inventory now.
    pub beside: u64,
    /// The folder of the Nix store, where bodies of this capture are in it.
    pub nix_store: Option<PathBuf>,
    /// What is not as it should be with the Nix store, and what to do.
    pub warning: Option<String>,
    /// When the requests came, and how long they took.
    pub timeline: Timeline,
}

impl Capture {
    /// Checks that everything can be read and written, takes over what dead captures left, and starts the proxy.
    ///
    /// # Errors
    /// Where something cannot be read, written or listened on; the inventory is as it was then.
    pub async fn start(mut options: CaptureOptions, watching: Watching) -> Result<Self, CaptureError> {
        // What belongs beside the inventory is beside the file, not beside a link to it.
        options.inventory = fs::canonicalize(&options.inventory).unwrap_or(options.inventory);
        let inventory = read_inventory(&options.inventory)?;
        if options.inventory.parent().is_some_and(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
            return Err(CaptureError::NoFolder(options.inventory));
        }
        if options.inventory.exists() && rustix::fs::access(&options.inventory, Access::WRITE_OK).is_err() {
            let source = io::ErrorKind::PermissionDenied.into();
            return Err(CaptureError::Write { path: options.inventory, source });
        }
        let known = known(&options, inventory)?;
        options.stores.embedded().prepare()?;
        let folder = JournalFolder::create(&options.inventory)?;
        let lock = folder.lock()?;
        let dead = folder.take_over(&lock)?;
        let roots = TrustRoots::load(&|name| std::env::var_os(name));
        let origin = Origin::new(&roots)?;
        let journal = folder.start(options.stores.embedded(), &lock)?;
        let recorder = Arc::new(Recorder::new(
            journal,
            options.allow_private.clone(),
            options.only.clone(),
            Arc::clone(&watching.stopwatch),
        ));
        let (service, running) = CaptureService::new(origin, Arc::clone(&recorder), known);
        let service = tower::service_fn(move |request| {
            let service = service.clone();
            async move { Ok::<_, Infallible>(service.respond(request).await) }
        });
        let start = proxy::StartOptions {
            listen_on: options.listen.clone(),
            user_roots: Some(roots.to_pem()),
            proxy_loopback: options.proxy_loopback,
            // The connection to the origin, and the file that the body is spooled into, as it is written and read.
            held_per_client: 3,
            asks_origins: true,
            on_answer: watching.on_answer,
            control: watching.control,
        };
        let proxy = match Running::start(start, service).await {
            Ok(proxy) => proxy,
            Err(error) => {
                // Empty as it is, it would be taken for the journal of a capture that died.
                recorder.journal().remove()?;
                return Err(error.into());
            }
        };
        drop(lock);
        let stopwatch = watching.stopwatch;
        Ok(Self { options, folder, dead, recorder, stopwatch, proxy, running })
    }

    /// What a command needs to go through the proxy.
    pub fn environment(&self) -> &ClientEnvironment {
        self.proxy.environment()
    }

    /// Where the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.proxy.address()
    }

    /// The TLS handshakes that failed: what those clients wanted is not recorded.
    pub fn handshake_failures(&self) -> HandshakeFailures {
        self.proxy.handshake_failures()
    }

    /// Whether a client has wanted something so far, other than to look at the run.
    pub fn was_asked(&self) -> bool {
        self.proxy.was_asked()
    }

    /// Stops the proxy, lets exchanges end whose clients have gone until `give_up` resolves, and writes the inventory;
    /// with `prune`, without the entries that this system did not ask for.
    ///
    /// # Errors
    /// Where something cannot be written. The journal then stays, and the next capture takes it over.
    pub async fn finish(self, prune: bool, give_up: impl Future<Output = ()>) -> Result<Summary, CaptureError> {
        let Self { options, folder, dead, recorder, stopwatch, proxy, mut running } = self;
        proxy.stop().await;
        tokio::select! {
            _ = running.recv() => {}
            () = give_up => {}
        }
        let unrecorded = recorder.close();
        let lock = folder.lock()?;
        let beside = Beside { folder: &folder, lock: &lock };
        let mut summary = write_inventory(&options, &beside, &dead, recorder.journal(), unrecorded, prune)?;
        for journal in dead.iter().chain([recorder.journal()]) {
            journal.remove()?;
        }
        summary.timeline = stopwatch.timeline();
        Ok(summary)
    }
}

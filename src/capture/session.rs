//! A capture from its start to the written inventory.

use std::{
    convert::Infallible,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::mpsc;

use super::{
    assemble::{Assembled, Omission, Place, StoredBody, assemble},
    exchange::RecordedBytes,
    journal::{Journal, JournalError, JournalFolder},
    origin::{Origin, OriginSetupError, TrustRoots},
    policy::AllowPrivate,
    recorder::Recorder,
    service::CaptureService,
};
use crate::{
    inventory::{self, Change, Entry, Inventory, ReadError, Source},
    proxy::{self, ClientEnvironment, HandshakeFailures, Running},
    store::embedded::{EmbeddedStore, StoreError},
};

/// What a capture needs to know.
#[derive(Debug)]
pub struct CaptureOptions {
    /// The inventory to write or add to.
    pub inventory: PathBuf,
    /// Where bodies go.
    pub store: EmbeddedStore,
    /// Where the proxy listens.
    pub listen: SocketAddr,
    /// Which answers that needed credentials may be recorded.
    pub allow_private: AllowPrivate,
    /// Whether loopback goes through the proxy too.
    pub proxy_loopback: bool,
    /// Whether entries that this system did not ask for go.
    pub prune: bool,
    /// The Nix system that the capture is made on.
    pub system: String,
}

/// Why a capture cannot start or end.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The inventory that is there cannot be read.
    #[error(transparent)]
    Inventory(#[from] ReadError),
    /// The inventory that is there is JSON.
    #[error("{} is JSON, and captures are written as TOML\n\nhint: capture into a new file: `-i inventory.toml`", .0.display())]
    IsJson(PathBuf),
    /// The folder of the inventory is not there.
    #[error("cannot write the inventory {}: its folder does not exist\n\nhint: make it with `mkdir -p`, or name another file with `-i`", .0.display())]
    NoFolder(PathBuf),
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
    /// The inventory or a body beside it cannot be written.
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
        matches!(self, Self::Inventory(_) | Self::IsJson(_))
    }
}

/// A running capture.
pub struct Capture {
    options: CaptureOptions,
    folder: JournalFolder,
    dead: Vec<Journal>,
    recorder: Arc<Recorder>,
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
    /// Exchanges taken over from captures that died.
    pub recovered: usize,
    /// The number of entries in the inventory now.
    pub total: usize,
}

impl Capture {
    /// Checks that everything can be read and written, takes over what dead captures left, and starts the proxy.
    ///
    /// # Errors
    /// Where something cannot be read, written or listened on; nothing was changed then.
    pub async fn start(options: CaptureOptions) -> Result<Self, CaptureError> {
        read_inventory(&options.inventory)?;
        if options.inventory.parent().is_some_and(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
            return Err(CaptureError::NoFolder(options.inventory));
        }
        options.store.prepare()?;
        let folder = JournalFolder::create(&options.inventory)?;
        let lock = folder.lock()?;
        let dead = folder.take_over(&lock)?;
        let roots = TrustRoots::load(&|name| std::env::var_os(name));
        let origin = Origin::new(&roots)?;
        let journal = folder.start(&options.store, &lock)?;
        let recorder = Arc::new(Recorder::new(journal, options.allow_private.clone()));
        let (service, running) = CaptureService::new(origin, Arc::clone(&recorder));
        let service = tower::service_fn(move |request| {
            let service = service.clone();
            async move { Ok::<_, Infallible>(service.respond(request).await) }
        });
        let start = proxy::StartOptions {
            address: options.listen,
            user_roots: Some(roots.to_pem()),
            proxy_loopback: options.proxy_loopback,
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
        Ok(Self { options, folder, dead, recorder, proxy, running })
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

    /// Stops the proxy, lets exchanges end for `patience` whose clients have gone, and writes the inventory.
    ///
    /// # Errors
    /// Where something cannot be written. The journal then stays, and the next capture takes it over.
    pub async fn finish(self, patience: Duration) -> Result<Summary, CaptureError> {
        let Self { options, folder, dead, recorder, proxy, mut running } = self;
        proxy.stop().await;
        if tokio::time::timeout(patience, running.recv()).await.is_err() {
            tracing::warn!("a download that nobody waits for did not end in {} s and is left out", patience.as_secs());
        }
        let _lock = folder.lock()?;
        let journals: Vec<&Journal> = dead.iter().chain([recorder.journal()]).collect();
        let summary = write_inventory(&options, &journals)?;
        for journal in journals {
            journal.remove()?;
        }
        Ok(summary)
    }
}

/// Merges what `journals` hold into the inventory, the last of them being the running capture's own.
fn write_inventory(options: &CaptureOptions, journals: &[&Journal]) -> Result<Summary, CaptureError> {
    let path = &options.inventory;
    let before = read_inventory(path)?;
    let mut inventory = before.clone();
    let mut summary = Summary::default();
    for (position, journal) in journals.iter().enumerate() {
        let exchanges = journal.exchanges()?;
        let is_dead = position + 1 < journals.len();
        summary.recovered += if is_dead { exchanges.len() } else { 0 };
        let Assembled { mut entries, bodies, left_out } = assemble(exchanges, &inventory.match_rules);
        keep_bodies(options, &bodies, &mut entries)?;
        // What a dead capture did not come to ask is not known.
        let prune = options.prune && !is_dead;
        let merged = inventory::merge_capture(&inventory, entries.clone(), &options.system, prune);
        inventory = merged.0;
        summary.changes.extend(merged.1);
        summary.left_out.extend(left_out);
        summary.recorded.extend(entries);
    }
    summary.total = inventory.entries.len();
    inventory::write(&inventory, path).map_err(|source| CaptureError::Write { path: path.clone(), source })?;
    remove_unused_files(path, &before, &summary.recorded, &inventory);
    Ok(summary)
}

/// The inventory at `path`; an empty one where there is no file.
fn read_inventory(path: &Path) -> Result<Inventory, CaptureError> {
    match inventory::read(path) {
        Err(ReadError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Inventory::default()),
        Err(error) => Err(error.into()),
        Ok(_) if fs::read_to_string(path).is_ok_and(|text| inventory::is_json(&text)) => {
            Err(CaptureError::IsJson(path.to_owned()))
        }
        Ok(inventory) => Ok(inventory),
    }
}

/// The folder for `file` bodies, and its name as entries write it: `inventory.bodies` beside `inventory.toml`.
fn bodies_folder(inventory: &Path) -> (PathBuf, String) {
    let stem = inventory.file_stem().unwrap_or_default().to_string_lossy();
    let name = format!("{stem}.bodies");
    (inventory.with_file_name(&name), name)
}

/// Puts the bodies where the entries say that they are.
fn keep_bodies(options: &CaptureOptions, bodies: &[StoredBody], entries: &mut [Entry]) -> Result<(), CaptureError> {
    let (folder, folder_name) = bodies_folder(&options.inventory);
    for body in bodies {
        match body.place {
            Place::Store => store(&options.store, body)?,
            Place::Beside => write_beside(&folder, body)?,
        }
    }
    for body in entries.iter_mut().filter_map(|entry| entry.body.as_mut()) {
        if let Source::File(file) = &mut body.source {
            *file = format!("{folder_name}/{file}");
        }
    }
    Ok(())
}

fn store(store: &EmbeddedStore, body: &StoredBody) -> Result<(), CaptureError> {
    match &body.bytes {
        RecordedBytes::Inline(bytes) => store.insert_bytes(bytes, &body.name)?,
        RecordedBytes::Spooled(file) => store.adopt(file, &body.hash, body.size, &body.name)?,
    };
    Ok(())
}

fn write_beside(folder: &Path, body: &StoredBody) -> Result<(), CaptureError> {
    let path = folder.join(body.name.as_str());
    let failed = |source| CaptureError::Write { path: path.clone(), source };
    fs::create_dir_all(folder).map_err(failed)?;
    let attributes = folder.join(".gitattributes");
    if !attributes.exists() {
        // Line endings are part of the hash.
        inventory::write_atomically(&attributes, b"* -text\n").map_err(failed)?;
    }
    let bytes = match &body.bytes {
        RecordedBytes::Inline(bytes) => bytes.clone(),
        RecordedBytes::Spooled(file) => match fs::read(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.exists() => return Ok(()),
            read => read.map_err(failed)?,
        },
    };
    inventory::write_atomically(&path, &bytes).map_err(failed)
}

/// Removes files beside the inventory that only replaced entries referred to, or that this capture wrote in vain.
fn remove_unused_files(path: &Path, before: &Inventory, recorded: &[Entry], now: &Inventory) {
    let files = |entries: &[Entry]| -> Vec<String> {
        let bodies = entries.iter().filter_map(|entry| entry.body.as_ref());
        bodies
            .filter_map(|body| if let Source::File(file) = &body.source { Some(file.clone()) } else { None })
            .collect()
    };
    let (_, folder_name) = bodies_folder(path);
    let used = files(&now.entries);
    for file in files(&before.entries).into_iter().chain(files(recorded)) {
        let ours = file.strip_prefix(&folder_name).and_then(|rest| rest.strip_prefix('/'));
        let is_ours = ours.is_some_and(|name| !name.contains('/') && name != "..");
        if is_ours && !used.contains(&file) {
            // A file that stays is no harm: nothing refers to it.
            let _ = fs::remove_file(path.with_file_name(&folder_name).join(ours.unwrap_or_default()));
        }
    }
}

//! Answers requests from recorded entries, and never from anywhere else: nothing in here opens a connection.
//!
//! A request's way: `exchange` reads it into a key, the [index](crate::inventory::index) finds the entries that
//! match, [`sequence`] chooses among them, [`respond`] decides status, headers and byte range, [`body`] opens the file.
//! A request that no entry answers becomes a [`miss`]; everything is counted for the [`report`].

pub mod body;
mod check;
mod exchange;
pub mod miss;
pub mod nearest;
pub mod report;
pub mod request_body;
pub mod respond;
pub mod sequence;
pub mod suggestion;
mod used;

#[cfg(test)]
mod wire_tests;

use std::{convert::Infallible, sync::Arc};

use axum::{BoxError, extract::Request, handler::HandlerWithoutStateExt, response::Response};
use bytes::Bytes;
use http::StatusCode;
use tower::Service;

pub use self::report::Report;
use self::{check::BodyChecks, report::RunLog, sequence::Sequences, used::UsedFiles};
pub use crate::inventory::current_system;
use crate::{
    inventory::{
        BodyFiles, Inventory,
        index::{Index, IndexError},
    },
    text::printable,
};

/// What a run of replay can be told.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReplayOptions {
    /// The status of a request that nothing answers.
    pub miss_status: StatusCode,
    /// Whether each body is hashed before its first use.
    pub check_bodies: bool,
    /// The Nix system whose entries count.
    pub system: String,
}

impl Default for ReplayOptions {
    fn default() -> Self {
        Self { miss_status: StatusCode::NOT_FOUND, check_bodies: false, system: current_system() }
    }
}

/// Answers the requests of one run.
#[derive(Debug)]
pub struct Replayer {
    index: Index,
    files: BodyFiles,
    options: ReplayOptions,
    sequences: Sequences,
    checks: BodyChecks,
    used: UsedFiles,
    log: RunLog,
}

impl Replayer {
    /// Replays `inventory`, whose bodies are in `files`. Opens no file yet.
    ///
    /// # Errors
    /// Where the inventory has more answers than there are numbers.
    pub fn new(inventory: Inventory, files: BodyFiles, options: ReplayOptions) -> Result<Self, IndexError> {
        let index = Index::new(Arc::new(inventory), &options.system)?;
        Ok(Self::with_index(index, files, options))
    }

    /// Replays the inventory of `index`, whose system counts.
    pub(crate) fn with_index(index: Index, files: BodyFiles, options: ReplayOptions) -> Self {
        let (used, log) = (UsedFiles::new(&index), RunLog::new(&index));
        let (sequences, checks) = (Sequences::default(), BodyChecks::default());
        Self { index, files, options, sequences, checks, used, log }
    }

    /// The service that answers: requests of any method, with absolute URIs and without hop-by-hop fields. There is nothing
    /// to route by.
    pub fn service<B>(
        self: Arc<Self>,
    ) -> impl Service<http::Request<B>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let answer = move |request: Request| exchange::answer(Arc::clone(&self), request);
        answer.into_service()
    }

    /// Answers a request with an absolute URI, where an entry does; gives it back otherwise.
    ///
    /// # Errors
    /// The request, which is then no miss.
    pub(crate) async fn answer_if_recorded(
        self: &Arc<Self>,
        request: http::Request<Bytes>,
    ) -> Result<Response, http::Request<Bytes>> {
        match exchange::is_recorded(self, &request) {
            true => Ok(exchange::answer(Arc::clone(self), request.map(Into::into)).await),
            false => Err(request),
        }
    }

    /// How many requests came so far.
    pub fn asked(&self) -> u64 {
        self.log.total()
    }

    /// What the run asked for so far.
    pub fn report(&self) -> Report {
        self.look_after_files();
        self.log.report(&self.index)
    }

    /// The same, as far as its text shows it.
    pub(crate) fn summary(&self) -> Report {
        self.look_after_files();
        self.log.summary(&self.index)
    }

    /// Notes which files of those that were sent are not as they were.
    fn look_after_files(&self) {
        for (entry, problem) in self.used.changed(&self.index) {
            self.log.broken(&self.index, entry, &printable(&problem));
        }
    }
}

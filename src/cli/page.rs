//! Where people can look at a run that goes on.

use std::{convert::Infallible, future::ready, io};

use axum::Router;
use data_encoding::HEXLOWER;
use http::{Response, StatusCode};

use super::output;
use crate::proxy::{Running, StartError, StartOptions};

/// The page of an isolated run: the proxy itself is where no browser reaches it.
pub struct Page(Running);

impl Page {
    /// Serves `control` on a free port of loopback and says where; `None` where that cannot be had, which is said too.
    pub async fn show(control: Router) -> Option<Self> {
        let shown = async {
            let path = secret_path()?;
            let running = Self::serve(Router::new().nest(&path, control)).await.map_err(io::Error::other)?;
            let url = format!("http://{}{path}", running.address());
            Ok::<_, io::Error>((running, url))
        };
        let (running, url) =
            shown.await.inspect_err(|error| tracing::warn!("the page of this run is not shown: {error}")).ok()?;
        output::done("watch", format!("at {url}"));
        Some(Self(running))
    }

    async fn serve(control: Router) -> Result<Running, StartError> {
        let nothing = tower::service_fn(|_| {
            let mut response = Response::new(String::new());
            *response.status_mut() = StatusCode::NOT_FOUND;
            ready(Ok::<_, Infallible>(response))
        });
        Running::start(StartOptions { control, ..StartOptions::local() }, nothing).await
    }

    /// Ends it, once open pages have heard that the run has ended.
    pub async fn end(self) {
        self.0.stop().await;
    }
}

/// A path that cannot be guessed: the other users of the machine reach the port as well.
fn secret_path() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(format!("/{}/", HEXLOWER.encode(&bytes)))
}

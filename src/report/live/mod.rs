//! The page of a run that goes on: served by the proxy itself, and kept up to date by events (WHATWG HTML §9.2).

mod capture;
mod replay;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
    routing::get,
};
use futures_util::stream;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;
use tokio::{sync::watch, time::sleep};

pub use capture::LiveCapture;
pub use replay::LiveReplay;

/// How often the page hears of what is new.
const INTERVAL: Duration = Duration::from_millis(300);

/// What goes on, as far as a page shows it.
pub trait Live: Send + Sync + 'static {
    /// The page of now, as HTML.
    ///
    /// # Errors
    /// Why there is none, in words.
    fn page(&self) -> Result<String, String>;

    /// What is new since the last time that is in `since`, which starts with 0; `None` where nothing is.
    fn news(&self, since: &mut u64) -> Option<Value>;

    /// The counters and gauges.
    fn metrics(&self) -> Vec<Metric>;
}

/// A metric of Prometheus.
#[derive(Debug)]
pub struct Metric {
    /// Its name, with unit and `_total` as the naming rules of Prometheus have them.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// The values, each with its labels, such as `outcome="missed"`.
    pub values: Vec<(&'static str, u64)>,
}

/// As long as it is there, the run goes on: pages that are open are told when it is dropped.
#[derive(Debug)]
pub struct GoesOn {
    // Dropping it tells the receivers.
    _sender: watch::Sender<()>,
}

/// `/`: the page; `/events`: what is new; `/metrics`: the text format of Prometheus, 0.0.4; `/health`.
pub fn router(live: Arc<impl Live>) -> (Router, GoesOn) {
    let (sender, receiver) = watch::channel(());
    let (events, metrics) = (Arc::clone(&live), Arc::clone(&live));
    let router = Router::new()
        .route("/", get(move || page(live)))
        .route("/events", get(move || std::future::ready(news(events, receiver))))
        .route("/metrics", get(move || std::future::ready(text(metrics.metrics()))))
        .route("/health", get(|| std::future::ready("ok\n")));
    (router, GoesOn { _sender: sender })
}

async fn page(live: Arc<impl Live>) -> Response {
    // Reading an inventory takes its time.
    let made = tokio::task::spawn_blocking(move || live.page()).await;
    match made.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(html) => {
            let kind = (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
            ([kind, (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], html).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("buildproxy: {error}\n")).into_response(),
    }
}

/// What is new, again and again; at the end of the run an event `end` with the last of it.
fn news(live: Arc<impl Live>, goes_on: watch::Receiver<()>) -> impl IntoResponse {
    let start = (live, 0, Some(goes_on), Duration::ZERO);
    Sse::new(stream::unfold(start, |(live, mut since, goes_on, pause)| async move {
        let mut goes_on = goes_on?;
        let has_ended = tokio::select! {
            () = sleep(pause) => false,
            _ = goes_on.changed() => true,
        };
        let news = live.news(&mut since).map(|news| news.to_string());
        let event = match (has_ended, news) {
            (true, last) => Event::default().event("end").data(last.unwrap_or_default()),
            (false, Some(news)) => Event::default().data(news),
            // What can no longer be written shows that the reader has gone.
            (false, None) => Event::default().comment(""),
        };
        Some((Ok::<_, Infallible>(event), (live, since, (!has_ended).then_some(goes_on), INTERVAL)))
    }))
}

fn text(metrics: Vec<Metric>) -> impl IntoResponse {
    let mut text = String::new();
    for Metric { name, help, kind, values } in metrics {
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for (labels, value) in values {
            let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            text.push_str(&format!("{name}{labels} {value}\n"));
        }
    }
    ([(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"))], text)
}

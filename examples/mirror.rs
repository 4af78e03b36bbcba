//! Serves an inventory as a mirror: what was recorded of `https://HOST/PATH` is answered as `/HOST/PATH`, for clients
//! that can be given the address of a mirror, but no proxy. Ends with Ctrl-C, and says then what was asked for in vain.
//!
//! ```sh
//! cargo run --example mirror -- inventory.toml
//! ```

use std::{env, error::Error, path::PathBuf, sync::Arc};

use axum::{ServiceExt as _, extract::Request};
use buildproxy::{BodyFiles, ReplayOptions, Replayer, Stores, read_inventory};
use http::Uri;
use tokio::{net::TcpListener, signal};
use tower::ServiceExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = PathBuf::from(env::args_os().nth(1).ok_or("usage: mirror INVENTORY")?);
    let folder = file.parent().unwrap_or(&file);
    let files = BodyFiles::new(folder, Stores::open(env::var_os("BUILDPROXY_STORE").map(PathBuf::from), true));
    let replayer = Arc::new(Replayer::new(read_inventory(&file)?, files, ReplayOptions::default())?);

    let mirror = Arc::clone(&replayer).service().map_request(as_recorded);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("http://{}/", listener.local_addr()?);
    let ended = async { signal::ctrl_c().await.unwrap_or_default() };
    axum::serve(listener, mirror.into_make_service()).with_graceful_shutdown(ended).await?;

    let report = replayer.report();
    println!("{} answered, {} not", report.requests_answered, report.requests_missed);
    for miss in report.misses {
        println!("{} {}: {}", miss.method, miss.url, miss.reason);
    }
    Ok(())
}

/// `request` as it was recorded. What names no host stays as it is, and is answered as a request for no URL.
fn as_recorded(mut request: Request) -> Request {
    if let Ok(uri) = format!("https:/{}", request.uri()).parse::<Uri>() {
        *request.uri_mut() = uri;
    }
    request
}

//! What `benches/instructions` counts of what is private. Nothing here is promised.

use std::sync::Arc;

use http::{HeaderMap, Method};

use crate::{
    Entry, Inventory, NormalizedUrl,
    inventory::index::{self, RequestBody, RequestKey},
    proxy::{CaError, CertificateAuthority},
    replay::respond::respond,
};

/// The index of an inventory.
#[derive(Debug)]
pub struct Index(index::Index);

impl Index {
    /// Indexes what `inventory` has for `system`.
    ///
    /// # Errors
    /// An inventory with more answers than there are numbers.
    pub fn new(inventory: Arc<Inventory>, system: &str) -> Result<Self, crate::IndexError> {
        index::Index::new(inventory, system).map(Self)
    }

    /// Whether a `GET` of `url` without a body is answered.
    pub fn answers(&self, url: &NormalizedUrl, headers: &HeaderMap) -> bool {
        self.0.look_up(&RequestKey { method: &Method::GET, url, headers, body: RequestBody::Empty }).is_ok()
    }
}

/// Status, headers and range of the answer to a `GET` of `entry`, whose body has `size` bytes.
pub fn response_head(entry: &Entry, size: u64, headers: &HeaderMap) -> impl Sized + use<> {
    respond(entry, size, &Method::GET, headers)
}

/// Has `authority` make a certificate for `host`, or find the one it has made.
///
/// # Errors
/// Where `host` is none, or the TLS library fails.
pub fn certificate(authority: &CertificateAuthority, host: &str) -> Result<(), CaError> {
    authority.server_config(host).map(drop)
}

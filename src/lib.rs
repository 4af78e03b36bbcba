//! Records what a build downloads, pins it by hash, and answers the same requests again inside the Nix sandbox.
//!
//! The program `buildproxy` is what most people want; its documentation begins with the README. This library is the part
//! of it that other programs around Nix can use:
//!
//! * **Inventories**, the files that list what a build may fetch: [`read_inventory`], [`parse_inventory`] and
//!   [`write_inventory`], the [`Inventory`] with its [`Entry`]s as data, URLs in the one form in which they are compared
//!   ([`NormalizedUrl`]), and [`verify`], which holds an inventory against its bodies and against itself.
//! * **Store paths and hashes** as Nix has them, without Nix: [`NixHash`], [`build_ca_path`], and [`nar`] for archives. They
//!   are tested against the real Nix, in the vocabulary of nix-compat.
//! * **The replay**: a [`Replayer`] gives a `tower` service that answers requests from an inventory. [`Running`] puts a proxy
//!   in front of it, or of any other such service, on a port of loopback, with a CA of its own, and says what a command
//!   needs to go through it; a [`Listener`] is the same without the choices made.
//!
//! Nothing of it opens a connection to anywhere. What `capture` does is not here: it is a program's work, with a command,
//! a journal and a terminal.
//!
//! ```
//! use std::{process::Command, sync::Arc};
//!
//! use buildproxy::{BodyFiles, ReplayOptions, Replayer, Running, StartOptions, Stores, parse_inventory};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let inventory = parse_inventory(
//!     r#"
//!     version = 1
//!     [[entry]]
//!     url = "https://example.org/version"
//!     body = { hash = "sha256-RIBEFPhb75WI9gCGWH/W6IcbORI8gx7BKWJPTYGpX+o=", size = 4, text = "1.2\n" }
//!     "#,
//! )?;
//!
//! // Text is in the inventory itself; other bodies are beside it, or in one of the stores.
//! let files = BodyFiles::new("", Stores::open(None, true));
//! let replayer = Arc::new(Replayer::new(inventory, files, ReplayOptions::default())?);
//! let proxy = Running::start(StartOptions::local(), Arc::clone(&replayer).service()).await?;
//!
//! let mut curl = Command::new("curl");
//! proxy.environment().apply(curl.args(["--silent", "--fail", "https://example.org/version"]));
//! let output = tokio::task::spawn_blocking(move || curl.output()).await??;
//! assert_eq!(output.stdout, b"1.2\n");
//!
//! proxy.stop().await;
//! assert!(!replayer.report().failed(false));
//! # Ok(())
//! # }
//! ```

mod access_log;
mod beside;
mod capture;
mod cli;
#[doc(hidden)]
pub mod counted;
mod credentials;
mod doctor;
mod export;
mod fetch;
mod import;
mod inventory;
mod isolate;
mod process;
mod proxy;
mod push;
mod refetch;
mod relocate;
mod replay;
mod report;
mod representation;
mod request_id;
mod secrets;
mod store;
mod text;
mod url;
mod verify;

#[doc(hidden)]
pub use cli::main;
pub use inventory::{
    Body, BodyFiles, CompiledError, Entry, HeaderError, Headers, Hop, Inventory, LocateError, Located, MatchRules,
    ReadError, Source, SyntaxError, UrlMatch, current_system,
    index::IndexError,
    read::{parse as parse_inventory, read as read_inventory},
    request_body::{BodyDigest, BodyForm, UnknownForm},
    to_toml as inventory_to_toml, write as write_inventory,
};
pub use proxy::{
    CaError, CertificateAuthority, ClientEnvironment, HandshakeFailure, HandshakeFailures, Listener, Running,
    StartError, StartOptions, Upload, UploadError,
};
pub use replay::{
    ReplayOptions, Replayer,
    report::{Answered, Broken, FailedHandshake, Missed, Report, Unused},
};
pub use store::{
    FindError, Stores,
    hash::{Encoding, HashAlgo, HashError, Hasher, NixHash, hash_file},
    path::{
        FileIngestionMethod, NameError, STORE_DIR, StorePath, StorePathError, StorePathName, build_ca_path,
        build_text_path,
    },
};
pub use url::{NormalizedUrl, UrlError};
pub use verify::{Finding, FindingKind, verify};

/// Nix archives (NAR): the canonical bytes of a file tree. The NAR hash of a store path is their hash.
pub mod nar {
    pub use crate::store::nar::{
        NarError, RestoreError, dump, hash,
        reader::{Fault, ReadError},
        restore,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So that programs can pass them on with `?`, between threads too.
    #[test]
    fn every_error_is_one_as_the_standard_library_has_them() {
        fn is_error<T: std::error::Error + Send + Sync + 'static>() {}
        is_error::<CaError>();
        is_error::<CompiledError>();
        is_error::<FindError>();
        is_error::<HashError>();
        is_error::<HeaderError>();
        is_error::<IndexError>();
        is_error::<LocateError>();
        is_error::<NameError>();
        is_error::<nar::NarError>();
        is_error::<nar::ReadError>();
        is_error::<nar::RestoreError>();
        is_error::<ReadError>();
        is_error::<StartError>();
        is_error::<StorePathError>();
        is_error::<SyntaxError>();
        is_error::<UnknownForm>();
        is_error::<UploadError>();
        is_error::<UrlError>();
    }
}

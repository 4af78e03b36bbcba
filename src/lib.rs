//! Records what a build downloads, pins it by hash, and answers the same requests again inside the Nix sandbox.

pub mod access_log;
pub mod beside;
pub mod capture;
pub mod cli;
mod credentials;
pub mod doctor;
pub mod export;
pub mod fetch;
pub mod import;
pub mod inventory;
pub mod isolate;
mod process;
pub mod proxy;
pub mod push;
pub mod refetch;
pub mod relocate;
pub mod replay;
pub mod report;
pub mod representation;
mod request_id;
pub mod secrets;
pub mod store;
mod text;
pub mod url;
pub mod verify;

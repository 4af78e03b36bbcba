//! Records what a build downloads, pins it by hash, and answers the same requests again inside the Nix sandbox.

pub mod capture;
pub mod inventory;
pub mod store;
pub mod url;

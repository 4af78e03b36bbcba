#[path = "../../src/replay/respond.rs"]
#[rustfmt::skip]
pub mod respond;

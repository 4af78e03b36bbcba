//! What the sources that are fuzzed name of this room.

#[path = "../../src/capture/policy.rs"]
pub mod policy;
#[path = "../../src/capture/retold.rs"]
mod retold;

pub use retold::Retold;

mod origin {
    /// What the origin was asked is no matter here.
    pub fn is_replaced(_: &str) -> bool {
        false
    }
}

//! What the sources that are fuzzed name of this room.

#[path = "../../src/capture/retold.rs"]
mod retold;

pub use retold::Retold;

#[path = "../../src/replay/conditional.rs"]
pub mod conditional;
#[path = "../../src/replay/range.rs"]
pub mod range;
#[path = "../../src/replay/respond.rs"]
#[rustfmt::skip]
pub mod respond;

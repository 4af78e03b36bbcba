//! Answers requests from recorded entries.

pub mod conditional;
pub mod range;
pub mod respond;
pub mod sequence;

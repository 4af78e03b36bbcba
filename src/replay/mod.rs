//! Answers requests from recorded entries.

pub mod body;
mod check;
pub mod conditional;
pub mod range;
pub mod request_body;
pub mod respond;
pub mod sequence;

//! Capturing: asking the origins for a client and recording what they answer.

pub mod assemble;
pub mod exchange;
pub mod policy;

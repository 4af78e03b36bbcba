//! What a client gets that asks for less than a whole representation (RFC 9110 §3.2, §8), or under a condition.
//!
//! One set of rules for both rooms above: replay asks it about recorded answers, capture about answers that still arrive.
//! Pure decisions; the bytes are somebody else's.
//!
//! The order is that of RFC 9110 §13.2.2: the preconditions (`conditional`), then `Range` with `If-Range` (`range`); what
//! comes out is the head of a 206, 304, 412 or 416, and which bytes follow it (`partial`).
//! Nothing is added to the fields of the whole answer but framing: `Content-Length`, and `Content-Range` or the type of
//! a multipart body where a part was asked for.

mod conditional;
mod partial;
mod range;

pub use partial::{BodyPlan, Partial, Representation};

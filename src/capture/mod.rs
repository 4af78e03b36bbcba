//! Capturing: asking the origins for a client and recording what they answer.

mod arriving;
mod assemble;
mod channel;
mod downloads;
mod exchange;
mod finish;
mod journal;
mod origin;
mod policy;
mod recorder;
mod request_body;
mod retold;
mod roots;
mod service;
mod session;
mod spooling;
mod timeline;
mod token;
mod transfer;

pub use assemble::Omission;
pub use exchange::LeftOut;
pub use journal::{FOLDER, FolderLock, JournalError, JournalFolder};
pub use origin::{Origin, OriginError, OriginSetupError, TrustRoots};
pub use policy::{LEFT_OUT_HEADERS, UrlGlobs};
pub use retold::{Retelling, Retold, RetoldOptions};
pub use roots::{KeepError, keep, keep_beside, not_kept, object};
pub use session::{Capture, CaptureError, CaptureOptions, Summary, Watching};
pub use timeline::{Coming, Stopwatch, TimedRequest, Timeline};

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
mod retelling;
mod retold;
mod roots;
mod service;
mod session;
mod spooling;
mod timeline;
mod token;
mod transfer;
mod whole;

pub use assemble::{Omission, Sequence};
pub use exchange::LeftOut;
pub use journal::{FOLDER, FolderLock, JournalFolder};
pub use origin::{Origin, OriginError, TrustRoots};
pub use policy::UrlGlobs;
pub use retelling::{Retelling, RetoldOptions};
pub use retold::Retold;
pub use roots::{keep, keep_beside, not_kept, object};
pub use session::{Capture, CaptureError, CaptureOptions, Summary, Watching};
pub use timeline::{Coming, SoFar, Stopwatch, TimedRequest, Timeline};

//! What an answer gives or repeats that no inventory is to have.

use std::{borrow::Cow, fs};

use http::Method;

use super::{AnswerHead, Asked, Privacy, Recorder};
use crate::{
    capture::token,
    inventory::Headers,
    store::spool::{Spooled, SpooledContent},
};

/// The text of an answer in which a dummy hides something.
pub(super) struct Hidden {
    /// The text.
    pub text: Vec<u8>,
    /// Whether it repeated what a client showed.
    pub is_repeated: bool,
}

impl Recorder {
    /// Puts a dummy in the place of what clients showed, wherever the answer's header fields repeat it, and tells whether
    /// they did. A request field that has it is no part of the key: the next build has another one.
    pub(super) fn hide_secrets(&self, headers: &mut Headers, varied: &mut Option<Vec<(String, String)>>) -> bool {
        let known = self.known();
        varied.iter_mut().for_each(|varied| varied.retain(|(_, value)| !known.secrets.are_in(value)));
        headers.replace(|value| known.secrets.replaced_in(value))
    }

    /// The text of an answer with a dummy in the place of the token that it gives, and of what clients showed; `None` where
    /// neither is in it.
    pub(super) fn without_tokens(&self, asked: &Asked, head: &AnswerHead, spooled: &Spooled) -> Option<Hidden> {
        let bytes: Cow<[u8]> = match &spooled.content {
            SpooledContent::Memory(bytes) => bytes.into(),
            // Tokens come in short answers, but anything can be repeated in a page.
            SpooledContent::File(path) if spooled.size <= token::MAX_TEXT && !self.known().secrets.is_empty() => {
                fs::read(path).ok()?.into()
            }
            SpooledContent::File(_) => return None,
        };
        let text = token::decoded(&head.headers, &bytes)?;
        let answer = token::recognise(&asked.method, &asked.url, &head.headers, &text);
        let mut known = self.known();
        let without_tokens = answer.map(|answer| {
            if asked.privacy == Privacy::Anonymous && asked.method == Method::GET {
                known.anonymous_tokens.extend(answer.tokens);
            }
            answer.without_tokens
        });
        let without_secrets = known.secrets.replaced_in(without_tokens.as_ref().unwrap_or(&text));
        let is_repeated = without_secrets.is_some();
        let text = without_secrets.or(without_tokens)?.into_bytes();
        Some(Hidden { text, is_repeated })
    }
}

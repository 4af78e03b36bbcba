//! What was answered after all, so that nothing is missing without an earlier answer.

use std::collections::{HashMap, HashSet};

use http::Method;

use super::Omission;
use crate::{
    capture::exchange::{Exchange, LeftOut, Outcome},
    inventory::request_body::BodyDigest,
    url::NormalizedUrl,
};

/// A request for which answers stand in for one another. Where its body is not known, it is any for its URL.
type Request = (Method, NormalizedUrl, Option<BodyDigest>);

/// When each request was last answered: at all, and by what is no error.
#[derive(Default)]
pub struct Answered {
    at_all: HashMap<Request, u64>,
    well: HashMap<Request, u64>,
}

impl Answered {
    /// Of all that was answered in a capture.
    pub fn of(exchanges: &[Exchange]) -> Self {
        let mut answered = Self::default();
        for exchange in exchanges {
            let Outcome::Answered(answer) = &exchange.outcome else { continue };
            for digest in HashSet::from([None, exchange.body_digest()]) {
                let request = (exchange.method.clone(), exchange.url.clone(), digest);
                if answer.status < 400 {
                    answered.well.insert(request.clone(), exchange.arrival);
                }
                answered.at_all.insert(request, exchange.arrival);
            }
        }
        answered
    }

    /// Whether nothing is missing without the answer to the request `arrival`, whose body has `digest`.
    pub fn makes_good(&self, omission: &Omission, arrival: u64, digest: Option<BodyDigest>) -> bool {
        let request = (omission.method.clone(), omission.url.clone(), digest);
        match omission.reason {
            // That somebody else gets an error makes no private answer good.
            LeftOut::NeededCredentials(_) => self.well.get(&request).is_some_and(|answer| *answer > arrival),
            // It says that an answer still holds.
            LeftOut::NotWhole(304) => self.at_all.contains_key(&request),
            _ => self.at_all.get(&request).is_some_and(|answer| *answer > arrival),
        }
    }
}

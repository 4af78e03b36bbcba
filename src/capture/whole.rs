//! An origin's body that is whole at its end, or fails there.
//!
//! hyper sees to that over HTTP/1.1. Over HTTP/2 it takes a stream that was reset with `NO_ERROR` for one that ended as it
//! should, whatever length was announced.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Method, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What is missing of a body.
#[derive(Debug, thiserror::Error)]
pub enum Incomplete {
    /// It has not the announced length.
    #[error("it ended after {0} of {1} bytes")]
    Length(u64, u64),
    /// Its stream was reset.
    #[error("the origin gave it up after {0} bytes")]
    Reset(u64),
}

/// Makes the body of the answer to a request of `method` fail where it ends too soon.
pub fn whole(method: &Method, answer: Response<reqwest::Body>) -> Response<reqwest::Body> {
    let (parts, body) = answer.into_parts();
    // An empty one ends with its head; and these have none, whatever length they announce (RFC 9110 §6.4.1).
    let is_without = matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if parts.version != Version::HTTP_2 || body.is_end_stream() || method == Method::HEAD || is_without {
        return Response::from_parts(parts, body);
    }
    let announced = parts.headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    Response::from_parts(parts, reqwest::Body::wrap(Whole { body, announced, received: 0, ended: false }))
}

struct Whole {
    body: reqwest::Body,
    announced: Option<u64>,
    received: u64,
    ended: bool,
}

impl Whole {
    fn missing(&self) -> Option<Incomplete> {
        match self.announced {
            Some(announced) => (self.received != announced).then_some(Incomplete::Length(self.received, announced)),
            None => (!self.body.is_end_stream()).then_some(Incomplete::Reset(self.received)),
        }
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                self.received += frame.data_ref().map_or(0, |data| data.len() as u64);
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(error.into())),
            None => {
                self.ended = true;
                self.missing().map(|missing| Err(missing.into()))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_cut_short_is_said_with_its_bytes() {
        assert_eq!(Incomplete::Length(3, 7).to_string(), "it ended after 3 of 7 bytes");
        assert_eq!(Incomplete::Reset(3).to_string(), "the origin gave it up after 3 bytes");
    }
}

//! Reading a request's body for its digests, and to its end: a client that is still sending when the connection closes
//! may never see the answer.

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt;

use crate::inventory::request_body::{BodyDigest, RequestDigest};

/// Reads `body` to its end and gives its digests; none where it is empty.
///
/// # Errors
/// Where the client leaves before it has sent everything.
pub async fn digests<B: Body<Data = Bytes> + Unpin>(
    headers: &HeaderMap,
    mut body: B,
) -> Result<Vec<BodyDigest>, B::Error> {
    let mut hasher = RequestDigest::new(headers);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            hasher.update(data.chunk());
        }
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_read_to_its_end() {
        let body = || http_body_util::Full::new(Bytes::from_static(b"abc"));
        assert_eq!(digests(&HeaderMap::new(), body()).await.unwrap()[0], BodyDigest::of_bytes(b"abc"));
        assert_eq!(digests(&HeaderMap::new(), http_body_util::Empty::<Bytes>::new()).await.unwrap(), []);
    }
}

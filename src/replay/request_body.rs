//! Reading a request's body: for its digest, or to its end.

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt;

use crate::inventory::request_body::{BodyDigest, RequestDigest};

/// Reads `body` to its end and gives its digests; none where it is empty.
///
/// # Errors
/// Where the client leaves before it has sent everything.
pub async fn digests<B: Body<Data = Bytes> + Unpin>(headers: &HeaderMap, body: B) -> Result<Vec<BodyDigest>, B::Error> {
    let mut hasher = RequestDigest::new(headers);
    read(body, |data| hasher.update(data)).await?;
    Ok(hasher.finish())
}

/// Reads `body` to its end and says whether it has any bytes. Nobody needs them, but a client that is still sending
/// when the connection closes may never see the answer.
///
/// # Errors
/// Where the client leaves before it has sent everything.
pub async fn drain<B: Body<Data = Bytes> + Unpin>(body: B) -> Result<bool, B::Error> {
    let mut any = false;
    read(body, |data| any |= !data.is_empty()).await?;
    Ok(any)
}

async fn read<B: Body<Data = Bytes> + Unpin>(mut body: B, mut each: impl FnMut(&[u8])) -> Result<(), B::Error> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            each(data.chunk());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_read_to_its_end() {
        let body = || http_body_util::Full::new(Bytes::from_static(b"abc"));
        assert_eq!(digests(&HeaderMap::new(), body()).await.unwrap()[0], BodyDigest::of_bytes(b"abc"));
        assert_eq!(drain(body()).await, Ok(true));
        assert_eq!(drain(http_body_util::Empty::<Bytes>::new()).await, Ok(false));
    }
}

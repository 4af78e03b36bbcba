//! What the proxy answers for itself: to requests for the host `buildproxy.internal`, and to those that are sent to its
//! port as to a web server.

use std::{
    convert::Infallible,
    net::SocketAddr,
    task::{Context, Poll},
};

use axum::{Router, body::Body};
use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{self, Map},
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Either;
use tower::{Service, ServiceExt, util::Oneshot};

use super::{exchange::plain_text, upload::Upload};

pub use super::target::OWN_HOST as HOST;

/// `service`, but for what is asked of the proxy itself.
#[derive(Clone)]
pub struct Controlled<S> {
    service: S,
    control: Router,
}

impl<S> Controlled<S> {
    /// Gives requests for [`HOST`] to `control`; what that does not know is told that this is a proxy, at `address`.
    pub fn new(service: S, control: Router, address: SocketAddr) -> Self {
        let proxy = format!("http://{address}");
        let text = format!(
            "buildproxy: this is buildproxy's proxy port, not a web server: set http_proxy={proxy} and https_proxy={proxy} \
             and ask for the real URL\n"
        );
        let refuse = move |method: Method| std::future::ready(plain_text(&method, StatusCode::BAD_REQUEST, &text));
        let control = control.fallback(refuse.clone()).method_not_allowed_fallback(refuse);
        Self { service, control }
    }
}

/// Whether `request`, with its absolute URI, is for the proxy itself.
pub fn is_for_us<B>(request: &Request<B>) -> bool {
    request.uri().host().is_some_and(|host| host.eq_ignore_ascii_case(HOST))
}

type Answer<B> = Result<Response<Either<B, Body>>, Infallible>;
type Answering<S, Own, B> = Map<Oneshot<S, Request<Upload>>, fn(Result<Response<Own>, Infallible>) -> Answer<B>>;

impl<S, B> Service<Request<Upload>> for Controlled<S>
where
    S: Service<Request<Upload>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
{
    type Response = Response<Either<B, Body>>;
    type Error = Infallible;
    type Future = future::Either<Answering<Router, Body, B>, Answering<S, B, B>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Each call asks its own clone.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Upload>) -> Self::Future {
        if is_for_us(&request) {
            let answer = self.control.clone().oneshot(request);
            return future::Either::Left(answer.map(|answer| answer.map(|answer| answer.map(Either::Right))));
        }
        let answer = self.service.clone().oneshot(request);
        future::Either::Right(answer.map(|answer| answer.map(|answer| answer.map(Either::Left))))
    }
}

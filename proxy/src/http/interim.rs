//! `Expect: 100-continue` end to end: the body waits until the application wants it (RFC 9110 §10.1.1).

use super::body::Body;
use h2::client::ResponseFuture;
use http::header::EXPECT;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Notify;

/// How long a body waits for a server that says nothing: it may not know the expectation.
const PATIENCE: Duration = Duration::from_secs(1);

/// In a request's extensions: whom to tell that the application wants the body.
#[derive(Debug, Clone)]
pub struct Interim(Arc<Notify>);

impl Interim {
    /// Of a request that expects one.
    pub fn wanted(parts: &mut Parts) -> Option<Self> {
        expects(&parts.headers).then(|| {
            let interim = Self(Arc::default());
            parts.extensions.insert(interim.clone());
            interim
        })
    }

    fn tell(&self) {
        self.0.notify_one();
    }

    /// Waits until the application wants the body.
    pub(super) async fn told(&self) {
        self.0.notified().await;
    }
}

pub(super) fn expects(headers: &HeaderMap) -> bool {
    headers
        .get(EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Has an HTTP/1 application's 100 told to whoever waits for it.
pub(super) fn listen(request: &mut Request<Body>) {
    if let Some(interim) = request.extensions_mut().remove::<Interim>() {
        hyper::ext::on_informational(request, move |response| {
            if response.status() == StatusCode::CONTINUE {
                interim.tell();
            }
        });
    }
}

/// Waits for a stream's 100, and tells it. The final response, where that comes instead.
pub(super) async fn go_ahead(
    response: &mut ResponseFuture,
    interim: Option<&Interim>,
) -> Option<Result<Response<h2::RecvStream>, h2::Error>> {
    let waiting = poll_fn(|context| {
        while let Poll::Ready(Some(Ok(early))) = response.poll_informational(context) {
            if early.status() == StatusCode::CONTINUE {
                return Poll::Ready(None);
            }
        }
        Pin::new(&mut *response).poll(context).map(Some)
    });
    let answered = tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or(None);
    if let Some(interim) = interim {
        interim.tell();
    }
    answered
}

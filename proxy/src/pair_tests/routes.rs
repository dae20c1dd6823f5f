//! Routes through a pair: what each field does to what the application sees and to what the client gets.
#![allow(clippy::unwrap_used)]

use crate::snapshot::{
    Backend, Backends, DirectResponse, HeaderChange, HeaderChanges, PathMatch, PathRewrite,
    Protocol, Redirect, Route, RouteAction, RouteMatch,
};
use crate::testing::apps::{get, mirror};
use crate::testing::pair::{Pair, SERVICE, forward, route};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use std::sync::Arc;

fn at(path: &str, action: RouteAction) -> Route {
    Route {
        matches: RouteMatch {
            path: PathMatch::Segments(path.into()),
            ..RouteMatch::prefix("/")
        },
        ..route(action)
    }
}

fn set(name: &'static str, value: &'static str, append: bool) -> HeaderChange {
    HeaderChange {
        name: HeaderName::from_static(name),
        value: HeaderValue::from_static(value),
        append,
    }
}

fn backend(cluster: &str, weight: u32) -> Backend {
    Backend {
        cluster: cluster.into(),
        weight,
        request_headers: HeaderChanges::default(),
        response_headers: HeaderChanges::default(),
    }
}

#[tokio::test]
async fn the_first_route_that_matches_is_taken() {
    let pair = Pair::new(mirror(), Protocol::Http1).await;
    let mut rewritten = forward();
    rewritten.rewrite = Some(PathRewrite::Prefix("/v2".into()));
    rewritten.host = Some(HeaderValue::from_static("other.example"));
    let mut changed = at("/old", RouteAction::Forward(rewritten));
    changed.request_headers = HeaderChanges {
        set: vec![set("x-route", "old", false)],
        remove: vec![HeaderName::from_static("x-secret")],
    };
    changed
        .response_headers
        .set
        .push(set("x-answer", "changed", false));
    let redirect = Redirect {
        status: StatusCode::MOVED_PERMANENTLY,
        scheme: None,
        host: Some("new.example".into()),
        port: None,
        path: None,
    };
    let direct = DirectResponse {
        status: StatusCode::IM_A_TEAPOT,
        body: Bytes::from_static(b"tea"),
    };
    pair.route(vec![
        changed,
        at("/moved", RouteAction::Redirect(redirect)),
        at("/tea", RouteAction::Respond(direct)),
    ]);
    let (status, seen) = get(pair.listen, "/old/x?y=1").await;
    assert_eq!(status, 200);
    assert!(
        seen.starts_with("GET /v2/x?y=1 HTTP/1.1\nhost: other.example\n"),
        "{seen}"
    );
    assert!(seen.contains("x-route: old"), "{seen}");
    assert_eq!(get(pair.listen, "/moved/x").await.0, 301);
    assert_eq!(get(pair.listen, "/tea").await, (418, "tea".to_owned()));
    assert_eq!(get(pair.listen, "/other").await.0, 404);
    assert_eq!(pair.client.count("maille_errors_total", &["no_route"]), 1.0);
}

#[tokio::test]
async fn weights_split_requests_and_a_missing_backend_answers_500() {
    let pair = Pair::new(mirror(), Protocol::Http1).await;
    let mut split = forward();
    split.backends = Arc::new(Backends::new(vec![
        backend(SERVICE, 90),
        backend("demo/gone:80", 10),
        backend(SERVICE, 0),
    ]));
    pair.route(vec![route(RouteAction::Forward(split))]);
    let mut missing = 0;
    for _ in 0..400 {
        missing += u32::from(get(pair.listen, "/").await.0 == 500);
    }
    assert!(
        (15..75).contains(&missing),
        "{missing} of 400 went to 10 percent"
    );
    assert_eq!(
        pair.client
            .count("maille_requests_total", &["demo/gone:80", "5xx"]),
        f64::from(missing)
    );
}

#[tokio::test]
async fn routes_change_under_a_live_connection() {
    let pair = Pair::new(mirror(), Protocol::Http1).await;
    assert_eq!(get(pair.listen, "/").await.0, 200);
    pair.route(vec![]);
    assert_eq!(get(pair.listen, "/").await.0, 404);
    pair.client.change(|snapshot| snapshot.listeners.clear());
    assert_eq!(
        get(pair.listen, "/").await.0,
        0,
        "a destination that is gone is a reset"
    );
}

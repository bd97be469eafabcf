//! The first thing that a request meets: who sent it.
//!
//! Nothing of the body is read before this has let it through.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};

use crate::auth::{Credentials, Right, Who};

/// Credentials and the paths that need none.
#[derive(Debug, Clone)]
pub(super) struct Guard(Arc<(Credentials, Vec<String>)>);

impl Guard {
    pub(super) fn new(credentials: Credentials, open_paths: Vec<String>) -> Self {
        Self(Arc::new((credentials, open_paths)))
    }

    pub(super) fn wrap(self, router: Router) -> Router {
        router.layer(from_fn_with_state(self, check))
    }
}

async fn check(State(Guard(guard)): State<Guard>, mut request: Request, next: Next) -> Response {
    let (credentials, open_paths) = guard.as_ref();
    // A web page can post to loopback from the operator's own browser, and browsers say so.
    if request.headers().contains_key(header::ORIGIN) {
        return (StatusCode::FORBIDDEN, "browsers are not served here\n").into_response();
    }
    let open = open_paths.iter().any(|path| path == request.uri().path());
    if open {
        // Whatever they may say they are, here they are nobody.
        request.extensions_mut().insert(Who::new("probe", &[]));
        return next.run(request).await;
    }
    if credentials.is_empty() {
        request.extensions_mut().insert(Who::anybody());
        return next.run(request).await;
    }
    match credentials.check(request.headers().get(header::AUTHORIZATION)) {
        Some(who) => {
            request.extensions_mut().insert(who);
            next.run(request).await
        }
        None => {
            let mut refused = (
                StatusCode::UNAUTHORIZED,
                "send a known bearer token, or user and password\n",
            )
                .into_response();
            refused.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer, Basic realm=\"rhizome\""),
            );
            refused
        }
    }
}

/// Lets only those through who have the right, for every route of `router`.
///
/// A request that no listener of [`crate::listen`] has looked at has none.
pub fn require(right: Right, router: Router) -> Router {
    router.layer(from_fn_with_state(right, has_right))
}

async fn has_right(State(right): State<Right>, request: Request, next: Next) -> Response {
    let who = request.extensions().get::<Who>();
    if who.is_some_and(|who| who.may(right)) {
        return next.run(request).await;
    }
    let what = match right {
        Right::Ingest => "this token may not send events\n",
        Right::Alert => {
            "this token may not send alerts, which `ingest` does not cover: give whoever sends \
             them a token of their own with `may: [alert]` in `listen.tokens`\n"
        }
        Right::Read => "this token may not read\n",
        Right::Operate => "this token may not operate\n",
    };
    (StatusCode::FORBIDDEN, what).into_response()
}

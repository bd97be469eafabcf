//! Requests and answers as the two APIs see them, and the loop that takes connections.
//!
//! hyper is used directly and not through axum, because a fault may be that no answer comes:
//! a service that returns an error makes hyper close the connection without a byte sent,
//! which axum's infallible handlers cannot do. Below it everything is plain data.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http_body_util::{BodyExt as _, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::front::{Front, Reply};
use crate::kube::watch::WatchRequest;

/// Largest request body. Nova takes 112 KiB (`max_request_body_size` of oslo), the API server
/// 3 MiB; the larger of the two.
const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;

/// Which of the two services a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Api {
    /// Keystone and Nova.
    OpenStack,
    /// The Kubernetes API server.
    Kubernetes,
}

/// A request, read whole.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) api: Api,
    pub(crate) method: Method,
    /// The path, not decoded.
    pub(crate) path: String,
    /// The query's pairs, decoded, in their order.
    pub(crate) query: Vec<(String, String)>,
    /// The query as it came.
    pub(crate) raw_query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The address under which this service is reached, for links in answers.
    pub(crate) base: String,
}

impl Request {
    /// The first value of a query parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a query parameter says `true` (or 1, as Go reads it).
    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.parameter(name), Some("true" | "1" | "True"))
    }

    /// A header, if it is there and is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as JSON; `None` if it is none.
    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// What an answer carries.
#[derive(Debug)]
pub(crate) enum Content {
    Empty,
    Json(Value),
    Text(String),
    /// A stream of watch events, made when the answer is sent.
    Watch(Box<WatchRequest>),
    /// A watch of a real API server, passed on as it comes.
    Open(Box<reqwest::Response>),
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(Cow<'static, str>, String)>,
    pub(crate) content: Content,
    /// Its type, if it is not the usual one of its form.
    pub(crate) content_type: Option<&'static str>,
    /// Whether the request changed something: for the ledger.
    pub(crate) effect: bool,
}

impl Answer {
    /// An answer with a JSON body.
    pub(crate) fn json(status: u16, value: Value) -> Self {
        Self {
            status,
            headers: Vec::new(),
            content: Content::Json(value),
            content_type: None,
            effect: false,
        }
    }

    /// An answer with a plain text.
    pub(crate) fn text(status: u16, text: impl Into<String>) -> Self {
        Self {
            content: Content::Text(text.into()),
            ..Self::empty(status)
        }
    }

    /// An answer without a body.
    pub(crate) fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            content: Content::Empty,
            content_type: None,
            effect: false,
        }
    }

    /// The same with a header.
    #[must_use]
    pub(crate) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((Cow::Borrowed(name), value.into()));
        self
    }

    /// The same with another type of content than its form has.
    #[must_use]
    pub(crate) fn with_type(mut self, content_type: &'static str) -> Self {
        self.content_type = Some(content_type);
        self
    }

    /// The same, marked as having changed something.
    #[must_use]
    pub(crate) fn done(mut self) -> Self {
        self.effect = true;
        self
    }
}

/// Why a connection is closed in the middle of, or instead of, an answer.
#[derive(Debug)]
pub(crate) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is broken off, as a fault asks")
    }
}

impl std::error::Error for Broken {}

/// The body of an answer on its way out.
pub(crate) type OutBody = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Broken>>>;

/// Takes connections for one service until the front is stopped.
pub(crate) async fn serve(listener: TcpListener, api: Api, base: String, front: Arc<Front>) {
    loop {
        let accepted = tokio::select! {
            () = front.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                front
                    .tasks
                    .spawn(connection(stream, api, base.clone(), Arc::clone(&front)));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to a stand-in could not be taken");
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn connection(stream: TcpStream, api: Api, base: String, front: Arc<Front>) {
    let stop = front.stop.clone();
    let service = service_fn(move |request| {
        let front = Arc::clone(&front);
        let base = base.clone();
        async move { answer(request, api, base, front).await }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        () = stop.cancelled() => {}
        // An error here is the client's going away or a fault that was asked for.
        _ = connection => {}
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    api: Api,
    base: String,
    front: Arc<Front>,
) -> Result<Response<OutBody>, Broken> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY_BYTES)
        .collect()
        .await
        .map_err(|_| Broken)?
        .to_bytes();
    let raw_query = head.uri.query().unwrap_or_default().to_owned();
    let request = Request {
        api,
        method: head.method,
        path: head.uri.path().to_owned(),
        query: query_pairs(&raw_query),
        raw_query,
        headers: head.headers,
        body,
        base,
    };
    // In a task of its own: a client that hangs up must not undo what a server has begun.
    let task = front.tasks.spawn(Arc::clone(&front).handle(request));
    match task.await {
        Ok(Reply::Answer(response)) => Ok(response),
        Ok(Reply::Break) | Err(_) => Err(Broken),
    }
}

/// A body that is sent whole.
pub(crate) fn whole(bytes: Bytes) -> OutBody {
    let frames = if bytes.is_empty() {
        Vec::new()
    } else {
        vec![Ok(Frame::data(bytes))]
    };
    StreamBody::new(futures::stream::iter(frames).boxed())
}

/// The pairs of a query, percent-decoded, `+` read as a space.
pub(crate) fn query_pairs(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (
                percent_decode(&key.replace('+', " ")),
                percent_decode(&value.replace('+', " ")),
            )
        })
        .collect()
}

/// Decodes `%41` and the like; what is no such escape stays as it is.
pub(crate) fn percent_decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// What RFC 3986 calls unreserved stands for itself.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Encodes everything but letters, digits and `-._~`, for links in answers.
pub(crate) fn percent_encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        assert_eq!(
            query_pairs("name=%5Ew1%24&tags=a%2Cb&flag&x=a+b"),
            [
                ("name", "^w1$"),
                ("tags", "a,b"),
                ("flag", ""),
                ("x", "a b")
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
        assert_eq!(percent_decode("100%"), "100%");
        assert_eq!(percent_decode("%zz%41"), "%zzA");
        assert_eq!(percent_decode(&percent_encode("a b/c&d=é")), "a b/c&d=é");
    }
}

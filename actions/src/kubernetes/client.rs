//! One request to the API server and its answer.
//!
//! kube's client carries the authentication and TLS; its retry layer is off (it asks up to 15
//! times, for every verb, and hides a budget's answer for minutes), and its `Api` is not used
//! for what changes something: `Api::evict` writes `delete_options`, which the API ignores,
//! and its decoder logs whole bodies.

use std::time::Duration;

use http::{HeaderValue, Method, Request, header};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rhizome_engine::action::{Failure, FailureKind};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::Access;
use super::errors::{Answer, told, transport};
use super::examine::Right;
use crate::query::escape;
use crate::{Pass, SetupError};

/// How long one request may take, in real time: with etcd away requests hang for ever.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The merge patch of RFC 7386: what is named is set, what is null is removed.
const MERGE_PATCH: &str = "application/merge-patch+json";
/// Objects asked for at once, as client-go does.
const PAGE: u32 = 500;
/// Pages read at most: 500,000 objects are more than a cluster may have.
const MAX_PAGES: u32 = 1_000;

/// The API server.
pub(super) struct Cluster {
    client: Client,
}

/// One mutating request, ready to be sent.
pub(super) struct Change {
    /// Its name, for the gate, the logs and the failures.
    pub(super) call: &'static str,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Value,
}

impl Cluster {
    pub(super) async fn new(access: &Access) -> Result<Self, SetupError> {
        let mut config = config(access).await?;
        config.default_retry = false;
        config.headers.push((
            header::USER_AGENT,
            HeaderValue::from_static(concat!("rhizome/", env!("CARGO_PKG_VERSION"))),
        ));
        let client = Client::try_from(config).map_err(|error| {
            SetupError::Value(format!(
                "cannot set up the client for Kubernetes: {}",
                told(&error)
            ))
        })?;
        Ok(Self { client })
    }

    /// kube's client, for its watches.
    pub(super) fn watcher_client(&self) -> Client {
        self.client.clone()
    }

    /// Reads one object, or none if there is none.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        call: &str,
        path: &str,
    ) -> Result<Option<T>, Failure> {
        let answer = self.look(call, path).await?;
        if answer.status == http::StatusCode::NOT_FOUND {
            // The API server's own 404 is a `Status`; a proxy's proves nothing.
            return if answer.as_status().is_some() {
                Ok(None)
            } else {
                Err(unreadable(call))
            };
        }
        if !answer.is_success() {
            return Err(self.judge(&answer, call, false, &[]).await);
        }
        read(call, &answer.text).map(Some)
    }

    /// Lists all pages. `path` has no `limit` and no `continue`, but may have a `?`.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        call: &str,
        path: &str,
    ) -> Result<Vec<T>, Failure> {
        self.list_of(call, path, Some).await
    }

    /// The same, and what `of` makes of each item: an item is many times as large as what matters
    /// of it, so that no more than a page of them is held.
    pub(super) async fn list_of<T: DeserializeOwned, U>(
        &self,
        call: &str,
        path: &str,
        of: impl Fn(T) -> Option<U>,
    ) -> Result<Vec<U>, Failure> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let first = format!("{path}{separator}limit={PAGE}");
        let mut items = Vec::new();
        let mut page = first.clone();
        for _ in 0..MAX_PAGES {
            let answer = self.look(call, &page).await?;
            if !answer.is_success() {
                return Err(self.judge(&answer, call, false, &[]).await);
            }
            let list: List<T> = read(call, &answer.text)?;
            items.extend(list.items.into_iter().filter_map(&of));
            match list.metadata.next.filter(|next| !next.is_empty()) {
                None => return Ok(items),
                Some(next) => page = format!("{first}&continue={}", escape(&next)),
            }
        }
        Err(Failure::new(
            FailureKind::Retry { after: None },
            format!("{call}: there are more than {MAX_PAGES} pages"),
        ))
    }

    /// Sends one mutating request. The only place from which any is sent; the pass is used up.
    ///
    /// The answer may be a refusal: what it means depends on the call.
    pub(super) async fn change(&self, pass: Pass, change: &Change) -> Result<Answer, Failure> {
        tracing::info!(call = change.call, path = change.path, "calling kubernetes");
        let content_type = if change.method == Method::PATCH {
            MERGE_PATCH
        } else {
            "application/json"
        };
        let body = match &change.body {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        };
        let request = Request::builder()
            .method(change.method.clone())
            .uri(&change.path)
            .header(header::CONTENT_TYPE, content_type)
            .body(body);
        let answer = self.send(change.call, true, request).await;
        drop(pass);
        answer
    }

    /// What a refusal means, after a look at `/readyz` if it is a 403: for a moment after its
    /// start the API server knows no roles and forbids everything to everybody.
    pub(super) async fn judge(
        &self,
        answer: &Answer,
        call: &str,
        changes: bool,
        known: &[&SecretString],
    ) -> Failure {
        let failure = answer.failure(call, changes, known);
        if answer.status == http::StatusCode::FORBIDDEN && !self.ready().await {
            return Failure::new(
                FailureKind::Retry { after: None },
                format!(
                    "{} (but the API server is not ready, so this may pass)",
                    failure.message
                ),
            );
        }
        failure
    }

    /// Whether `/readyz` says so.
    pub(super) async fn ready(&self) -> bool {
        self.look("readyz", "/readyz")
            .await
            .is_ok_and(|answer| answer.status == http::StatusCode::OK)
    }

    /// What the API server says of itself. Anybody may ask, but not with a token that is none.
    pub(super) async fn version(&self) -> Result<Answer, Failure> {
        self.look("version", "/version").await
    }

    /// Asks whether we have a right. None is needed for that, and nothing is changed by it.
    pub(super) async fn may(&self, right: &Right) -> Result<bool, Failure> {
        const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let request = Request::post(REVIEWS)
            .header(header::CONTENT_TYPE, "application/json")
            .body(right.review().to_string().into_bytes());
        let answer = self.send("may", false, request).await?;
        if !answer.is_success() {
            return Err(self.judge(&answer, "may", false, &[]).await);
        }
        let review: Value = read("may", &answer.text)?;
        Ok(review.pointer("/status/allowed") == Some(&Value::Bool(true)))
    }

    async fn look(&self, call: &str, path: &str) -> Result<Answer, Failure> {
        let request = Request::get(path).body(Vec::new());
        self.send(call, false, request).await
    }

    async fn send(
        &self,
        call: &str,
        changes: bool,
        request: Result<Request<Vec<u8>>, http::Error>,
    ) -> Result<Answer, Failure> {
        let request = request.map_err(|error| {
            Failure::new(
                FailureKind::Refused,
                format!("{call}: the request cannot be made: {error}"),
            )
        })?;
        let whole = async {
            let response = self
                .client
                .send(request.map(kube::client::Body::from))
                .await?;
            let (head, body) = response.into_parts();
            let bytes = body.collect_bytes().await?;
            Ok(Answer {
                status: head.status,
                retry_after: head
                    .headers
                    .get(header::RETRY_AFTER)
                    .and_then(|value| value.to_str().ok()?.trim().parse().ok())
                    .map(Duration::from_secs),
                date: head
                    .headers
                    .get(header::DATE)
                    .and_then(|value| value.to_str().ok())
                    .map(str::to_owned),
                text: String::from_utf8_lossy(&bytes).into_owned(),
            })
        };
        match tokio::time::timeout(TIMEOUT, whole).await {
            Ok(Ok(answer)) => {
                tracing::debug!(call, status = answer.status.as_u16(), "kubernetes answered");
                Ok(answer)
            }
            Ok(Err(error)) => Err(transport(call, changes, &error)),
            Err(_) => Err(Failure::new(
                if changes {
                    FailureKind::Unknown
                } else {
                    FailureKind::Retry { after: None }
                },
                format!("{call}: no answer within {} s", TIMEOUT.as_secs()),
            )),
        }
    }
}

#[derive(serde::Deserialize)]
struct List<T> {
    #[serde(default)]
    metadata: ListMeta,
    items: Vec<T>,
}

#[derive(serde::Deserialize, Default)]
struct ListMeta {
    #[serde(rename = "continue", default)]
    next: Option<String>,
}

fn read<T: DeserializeOwned>(call: &str, text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|_| unreadable(call))
}

fn unreadable(call: &str) -> Failure {
    Failure::new(
        FailureKind::Retry { after: None },
        format!("{call}: the answer is not the API server's"),
    )
}

async fn config(access: &Access) -> Result<kube::Config, SetupError> {
    let value = |what: &str, error: &(dyn std::error::Error + 'static)| {
        SetupError::Value(format!("{what} cannot be used: {}", told(error)))
    };
    match access {
        Access::InCluster => kube::Config::incluster()
            .map_err(|error| value("the service account of this pod", &error)),
        Access::Kubeconfig { path, context } => {
            let what = format!("the kubeconfig `{}`", path.display());
            let file = Kubeconfig::read_from(path).map_err(|error| value(&what, &error))?;
            let options = KubeConfigOptions {
                context: context.clone(),
                ..KubeConfigOptions::default()
            };
            kube::Config::from_custom_kubeconfig(file, &options)
                .await
                .map_err(|error| value(&what, &error))
        }
        Access::Url {
            url,
            token,
            ca_file,
        } => {
            let uri = url
                .parse()
                .map_err(|error| value(&format!("the address `{url}`"), &error))?;
            let mut config = kube::Config::new(uri);
            config.auth_info.token = token
                .as_ref()
                .map(|token| token.expose_secret().to_owned().into());
            config.root_cert_file.clone_from(ca_file);
            Ok(config)
        }
    }
}

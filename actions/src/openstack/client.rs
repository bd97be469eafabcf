//! The calls, each with its microversion, its ids and its time-out. Nova's own are here, and
//! Neutron's in `network.rs`.
//!
//! Whatever changes something takes a [`Pass`]. Nothing is tried twice in here but a look
//! whose token was refused; whether a mutating call is asked for again is not this file's to
//! decide.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, StatusCode};
use rhizome_engine::action::{Failure, FailureKind};
use rhizome_engine::names::VmId;
use rhizome_engine::time::Clock;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use uuid::Uuid;

use super::OpenstackOptions;
use super::auth::{Session, Token};
use super::errors::{Effect, Refusal, request_id, transport};
use super::protocol::{Listing, Page, ServerBody};
use crate::{Pass, SetupError};

/// Microversions, each the first that has what the call needs (`latest` is for tests: what it
/// means changes under our feet).
mod microversion {
    /// Servers of a cell that is down come back as `UNKNOWN` and not at all below it; and
    /// filters that are not known are refused, not ignored, only from 2.75, so none is sent.
    pub(super) const SEE: &str = "compute 2.69";
    /// Networks are said (2.37), and a rebuild takes new user data.
    pub(super) const MAKE: &str = "compute 2.57";
    /// Our global request ids are logged.
    pub(super) const ACT: &str = "compute 2.46";
}

/// The header of our id for all calls of one action, which the services log beside their own.
const GLOBAL_REQUEST_ID: &str = "X-OpenStack-Request-Id";
/// How long a look may take, in real time. Listing 100 servers took 0.2 s, and a service whose
/// database hangs is not waited for.
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a change may take, in real time. With RabbitMQ away a create hung for 25 s and then
/// succeeded; to give up earlier only makes more unknowns.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is read: 1,000 servers are about 2 MB.
const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;
/// Servers asked for at once; Nova's own limit is 1,000.
const PAGE: usize = 500;
/// Pages read at most: half a million servers are more than any project has.
pub(super) const MAX_PAGES: usize = 1_000;

/// What a call has in common with the others of its action.
#[derive(Clone)]
pub(super) struct Trace {
    /// The global request id: one per action, so that the cloud's operators can follow it.
    id: String,
}

impl Trace {
    pub(super) fn new() -> Self {
        Self {
            id: format!("req-{}", Uuid::new_v4()),
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

/// Why a mutating call did not succeed.
pub(super) enum ChangeError {
    /// The token was refused, so nothing happened: with a new one, and a new pass, it may be
    /// asked for again.
    Unauthorized(Failure),
    /// Anything else.
    Failed(Failure),
}

/// Which service is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// Nova.
    Compute,
    /// Neutron.
    Network,
}

/// One mutating call, ready to be sent.
pub(super) struct Change {
    /// Its name, for the gate, the logs and the failures.
    pub(super) call: &'static str,
    service: Service,
    method: Method,
    path: String,
    microversion: &'static str,
    body: Option<Value>,
    /// What must not be shown of the body.
    secret: Option<SecretString>,
}

impl Change {
    /// Asks for a new server.
    pub(super) fn create(body: Value, secret: Option<SecretString>) -> Self {
        Self {
            call: "create_server",
            service: Service::Compute,
            method: Method::POST,
            path: "/servers".to_owned(),
            microversion: microversion::MAKE,
            body: Some(body),
            secret,
        }
    }

    /// Makes a server anew from an image.
    pub(super) fn rebuild(
        id: &VmId,
        rebuild: &Value,
        secret: Option<SecretString>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            microversion: microversion::MAKE,
            secret,
            ..Self::action("rebuild_server", id, json!({"rebuild": rebuild}))?
        })
    }

    /// Reboots a server.
    pub(super) fn reboot(id: &VmId, hard: bool) -> Result<Self, Failure> {
        let kind = if hard { "HARD" } else { "SOFT" };
        Self::action("reboot_server", id, json!({"reboot": {"type": kind}}))
    }

    /// Stops a server.
    pub(super) fn stop(id: &VmId) -> Result<Self, Failure> {
        Self::action("stop_server", id, json!({"os-stop": null}))
    }

    /// Starts a server that is off.
    pub(super) fn start(id: &VmId) -> Result<Self, Failure> {
        Self::action("start_server", id, json!({"os-start": null}))
    }

    /// Deletes a server.
    pub(super) fn delete(id: &VmId) -> Result<Self, Failure> {
        Ok(Self {
            call: "delete_server",
            service: Service::Compute,
            method: Method::DELETE,
            path: format!("/servers/{}", segment(id.as_str())?),
            microversion: microversion::ACT,
            body: None,
            secret: None,
        })
    }

    /// A call of the network service, which has no microversions.
    pub(super) fn network(
        call: &'static str,
        method: Method,
        path: String,
        body: Option<Value>,
    ) -> Self {
        Self {
            call,
            service: Service::Network,
            method,
            path,
            microversion: "",
            body,
            secret: None,
        }
    }

    fn action(call: &'static str, id: &VmId, body: Value) -> Result<Self, Failure> {
        Ok(Self {
            call,
            service: Service::Compute,
            method: Method::POST,
            path: format!("/servers/{}/action", segment(id.as_str())?),
            microversion: microversion::ACT,
            body: Some(body),
            secret: None,
        })
    }
}

/// An answer, read whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Answer {
    /// As one that is not a success.
    pub(super) fn refusal(&self) -> Refusal<'_> {
        Refusal {
            status: self.status,
            headers: &self.headers,
            body: &self.text,
        }
    }

    pub(super) fn failure(&self, call: &str, effect: Effect, known: &[&SecretString]) -> Failure {
        self.refusal().failure(call, effect, known)
    }
}

/// The HTTP client, shared with Keystone's side.
pub(super) struct Http {
    pub(super) client: reqwest::Client,
}

impl Http {
    fn new(options: &OpenstackOptions) -> Result<Self, SetupError> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("rhizome/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            // A redirect would carry our token to whoever is named in it.
            .redirect(reqwest::redirect::Policy::none());
        if let Some(path) = &options.ca_file {
            let pem = std::fs::read(path).map_err(|source| SetupError::File {
                path: path.clone(),
                source,
            })?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| {
                SetupError::Value(format!(
                    "`{}` holds no certificate: {error}",
                    path.display()
                ))
            })?;
            builder = builder.tls_certs_merge(certificates);
        }
        let client = builder.build().map_err(|error| {
            SetupError::Value(format!(
                "cannot set up the HTTP client for OpenStack: {error}"
            ))
        })?;
        Ok(Self { client })
    }

    /// Sends one request and reads its answer, whatever its status.
    pub(super) async fn send(
        &self,
        call: &str,
        effect: Effect,
        request: RequestBuilder,
        known: &[&SecretString],
    ) -> Result<Answer, Failure> {
        let timeout = match effect {
            Effect::Looks => LOOK_TIMEOUT,
            Effect::Changes => CHANGE_TIMEOUT,
        };
        let lost = |error| transport(call, effect, error, known);
        let (client, request) = request.timeout(timeout).build_split();
        let request = request.map_err(lost)?;
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let ours = request.headers().get(GLOBAL_REQUEST_ID).cloned();
        let mut response = client.execute(request).await.map_err(lost)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ANSWER_BYTES {
                return Err(Failure::new(
                    effect.lost(),
                    format!("{call}: the answer is longer than {MAX_ANSWER_BYTES} bytes"),
                ));
            }
        }
        tracing::debug!(
            call,
            %method,
            path,
            status = status.as_u16(),
            request_id = request_id(&headers),
            global_request_id = ours.as_ref().and_then(|id| id.to_str().ok()),
            "openstack answered"
        );
        Ok(Answer {
            status,
            headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        })
    }
}

/// The compute service.
pub(super) struct Nova {
    http: Http,
    session: Session,
}

impl Nova {
    pub(super) fn new(
        options: &OpenstackOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SetupError> {
        reqwest::Url::parse(&options.auth_url).map_err(|error| {
            SetupError::Value(format!(
                "`auth_url` is not an address ({error}): write it as `https://host:5000/v3`"
            ))
        })?;
        Ok(Self {
            http: Http::new(options)?,
            session: Session::new(options, clock),
        })
    }

    /// Makes sure of a token, so that the pass of a mutating call is not held while Keystone
    /// thinks.
    pub(super) async fn ready(&self) -> Result<Token, Failure> {
        self.session.token(&self.http).await
    }

    /// Forgets a token that was refused.
    pub(super) async fn forget(&self, token: &Token) {
        self.session.forget(token).await;
    }

    /// One server, by its id.
    pub(super) async fn server(&self, id: &VmId, trace: &Trace) -> Result<ServerBody, Failure> {
        const CALL: &str = "get server";
        let answer = self
            .look(CALL, &format!("/servers/{}", segment(id.as_str())?), trace)
            .await?;
        if answer.status != StatusCode::OK {
            return Err(answer.failure(CALL, Effect::Looks, &[]));
        }
        ServerBody::read(&answer.text).ok_or_else(|| {
            Failure::new(
                FailureKind::Retry { after: None },
                format!("{CALL}: the answer for {id} cannot be read"),
            )
        })
    }

    /// What `of` makes of every server of the project, in all statuses, page by page, with no filter
    /// but our own.
    ///
    /// The first page's failure is the listing's; a later page's makes it incomplete.
    pub(super) async fn servers<T>(
        &self,
        trace: &Trace,
        of: impl Fn(ServerBody) -> Option<T>,
    ) -> Result<Listing<T>, Failure> {
        const CALL: &str = "list servers";
        let mut listing = Listing::new();
        let mut marker: Option<String> = None;
        for page in 0..MAX_PAGES {
            let path = match &marker {
                Some(marker) => format!("/servers/detail?limit={PAGE}&marker={marker}"),
                None => format!("/servers/detail?limit={PAGE}"),
            };
            let read = match self.look(CALL, &path, trace).await {
                Ok(answer) if answer.status == StatusCode::OK => Page::read(&answer.text)
                    .ok_or_else(|| {
                        Failure::new(
                            FailureKind::Retry { after: None },
                            format!("{CALL}: the answer cannot be read"),
                        )
                    }),
                Ok(answer) => Err(answer.failure(CALL, Effect::Looks, &[])),
                Err(failure) => Err(failure),
            };
            match read {
                Err(failure) if page == 0 => return Err(failure),
                Err(failure) => {
                    listing.trouble(format!("page {}: {failure}", page + 1));
                    return Ok(listing);
                }
                Ok(read) => {
                    let next = read.next();
                    listing.add(read, &of);
                    match next {
                        None => return Ok(listing),
                        next if next == marker => {
                            listing.trouble("the pages go round in a circle".to_owned());
                            return Ok(listing);
                        }
                        next => marker = next,
                    }
                }
            }
        }
        listing.trouble(format!("there are more than {MAX_PAGES} pages"));
        Ok(listing)
    }

    /// Makes the one call of `change`. The only place from which anything that changes
    /// something is sent; the pass is used up by it.
    pub(super) async fn change(
        &self,
        pass: Pass,
        token: &Token,
        change: &Change,
        trace: &Trace,
    ) -> Result<Answer, ChangeError> {
        let call = change.call;
        let mut secrets = vec![&token.secret];
        secrets.extend(change.secret.as_ref());
        let method = change.method.clone();
        let mut request = self.request(
            token,
            change.service,
            method,
            &change.path,
            change.microversion,
            trace,
        );
        if let Some(body) = &change.body {
            request = request.json(body);
        }
        tracing::info!(
            call,
            path = change.path,
            global_request_id = trace.id(),
            "calling openstack"
        );
        let sent = self
            .http
            .send(call, Effect::Changes, request, &secrets)
            .await;
        drop(pass);
        let answer = sent.map_err(ChangeError::Failed)?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        let failure = answer.failure(call, Effect::Changes, &secrets);
        Err(if answer.status == StatusCode::UNAUTHORIZED {
            ChangeError::Unauthorized(failure)
        } else {
            ChangeError::Failed(failure)
        })
    }

    /// A look at the compute service.
    async fn look(&self, call: &str, path: &str, trace: &Trace) -> Result<Answer, Failure> {
        self.look_at(Service::Compute, call, path, trace).await
    }

    /// A look. A refused token is renewed once.
    pub(super) async fn look_at(
        &self,
        service: Service,
        call: &str,
        path: &str,
        trace: &Trace,
    ) -> Result<Answer, Failure> {
        let mut renewed = false;
        loop {
            let token = self.session.token(&self.http).await?;
            let see = microversion::SEE;
            let request = self.request(&token, service, Method::GET, path, see, trace);
            let answer = self
                .http
                .send(call, Effect::Looks, request, &[&token.secret])
                .await?;
            if answer.status != StatusCode::UNAUTHORIZED || renewed {
                return Ok(answer);
            }
            renewed = true;
            self.session.forget(&token).await;
        }
    }

    fn request(
        &self,
        token: &Token,
        service: Service,
        method: Method,
        path: &str,
        microversion: &str,
        trace: &Trace,
    ) -> RequestBuilder {
        let (base, path) = match service {
            Service::Compute => (token.compute.as_str(), path),
            // Nobody asks it but who has seen that there is one. The version, which paths of
            // Neutron's are written with, ends its address already.
            Service::Network => (
                token.network.as_deref().unwrap_or_default(),
                path.strip_prefix("/v2.0").unwrap_or(path),
            ),
        };
        let request = self
            .http
            .client
            .request(method, format!("{base}{path}"))
            .header("X-Auth-Token", sensitive(&token.secret))
            .header(GLOBAL_REQUEST_ID, trace.id())
            .header("Accept", "application/json");
        match service {
            Service::Compute => request.header("OpenStack-API-Version", microversion),
            Service::Network => request,
        }
    }
}

/// A token as a header that no debug output of what is below us shows.
pub(super) fn sensitive(token: &SecretString) -> HeaderValue {
    let mut value = HeaderValue::from_str(token.expose_secret())
        .unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// An id as a part of a path. What is none (`../`, an empty one, `x?y`) is never sent: an empty
/// id would turn "delete this server" into a request to the list of all.
pub(super) fn segment(text: &str) -> Result<&str, Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !text.is_empty() && text.chars().all(plain) {
        Ok(text)
    } else {
        Err(Failure::new(
            FailureKind::Refused,
            format!("`{text}` is not an id"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_id_becomes_part_of_a_path() {
        assert!(segment("8c6a1d0e-93b2-4a3e-9e0e-2f1f0b6a2c11").is_ok());
        for text in ["", ".", "..", "a/b", "a?b", "a#b", "a%2fb", "a b"] {
            assert!(segment(text).is_err(), "{text}");
        }
    }
}

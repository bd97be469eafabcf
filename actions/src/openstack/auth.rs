//! Keystone v3: a token, renewed before it expires, and the endpoints in its catalog. What version
//! stands behind an endpoint is found in `discovery.rs`.
//!
//! One token serves all calls. It is kept in memory only, and never shown.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use rhizome_engine::action::{Failure, FailureKind};
use rhizome_engine::time::{Clock, Monotonic};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::client::{Answer, Http};
use super::discovery::{Api, Discovery};
use super::errors::Effect;
use super::{Credentials, Interface, Named};
use crate::redact::redact;

/// How long before its end a token is renewed, at most: a call may take a minute, and a
/// service checks the token when it begins.
const LONGEST_MARGIN: Duration = Duration::from_secs(120);
/// What a token's life is taken for when Keystone's two times cannot be read.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);

/// A token and where it is good for.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) secret: SecretString,
    /// The address of the compute service's API, version included, without a slash at its end.
    pub(super) compute: String,
    /// The network service's, likewise; none if the catalog has none.
    pub(super) network: Option<String>,
    /// The project that the token is for.
    pub(super) project: Option<String>,
    /// The names of our roles there.
    pub(super) roles: Vec<String>,
    renew_at: Monotonic,
}

/// Holds the token of the day.
pub(super) struct Session {
    auth_url: String,
    credentials: Credentials,
    region: Option<String>,
    interface: Interface,
    clock: Arc<dyn Clock>,
    discovery: Discovery,
    token: Mutex<Option<Token>>,
}

impl Session {
    pub(super) fn new(options: &super::OpenstackOptions, clock: Arc<dyn Clock>) -> Self {
        let root = options.auth_url.trim_end_matches('/');
        let root = root.strip_suffix("/v3").unwrap_or(root);
        Self {
            auth_url: format!("{root}/v3/auth/tokens"),
            credentials: options.credentials.clone(),
            region: options.region.clone(),
            interface: options.interface,
            clock,
            discovery: Discovery::default(),
            token: Mutex::new(None),
        }
    }

    /// The token to use now: the one we have, or a new one if its end is near.
    pub(super) async fn token(&self, http: &Http) -> Result<Token, Failure> {
        let mut held = self.token.lock().await;
        let now = self.clock.now().mono;
        if let Some(token) = held.as_ref().filter(|token| token.renew_at > now) {
            return Ok(token.clone());
        }
        let token = self.authenticate(http).await?;
        *held = Some(token.clone());
        Ok(token)
    }

    /// Forgets `refused`, which a service did not take. One that another call has renewed
    /// meanwhile is kept.
    pub(super) async fn forget(&self, refused: &Token) {
        let mut held = self.token.lock().await;
        if held
            .as_ref()
            .is_some_and(|token| token.secret.expose_secret() == refused.secret.expose_secret())
        {
            *held = None;
        }
    }

    async fn authenticate(&self, http: &Http) -> Result<Token, Failure> {
        const CALL: &str = "keystone token";
        let secret = match &self.credentials {
            Credentials::Password { password, .. } => password,
            Credentials::ApplicationCredential { secret, .. } => secret,
        };
        // Making a token changes nothing that matters: a lost answer is asked for again.
        let answer = http
            .send(
                CALL,
                Effect::Looks,
                http.client.post(&self.auth_url).json(&self.request()),
                &[secret],
            )
            .await?;
        match answer.status {
            StatusCode::CREATED | StatusCode::OK => self.discover(http, self.read(&answer)?).await,
            // A deleted application credential is a 404 (seen on Keystone 22), and so is what a
            // proxy says while Keystone restarts. Whichever it is, nothing happened, and what is
            // under way is not to be undone for it: the tries of its step are the bound.
            StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => {
                Err(Failure::new(
                    FailureKind::Retry { after: None },
                    format!(
                        "keystone does not take our credentials: {}: {}; check them, or make a \
                         new application credential if it was deleted or has expired",
                        answer.refusal().answered(),
                        redact(&answer.text, &[secret])
                    ),
                ))
            }
            _ => Err(answer.failure(CALL, Effect::Looks, &[secret])),
        }
    }

    /// Puts the addresses of the APIs where the catalog's stand.
    async fn discover(&self, http: &Http, mut token: Token) -> Result<Token, Failure> {
        token.compute = self
            .address(http, Api::COMPUTE, &token.compute, &token)
            .await?;
        if let Some(catalog) = &token.network {
            let found = self.address(http, Api::NETWORK, catalog, &token).await;
            // Without Neutron servers are still seen, rebooted and deleted.
            token.network = Some(found.unwrap_or_else(|failure| {
                tracing::warn!(%failure, "the network service's API is guessed");
                Api::NETWORK.guess(catalog)
            }));
        }
        Ok(token)
    }

    async fn address(
        &self,
        http: &Http,
        api: Api,
        catalog: &str,
        token: &Token,
    ) -> Result<String, Failure> {
        let project = token.project.as_deref();
        self.discovery
            .address(http, api, catalog, project, &token.secret)
            .await
    }

    fn request(&self) -> Value {
        match &self.credentials {
            Credentials::Password {
                username,
                user_domain,
                password,
                project,
                project_domain,
            } => {
                let mut user = reference(username, Some(user_domain));
                if let Some(user) = user.as_object_mut() {
                    user.insert("password".to_owned(), json!(password.expose_secret()));
                }
                json!({"auth": {
                    "identity": {"methods": ["password"], "password": {"user": user}},
                    "scope": {"project": reference(project, Some(project_domain))},
                }})
            }
            // Never with a scope: "Application credentials cannot request a scope."
            Credentials::ApplicationCredential { id, secret } => json!({"auth": {
                "identity": {
                    "methods": ["application_credential"],
                    "application_credential": {"id": id, "secret": secret.expose_secret()},
                },
            }}),
        }
    }

    fn read(&self, answer: &Answer) -> Result<Token, Failure> {
        let broken = |what: &str| {
            Failure::new(
                FailureKind::Retry { after: None },
                format!("keystone's answer cannot be read: {what}"),
            )
        };
        let secret = answer
            .headers
            .get("x-subject-token")
            .and_then(|value| value.to_str().ok())
            .ok_or_else(|| broken("it has no x-subject-token"))?;
        // Not with the decoder's own words: they may quote the answer.
        let body: Body = serde_json::from_str(&answer.text)
            .map_err(|_| broken("its body is not what keystone v3 writes"))?;
        Ok(Token {
            secret: secret.to_owned().into(),
            compute: self.compute(&body.token.catalog)?,
            network: self.endpoint(&body.token.catalog, Api::NETWORK.kind).ok(),
            project: body
                .token
                .project
                .as_ref()
                .map(|project| project.id.clone()),
            roles: body
                .token
                .roles
                .iter()
                .map(|role| role.name.clone())
                .collect(),
            renew_at: self.clock.now().mono.plus(body.token.useful_life()),
        })
    }

    fn compute(&self, catalog: &[Service]) -> Result<String, Failure> {
        if catalog.is_empty() {
            return Err(Failure::new(
                FailureKind::Refused,
                "keystone gave a token without a catalog: name the project in the configuration",
            ));
        }
        self.endpoint(catalog, Api::COMPUTE.kind)
    }

    /// The address of a kind of service, as the catalog writes it.
    fn endpoint(&self, catalog: &[Service], kind: &str) -> Result<String, Failure> {
        let endpoints: Vec<&Endpoint> = catalog
            .iter()
            .filter(|service| service.kind == kind)
            .flat_map(|service| &service.endpoints)
            .collect();
        let fits = |endpoint: &&&Endpoint| {
            endpoint.interface == self.interface.as_str()
                && self.region.as_ref().is_none_or(|region| {
                    endpoint.region_id.as_ref().or(endpoint.region.as_ref()) == Some(region)
                })
        };
        match endpoints.iter().find(fits) {
            Some(endpoint) => Ok(endpoint.url.clone()),
            None => Err(Failure::new(
                FailureKind::Retry { after: None },
                format!(
                    "the catalog has no {kind} endpoint for interface `{}`{}; it has: {}",
                    self.interface.as_str(),
                    self.region
                        .as_ref()
                        .map(|region| format!(" and region `{region}`"))
                        .unwrap_or_default(),
                    endpoints
                        .iter()
                        .map(|endpoint| format!(
                            "{} in {}",
                            endpoint.interface,
                            endpoint.region_id.as_deref().unwrap_or("no region")
                        ))
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            )),
        }
    }
}

/// A user, project or domain as Keystone wants it: a name means nothing without its domain.
fn reference(whom: &Named, domain: Option<&Named>) -> Value {
    match (whom, domain) {
        (Named::Id(id), _) => json!({"id": id}),
        (Named::Name(name), None) => json!({"name": name}),
        (Named::Name(name), Some(domain)) => {
            json!({"name": name, "domain": reference(domain, None)})
        }
    }
}

#[derive(Deserialize)]
struct Body {
    token: TokenBody,
}

#[derive(Deserialize)]
struct TokenBody {
    #[serde(default)]
    issued_at: Option<jiff::Timestamp>,
    #[serde(default)]
    expires_at: Option<jiff::Timestamp>,
    #[serde(default)]
    catalog: Vec<Service>,
    #[serde(default)]
    project: Option<Project>,
    #[serde(default)]
    roles: Vec<Role>,
}

#[derive(Deserialize)]
struct Role {
    name: String,
}

#[derive(Deserialize)]
struct Project {
    id: String,
}

#[derive(Deserialize)]
struct Service {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    interface: String,
    #[serde(default)]
    region_id: Option<String>,
    #[serde(default)]
    region: Option<String>,
    url: String,
}

impl TokenBody {
    /// How long it is used. Both times are Keystone's own, so that a clock that differs from
    /// ours changes nothing; a tenth is left as margin.
    fn useful_life(&self) -> Duration {
        let life = match (self.issued_at, self.expires_at) {
            (Some(issued), Some(expires)) => {
                Duration::try_from(expires.duration_since(issued)).unwrap_or(SHORTEST_LIFE)
            }
            _ => SHORTEST_LIFE,
        };
        life.saturating_sub((life / 10).min(LONGEST_MARGIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_before_its_end_by_keystones_own_clock() {
        let life = |issued: &str, expires: &str| {
            TokenBody {
                issued_at: issued.parse().ok(),
                expires_at: expires.parse().ok(),
                catalog: Vec::new(),
                project: None,
                roles: Vec::new(),
            }
            .useful_life()
        };
        // Keystone's clock is years off ours, which does not matter.
        assert_eq!(
            life("2001-01-01T00:00:00Z", "2001-01-01T01:00:00Z"),
            Duration::from_secs(3480)
        );
        assert_eq!(
            life("2026-11-22T00:00:00Z", "2026-11-22T00:00:20Z"),
            Duration::from_secs(18)
        );
        assert_eq!(life("", ""), Duration::from_secs(54));
    }
}

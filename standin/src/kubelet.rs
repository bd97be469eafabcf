//! A light guest that joins a real cluster as a kubelet does, over TLS and with nothing but its
//! token: discovery with the pin of the CA, a certificate by request, a Node with its provider
//! id, a Lease that it renews, and pods that run and end.
//!
//! It runs nothing. It serves tests and demonstrations that need many nodes of which the API
//! server cannot tell that there is no machine behind them. Dropped, it is silent at once, as a
//! machine without power.
//!
//! | file | what it does |
//! |---|---|
//! | `discovery.rs` | whom to trust: the signed cluster-info, and the pin |
//! | `identity.rs` | a key, a request, and a certificate |
//! | `life.rs` | the Node, its Lease and its pods |

mod discovery;
mod identity;
mod life;

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use tokio::task::JoinHandle;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// By what a machine joins: kubeadm's `JoinConfiguration`, in short.
#[derive(Clone)]
pub struct Join {
    /// The API server, as `host:port`.
    pub endpoint: String,
    /// The bootstrap token.
    pub token: String,
    /// Pins of the cluster's CA, each `sha256:` and a hash in hex. One must fit.
    pub ca_cert_hashes: Vec<String>,
    /// The node that it means to be.
    pub node: String,
    /// What it says of the machine under it.
    pub provider_id: String,
}

/// Why a machine did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No answer.
    #[error("the API server cannot be reached: {0}")]
    Unreachable(#[from] reqwest::Error),
    /// It said no.
    #[error("{what}: answered {status}: {said}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// The status.
        status: u16,
        /// What it said.
        said: String,
    },
    /// The cluster cannot show that it is the one that the token is for.
    #[error("the cluster is not to be trusted: {0}")]
    NotTrusted(&'static str),
    /// A Ready node has the name.
    #[error("a node named `{0}` exists and is ready: delete it, or take another name")]
    NameTaken(String),
    /// The request for a certificate was denied.
    #[error("the certificate was denied")]
    Denied,
    /// What was read cannot be made use of.
    #[error("{0}")]
    Unusable(String),
}

/// A node that lives until it is dropped.
#[derive(Debug)]
pub struct Kubelet {
    life: JoinHandle<()>,
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.life.abort();
    }
}

impl Kubelet {
    /// Joins and lives. Waits for its certificate for as long as it takes: whoever calls gives up.
    ///
    /// # Errors
    ///
    /// Returns [`JoinError`] for a cluster that is not to be trusted, a token that is not
    /// accepted, a name that is taken, and a request that is denied.
    pub async fn join(join: &Join) -> Result<Self, JoinError> {
        let trusted = discovery::discover(join).await?;
        let by_token = Api::new(join, &trusted, None)?.with_token(&join.token);
        let identity = identity::obtain(&by_token, &join.node).await?;
        let api = Api::new(join, &trusted, Some(identity))?;
        let node = life::register(&api, join).await?;
        let name = join.node.clone();
        Ok(Self {
            life: tokio::spawn(async move { life::live(&api, &name, &node).await }),
        })
    }

    /// The same on a stand-in, which speaks no TLS: there is nothing to discover, and what was
    /// issued is shown in a header. A machine whose disk holds a certificate already, from an
    /// earlier boot, shows that one. Returns what the disk is to hold.
    ///
    /// # Errors
    ///
    /// Returns [`JoinError`] as [`Kubelet::join`] does.
    pub async fn join_stand_in(
        join: &Join,
        held: Option<String>,
    ) -> Result<(Self, String), JoinError> {
        let plain = Api::plain(join)?;
        let certificate = match held {
            Some(certificate) => certificate,
            None => {
                let by_token = plain.with_token(&join.token);
                let (pem, _) = identity::ask(&by_token, &join.node).await?;
                pem.lines().filter(|line| !line.starts_with('-')).collect()
            }
        };
        let mut api = Api::plain(join)?;
        api.certificate = Some(certificate.clone());
        let node = life::register(&api, join).await?;
        let name = join.node.clone();
        let life = tokio::spawn(async move { life::live(&api, &name, &node).await });
        Ok((Self { life }, certificate))
    }
}

/// The API server, as one user of it.
struct Api {
    base: String,
    client: Client,
    token: Option<String>,
    /// What is shown to a stand-in.
    certificate: Option<String>,
}

impl Api {
    fn new(
        join: &Join,
        ca: &reqwest::Certificate,
        identity: Option<reqwest::Identity>,
    ) -> Result<Self, JoinError> {
        let mut builder = Client::builder()
            .tls_certs_only([ca.clone()])
            .timeout(TIMEOUT);
        if let Some(identity) = identity {
            builder = builder.identity(identity);
        }
        Ok(Self {
            base: format!("https://{}", join.endpoint),
            client: builder.build()?,
            token: None,
            certificate: None,
        })
    }

    fn plain(join: &Join) -> Result<Self, JoinError> {
        Ok(Self {
            base: format!("http://{}", join.endpoint),
            client: Client::builder().timeout(TIMEOUT).build()?,
            token: None,
            certificate: None,
        })
    }

    fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<(StatusCode, Value), JoinError> {
        let form = if method == Method::PATCH {
            "application/strategic-merge-patch+json"
        } else {
            "application/json"
        };
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.base))
            .header("user-agent", "rhizome-guest");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(certificate) = &self.certificate {
            request = request.header("client-cert", format!(":{certificate}:"));
        }
        if !body.is_null() {
            request = request.header("content-type", form).body(body.to_string());
        }
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or_default()))
    }

    /// Asks, and insists on success.
    async fn insist(
        &self,
        what: &'static str,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Value, JoinError> {
        let (status, answer) = self.ask(method, path, body).await?;
        if status.is_success() {
            return Ok(answer);
        }
        Err(refused(what, status, &answer))
    }
}

fn refused(what: &'static str, status: StatusCode, answer: &Value) -> JoinError {
    JoinError::Refused {
        what,
        status: status.as_u16(),
        said: crate::json::text_or_empty(answer, "/message").to_owned(),
    }
}

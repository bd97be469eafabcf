//! The stand-ins over the wire: what a client of the real services would see.
//!
//! Time is moved by hand, so nothing here waits for it; what is waited for is an answer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect must fail"
)]

mod actions;
mod checker;
mod cloud;
mod cluster;
mod evictions;
mod faults;
mod guests;
mod keystone;
mod lists;
mod pods;
mod relay;
mod volumes;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, StatusCode};
use rhizome_engine::time::Timestamp;
use rhizome_standin::{ManualClock, Options, Standin};
use serde_json::{Value, json};

/// 2026-11-22T07:42:54Z.
const START: Timestamp = Timestamp(1_795_333_374_000);

/// How long an answer may take. An hour of the world passes within one, and where the machine does
/// much else that took longer than 20 s.
const PATIENCE: Duration = Duration::from_secs(300);

const IMAGE: &str = "70a599e0-31e7-49b7-b260-868f441e862b";

/// Running stand-ins, their clock, and a client of both.
struct Bench {
    standin: Standin,
    clock: ManualClock,
    client: reqwest::Client,
    token: String,
    microversion: &'static str,
}

/// An answer, read whole.
#[derive(Debug)]
struct Got {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Value,
    text: String,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

fn client() -> reqwest::Client {
    // The clients are built without a provider of their own; the first test installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

impl Bench {
    async fn start() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        let clock = ManualClock::new(START);
        let standin = Standin::start(options, Arc::new(clock.clone()))
            .await
            .unwrap();
        let mut bench = Self {
            standin,
            clock,
            client: client(),
            token: String::new(),
            microversion: "2.93",
        };
        bench.token = bench.log_in().await;
        bench
    }

    async fn log_in(&self) -> String {
        let credentials = self.standin.credentials();
        let body = json!({"auth": {"identity": {"methods": ["application_credential"],
            "application_credential": {"id": credentials.application_credential_id,
                "secret": credentials.application_credential_secret}}}});
        let got = self
            .keystone(Method::POST, "/v3/auth/tokens", Some(body))
            .await;
        assert_eq!(got.status, 201, "{got:?}");
        got.header("x-subject-token").unwrap().to_owned()
    }

    async fn log_in_as_admin(&self) -> String {
        let body = json!({"auth": {"identity": {"methods": ["password"], "password": {"user":
            {"name": "admin", "domain": {"id": "default"}, "password": "admin-pw"}}},
            "scope": {"project": {"name": "demo", "domain": {"id": "default"}}}}});
        let got = self
            .keystone(Method::POST, "/v3/auth/tokens", Some(body))
            .await;
        got.header("x-subject-token").unwrap().to_owned()
    }

    fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Got {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        Got {
            status: StatusCode::as_u16(&status),
            headers,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        }
    }

    async fn keystone(&self, method: Method, path: &str, body: Option<Value>) -> Got {
        let url = format!("{}{path}", self.standin.openstack_url());
        let mut request = self
            .client
            .request(method, url)
            .header("x-auth-token", &self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        self.send(request).await
    }

    fn nova_request(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> reqwest::RequestBuilder {
        let url = format!("{}/compute/v2.1{path}", self.standin.openstack_url());
        let mut request = self
            .client
            .request(method, url)
            .header("x-auth-token", &self.token);
        if !self.microversion.is_empty() {
            request = request.header(
                "openstack-api-version",
                format!("compute {}", self.microversion),
            );
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        request
    }

    async fn nova(&self, method: Method, path: &str, body: Option<Value>) -> Got {
        self.send(self.nova_request(method, path, body)).await
    }

    /// Creates a server and gives its id.
    async fn create(&self, name: &str, more: Value) -> String {
        let got = self
            .nova(Method::POST, "/servers", Some(server(name, more)))
            .await;
        assert_eq!(got.status, 202, "{got:?}");
        got.body["server"]["id"].as_str().unwrap().to_owned()
    }

    async fn server_status(&self, id: &str) -> String {
        let got = self
            .nova(Method::GET, &format!("/servers/{id}"), None)
            .await;
        got.body["server"]["status"]
            .as_str()
            .unwrap_or("-")
            .to_owned()
    }

    fn kube_request(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.standin.kubernetes_url());
        let mut request = self
            .client
            .request(method, url)
            .bearer_auth(&self.standin.credentials().kubernetes_token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        request
    }

    async fn kube(&self, method: Method, path: &str, body: Option<Value>) -> Got {
        self.send(self.kube_request(method, path, body)).await
    }

    async fn patch(&self, path: &str, kind: &str, body: Value) -> Got {
        let request = self
            .kube_request(Method::PATCH, path, None)
            .header("content-type", format!("application/{kind}+json"))
            .body(body.to_string());
        self.send(request).await
    }

    /// A kube-rs client.
    fn kube_client(&self) -> kube::Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = kube::Config::new(self.standin.kubernetes_url().parse().unwrap());
        config.auth_info.token = Some(self.standin.credentials().kubernetes_token.clone().into());
        kube::Client::try_from(config).unwrap()
    }

    /// Makes a bootstrap token that is good for so many seconds.
    async fn bootstrap_token(&self, id: &str, seconds: u64) -> String {
        let secret = "f395accd246ae52d";
        let expiration = self
            .standin
            .world(|world| world.now())
            .plus(Duration::from_secs(seconds));
        let got = self
            .kube(
                Method::POST,
                "/api/v1/namespaces/kube-system/secrets",
                Some(json!({
                    "apiVersion": "v1", "kind": "Secret",
                    "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
                    "type": "bootstrap.kubernetes.io/token",
                    "stringData": {
                        "token-id": id, "token-secret": secret,
                        "expiration": expiration.to_string(),
                        "usage-bootstrap-authentication": "true",
                        "usage-bootstrap-signing": "true",
                        "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
                    },
                })),
            )
            .await;
        assert_eq!(got.status, 201, "{got:?}");
        format!("{id}.{secret}")
    }

    /// Adds a node the whole way: token, server, boot, join, Ready. Gives the server's id.
    async fn add_node(&self, name: &str, token_id: &str) -> String {
        let token = self.bootstrap_token(token_id, 3_600).await;
        let id = self
            .create(name, json!({"user_data": user_data(&token, name)}))
            .await;
        self.advance(60);
        let ready = self.node_condition(name, "Ready").await;
        assert_eq!(
            ready.as_deref(),
            Some("True"),
            "{name} did not become Ready"
        );
        id
    }

    async fn node(&self, name: &str) -> Value {
        let got = self
            .kube(Method::GET, &format!("/api/v1/nodes/{name}"), None)
            .await;
        got.body
    }

    async fn node_condition(&self, name: &str, kind: &str) -> Option<String> {
        condition(&self.node(name).await, kind).map(str::to_owned)
    }
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    object["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == kind)?["status"]
        .as_str()
}

/// The body of a create.
fn server(name: &str, more: Value) -> Value {
    let mut server = json!({"name": name, "flavorRef": "2", "imageRef": IMAGE, "networks": "none"});
    for (key, value) in more.as_object().unwrap() {
        server[key] = value.clone();
    }
    json!({"server": server})
}

/// Kubeadm's join configuration in cloud-init's YAML, encoded.
fn user_data(token: &str, name: &str) -> String {
    STANDARD.encode(format!(
        r#"#cloud-config
write_files:
- path: /etc/kubernetes/join.yaml
  permissions: "0600"
  content: |
    apiVersion: kubeadm.k8s.io/v1beta4
    kind: JoinConfiguration
    discovery: {{bootstrapToken: {{apiServerEndpoint: "10.0.0.10:6443", token: "{token}", caCertHashes: ["sha256:0"]}}}}
    nodeRegistration:
      name: '{name}'
      kubeletExtraArgs:
      - {{name: cloud-provider, value: external}}
runcmd: [[kubeadm, join, --config, /etc/kubernetes/join.yaml]]
"#
    ))
}

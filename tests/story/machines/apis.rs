//! Nova, Neutron and the API server, asked directly: what there is, not what Rhizome says.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Client;
use rhizome::clock::RealClock;
use rhizome_engine::time::Clock;
use serde_json::{Value, json};

use crate::world::Node;
use crate::{PATIENCE, passed};

/// How long one request may take: a busy Nova takes seconds.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How often it is looked whether something that was left is gone.
const AGAIN: Duration = Duration::from_secs(1);

/// Nova's servers by id: name and status.
type Servers = BTreeMap<String, (String, String)>;

/// Neutron's ports by id: the server that each belongs to, and the pool that it was made for.
type Ports = BTreeMap<String, (String, String)>;

/// The cloud, for a user of the project.
pub(crate) struct Cloud {
    client: Client,
    keystone: String,
    user: String,
    password: String,
    session: Option<Session>,
}

/// A token, and where the services are.
#[derive(Clone)]
struct Session {
    token: String,
    compute: String,
    network: String,
}

impl Cloud {
    pub(crate) fn new(keystone: &str, user: &str, password: &str) -> Self {
        Self {
            client: Client::builder().timeout(TIMEOUT).build().unwrap(),
            keystone: keystone.to_owned(),
            user: user.to_owned(),
            password: password.to_owned(),
            session: None,
        }
    }

    /// All servers and all ports of the project; nothing while one of them does not answer.
    pub(crate) async fn look(&mut self) -> Option<(Servers, Ports)> {
        let session = self.session().await?;
        let servers = self
            .get(&session, &format!("{}/servers/detail", session.compute))
            .await;
        let ports = self
            .get(&session, &format!("{}/v2.0/ports", session.network))
            .await;
        let Some((servers, ports)) = servers.zip(ports) else {
            // A token that is not taken any more is not used again.
            self.session = None;
            return None;
        };
        let servers = list(&servers, "servers").map(|server| {
            let of = (text(server, "/name"), text(server, "/status"));
            (text(server, "/id"), of)
        });
        let ports = list(&ports, "ports").map(|port| {
            let made_for = text(port, "/description");
            let pool = made_for.split(':').nth(2).unwrap_or_default().to_owned();
            (text(port, "/id"), (text(port, "/device_id"), pool))
        });
        Some((servers.collect(), ports.collect()))
    }

    /// Where Nova and Neutron are, as the catalog has it.
    #[allow(dead_code, reason = "for the tests of faults, which share this file")]
    pub(crate) async fn addresses(&mut self) -> Option<(String, String)> {
        let session = self.session().await?;
        Some((session.compute, session.network))
    }

    /// All servers of the project, as Nova has them.
    #[allow(dead_code, reason = "for the tests of faults, which share this file")]
    pub(crate) async fn servers(&mut self) -> Option<Vec<Value>> {
        let session = self.session().await?;
        let url = format!("{}/servers/detail", session.compute);
        let servers = self.get(&session, &url).await?;
        Some(list(&servers, "servers").cloned().collect())
    }

    /// Deletes the servers that go, by id and name, and the ports of pools that go and belong to no
    /// server, until they are gone.
    pub(crate) async fn clear(
        &mut self,
        server_goes: impl Fn(&str, &str) -> bool,
        pool_goes: impl Fn(&str) -> bool,
    ) {
        let clock = RealClock::new();
        let began = clock.now().mono;
        loop {
            if let Some((servers, ports)) = self.look().await {
                let session = self.session().await.unwrap();
                let servers = servers
                    .iter()
                    .filter(|(id, (name, _))| server_goes(id, name));
                let servers = servers.map(|(id, _)| format!("{}/servers/{id}", session.compute));
                let ports = ports
                    .iter()
                    .filter(|(_, (device, pool))| device.is_empty() && pool_goes(pool));
                let ports = ports.map(|(id, _)| format!("{}/v2.0/ports/{id}", session.network));
                let left: Vec<_> = servers.chain(ports).collect();
                if left.is_empty() {
                    return;
                }
                for url in &left {
                    let request = self
                        .client
                        .delete(url)
                        .header("x-auth-token", &session.token);
                    // Who is on the way out already may refuse.
                    let _ = request.send().await;
                }
                assert!(passed(&clock, began) < PATIENCE, "these stay: {left:?}");
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// An action on a server. Whether it was taken.
    pub(crate) async fn act(&mut self, server: &str, action: &Value) -> bool {
        let Some(session) = self.session().await else {
            return false;
        };
        let url = format!("{}/servers/{server}/action", session.compute);
        let request = self
            .client
            .post(url)
            .header("x-auth-token", session.token)
            .json(action);
        request
            .send()
            .await
            .is_ok_and(|answer| answer.status().is_success())
    }

    async fn get(&self, session: &Session, url: &str) -> Option<Value> {
        let request = self.client.get(url).header("x-auth-token", &session.token);
        json_of(request).await
    }

    async fn session(&mut self) -> Option<Session> {
        if self.session.is_none() {
            self.session = self.sign_in().await;
        }
        self.session.clone()
    }

    async fn sign_in(&self) -> Option<Session> {
        let domain = json!({"name": "Default"});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user":
                {"name": self.user, "domain": domain, "password": self.password}}},
            "scope": {"project": {"name": self.user, "domain": domain}}}});
        let url = format!("{}/auth/tokens", self.keystone);
        let answer = self.client.post(url).json(&body).send().await.ok()?;
        let token = answer
            .headers()
            .get("x-subject-token")?
            .to_str()
            .ok()?
            .to_owned();
        let answer: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
        let endpoint = |kind: &str| {
            let services = answer["token"]["catalog"].as_array()?;
            let service = services.iter().find(|service| service["type"] == kind)?;
            let mut endpoints = service["endpoints"].as_array()?.iter();
            let public = endpoints.find(|endpoint| endpoint["interface"] == "public")?;
            Some(public["url"].as_str()?.trim_end_matches('/').to_owned())
        };
        Some(Session {
            token,
            compute: endpoint("compute")?,
            network: endpoint("network")?,
        })
    }
}

/// The cluster, for one who may do everything.
pub(crate) struct Cluster {
    client: Client,
    url: String,
    token: String,
}

/// Nodes, bootstrap tokens with the pool that each was made for, and where each pod of the work runs.
type Seen = (
    BTreeMap<String, Node>,
    Vec<(String, String)>,
    BTreeMap<String, String>,
);

impl Cluster {
    pub(crate) fn new(url: &str, ca: &str, token: &str) -> Self {
        let pem = std::fs::read(ca).unwrap();
        let ca = reqwest::Certificate::from_pem(&pem).unwrap();
        let client = Client::builder().timeout(TIMEOUT).tls_certs_only([ca]);
        Self {
            client: client.build().unwrap(),
            url: url.to_owned(),
            token: token.to_owned(),
        }
    }

    pub(crate) async fn look(&self, work: &str) -> Option<Seen> {
        let nodes = self.nodes().await?;
        let of_type = "fieldSelector=type%3Dbootstrap.kubernetes.io%2Ftoken";
        let secrets = self
            .get(&format!("/api/v1/namespaces/kube-system/secrets?{of_type}"))
            .await?;
        let labelled = format!("labelSelector=app%3D{work}");
        let pods = self
            .get(&format!("/api/v1/namespaces/default/pods?{labelled}"))
            .await?;
        let tokens = list(&secrets, "items").map(|secret| {
            let pool = text(secret, "/metadata/annotations/rhizome-pool");
            (text(secret, "/metadata/name"), pool)
        });
        let running = list(&pods, "items")
            .filter(|pod| is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null())
            .map(|pod| (text(pod, "/metadata/name"), text(pod, "/spec/nodeName")));
        Some((nodes, tokens.collect(), running.collect()))
    }

    pub(crate) async fn nodes(&self) -> Option<BTreeMap<String, Node>> {
        let nodes = self.get("/api/v1/nodes").await?;
        let nodes = list(&nodes, "items").map(|node| (text(node, "/metadata/name"), node_of(node)));
        Some(nodes.collect())
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let request = self
            .client
            .get(format!("{}{path}", self.url))
            .bearer_auth(&self.token);
        json_of(request).await
    }
}

fn node_of(node: &Value) -> Node {
    let provider = text(node, "/spec/providerID");
    Node {
        server: provider.rsplit('/').next().unwrap_or_default().to_owned(),
        uid: text(node, "/metadata/uid"),
        ready: is_ready(node),
        cordoned: node["spec"]["unschedulable"] == true,
    }
}

/// Whether a node or a pod is Ready.
pub(crate) fn is_ready(object: &Value) -> bool {
    let conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    conditions.is_some_and(|all| {
        all.iter()
            .any(|one| one["type"] == "Ready" && one["status"] == "True")
    })
}

async fn json_of(request: reqwest::RequestBuilder) -> Option<Value> {
    let answer = request.send().await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    serde_json::from_str(&answer.text().await.ok()?).ok()
}

fn list<'a>(answer: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    answer[name].as_array().into_iter().flatten()
}

fn text(object: &Value, pointer: &str) -> String {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

//! One side of the contract: where it is, how it is asked, and how its answers are written
//! down so that they can be compared: status, the headers that matter, and the whole body,
//! with ids, times, addresses and secrets masked.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use regex_lite::Regex;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// How long a state is waited for. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(240);
/// How long one answer may take: a create takes 10 s on a busy machine.
const ANSWER: Duration = Duration::from_secs(120);
/// Headers that clients act on.
const HEADERS: [&str; 9] = [
    "content-type",
    "location",
    "openstack-api-version",
    "x-openstack-nova-api-version",
    "x-openstack-request-id",
    "x-compute-request-id",
    "x-subject-token",
    "www-authenticate",
    "retry-after",
];
/// Keys whose values are secrets or chance.
const CHANCE: [&str; 3] = ["adminPass", "audit_ids", "revision_number"];
/// What is masked wherever it stands, in this order.
const MASKS: [(&str, &str); 9] = [
    (
        r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        "<request>",
    ),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uuid>"),
    (r"\b[0-9a-f]{56}\b", "<host>"),
    (r"\b[0-9a-f]{32}\b", "<id>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?", "<time>"),
    (r"fa:16:3e(:[0-9a-f]{2}){3}", "<mac>"),
    (r"\b10\.20\.\d+\.\d+\b", "<address>"),
    (r"\b203\.0\.113\.\d+\b", "<floating>"),
    (r"A{100,}", "<long>"),
];

/// One side.
pub struct Target {
    pub keystone: String,
    pub compute: String,
    pub network: String,
    pub user: String,
    pub password: String,
    pub project: String,
    pub credential: (String, String),
    pub image: String,
    pub flavor: String,
    pub flavor_too_big: String,
    pub network_id: String,
    pub public: String,
    pub project_id: String,
    client: reqwest::Client,
    token: String,
    /// Values and what stands in their place.
    names: Vec<(String, String)>,
    masks: Vec<(Regex, &'static str)>,
    pub transcript: String,
}

/// One request.
#[derive(Clone, Default)]
pub struct Ask<'a> {
    pub method: &'static str,
    pub url: String,
    /// The microversion of the compute service.
    pub version: Option<&'a str>,
    /// Instead of our token.
    pub token: Option<&'a str>,
    pub subject: Option<String>,
    pub body: Option<Value>,
}

impl Target {
    pub fn new(keystone: &str) -> Self {
        rhizome_actions::install_crypto_provider();
        Self {
            keystone: keystone.trim_end_matches("/v3").to_owned(),
            compute: String::new(),
            network: String::new(),
            user: String::new(),
            password: String::new(),
            project: String::new(),
            credential: Default::default(),
            image: String::new(),
            flavor: String::new(),
            flavor_too_big: String::new(),
            network_id: String::new(),
            public: String::new(),
            project_id: String::new(),
            client: reqwest::Client::builder().timeout(ANSWER).build().unwrap(),
            token: String::new(),
            names: Vec::new(),
            masks: MASKS
                .iter()
                .map(|(pattern, mask)| (Regex::new(pattern).unwrap(), *mask))
                .collect(),
            transcript: String::new(),
        }
    }

    /// From now on `value` is shown as `<name>`.
    pub fn name(&mut self, value: &str, name: &str) {
        if !value.is_empty() {
            self.names.push((value.to_owned(), format!("<{name}>")));
        }
    }

    pub fn password_login(&self, user: &str, password: &str, project: &str) -> Value {
        let domain = json!({"name": "Default"});
        json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user":
                {"name": user, "domain": domain, "password": password}}},
            "scope": {"project": {"name": project, "domain": domain}}}})
    }

    /// Logs in and learns where the services are.
    pub async fn log_in(&mut self) {
        let ask = Ask {
            method: "POST",
            url: format!("{}/v3/auth/tokens", self.keystone),
            token: Some(""),
            body: Some(self.password_login(&self.user, &self.password, &self.project)),
            ..Ask::default()
        };
        let (status, headers, body) = self.send(&ask).await;
        assert_eq!(status, 201, "{body}");
        self.token = headers["x-subject-token"].to_str().unwrap().to_owned();
        let endpoint = |kind: &str| {
            let services = body["token"]["catalog"].as_array().unwrap();
            let service = services.iter().find(|service| service["type"] == kind);
            let url = service.unwrap_or_else(|| panic!("no {kind}"))["endpoints"]
                .as_array()
                .unwrap()
                .iter()
                .find(|endpoint| endpoint["interface"] == "public")
                .unwrap()["url"]
                .as_str()
                .unwrap();
            url.trim_end_matches('/').to_owned()
        };
        let (compute, network) = (endpoint("compute"), endpoint("network"));
        let others = [endpoint("image"), endpoint("placement")];
        self.name(&compute, "compute");
        self.name(compute.trim_end_matches("/v2.1"), "compute root");
        self.name(&network, "network");
        self.name(&others[0], "image");
        self.name(&others[1], "placement");
        self.name(&self.keystone.clone(), "keystone");
        self.name(&self.token.clone(), "token");
        self.project_id = body["token"]["project"]["id"].as_str().unwrap().to_owned();
        self.compute = compute;
        self.network = network;
    }

    /// Asks and writes the answer down; gives its body.
    pub async fn ask(&mut self, what: &str, ask: Ask<'_>) -> Value {
        let (status, headers, body) = self.send(&ask).await;
        let mut text = format!("\n== {what}\n{} {}", ask.method, ask.url);
        if let Some(version) = ask.version {
            let _ = write!(text, " ({version})");
        }
        let _ = write!(text, "\n{status}\n");
        for name in HEADERS {
            let values: Vec<&str> = headers
                .get_all(name)
                .iter()
                .map(|value| value.to_str().unwrap())
                .collect();
            if name == "content-type" && body.is_null() {
                // Of no body, which Nova gives one or another.
                continue;
            }
            if name == "x-subject-token" && !values.is_empty() {
                let _ = writeln!(text, "{name}: <token>");
            } else if !values.is_empty() {
                let _ = writeln!(text, "{name}: {}", values.join(", "));
            }
        }
        let mut shown = body.clone();
        tidy(&mut shown);
        text.push_str(&match &shown {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            json => serde_json::to_string_pretty(json).unwrap(),
        });
        let masked = self.masked(text.trim_end());
        self.transcript.push_str(&masked);
        self.transcript.push('\n');
        body
    }

    /// The compute service, asked at a microversion.
    pub async fn nova(
        &mut self,
        what: &str,
        version: &str,
        method: &'static str,
        path: &str,
        body: Option<Value>,
    ) -> Value {
        let ask = Ask {
            method,
            url: format!("{}{path}", self.compute),
            version: Some(version),
            body,
            ..Ask::default()
        };
        self.ask(what, ask).await
    }

    /// The network service.
    pub async fn neutron(
        &mut self,
        what: &str,
        method: &'static str,
        path: &str,
        body: Option<Value>,
    ) -> Value {
        let ask = Ask {
            method,
            url: format!("{}/v2.0{path}", self.network),
            body,
            ..Ask::default()
        };
        self.ask(what, ask).await
    }

    /// Waits until nothing is under way in a server any more and it has this status.
    pub async fn settle(&mut self, id: &str, status: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let ask = Ask {
                method: "GET",
                url: format!("{}/servers/{id}", self.compute),
                version: Some("2.93"),
                ..Ask::default()
            };
            let (code, _, body) = self.send(&ask).await;
            let server = &body["server"];
            let settled = match status {
                "gone" => code == 404,
                // Nova shows ERROR a moment before it shows why.
                "ERROR" if server["fault"].is_null() => false,
                _ => server["status"] == status && server["OS-EXT-STS:task_state"].is_null(),
            };
            if settled {
                return;
            }
            assert!(
                Instant::now() < end,
                "server {id} is not {status} after {PATIENCE:?}: {body}"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn send(&self, ask: &Ask<'_>) -> (u16, HeaderMap, Value) {
        let method = reqwest::Method::from_bytes(ask.method.as_bytes()).unwrap();
        let mut request = self
            .client
            .request(method, &ask.url)
            .header("accept", "application/json");
        let token = ask.token.unwrap_or(&self.token);
        if !token.is_empty() {
            request = request.header("x-auth-token", token);
        }
        if let Some(subject) = &ask.subject {
            request = request.header("x-subject-token", subject);
        }
        if let Some(version) = ask.version {
            request = request.header("openstack-api-version", format!("compute {version}"));
        }
        if let Some(body) = &ask.body {
            // As it is, so that a body that is no JSON object can be sent too.
            let text = body
                .as_str()
                .map_or_else(|| body.to_string(), str::to_owned);
            request = request
                .header("content-type", "application/json")
                .body(text);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = match serde_json::from_str(&text) {
            Ok(json) => json,
            Err(_) if text.is_empty() => Value::Null,
            Err(_) => Value::String(text),
        };
        (status, headers, body)
    }

    fn masked(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (value, name) in &self.names {
            text = text.replace(value, name);
        }
        for (regex, mask) in &self.masks {
            text = regex.replace_all(&text, *mask).into_owned();
        }
        text
    }
}

/// Sorts what has no order of its own, and hides what is chance.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if CHANCE.contains(&key.as_str()) && !value.is_null() {
                    *value = json!("<chance>");
                }
                tidy(value);
                if let ("catalog" | "endpoints" | "flavors" | "roles", Value::Array(rows)) =
                    (key.as_str(), value)
                {
                    let by = |row: &Value| {
                        ["type", "interface", "name"]
                            .map(|key| row[key].as_str().unwrap_or_default().to_owned())
                    };
                    rows.sort_by_key(by);
                }
            }
        }
        Value::Array(rows) => rows.iter_mut().for_each(tidy),
        _ => {}
    }
}

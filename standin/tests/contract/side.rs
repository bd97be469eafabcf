//! One side of a conversation, what it answered, and the comparison of two.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use reqwest::Method;
use rhizome_engine::time::Timestamp;
use rhizome_standin::{Options, ScaledClock, Standin};
use serde_json::{Value, json};

use crate::scripts::{self, Shared};

/// How long a state is waited for. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// A node of a conversation has no kubelet. It must not fall silent before the end, on a slow
/// machine either.
const NODE_GRACE: &str = "1h";

/// Headers that a client acts on.
const HEADERS: [&str; 3] = ["content-type", "retry-after", "warning"];

/// Fields that are left out of the comparison, and why. So are those that are null: Go writes
/// some empty fields so and leaves others out, and no client can tell the difference.
///
/// - `managedFields` tells who wrote which field. The stand-in keeps no such book, and nobody
///   reads it.
/// - `gitCommit` and `gitTreeState` tell how the binary was built, and here that is our doing.
const LEFT_OUT: [&str; 3] = ["managedFields", "gitCommit", "gitTreeState"];

/// Fields whose values are ids, times or versions.
const MASKED: [&str; 12] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "lastTransitionTime",
    "lastHeartbeatTime",
    "lastUpdateTime",
    "startTime",
    "timeAdded",
    "continue",
    "certificate",
    "credential-id",
];

/// One answer, masked.
#[derive(Debug, Clone, PartialEq)]
struct Step {
    what: String,
    status: u16,
    headers: BTreeMap<&'static str, String>,
    body: Value,
}

/// Where a conversation is held.
pub(crate) struct Side {
    name: &'static str,
    base: String,
    token: String,
    client: reqwest::Client,
    steps: Vec<Step>,
    /// Runs as long as the conversation.
    _standin: Option<Standin>,
}

/// A real API server with an account that may do everything, under the stand-in's name.
struct Real {
    base: String,
    token: String,
    ca: Vec<u8>,
}

fn real() -> Option<&'static Real> {
    static REAL: Shared<Real> = Shared::new("kubernetes");
    REAL.get(|| {
        let env = scripts::run("kubernetes", "down", &["--wipe"], &[])
            .then(|| scripts::run("kubernetes", "up", &[], &[("NODE_GRACE", NODE_GRACE)]))
            .filter(|up| *up)
            .map(|_| scripts::env("kubernetes"))?;
        let kubectl = |arguments: &str| {
            let output = Command::new(&env["kubectl"])
                .args(["--kubeconfig", &env["kubeconfig"]])
                .args(arguments.split(' '))
                .output()
                .unwrap();
            assert!(output.status.success(), "{arguments}: {output:?}");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        // For the holders of tokens; the account itself may do everything here.
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/rbac.yaml");
        kubectl(&format!("apply -f {manifest}"));
        kubectl("create serviceaccount rhizome -n kube-system");
        kubectl(
            "create clusterrolebinding contract --clusterrole cluster-admin --serviceaccount kube-system:rhizome",
        );
        Some(Real {
            base: format!("https://{}", env["endpoint"]),
            token: kubectl("create token rhizome -n kube-system --duration 1h"),
            ca: std::fs::read(&env["ca"]).unwrap(),
        })
    })
}

fn client(ca: Option<&[u8]>) -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let roots = ca.map(|pem| reqwest::Certificate::from_pem(pem).unwrap());
    reqwest::Client::builder()
        .tls_certs_only(roots)
        .timeout(Duration::from_secs(60))
        .build()
        .unwrap()
}

impl Side {
    /// The real API server; none if it cannot be had here.
    pub(crate) fn real() -> Option<Self> {
        let real = real()?;
        Some(Self {
            name: "real",
            base: real.base.clone(),
            token: real.token.clone(),
            client: client(Some(&real.ca)),
            steps: Vec::new(),
            _standin: None,
        })
    }

    /// A stand-in of its own, on the wall's time.
    pub(crate) async fn standin() -> Self {
        let wall = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let now = Timestamp(i64::try_from(wall.as_millis()).unwrap());
        let clock = Arc::new(ScaledClock::new(now, 1.0));
        let standin = Standin::start(Options::default(), clock).await.unwrap();
        Self {
            name: "stand-in",
            base: standin.kubernetes_url(),
            token: standin.credentials().kubernetes_token.clone(),
            client: client(None),
            steps: Vec::new(),
            _standin: Some(standin),
        }
    }

    /// The same side for another user, or for nobody.
    pub(crate) fn log_in(&mut self, token: &str) -> String {
        std::mem::replace(&mut self.token, token.to_owned())
    }

    /// Asks, and notes the answer for the comparison. The body as it came.
    pub(crate) async fn ask(
        &mut self,
        what: &str,
        method: Method,
        path: &str,
        body: Value,
    ) -> Value {
        self.ask_as(what, method, path, "", body).await
    }

    /// The same with a content type, that of a patch (`merge-patch`).
    pub(crate) async fn ask_as(
        &mut self,
        what: &str,
        method: Method,
        path: &str,
        form: &str,
        body: Value,
    ) -> Value {
        let (status, headers, text) = self.send(method, path, form, &body).await;
        let shown = read(&text);
        let mut masked = shown.clone();
        mask(&mut masked);
        self.steps.push(Step {
            what: what.to_owned(),
            status,
            headers,
            body: masked,
        });
        shown
    }

    /// Asks, insists on success, and notes nothing: what is done before is not compared.
    pub(crate) async fn prepare(
        &self,
        method: Method,
        path: &str,
        form: &str,
        body: Value,
    ) -> Value {
        let (status, _, text) = self.send(method, path, form, &body).await;
        assert!(status < 300, "{}: {path}: {status} {text}", self.name);
        serde_json::from_str(&text).unwrap()
    }

    /// Waits until pods can be made in the namespace: a real one needs its account first.
    pub(crate) async fn ready_for_pods(&self, namespace: &str) {
        if self._standin.is_none() {
            let account = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
            self.until(&account, |status, _| status == 200).await;
        }
    }

    /// Reads until the answer is as wanted, and notes nothing.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let (status, _, text) = self.send(Method::GET, path, "", &Value::Null).await;
            let body = serde_json::from_str(&text).unwrap_or(Value::Null);
            if wanted(status, &body) {
                return body;
            }
            assert!(
                Instant::now() < end,
                "{}: {path} did not become what was waited for: {status} {text}",
                self.name
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        form: &str,
        body: &Value,
    ) -> (u16, BTreeMap<&'static str, String>, String) {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        if !body.is_null() {
            let form = if form.is_empty() {
                "application/json".to_owned()
            } else {
                format!("application/{form}+json")
            };
            request = request.header("content-type", form).body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let headers = HEADERS
            .into_iter()
            .filter_map(|name| {
                let value = response.headers().get(name)?.to_str().ok()?;
                Some((name, value.to_owned()))
            })
            .collect();
        (status, headers, response.text().await.unwrap())
    }
}

/// One document, or the lines of a watch, or the text as it is.
fn read(text: &str) -> Value {
    let documents: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text)
        .into_iter()
        .collect();
    match documents {
        Ok(mut one) if one.len() == 1 => one.remove(0),
        Ok(many) => Value::Array(many),
        Err(_) => json!(text),
    }
}

/// Takes out what differs between any two runs.
fn mask(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, field| !LEFT_OUT.contains(&name.as_str()) && !field.is_null());
            for (name, field) in fields.iter_mut() {
                if MASKED.contains(&name.as_str()) && !field.is_null() {
                    *field = json!(format!("<{name}>"));
                } else {
                    mask(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::String(text) => *text = mask_text(text),
        _ => {}
    }
}

fn mask_text(text: &str) -> String {
    static PATTERNS: OnceLock<Vec<(regex_lite::Regex, &'static str)>> = OnceLock::new();
    let patterns = PATTERNS.get_or_init(|| {
        [
            (
                r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
                "<uid>",
            ),
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
            (r"current: \d+", "current: <version>"),
            (r"127\.0\.0\.1:\d+", "<address>"),
        ]
        .map(|(pattern, mask)| (regex_lite::Regex::new(pattern).unwrap(), mask))
        .into()
    });
    patterns
        .iter()
        .fold(text.to_owned(), |text, (pattern, mask)| {
            pattern.replace_all(&text, *mask).into_owned()
        })
}

/// Fails with every difference, each with its place.
pub(crate) fn compare(real: &Side, standin: &Side) {
    assert!(!real.steps.is_empty());
    let mut report = String::new();
    for (one, other) in real.steps.iter().zip(&standin.steps) {
        let mut found = Vec::new();
        if one.status != other.status {
            found.push(format!("status: {} | {}", one.status, other.status));
        }
        if one.headers != other.headers {
            found.push(format!("headers: {:?} | {:?}", one.headers, other.headers));
        }
        differences("", &one.body, &other.body, &mut found);
        if !found.is_empty() {
            writeln!(report, "{}:\n    {}", one.what, found.join("\n    ")).unwrap();
        }
    }
    assert!(
        report.is_empty(),
        "the stand-in (right) does not answer as the real API server (left):\n{report}"
    );
    assert_eq!(real.steps.len(), standin.steps.len());
}

fn differences(place: &str, real: &Value, standin: &Value, found: &mut Vec<String>) {
    match (real, standin) {
        (Value::Object(one), Value::Object(other)) => {
            let names: std::collections::BTreeSet<&String> =
                one.keys().chain(other.keys()).collect();
            for name in names {
                let place = format!("{place}/{name}");
                match (one.get(name), other.get(name)) {
                    (Some(one), Some(other)) => differences(&place, one, other, found),
                    (Some(one), None) => found.push(format!("{place}: {one} | is missing")),
                    (None, Some(other)) => found.push(format!("{place}: is missing | {other}")),
                    (None, None) => {}
                }
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                differences(&format!("{place}/{index}"), one, other, found);
            }
        }
        _ if real != standin => found.push(format!("{place}: {real} | {standin}")),
        _ => {}
    }
}

//! The few rules that single kinds have: defaults, what may not be made, what may not change.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rhizome_engine::time::Timestamp;
use serde_json::{Value, json};

use super::auth::User;
use super::kinds::Kind;
use super::{Target, certificates, pods, status};
use crate::http::{Answer, Content, Request};
use crate::json::{array, items, set, text, text_or_empty};

/// What a node tells of itself; the server writes each empty if it is not said.
const NODE_INFO: [&str; 10] = [
    "architecture",
    "bootID",
    "containerRuntimeVersion",
    "kernelVersion",
    "kubeProxyVersion",
    "kubeletVersion",
    "machineID",
    "operatingSystem",
    "osImage",
    "systemUUID",
];

/// The refusal of a new object that is not sound.
pub(super) fn refuse_new(kind: Kind, name: &str, object: &Value) -> Option<Answer> {
    let signer = text_or_empty(object, "/spec/signerName");
    if kind != Kind::Csr || signer.contains('/') {
        return None;
    }
    let why = format!(
        "Invalid value: \"{signer}\": must be a fully qualified domain and path of the form 'example.com/signer-name'"
    );
    Some(status::invalid(
        kind,
        name,
        "spec.signerName",
        "FieldValueInvalid",
        &why,
    ))
}

/// What the server adds to a new object of each kind.
pub(super) fn prepare(now: Timestamp, user: &User, kind: Kind, object: &mut Value) {
    match kind {
        Kind::Secret => {
            encode_strings(object);
            if text(object, "/type").is_none() {
                set(object, "/type", "Opaque");
            }
        }
        Kind::Node => prepare_node(object),
        Kind::Pod => pods::prepare(object),
        Kind::Budget => {
            set(object, "/metadata/generation", 1);
            set(
                object,
                "/status",
                json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0,
                    "expectedPods": 0}),
            );
        }
        Kind::Csr => certificates::prepare(now, user, object),
        _ => {}
    }
}

/// Texts of a Secret become data.
fn encode_strings(secret: &mut Value) {
    if let Some(Value::Object(plain)) = crate::json::remove(secret, "/stringData") {
        for (key, value) in plain {
            let encoded = STANDARD.encode(value.as_str().unwrap_or_default());
            let key = key.replace('~', "~0").replace('/', "~1");
            set(secret, &format!("/data/{key}"), encoded);
        }
    }
}

/// A new node takes no pods until a controller has seen that it is ready.
fn prepare_node(node: &mut Value) {
    const NOT_READY: &str = "node.kubernetes.io/not-ready";
    if !items(node, "/spec/taints").any(|taint| text(taint, "/key") == Some(NOT_READY)) {
        array(node, "/spec/taints").push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
    }
    if node.pointer("/status/daemonEndpoints").is_none() {
        set(
            node,
            "/status/daemonEndpoints",
            json!({"kubeletEndpoint": {"Port": 0}}),
        );
    }
    for field in NODE_INFO {
        let path = format!("/status/nodeInfo/{field}");
        if text(node, &path).is_none() {
            set(node, &path, "");
        }
    }
}

/// What the server sets right in a changed object.
pub(super) fn tidy(now: Timestamp, kind: Kind, object: &mut Value) {
    match kind {
        // Go leaves out what is empty: `unschedulable: false` is no field at all.
        Kind::Node if object.pointer("/spec/unschedulable") == Some(&Value::Bool(false)) => {
            crate::json::remove(object, "/spec/unschedulable");
        }
        Kind::Secret => encode_strings(object),
        Kind::Csr => certificates::date_conditions(now, object),
        _ => {}
    }
}

/// Fields of a Node's spec; any other in a patch is a mistake that the API warns of.
const NODE_SPEC: [&str; 7] = [
    "unschedulable",
    "taints",
    "providerID",
    "podCIDR",
    "podCIDRs",
    "configSource",
    "externalID",
];

/// The first field of a patch that the kind does not have.
pub(super) fn misspelt(target: &Target, body: &Value) -> Option<String> {
    let spec = body.get("spec").filter(|_| target.kind == Kind::Node)?;
    let field = spec
        .as_object()?
        .keys()
        .find(|key| !key.starts_with('$') && !NODE_SPEC.contains(&key.as_str()))?;
    Some(format!("spec.{field}"))
}

/// The refusal of such a patch, if it was to be read strictly.
pub(super) fn refuse_misspelt(
    request: &Request,
    target: &Target,
    field: Option<&str>,
) -> Option<Answer> {
    let strict = request.parameter("fieldValidation") == Some("Strict");
    let field = field.filter(|_| strict)?;
    let name = target.name.as_deref().unwrap_or_default();
    let message = format!("strict decoding error: unknown field \"{field}\"");
    Some(status::about(422, "Invalid", &message, target.kind, name))
}

/// What may never change.
pub(super) fn immutable(kind: Kind, name: &str, old: &Value, new: &Value) -> Option<Answer> {
    let uid = text_or_empty(new, "/metadata/uid");
    if text(old, "/metadata/uid") != Some(uid) {
        let why = format!("Invalid value: \"{uid}\": field is immutable");
        let mut answer = status::invalid(kind, name, "metadata.uid", "FieldValueInvalid", &why);
        // Seen: two checks find it, and both say so.
        if let Content::Json(body) = &mut answer.content
            && let Some(Value::Array(causes)) = body.pointer_mut("/details/causes")
        {
            causes.extend(causes.clone());
        }
        return Some(answer);
    }
    let provider = text_or_empty(old, "/spec/providerID");
    if kind == Kind::Node
        && !provider.is_empty()
        && provider != text_or_empty(new, "/spec/providerID")
    {
        return Some(status::invalid(
            kind,
            name,
            "spec.providerID",
            "FieldValueForbidden",
            "Forbidden: node updates may not change providerID except from \"\" to valid",
        ));
    }
    None
}

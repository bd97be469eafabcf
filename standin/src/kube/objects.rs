//! Get, list, create, update, patch and delete, for every kind alike, with the few rules that
//! single kinds have.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::auth::{self, User};
use super::kinds::Kind;
use super::select::Selector;
use super::store::is_deleting;
use super::watch::WatchRequest;
use super::{Target, evict, patch, pods, status};
use crate::http::{Answer, Request};
use crate::json::{set, text, text_or_empty};
use crate::ledger::{Fact, Fate};
use crate::world::{World, seconds};

/// Answers a request on a kind.
pub(super) fn handle(world: &mut World, request: &Request, user: &User, target: &Target) -> Answer {
    if let Some(answer) = auth::authorize(world, request, user, target) {
        return answer;
    }
    let dry_run = request.parameter("dryRun") == Some("All");
    let sub = target.sub.as_deref();
    match (auth::verb(request, target), sub) {
        ("get", None | Some("status")) => get(world, target),
        ("list", None) => list(world, request, target),
        ("watch", None) => watch(world, request, target),
        ("create", None) if target.name.is_none() => create(world, request, user, target, dry_run),
        ("create", Some("eviction")) if target.kind == Kind::Pod => {
            evict::evict(world, request, target)
        }
        ("update", None | Some("status" | "approval")) => update(world, request, target, dry_run),
        ("patch", None | Some("status")) => patch_object(world, request, target, dry_run),
        ("delete", None) => delete(world, request, target, dry_run),
        _ => status::failure(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ),
    }
}

fn get(world: &World, target: &Target) -> Answer {
    let (namespace, name) = target.key();
    match world.cluster.store.get(target.kind, &namespace, &name) {
        Some(object) => Answer::json(200, object.clone()),
        None => status::not_found(target.kind, &name),
    }
}

fn selector(request: &Request, target: &Target) -> Result<Selector, Box<Answer>> {
    Selector::read(
        target.namespace.as_deref(),
        request.parameter("labelSelector"),
        request.parameter("fieldSelector"),
    )
    .map_err(|message| Box::new(status::failure(400, "BadRequest", &message)))
}

fn list(world: &World, request: &Request, target: &Target) -> Answer {
    let selector = match selector(request, target) {
        Ok(selector) => selector,
        Err(answer) => return *answer,
    };
    let version = world.cluster.store.version();
    if let Some(answer) = too_new(request, version) {
        return answer;
    }
    let from_cache = request.parameter("resourceVersion") == Some("0");
    // Seen: from the watch cache `limit` is ignored.
    let limit = request
        .parameter("limit")
        .and_then(|limit| limit.parse::<usize>().ok())
        .filter(|limit| *limit > 0 && !from_cache);
    let start = match request
        .parameter("continue")
        .filter(|text| !text.is_empty())
    {
        None => 0,
        Some(token) => match read_continue(token, world.cluster.store.compacted()) {
            Some(start) => start,
            None => {
                return status::failure(
                    410,
                    "Expired",
                    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.",
                );
            }
        },
    };
    let all: Vec<&Value> = world
        .cluster
        .list(target.kind)
        .filter(|object| selector.takes(object))
        .collect();
    let end = limit.map_or(all.len(), |limit| (start + limit).min(all.len()));
    let items: Vec<Value> = all
        .get(start.min(end)..end)
        .unwrap_or_default()
        .iter()
        .map(|object| {
            // Items of a list do not repeat their kind.
            let mut item = (*object).clone();
            let map = crate::json::object(&mut item);
            map.remove("kind");
            map.remove("apiVersion");
            item
        })
        .collect();
    let info = target.kind.info();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if end < all.len() {
        set(
            &mut metadata,
            "/continue",
            STANDARD.encode(format!("{version}:{end}")),
        );
        set(&mut metadata, "/remainingItemCount", all.len() - end);
    }
    Answer::json(
        200,
        json!({"kind": format!("{}List", info.name), "apiVersion": info.api_version(),
            "metadata": metadata, "items": items}),
    )
}

/// Where a `continue` token goes on; nothing if it is too old or none of ours.
fn read_continue(token: &str, compacted: u64) -> Option<usize> {
    let decoded = decode(token)?;
    let (version, start) = decoded.split_once(':')?;
    (version.parse::<u64>().ok()? >= compacted).then_some(())?;
    start.parse().ok()
}

/// The 504 to a version that the server has not reached: its etcd was set back.
fn too_new(request: &Request, version: u64) -> Option<Answer> {
    let asked: u64 = request.parameter("resourceVersion")?.parse().ok()?;
    if asked <= version {
        return None;
    }
    let message = format!("Too large resource version: {asked}, current: {version}");
    let mut body = status::body(504, "Timeout", &message);
    set(
        &mut body,
        "/details",
        json!({"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1}),
    );
    Some(Answer::json(504, body).with_header("retry-after", "1"))
}

fn watch(world: &World, request: &Request, target: &Target) -> Answer {
    let selector = match selector(request, target) {
        Ok(selector) => selector,
        Err(answer) => return *answer,
    };
    if let Some(answer) = too_new(request, world.cluster.store.version()) {
        return answer;
    }
    WatchRequest::read(request, target.kind, selector).answer()
}

fn create(
    world: &mut World,
    request: &Request,
    user: &User,
    target: &Target,
    dry_run: bool,
) -> Answer {
    let Some(mut object) = request.json().filter(Value::is_object) else {
        return status::failure(400, "BadRequest", "the body is no JSON object");
    };
    let kind = target.kind;
    let info = kind.info();
    if info.namespaced && target.namespace.is_none() {
        return status::no_such_path();
    }
    let prefix = text_or_empty(&object, "/metadata/generateName").to_owned();
    if text_or_empty(&object, "/metadata/name").is_empty() {
        if prefix.is_empty() {
            return status::invalid(
                kind,
                "",
                "metadata.name",
                "FieldValueRequired",
                "Required value: name or generateName is required",
            );
        }
        let end = world.ids.letters(5);
        set(&mut object, "/metadata/name", format!("{prefix}{end}"));
    }
    let name = text_or_empty(&object, "/metadata/name").to_owned();
    if let Some(namespace) = &target.namespace {
        set(&mut object, "/metadata/namespace", namespace.clone());
    }
    let (namespace, _) = target.key();
    if world.cluster.store.get(kind, &namespace, &name).is_some() {
        let message = format!("{} \"{name}\" already exists", info.qualified());
        return status::about(409, "AlreadyExists", &message, kind, &name);
    }
    set(&mut object, "/apiVersion", info.api_version());
    set(&mut object, "/kind", info.name);
    set(&mut object, "/metadata/uid", world.ids.uuid());
    set(
        &mut object,
        "/metadata/creationTimestamp",
        seconds(world.now),
    );
    prepare(world, user, kind, &mut object);
    if dry_run {
        return Answer::json(201, object);
    }
    let stored = world.cluster.store.put(kind, object);
    Answer::json(201, stored.as_ref().clone()).done()
}

/// What the server adds to a new object of each kind.
fn prepare(world: &World, user: &User, kind: Kind, object: &mut Value) {
    match kind {
        Kind::Secret => {
            if let Some(Value::Object(plain)) = crate::json::remove(object, "/stringData") {
                for (key, value) in plain {
                    let encoded = STANDARD.encode(value.as_str().unwrap_or_default());
                    let key = key.replace('~', "~0").replace('/', "~1");
                    set(object, &format!("/data/{key}"), encoded);
                }
            }
            if text(object, "/type").is_none() {
                set(object, "/type", "Opaque");
            }
        }
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
        Kind::Csr => {
            set(object, "/spec/username", user.name());
            set(object, "/spec/groups", user.groups());
            set(object, "/status", json!({}));
            let signer = text_or_empty(object, "/spec/signerName").to_owned();
            let bootstraps = matches!(user, User::Bootstrap(_));
            // As kubeadm binds it: whoever holds a bootstrap token gets a kubelet's client
            // certificate at once; nothing else is ever approved by itself.
            if bootstraps && signer == "kubernetes.io/kube-apiserver-client-kubelet" {
                let now = seconds(world.now);
                set(
                    object,
                    "/status/conditions",
                    json!([{"type": "Approved", "status": "True", "reason": "AutoApproved",
                        "message": "Auto approving kubelet client certificate after SubjectAccessReview.",
                        "lastUpdateTime": now, "lastTransitionTime": now}]),
                );
            }
        }
        _ => {}
    }
}

fn update(world: &mut World, request: &Request, target: &Target, dry_run: bool) -> Answer {
    let Some(new) = request.json().filter(Value::is_object) else {
        return status::failure(400, "BadRequest", "the body is no JSON object");
    };
    let sub = target.sub.clone();
    change(world, target, dry_run, move |object| {
        match sub.as_deref() {
            // A subresource changes the status alone, the object everything but it.
            Some(_) => {
                if let Some(status) = new.get("status") {
                    set(object, "/status", status.clone());
                }
                check_version(object, &new)
            }
            None => {
                check_version(object, &new)?;
                let mut replaced = new;
                for field in ["uid", "creationTimestamp", "deletionTimestamp"] {
                    let path = format!("/metadata/{field}");
                    if let Some(value) = object.pointer(&path) {
                        set(&mut replaced, &path, value.clone());
                    }
                }
                match object.get("status") {
                    Some(status) if target_has_status(object) => {
                        set(&mut replaced, "/status", status.clone());
                    }
                    _ => {}
                }
                *object = replaced;
                Ok(())
            }
        }
    })
}

fn target_has_status(object: &Value) -> bool {
    matches!(
        text(object, "/kind"),
        Some("Node" | "Pod" | "PodDisruptionBudget" | "CertificateSigningRequest")
    )
}

/// Why a change is not made.
enum Refused {
    Conflict,
    Bad(String),
    Media(String),
}

/// A version that the change names must be the object's.
fn check_version(object: &Value, new: &Value) -> Result<(), Refused> {
    match text(new, "/metadata/resourceVersion") {
        Some(version)
            if !version.is_empty()
                && Some(version) != text(object, "/metadata/resourceVersion") =>
        {
            Err(Refused::Conflict)
        }
        _ => Ok(()),
    }
}

fn patch_object(world: &mut World, request: &Request, target: &Target, dry_run: bool) -> Answer {
    let media = request
        .header("content-type")
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned();
    let Some(body) = request.json() else {
        return status::failure(400, "BadRequest", "the body is no JSON");
    };
    if let Some(answer) = unknown_field(request, target, &body) {
        return answer;
    }
    let answer = change(world, target, dry_run, |object| {
        match media.as_str() {
            "application/merge-patch+json" => {
                check_version(object, &body)?;
                patch::merge(object, &body);
            }
            "application/strategic-merge-patch+json" => {
                check_version(object, &body)?;
                patch::strategic(object, &body);
            }
            "application/json-patch+json" => {
                patch::json_patch(object, &body).map_err(Refused::Bad)?;
            }
            _ => return Err(Refused::Media(media.clone())),
        }
        Ok(())
    });
    match misspelt(target, &body) {
        Some(field) if answer.status == 200 => answer.with_header(
            "warning",
            format!("299 - \"unknown field \\\"{field}\\\"\""),
        ),
        _ => answer,
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

fn misspelt(target: &Target, body: &Value) -> Option<String> {
    let spec = body.get("spec").filter(|_| target.kind == Kind::Node)?;
    let field = spec
        .as_object()?
        .keys()
        .find(|key| !key.starts_with('$') && !NODE_SPEC.contains(&key.as_str()))?;
    Some(format!("spec.{field}"))
}

fn unknown_field(request: &Request, target: &Target, body: &Value) -> Option<Answer> {
    let strict = request.parameter("fieldValidation") == Some("Strict");
    let field = misspelt(target, body).filter(|_| strict)?;
    let name = target.name.as_deref().unwrap_or_default();
    let message = format!("strict decoding error: unknown field \"{field}\"");
    Some(status::about(422, "Invalid", &message, target.kind, name))
}

/// Makes a change, with the checks that every change meets.
fn change(
    world: &mut World,
    target: &Target,
    dry_run: bool,
    make: impl FnOnce(&mut Value) -> Result<(), Refused>,
) -> Answer {
    let key = target.key();
    let kind = target.kind;
    let Some(old) = world.cluster.store.get(kind, &key.0, &key.1).cloned() else {
        return status::not_found(kind, &key.1);
    };
    let mut new = old.clone();
    match make(&mut new) {
        Ok(()) => {}
        Err(Refused::Conflict) => return status::modified(kind, &key.1),
        Err(Refused::Bad(message)) => return status::failure(422, "Invalid", &message),
        Err(Refused::Media(media)) => {
            return status::failure(
                415,
                "UnsupportedMediaType",
                &format!(
                    "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json (got `{media}`)"
                ),
            );
        }
    }
    // The version is the server's to set.
    set(
        &mut new,
        "/metadata/resourceVersion",
        text_or_empty(&old, "/metadata/resourceVersion"),
    );
    if let Some(answer) = immutable(kind, &key.1, &old, &new) {
        return answer;
    }
    if kind == Kind::Node {
        drop_false(&mut new);
    }
    if kind == Kind::Budget && old.get("spec") != new.get("spec") {
        let generation = crate::json::integer(&old, "/metadata/generation").unwrap_or(1);
        set(&mut new, "/metadata/generation", generation + 1);
    }
    if dry_run {
        return Answer::json(200, new);
    }
    note_cordon(world, kind, &key.1, &old, &new);
    let changed = old != new;
    let shown = new.clone();
    world
        .cluster
        .store
        .update(kind, &key, |object| *object = new);
    let current = world
        .cluster
        .store
        .get(kind, &key.0, &key.1)
        .cloned()
        .unwrap_or(shown);
    let answer = Answer::json(200, current);
    if changed { answer.done() } else { answer }
}

fn immutable(kind: Kind, name: &str, old: &Value, new: &Value) -> Option<Answer> {
    if text(old, "/metadata/uid") != text(new, "/metadata/uid") {
        let mut answer = status::invalid(
            kind,
            name,
            "metadata.uid",
            "FieldValueInvalid",
            "Invalid value: field is immutable",
        );
        answer.status = 422;
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

/// Go leaves out what is empty: `unschedulable: false` is no field at all.
fn drop_false(node: &mut Value) {
    if node.pointer("/spec/unschedulable") == Some(&Value::Bool(false)) {
        crate::json::remove(node, "/spec/unschedulable");
    }
}

fn note_cordon(world: &mut World, kind: Kind, name: &str, old: &Value, new: &Value) {
    let cordoned = |node: &Value| node.pointer("/spec/unschedulable") == Some(&Value::Bool(true));
    if kind == Kind::Node && cordoned(old) != cordoned(new) {
        world.note(Fact::Cordoned {
            node: name.to_owned(),
            cordoned: cordoned(new),
        });
    }
}

fn delete(world: &mut World, request: &Request, target: &Target, dry_run: bool) -> Answer {
    let key = target.key();
    let (kind, name) = (target.kind, key.1.as_str());
    let Some(object) = world.cluster.store.get(kind, &key.0, name).cloned() else {
        return status::not_found(kind, name);
    };
    let options = request.json().unwrap_or_default();
    if let Some(answer) = unmet_precondition(kind, name, &object, &options) {
        return answer;
    }
    let dry_run = dry_run || crate::json::items(&options, "/dryRun").any(|what| what == "All");
    if kind == Kind::Pod {
        let grace = crate::json::integer(&options, "/gracePeriodSeconds")
            .or_else(|| request.parameter("gracePeriodSeconds")?.parse().ok());
        if !dry_run {
            pods::delete(world, &key, grace);
        }
        let shown = world.cluster.get(kind, &key.0, name).unwrap_or(&object);
        return Answer::json(200, shown.clone()).done();
    }
    let uid = text_or_empty(&object, "/metadata/uid").to_owned();
    let success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": name, "kind": kind.info().plural, "uid": uid}});
    if dry_run {
        return Answer::json(200, success);
    }
    let held = object
        .pointer("/metadata/finalizers")
        .and_then(Value::as_array)
        .is_some_and(|finalizers| !finalizers.is_empty());
    if held {
        if !is_deleting(&object) {
            let now = seconds(world.now);
            world.cluster.store.update(kind, &key, |object| {
                set(object, "/metadata/deletionTimestamp", now);
                set(object, "/metadata/deletionGracePeriodSeconds", 0);
            });
        }
        let shown = world.cluster.get(kind, &key.0, name).unwrap_or(&object);
        return Answer::json(200, shown.clone()).done();
    }
    if kind == Kind::Node {
        note_node_deleted(world, &object, name);
    }
    world.cluster.store.remove(kind, &key.0, name);
    Answer::json(200, success).done()
}

fn unmet_precondition(kind: Kind, name: &str, object: &Value, options: &Value) -> Option<Answer> {
    [("uid", "UID"), ("resourceVersion", "ResourceVersion")]
        .into_iter()
        .find_map(|(field, shown)| {
            let wanted = text(options, &format!("/preconditions/{field}"))?;
            let found = text_or_empty(object, &format!("/metadata/{field}"));
            (wanted != found).then(|| status::precondition(kind, name, shown, wanted, found))
        })
}

/// A Node's Lease goes with it (it is its owner), and the ledger learns what its server was.
fn note_node_deleted(world: &mut World, node: &Value, name: &str) {
    world
        .cluster
        .store
        .remove(Kind::Lease, "kube-node-lease", name);
    let server = text(node, "/spec/providerID")
        .and_then(|id| id.rsplit('/').next())
        .map(str::to_owned);
    let fate = match server.as_ref().and_then(|id| world.cloud.servers.get(id)) {
        None => Fate::Gone,
        Some(server) if server.powered() => Fate::Running,
        Some(_) => Fate::Off,
    };
    world.note(Fact::NodeDeleted {
        node: name.to_owned(),
        server,
        fate,
    });
}

/// Decodes base64 into a text.
pub(super) fn decode(encoded: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
}

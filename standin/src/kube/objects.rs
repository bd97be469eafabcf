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
use super::{Target, evict, notes, patch, pods, rules, status};
use crate::http::{Answer, Request};
use crate::json::{set, text, text_or_empty};
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
        // Seen: with a selector nobody counts what is left.
        let chosen = ["labelSelector", "fieldSelector"]
            .iter()
            .any(|name| request.parameter(name).is_some_and(|text| !text.is_empty()));
        if !chosen {
            set(&mut metadata, "/remainingItemCount", all.len() - end);
        }
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
    let message = format!("Timeout: Too large resource version: {asked}, current: {version}");
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
    if let Some(version) = request.parameter("resourceVersion")
        && !version.is_empty()
        && version.parse::<u64>().is_err()
    {
        let message = format!(
            "resourceVersion: Invalid value: \"{version}\": strconv.ParseUint: parsing \"{version}\": invalid syntax"
        );
        return status::failure(500, "", &message);
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
    if let Some(answer) = rules::refuse_new(kind, &name, &object) {
        return answer;
    }
    rules::prepare(world.now, user, kind, &mut object);
    if dry_run {
        return Answer::json(201, object);
    }
    let stored = world.cluster.store.put(kind, object);
    Answer::json(201, stored.as_ref().clone()).done()
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
    let misspelt = rules::misspelt(target, &body);
    if let Some(answer) = rules::refuse_misspelt(request, target, misspelt.as_deref()) {
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
        if let Some(field) = &misspelt {
            crate::json::remove(object, &format!("/{}", field.replace('.', "/")));
        }
        Ok(())
    });
    match misspelt {
        Some(field) if answer.status == 200 => answer.with_header(
            "warning",
            format!("299 - \"unknown field \\\"{field}\\\"\""),
        ),
        _ => answer,
    }
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
    if let Some(answer) = rules::immutable(kind, &key.1, &old, &new) {
        return answer;
    }
    rules::tidy(world.now, kind, &mut new);
    if kind == Kind::Budget && old.get("spec") != new.get("spec") {
        let generation = crate::json::integer(&old, "/metadata/generation").unwrap_or(1);
        set(&mut new, "/metadata/generation", generation + 1);
    }
    if dry_run {
        return Answer::json(200, new);
    }
    notes::changed(world, kind, &key.1, &old, &new);
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
    // Seen: with options in the body, those in the query are not read at all.
    let dry_run = if request.body.is_empty() {
        dry_run
    } else {
        crate::json::items(&options, "/dryRun").any(|what| what == "All")
    };
    if kind == Kind::Pod {
        let grace = crate::json::integer(&options, "/gracePeriodSeconds")
            .or_else(|| request.parameter("gracePeriodSeconds")?.parse().ok());
        if !dry_run {
            pods::delete(world, &key, grace);
        }
        let shown = match world.cluster.get(kind, &key.0, name) {
            Some(pod) => pod.clone(),
            None => pods::ended(world.now, object),
        };
        return Answer::json(200, shown).done();
    }
    let uid = text_or_empty(&object, "/metadata/uid").to_owned();
    let mut success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": name, "kind": kind.info().plural, "uid": uid}});
    if !kind.info().group.is_empty() {
        set(&mut success, "/details/group", kind.info().group);
    }
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
        notes::node_deleted(world, &object, name);
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

/// Decodes base64 into a text.
pub(super) fn decode(encoded: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
}

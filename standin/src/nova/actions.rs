//! What may be done to a server that is there: delete, reboot, stop, start, rebuild, its
//! metadata, tags and name. Wrong states are refused in Nova's words.

use serde_json::{Value, json};

use super::{Call, create, error, not_found, wire};
use crate::cloud::{Server, Task, VmState};
use crate::http::Answer;
use crate::json::{repr, text, text_or_empty};
use crate::ledger::Fact;
use crate::world::World;

/// `DELETE /servers/{id}`: accepted at once, done later; 204 again while it is under way.
pub(super) fn delete(world: &mut World, _call: &Call<'_>, id: &str) -> Answer {
    let due = world.now.plus(world.options.delete_time);
    let stuck = world.next_task_stuck;
    let now = world.now;
    let Some(server) = world.cloud.servers.get_mut(id) else {
        return not_found(id);
    };
    if server.locked {
        return error(409, &format!("Instance {id} is locked"));
    }
    if server.vm_state == VmState::Building && server.due.is_some() {
        // Seen: gone when the spawn ends.
        server.delete_after_build = true;
    } else if server.task != Some(Task::Deleting) {
        server.task = Some(Task::Deleting);
        server.due = (!stuck).then_some(due);
    } else if server.due.is_none() && !stuck {
        // Seen: a second DELETE finishes one that hung.
        server.due = Some(due);
    }
    server.updated = now;
    Answer::empty(204).done()
}

/// `POST /servers/{id}/action`.
pub(super) fn act(world: &mut World, call: &Call<'_>, id: &str) -> Answer {
    if !world.cloud.servers.contains_key(id) {
        return not_found(id);
    }
    let malformed = || error(400, "Malformed request body");
    let Some(Value::Object(body)) = call.request.json() else {
        return malformed();
    };
    let mut parts = body.iter();
    let (Some((action, argument)), None) = (parts.next(), parts.next()) else {
        return malformed();
    };
    match action.as_str() {
        "reboot" => reboot(world, id, argument),
        "os-stop" => power(world, id, "stop", Task::PoweringOff),
        "os-start" => power(world, id, "start", Task::PoweringOn),
        "rebuild" => rebuild(world, call, id, argument),
        "os-resetState" if !call.admin => error(
            403,
            "Policy doesn't allow os_compute_api:os-admin-actions:reset_state to be performed.",
        ),
        "os-resetState" => reset_state(world, id, argument),
        "lock" | "unlock" => {
            if let Some(server) = world.cloud.servers.get_mut(id) {
                server.locked = action == "lock";
            }
            Answer::empty(202).done()
        }
        other => error(400, &format!("There is no such action: {other}")),
    }
}

/// The 409 of a server that is locked, busy or in the wrong state.
fn refusal(server: &Server, action: &str, from: &[VmState], busy_is_fine: bool) -> Option<Answer> {
    let id = &server.id;
    if server.locked {
        return Some(error(409, &format!("Instance {id} is locked")));
    }
    if server.vm_state == VmState::Error && !server.built {
        // Seen: of what never had a host, in words of its own.
        let what = match action {
            "start" | "stop" => "is not ready".to_owned(),
            _ => format!("is in an invalid state for '{action}'"),
        };
        return Some(error(409, &format!("Instance {id} {what}")));
    }
    if !from.contains(&server.vm_state) {
        return Some(error(
            409,
            &format!(
                "Cannot '{action}' instance {id} while it is in vm_state {}",
                server.vm_state.name()
            ),
        ));
    }
    let task = server.task.filter(|_| !busy_is_fine)?;
    Some(error(
        409,
        &format!(
            "Cannot '{action}' instance {id} while it is in task_state {}",
            task.name()
        ),
    ))
}

/// Begins a task; what ends it is time.
fn begin(world: &mut World, id: &str, task: Task) {
    let due = world.now.plus(world.options.action_time);
    let stuck = world.next_task_stuck;
    let now = world.now;
    if let Some(server) = world.cloud.servers.get_mut(id) {
        server.task = Some(task);
        server.due = (!stuck).then_some(due);
        server.updated = now;
    }
}

fn reboot(world: &mut World, id: &str, argument: &Value) -> Answer {
    let kind = text(argument, "/type").map(str::to_uppercase);
    let hard = match kind.as_deref() {
        Some("HARD") => true,
        Some("SOFT") => false,
        _ => {
            return error(
                400,
                &format!(
                    "Invalid input for field/attribute type. Value: {0}. '{0}' is not one of ['HARD', 'Hard', 'hard', 'SOFT', 'Soft', 'soft']",
                    text_or_empty(argument, "/type")
                ),
            );
        }
    };
    let Some(server) = world.cloud.servers.get(id) else {
        return not_found(id);
    };
    let from: &[VmState] = if hard {
        &[VmState::Active, VmState::Stopped, VmState::Error]
    } else {
        &[VmState::Active]
    };
    // A hard reboot may follow one that hangs; anything else must be over first.
    let busy_is_fine = hard && matches!(server.task, Some(Task::Rebooting | Task::RebootingHard));
    if let Some(answer) = refusal(server, "reboot", from, busy_is_fine) {
        return answer;
    }
    let task = if hard {
        Task::RebootingHard
    } else {
        Task::Rebooting
    };
    begin(world, id, task);
    Answer::empty(202).done()
}

fn power(world: &mut World, id: &str, action: &str, task: Task) -> Answer {
    let Some(server) = world.cloud.servers.get(id) else {
        return not_found(id);
    };
    let from: &[VmState] = if task == Task::PoweringOff {
        &[VmState::Active, VmState::Error]
    } else {
        &[VmState::Stopped]
    };
    if let Some(answer) = refusal(server, action, from, false) {
        return answer;
    }
    begin(world, id, task);
    Answer::empty(202).done()
}

/// Fields that a rebuild may have, and the microversion from which it may.
const REBUILD_FIELDS: [(&str, u32); 9] = [
    ("imageRef", 1),
    ("name", 1),
    ("metadata", 1),
    ("adminPass", 1),
    ("OS-DCF:diskConfig", 1),
    ("preserve_ephemeral", 1),
    ("description", 19),
    ("key_name", 54),
    ("user_data", 57),
];

fn rebuild(world: &mut World, call: &Call<'_>, id: &str, argument: &Value) -> Answer {
    let Some(server) = world.cloud.servers.get(id) else {
        return not_found(id);
    };
    let unknown = argument.as_object().and_then(|fields| {
        fields.keys().find(|key| {
            !REBUILD_FIELDS
                .iter()
                .any(|(field, since)| field == key && call.minor >= *since)
        })
    });
    if let Some(key) = unknown {
        return error(
            400,
            &format!(
                "Invalid input for field/attribute rebuild. Value: {}. Additional properties are not allowed ('{key}' was unexpected)",
                repr(argument)
            ),
        );
    }
    let Some(image) = text(argument, "/imageRef") else {
        return error(
            400,
            &format!(
                "Invalid input for field/attribute rebuild. Value: {}. 'imageRef' is a required property",
                repr(argument)
            ),
        );
    };
    if !world.options.images.contains_key(image) {
        return error(400, "Cannot find image for rebuild");
    }
    let from = [VmState::Active, VmState::Stopped, VmState::Error];
    if let Some(answer) = refusal(server, "rebuild", &from, false) {
        return answer;
    }
    let changes = create::metadata(argument.get("metadata"))
        .and_then(|metadata| Ok((metadata, create::user_data(argument.get("user_data"))?)));
    let (metadata, user_data) = match changes {
        Ok(changes) => changes,
        Err(message) => return error(400, &message),
    };
    if let Some(server) = world.cloud.servers.get_mut(id) {
        server.image = image.to_owned();
        if argument.get("metadata").is_some() {
            server.metadata = metadata;
        }
        if argument.get("user_data").is_some() {
            server.user_data = user_data;
        }
        if let Some(name) = text(argument, "/name") {
            server.name = name.to_owned();
        }
    }
    begin(world, id, Task::Rebuilding);
    let password = world.ids.letters(12);
    let Some(server) = world.cloud.servers.get(id) else {
        return not_found(id);
    };
    let mut body = wire::changed(world, call, server);
    crate::json::set(&mut body, "/adminPass", password);
    if call.minor >= 57 {
        crate::json::set(&mut body, "/user_data", server.user_data.clone());
    }
    if call.minor >= 54 {
        crate::json::set(&mut body, "/key_name", server.key_name.clone());
    }
    Answer::json(202, json!({"server": body}))
        .with_header("location", wire::href(call.request, id))
        .done()
}

fn reset_state(world: &mut World, id: &str, argument: &Value) -> Answer {
    let state = match text(argument, "/state") {
        Some("error") => VmState::Error,
        Some("active") => VmState::Active,
        _ => {
            return error(
                400,
                &format!(
                    "Invalid input for field/attribute state. Value: {argument}. It is not one of ['active', 'error']"
                ),
            );
        }
    };
    let now = world.now;
    if let Some(server) = world.cloud.servers.get_mut(id) {
        server.vm_state = state;
        server.task = None;
        server.due = None;
        server.updated = now;
    }
    if state == VmState::Error {
        world.note(Fact::ServerFailed { id: id.to_owned() });
    }
    Answer::empty(202).done()
}

/// `PUT /servers/{id}`: a new name.
pub(super) fn update(world: &mut World, call: &Call<'_>, id: &str) -> Answer {
    let body = call.request.json().unwrap_or_default();
    let now = world.now;
    if let Some(server) = world.cloud.servers.get_mut(id)
        && let Some(name) = text(&body, "/server/name")
    {
        server.name = name.to_owned();
        server.updated = now;
    }
    match world.cloud.servers.get(id) {
        None => not_found(id),
        Some(server) => {
            Answer::json(200, json!({"server": wire::changed(world, call, server)})).done()
        }
    }
}

/// `/servers/{id}/metadata` and `/servers/{id}/metadata/{key}`.
pub(super) fn metadata(world: &mut World, call: &Call<'_>, id: &str, rest: &[&str]) -> Answer {
    let now = world.now;
    let Some(server) = world.cloud.servers.get_mut(id) else {
        return not_found(id);
    };
    let body = call.request.json().unwrap_or_default();
    let missing = || error(404, "Metadata item was not found");
    match (call.request.method.as_str(), rest) {
        ("GET", []) => Answer::json(200, json!({"metadata": server.metadata})),
        ("PUT" | "POST", []) => match create::metadata(body.get("metadata")) {
            Ok(pairs) => {
                // PUT replaces all of it, POST adds to it.
                if call.request.method == "PUT" {
                    server.metadata.clear();
                }
                server.metadata.extend(pairs);
                server.updated = now;
                Answer::json(200, json!({"metadata": server.metadata})).done()
            }
            Err(message) => error(400, &message),
        },
        ("GET", [key]) => match server.metadata.get(*key) {
            Some(value) => Answer::json(200, json!({"meta": {*key: value}})),
            None => missing(),
        },
        ("PUT", [key]) => match create::metadata(body.get("meta")) {
            Ok(pairs) if pairs.len() == 1 && pairs.contains_key(*key) => {
                server.metadata.extend(pairs);
                server.updated = now;
                Answer::json(200, json!({"meta": {*key: server.metadata.get(*key)}})).done()
            }
            Ok(_) => error(400, "Request body and URI mismatch"),
            Err(message) => error(400, &message),
        },
        ("DELETE", [key]) => match server.metadata.remove(*key) {
            Some(_) => {
                server.updated = now;
                Answer::empty(204).done()
            }
            None => missing(),
        },
        _ => error(404, "The resource could not be found."),
    }
}

/// `/servers/{id}/tags` and `/servers/{id}/tags/{tag}`, from 2.26.
pub(super) fn tags(world: &mut World, call: &Call<'_>, id: &str, rest: &[&str]) -> Answer {
    if call.minor < 26 {
        return error(404, "The resource could not be found.");
    }
    let Some(server) = world.cloud.servers.get_mut(id) else {
        return not_found(id);
    };
    let missing = |tag: &str| error(404, &format!("Instance {id} has no tag '{tag}'"));
    match (call.request.method.as_str(), rest) {
        ("GET", []) => Answer::json(200, json!({"tags": server.tags})),
        ("PUT", []) => {
            let body = call.request.json().unwrap_or_default();
            match create::tags(body.get("tags")) {
                Ok(tags) => {
                    server.tags = tags;
                    Answer::json(200, json!({"tags": server.tags})).done()
                }
                Err(message) => error(400, &message),
            }
        }
        ("GET", [tag]) if server.tags.contains(*tag) => Answer::empty(204),
        ("PUT", [tag]) if create::is_tag(tag) => {
            // Seen: 201 when new, 204 when there already.
            let new = server.tags.insert((*tag).to_owned());
            let location = format!("{}/tags/{tag}", wire::href(call.request, id));
            let answer = Answer::empty(if new { 201 } else { 204 }).done();
            if new {
                answer.with_header("location", location)
            } else {
                answer
            }
        }
        ("PUT", [tag]) => error(400, &format!("Tag '{tag}' is invalid.")),
        ("DELETE", [tag]) if server.tags.remove(*tag) => Answer::empty(204).done(),
        ("GET" | "DELETE", [tag]) => missing(tag),
        _ => error(404, "The resource could not be found."),
    }
}

//! `/os-server-groups`, from 2.64 on: hosts of their own for servers that must not fail
//! together. Whether there is a host left for one is not looked at here.

use serde_json::{Value, json};

use super::{Call, error};
use crate::cloud::ServerGroup;
use crate::http::Answer;
use crate::json::text;
use crate::world::World;

/// Answers a request for server groups.
pub(super) fn handle(world: &mut World, call: &Call<'_>, rest: &[&str]) -> Answer {
    let missing = |id: &str| error(404, &format!("Instance group {id} could not be found."));
    match (call.request.method.as_str(), rest) {
        ("GET", []) => {
            let groups = world.cloud.groups.iter();
            let shown: Vec<Value> = groups.map(|(id, group)| show(world, id, group)).collect();
            Answer::json(200, json!({"server_groups": shown}))
        }
        ("POST", []) => {
            let body = call.request.json().unwrap_or_default();
            let (Some(name), Some(policy)) = (
                text(&body, "/server_group/name"),
                text(&body, "/server_group/policy"),
            ) else {
                return error(400, "Invalid input for field/attribute server_group.");
            };
            let group = ServerGroup {
                name: name.to_owned(),
                policy: policy.to_owned(),
                members: Vec::new(),
            };
            let id = world.ids.uuid();
            let shown = show(world, &id, &group);
            world.cloud.groups.insert(id, group);
            Answer::json(200, json!({"server_group": shown})).done()
        }
        ("GET", [id]) => match world.cloud.groups.get(*id) {
            Some(group) => Answer::json(200, json!({"server_group": show(world, id, group)})),
            None => missing(id),
        },
        ("DELETE", [id]) => match world.cloud.groups.remove(*id) {
            Some(_) => Answer::empty(204).done(),
            None => missing(id),
        },
        _ => error(404, "The resource could not be found."),
    }
}

fn show(world: &World, id: &str, group: &ServerGroup) -> Value {
    json!({
        "id": id,
        "name": group.name,
        "policy": group.policy,
        "rules": {},
        "members": group.members,
        "project_id": world.cloud.project_id,
        "user_id": world.cloud.user_id,
    })
}

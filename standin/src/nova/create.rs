//! `POST /servers`: what is asked is checked as Nova's schema and quota do, and the server
//! then begins to be. The same request twice makes two servers: there is no client token.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{Call, error};
use crate::cloud::{Outcome, Wanted};
use crate::http::Answer;
use crate::json::{items, repr, text};
use crate::world::World;

/// Most characters of `user_data`, as it is sent: in base64.
pub(crate) const MAX_USER_DATA: usize = 65_535;

/// Most pairs of metadata (`metadata_items` of the quota).
const MAX_METADATA: usize = 128;

/// Longest metadata key or value.
const MAX_METADATA_LENGTH: usize = 255;

/// Most tags of a server, and the longest tag.
const MAX_TAGS: usize = 50;
const MAX_TAG_LENGTH: usize = 60;

/// Fields of `server` that a create may have, and the microversion from which it may.
const FIELDS: [(&str, u32); 22] = [
    ("name", 1),
    ("flavorRef", 1),
    ("imageRef", 1),
    ("metadata", 1),
    ("networks", 1),
    ("user_data", 1),
    ("security_groups", 1),
    ("key_name", 1),
    ("availability_zone", 1),
    ("config_drive", 1),
    ("min_count", 1),
    ("max_count", 1),
    ("return_reservation_id", 1),
    ("block_device_mapping_v2", 1),
    ("OS-DCF:diskConfig", 1),
    ("accessIPv4", 1),
    ("accessIPv6", 1),
    ("adminPass", 1),
    ("description", 19),
    ("tags", 52),
    ("trusted_image_certificates", 63),
    ("hostname", 90),
];

/// `POST /servers`.
pub(super) fn server(world: &mut World, call: &Call<'_>) -> Answer {
    let Some(body) = call.request.json() else {
        return error(400, "Malformed request body");
    };
    let Some(server) = body.get("server").and_then(Value::as_object) else {
        return error(400, "'server' is a required property");
    };
    let wanted = match check(world, call, server, &body) {
        Ok(wanted) => wanted,
        Err(message) => return error(400, &message),
    };
    let count = body
        .pointer("/server/min_count")
        .and_then(Value::as_u64)
        .unwrap_or(1)
        .clamp(1, 100);
    if let Err(message) = within_quota(world, &wanted.flavor, count) {
        return error(403, &message);
    }
    if let Some(answer) = port_in_use(world, &wanted) {
        return answer;
    }
    if let Some(message) = group_is_full(world, &wanted, count) {
        return error(403, &message);
    }
    let outcome = world
        .next_build
        .take()
        .unwrap_or_else(|| outcome_of(world, &wanted.flavor));
    let groups: Vec<Value> = wanted
        .security_groups
        .iter()
        .map(|name| json!({"name": name}))
        .collect();
    let mut first = None;
    for place in 1..=count {
        let mut wanted = wanted.clone();
        if count > 1 {
            wanted.name = format!("{}-{place}", wanted.name);
        }
        let id = world.create_server(wanted, outcome);
        first.get_or_insert(id);
    }
    let id = first.unwrap_or_default();
    let links = super::wire::links(call.request, &id);
    let location = super::wire::href(call.request, &id);
    if body.pointer("/server/return_reservation_id") == Some(&Value::Bool(true)) {
        let reservation = world.ids.letters(8);
        return Answer::json(202, json!({"reservation_id": format!("r-{reservation}")})).done();
    }
    let password = world.ids.letters(12);
    Answer::json(
        202,
        json!({"server": {
            "id": id,
            "links": links,
            "OS-DCF:diskConfig": "MANUAL",
            "security_groups": groups,
            "adminPass": password,
        }}),
    )
    .with_header("location", location)
    .done()
}

fn port_in_use(world: &World, wanted: &Wanted) -> Option<Answer> {
    let id = wanted.ports.iter().find(|id| {
        let port = world.cloud.ports.get(*id);
        port.is_some_and(|port| port.device.is_some())
    })?;
    Some(error(409, &format!("Port {id} is still in use.")))
}

fn group_is_full(world: &World, wanted: &Wanted, count: u64) -> Option<String> {
    let group = world.cloud.groups.get(wanted.group.as_ref()?)?;
    let most = u64::from(world.options.quota.group_members);
    (group.members.len() as u64 + count > most)
        .then(|| "Quota exceeded, too many servers in group".to_owned())
}

/// What a build will come to: no host has more disk than this.
fn outcome_of(world: &World, flavor: &str) -> Outcome {
    let flavors = &world.options.flavors;
    let flavor = flavors.iter().find(|have| have.id == flavor);
    if flavor.is_some_and(|flavor| flavor.disk_gib > world.options.host_disk_gib) {
        Outcome::Fails(crate::faults::NO_VALID_HOST)
    } else {
        Outcome::Active
    }
}

/// What is asked for, or Nova's words why not. Like Nova's, they repeat the request.
fn check(
    world: &World,
    call: &Call<'_>,
    server: &Map<String, Value>,
    body: &Value,
) -> Result<Wanted, String> {
    let known = |key: &str| {
        FIELDS
            .iter()
            .any(|(field, since)| *field == key && call.minor >= *since)
    };
    if let Some(key) = server.keys().find(|key| !known(key)) {
        return Err(format!(
            "Invalid input for field/attribute server. Value: {}. Additional properties are not allowed ('{key}' was unexpected)",
            echo(body)
        ));
    }
    let required = |key: &str| {
        format!(
            "Invalid input for field/attribute server. Value: {}. '{key}' is a required property",
            echo(body)
        )
    };
    let name = text(body, "/server/name").ok_or_else(|| required("name"))?;
    if name.is_empty() || name.len() > 255 {
        let what = if name.is_empty() { "short" } else { "long" };
        return Err(format!(
            "Invalid input for field/attribute name. Value: {name}. '{name}' is too {what}"
        ));
    }
    let flavor = text(body, "/server/flavorRef").ok_or_else(|| required("flavorRef"))?;
    if !world.options.flavors.iter().any(|have| have.id == flavor) {
        return Err(format!("Flavor {flavor} could not be found."));
    }
    let image = text(body, "/server/imageRef").unwrap_or_default();
    if !image.is_empty() && !world.options.images.contains_key(image) {
        return Err("Can not find requested image".to_owned());
    }
    if image.is_empty() && !server.contains_key("block_device_mapping_v2") {
        return Err("Invalid imageRef provided.".to_owned());
    }
    check_names(world, body)?;
    let ports = check_networks(world, call, body)?;
    let group = check_group(world, body)?;
    Ok(Wanted {
        name: name.to_owned(),
        flavor: flavor.to_owned(),
        image: image.to_owned(),
        metadata: metadata(body.pointer("/server/metadata"))?,
        tags: tags(body.pointer("/server/tags"))?,
        user_data: user_data(body.pointer("/server/user_data"))?,
        security_groups: match body.pointer("/server/security_groups") {
            None => vec!["default".to_owned()],
            Some(_) => items(body, "/server/security_groups")
                .filter_map(|group| text(group, "/name"))
                .map(str::to_owned)
                .collect(),
        },
        key_name: text(body, "/server/key_name").map(str::to_owned),
        zone: text(body, "/server/availability_zone").map(str::to_owned),
        ports,
        group,
    })
}

/// The `server` of a body, repeated as Nova does.
fn echo(body: &Value) -> String {
    body.get("server").map(repr).unwrap_or_default()
}

/// What is asked for by its name, and is not there.
fn check_names(world: &World, body: &Value) -> Result<(), String> {
    let options = &world.options;
    if let Some(zone) = text(body, "/server/availability_zone")
        && !options.zones.iter().any(|have| have == zone)
    {
        return Err("The requested availability zone is not available".to_owned());
    }
    if let Some(key) = text(body, "/server/key_name")
        && !options.key_pairs.iter().any(|have| have == key)
    {
        return Err("Invalid key_name provided.".to_owned());
    }
    let unknown = items(body, "/server/security_groups")
        .filter_map(|group| text(group, "/name"))
        .find(|name| {
            *name != "default" && !options.security_groups.iter().any(|have| have == name)
        });
    match unknown {
        Some(name) => Err(format!(
            "Unable to find security_group with name or id '{name}'"
        )),
        None => Ok(()),
    }
}

/// The server group in the scheduler's hints.
fn check_group(world: &World, body: &Value) -> Result<Option<String>, String> {
    let Some(id) = text(body, "/os:scheduler_hints/group") else {
        return Ok(None);
    };
    match world.cloud.groups.contains_key(id) {
        true => Ok(Some(id.to_owned())),
        false => Err(format!("Instance group {id} could not be found.")),
    }
}

/// The ports that are asked for; Nova's words if networks or ports are none.
fn check_networks(world: &World, call: &Call<'_>, body: &Value) -> Result<Vec<String>, String> {
    match body.pointer("/server/networks") {
        None if call.minor >= 37 => Err(format!(
            "Invalid input for field/attribute server. Value: {}. 'networks' is a required property",
            echo(body)
        )),
        Some(Value::String(word)) if word == "auto" || word == "none" => Ok(Vec::new()),
        Some(Value::Array(networks)) => {
            let networks: Vec<&str> = networks
                .iter()
                .filter_map(|network| text(network, "/uuid"))
                .collect();
            let unknown = networks
                .iter()
                .find(|id| !world.options.networks.iter().any(|have| have == **id));
            if let Some(id) = unknown {
                return Err(format!("Network {id} could not be found."));
            }
            let ports: Vec<String> = items(body, "/server/networks")
                .filter_map(|network| text(network, "/port"))
                .map(str::to_owned)
                .collect();
            match ports.iter().find(|id| !world.cloud.ports.contains_key(*id)) {
                Some(id) => Err(format!("Port id {id} could not be found.")),
                None => Ok(ports),
            }
        }
        None => Ok(Vec::new()),
        Some(other) => Err(format!(
            "Invalid input for field/attribute networks. Value: {other}. {other} is not valid under any of the given schemas"
        )),
    }
}

/// Metadata as a create, a rebuild or a metadata call may give it.
pub(super) fn metadata(value: Option<&Value>) -> Result<BTreeMap<String, String>, String> {
    let Some(value) = value else {
        return Ok(BTreeMap::new());
    };
    let pairs = value
        .as_object()
        .ok_or_else(|| format!("Invalid input for field/attribute metadata. Value: {value}. {value} is not of type 'object'"))?;
    if pairs.len() > MAX_METADATA {
        return Err(format!(
            "Maximum number of metadata items exceeds {MAX_METADATA}"
        ));
    }
    pairs
        .iter()
        .map(|(key, value)| match value.as_str() {
            Some(text)
                if text.chars().count() <= MAX_METADATA_LENGTH
                    && (1..=MAX_METADATA_LENGTH).contains(&key.chars().count()) =>
            {
                Ok((key.clone(), text.to_owned()))
            }
            Some(text) => Err(format!(
                "Invalid input for field/attribute {key}. Value: {text}. '{text}' is too long"
            )),
            None => Err(format!(
                "Invalid input for field/attribute {key}. Value: {0}. {0} is not of type 'string'",
                repr(value)
            )),
        })
        .collect()
}

/// Tags as a create or a tag call may give them.
pub(super) fn tags(value: Option<&Value>) -> Result<BTreeSet<String>, String> {
    let Some(value) = value else {
        return Ok(BTreeSet::new());
    };
    let wrong = |value: &Value| {
        format!("Invalid input for field/attribute tags. Value: {value}. {value} is not valid")
    };
    let tags: BTreeSet<String> = value
        .as_array()
        .ok_or_else(|| wrong(value))?
        .iter()
        .enumerate()
        .map(|(place, tag)| match tag.as_str() {
            Some(text) if is_tag(text) => Ok(text.to_owned()),
            Some(text) if text.contains(['/', ',']) => Err(format!(
                "Invalid input for field/attribute {place}. Value: {text}. '{text}' does not match '^[^,/]*$'"
            )),
            _ => Err(wrong(tag)),
        })
        .collect::<Result<_, _>>()?;
    if tags.len() > MAX_TAGS {
        return Err(wrong(value));
    }
    Ok(tags)
}

/// Whether a text may be a tag: at most 60 characters, no `/`, no comma.
pub(super) fn is_tag(text: &str) -> bool {
    (1..=MAX_TAG_LENGTH).contains(&text.chars().count()) && !text.contains(['/', ','])
}

/// User data as a create or a rebuild may give it.
pub(super) fn user_data(value: Option<&Value>) -> Result<Option<String>, String> {
    let text = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text,
        Some(other) => {
            return Err(format!(
                "Invalid input for field/attribute user_data. Value: {other}. {other} is not of type 'string'"
            ));
        }
    };
    if text.len() > MAX_USER_DATA {
        return Err(format!(
            "Invalid input for field/attribute user_data. Value: {text}. '{text}' is too long"
        ));
    }
    // Seen: Nova takes even `%%%`, which Python's decoder reads as nothing. Here what a
    // guest could not read is refused, so that a client's mistake is found.
    if STANDARD.decode(text.as_bytes()).is_err() && !text.starts_with('%') {
        return Err(format!(
            "Invalid input for field/attribute user_data. Value: {text}. '{text}' is not a 'base64'"
        ));
    }
    Ok(Some(text.clone()))
}

/// Whether so many more servers of that flavor fit in the quota.
fn within_quota(world: &World, flavor: &str, count: u64) -> Result<(), String> {
    let size = |id: &str| {
        world
            .options
            .flavors
            .iter()
            .find(|flavor| flavor.id == id)
            .map_or((0, 0), |flavor| {
                (u64::from(flavor.vcpus), u64::from(flavor.ram_mib))
            })
    };
    let (mut cores, mut ram) = (0, 0);
    for server in world.cloud.servers.values() {
        let (more_cores, more_ram) = size(&server.flavor);
        cores += more_cores;
        ram += more_ram;
    }
    let quota = world.options.quota;
    let (each_cores, each_ram) = size(flavor);
    let used = world.cloud.servers.len() as u64;
    let rows = [
        ("instances", count, used, u64::from(quota.instances)),
        ("cores", count * each_cores, cores, u64::from(quota.cores)),
        ("ram", count * each_ram, ram, u64::from(quota.ram_mib)),
    ];
    for (what, asked, used, most) in rows {
        if used + asked > most {
            return Err(format!(
                "Quota exceeded for {what}: Requested {asked}, but already used {used} of {most} {what}"
            ));
        }
    }
    Ok(())
}

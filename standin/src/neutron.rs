//! Neutron v2.0 as far as Rhizome needs it: ports, floating addresses, quotas.
//!
//! Texts and codes are those seen on Neutron 21 (Zed). Two of its ways are traps, and kept:
//! `tags` in a create are taken without a word and thrown away, and a port that was made
//! before its server outlives it.

use serde_json::{Value, json};

use crate::cloud::{FloatingIp, Port};
use crate::http::{Answer, Request};
use crate::json::{items, text, text_or_empty};
use crate::world::{World, seconds};

/// Fields that the create of a port may have.
const PORT_FIELDS: [&str; 9] = [
    "network_id",
    "name",
    "description",
    "security_groups",
    "tags",
    "admin_state_up",
    "fixed_ips",
    "device_id",
    "device_owner",
];

/// Fields that the create of a floating address may have.
const FLOATING_FIELDS: [&str; 4] = ["floating_network_id", "port_id", "description", "tags"];

/// Fields by which ports and floating addresses are filtered here.
const FILTERS: [&str; 10] = [
    "id",
    "name",
    "description",
    "device_id",
    "network_id",
    "port_id",
    "tags",
    "fields",
    "limit",
    "marker",
];

/// Answers a request to Neutron; its path begins with `/network`.
pub(crate) fn handle(world: &mut World, request: &Request) -> Answer {
    let path = request
        .path
        .strip_prefix("/network")
        .unwrap_or_default()
        .trim_matches('/');
    if path.is_empty() {
        return Answer::json(
            200,
            json!({"versions": [{"id": "v2.0", "status": "CURRENT",
                "links": [{"rel": "self", "href": format!("{}/network/v2.0/", request.base)}]}]}),
        );
    }
    if let Err(answer) = crate::nova::authenticate(world, request) {
        return *answer;
    }
    let segments: Vec<&str> = path.trim_end_matches(".json").split('/').collect();
    let rest = segments.get(1..).unwrap_or_default();
    match (request.method.as_str(), rest) {
        ("GET", ["ports"]) => list_ports(world, request),
        ("POST", ["ports"]) => create_port(world, request),
        ("GET", ["ports", id]) => match world.cloud.ports.get(*id) {
            Some(port) => Answer::json(200, json!({"port": show_port(world, port)})),
            None => no_port(id),
        },
        ("DELETE", ["ports", id]) => delete_port(world, id),
        ("GET", ["security-groups"]) => list_groups(world, request),
        ("GET", ["floatingips"]) => list_floating(world, request),
        ("POST", ["floatingips"]) => create_floating(world, request),
        ("DELETE", ["floatingips", id]) => match world.cloud.floating_ips.remove(*id) {
            Some(_) => Answer::empty(204).done(),
            None => error(
                404,
                "FloatingIPNotFound",
                &format!("Floating IP {id} could not be found"),
            ),
        },
        ("GET", ["quotas", _, "details"]) => quotas(world),
        _ => error(404, "HTTPNotFound", "The resource could not be found."),
    }
}

/// Neutron's envelope.
pub(crate) fn error(status: u16, kind: &str, message: &str) -> Answer {
    Answer::json(
        status,
        json!({"NeutronError": {"type": kind, "message": message, "detail": ""}}),
    )
}

fn no_port(id: &str) -> Answer {
    error(
        404,
        "PortNotFound",
        &format!("Port {id} could not be found."),
    )
}

/// The object under `key` in the body, or the refusal of one that has a field that is none.
fn wanted(request: &Request, key: &str, fields: &[&str]) -> Result<Value, Box<Answer>> {
    let body = request.json().unwrap_or_default();
    let Some(wanted) = body.get(key).and_then(Value::as_object) else {
        let message = format!("Resource body required: `{key}`");
        return Err(Box::new(error(400, "HTTPBadRequest", &message)));
    };
    match wanted
        .keys()
        .find(|field| !fields.contains(&field.as_str()))
    {
        Some(field) => Err(Box::new(error(
            400,
            "HTTPBadRequest",
            &format!("Unrecognized attribute(s) '{field}'"),
        ))),
        None => Ok(Value::Object(wanted.clone())),
    }
}

fn create_port(world: &mut World, request: &Request) -> Answer {
    let wanted = match wanted(request, "port", &PORT_FIELDS) {
        Ok(wanted) => wanted,
        Err(answer) => return *answer,
    };
    let network = text_or_empty(&wanted, "/network_id");
    if !world.options.networks.iter().any(|have| have == network) {
        return error(
            404,
            "NetworkNotFound",
            &format!("Network {network} could not be found."),
        );
    }
    if world.cloud.ports.len() as u32 >= world.options.quota.ports {
        return error(409, "OverQuota", "Quota exceeded for resources: ['port'].");
    }
    let unknown = items(&wanted, "/security_groups")
        .filter_map(Value::as_str)
        .find(|id| {
            *id != world.cloud.default_group
                && !world.cloud.group_ids.values().any(|have| have == id)
        });
    if let Some(id) = unknown {
        let message = format!("Security group {id} does not exist");
        return error(404, "SecurityGroupNotFound", &message);
    }
    let id = world.ids.uuid();
    let number = world.cloud.next_number();
    let groups: Vec<String> = match wanted.get("security_groups") {
        Some(_) => items(&wanted, "/security_groups")
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        None => vec![world.cloud.default_group.clone()],
    };
    let port = Port {
        id: id.clone(),
        name: text_or_empty(&wanted, "/name").to_owned(),
        description: text_or_empty(&wanted, "/description").to_owned(),
        network: network.to_owned(),
        security_groups: groups,
        device: None,
        number,
        created: world.now,
        updated: world.now,
        revision: 1,
    };
    let shown = show_port(world, &port);
    world.cloud.ports.insert(id, port);
    Answer::json(201, json!({"port": shown})).done()
}

/// A server's port may be deleted under it: the server then has no address.
fn delete_port(world: &mut World, id: &str) -> Answer {
    if world.cloud.ports.remove(id).is_none() {
        return no_port(id);
    }
    for address in world.cloud.floating_ips.values_mut() {
        if address.port.as_deref() == Some(id) {
            address.port = None;
        }
    }
    Answer::empty(204).done()
}

fn create_floating(world: &mut World, request: &Request) -> Answer {
    let wanted = match wanted(request, "floatingip", &FLOATING_FIELDS) {
        Ok(wanted) => wanted,
        Err(answer) => return *answer,
    };
    let network = text_or_empty(&wanted, "/floating_network_id");
    if network != world.options.floating_network {
        return error(
            404,
            "NetworkNotFound",
            &format!("Network {network} could not be found."),
        );
    }
    let port = text(&wanted, "/port_id").map(str::to_owned);
    if let Some(id) = port
        .as_deref()
        .filter(|id| !world.cloud.ports.contains_key(*id))
    {
        return no_port(id);
    }
    let taken = port.is_some()
        && world
            .cloud
            .floating_ips
            .values()
            .any(|have| have.port == port);
    if taken {
        return error(
            409,
            "FloatingIPPortAlreadyAssociated",
            &already_associated(world, &port.unwrap_or_default(), network),
        );
    }
    if world.cloud.floating_ips.len() as u32 >= world.options.quota.floating_ips {
        return error(
            409,
            "OverQuota",
            "Quota exceeded for resources: ['floatingip'].",
        );
    }
    let address = FloatingIp {
        id: world.ids.uuid(),
        description: text_or_empty(&wanted, "/description").to_owned(),
        network: network.to_owned(),
        port,
        number: world.cloud.next_number(),
        created: world.now,
    };
    let shown = show_floating(world, &address, "DOWN");
    world.cloud.floating_ips.insert(address.id.clone(), address);
    Answer::json(201, json!({"floatingip": shown})).done()
}

/// The refusal of a second address for a port; Neutron takes it out of the pool before it looks.
fn already_associated(world: &mut World, port: &str, network: &str) -> String {
    let address = format!("203.0.113.{}", world.cloud.next_number() % 240 + 10);
    let id = world.ids.uuid();
    let fixed = world
        .cloud
        .ports
        .get(port)
        .map(Port::address)
        .unwrap_or_default();
    format!(
        "Cannot associate floating IP {address} ({id}) with port {port} using fixed IP {fixed}, as that fixed IP already has a floating IP on external network {network}."
    )
}

/// `GET /security-groups`: `default` and those of the options.
fn list_groups(world: &World, request: &Request) -> Answer {
    let default = (&world.cloud.default_group, "default");
    let others = world
        .cloud
        .group_ids
        .iter()
        .map(|(name, id)| (id, name.as_str()));
    let rows = std::iter::once(default)
        .chain(others)
        .map(|(id, name)| json!({"id": id, "name": name}))
        .collect();
    page(request, "security_groups", rows)
}

/// The first filter that is none, refused as Neutron does.
fn bad_filter(request: &Request) -> Option<Answer> {
    let (name, _) = request
        .query
        .iter()
        .find(|(name, _)| !FILTERS.contains(&name.as_str()))?;
    Some(error(
        400,
        "HTTPBadRequest",
        &format!("['{name}'] is invalid attribute for filtering"),
    ))
}

/// The rows that the query's filters take, a page of them, as Neutron writes lists.
///
/// Values of one filter are alternatives, filters come together. No tag is ever taken here.
fn page(request: &Request, kind: &str, mut rows: Vec<Value>) -> Answer {
    const NO_FILTERS: [&str; 3] = ["fields", "limit", "marker"];
    let values = |name: &str| -> Vec<&str> {
        let named = request.query.iter().filter(|(other, _)| other == name);
        named.map(|(_, value)| value.as_str()).collect()
    };
    for (name, _) in &request.query {
        if !NO_FILTERS.contains(&name.as_str()) {
            let wanted = values(name);
            rows.retain(|row| {
                let value = row.get(name).and_then(Value::as_str);
                value.is_some_and(|value| wanted.contains(&value))
            });
        }
    }
    rows.sort_by_key(|row| text_or_empty(row, "/id").to_owned());
    if let Some(marker) = request.parameter("marker") {
        rows.retain(|row| text_or_empty(row, "/id") > marker);
    }
    let limit = request
        .parameter("limit")
        .and_then(|limit| limit.parse().ok())
        .unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    let last = rows
        .last()
        .map(|last| text_or_empty(last, "/id").to_owned());
    let fields = values("fields");
    if !fields.is_empty() {
        for row in rows.iter_mut().filter_map(Value::as_object_mut) {
            row.retain(|field, _| fields.contains(&field.as_str()));
        }
    }
    let mut body = json!({kind: rows});
    if more && let Some(last) = last {
        let href = format!(
            "{}{}?limit={limit}&marker={last}",
            request.base, request.path
        );
        crate::json::set(
            &mut body,
            &format!("/{kind}_links"),
            json!([{"rel": "next", "href": href}]),
        );
    }
    Answer::json(200, body)
}

fn list_ports(world: &World, request: &Request) -> Answer {
    if let Some(answer) = bad_filter(request) {
        return answer;
    }
    let rows = world.cloud.ports.values();
    let rows = rows.map(|port| show_port(world, port)).collect();
    page(request, "ports", rows)
}

fn list_floating(world: &World, request: &Request) -> Answer {
    if let Some(answer) = bad_filter(request) {
        return answer;
    }
    let rows = world.cloud.floating_ips.values().map(|address| {
        // The agent sets the status a moment after the association.
        let status = if address.port.is_some() {
            "ACTIVE"
        } else {
            "DOWN"
        };
        show_floating(world, address, status)
    });
    page(request, "floatingips", rows.collect())
}

fn show_port(world: &World, port: &Port) -> Value {
    let attached = port.device.is_some();
    json!({
        "id": port.id,
        "name": port.name,
        "network_id": port.network,
        "tenant_id": world.cloud.project_id,
        "mac_address": port.mac(),
        "admin_state_up": true,
        "status": if attached { "ACTIVE" } else { "DOWN" },
        "device_id": port.device.clone().unwrap_or_default(),
        "device_owner": if attached { "compute:nova" } else { "" },
        "fixed_ips": [{"subnet_id": world.cloud.subnet_id, "ip_address": port.address()}],
        "project_id": world.cloud.project_id,
        "port_security_enabled": true,
        "security_groups": port.security_groups,
        "binding:vnic_type": "normal",
        "allowed_address_pairs": [],
        "extra_dhcp_opts": [],
        "description": port.description,
        "tags": [],
        "created_at": seconds(port.created),
        "updated_at": seconds(port.updated),
        "revision_number": port.revision,
    })
}

fn show_floating(world: &World, address: &FloatingIp, status: &str) -> Value {
    let port = address
        .port
        .as_ref()
        .and_then(|id| world.cloud.ports.get(id));
    json!({
        "id": address.id,
        "tenant_id": world.cloud.project_id,
        "project_id": world.cloud.project_id,
        "floating_ip_address": address.address(),
        "floating_network_id": address.network,
        "router_id": port.map(|_| world.cloud.router_id.clone()),
        "port_id": address.port,
        "fixed_ip_address": port.map(Port::address),
        "status": status,
        "description": address.description,
        "port_details": port.map(|port| json!({
            "name": port.name,
            "network_id": port.network,
            "mac_address": port.mac(),
            "admin_state_up": true,
            "status": if port.device.is_some() { "ACTIVE" } else { "DOWN" },
            "device_id": port.device.clone().unwrap_or_default(),
            "device_owner": if port.device.is_some() { "compute:nova" } else { "" },
        })),
        "tags": [],
        "created_at": seconds(address.created),
        "updated_at": seconds(address.created),
        "revision_number": u32::from(status == "ACTIVE"),
    })
}

/// `GET /quotas/{project}/details`.
fn quotas(world: &World) -> Answer {
    let row = |limit: i64, used: usize| json!({"limit": limit, "used": used, "reserved": 0});
    let quota = &world.options.quota;
    // The router's own port counts.
    Answer::json(
        200,
        json!({"quota": {
            "network": row(100, world.options.networks.len()),
            "subnet": row(100, world.options.networks.len()),
            "subnetpool": row(-1, 0),
            "port": row(i64::from(quota.ports), world.cloud.ports.len() + 1),
            "router": row(10, 1),
            "floatingip": row(i64::from(quota.floating_ips), world.cloud.floating_ips.len()),
            "rbac_policy": row(10, 0),
            "security_group": row(10, 2),
            "security_group_rule": row(100, 6),
        }}),
    )
}

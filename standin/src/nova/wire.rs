//! Servers, flavors, images and versions as Nova writes them.

use serde_json::{Value, json};

use super::{Call, error};
use crate::cloud::{Server, VmState, mac};
use crate::http::{Answer, Request};
use crate::ids::mix;
use crate::json::set;
use crate::options::Flavor;
use crate::world::{World, seconds};

/// A version document, as discovery shows it.
pub(super) fn version(request: &Request, id: &str, max: u32) -> Value {
    let newest = id == "v2.1";
    json!({
        "id": id,
        "status": if newest { "CURRENT" } else { "SUPPORTED" },
        "version": if newest { format!("2.{max}") } else { String::new() },
        "min_version": if newest { "2.1" } else { "" },
        "updated": if newest { "2013-07-23T11:33:21Z" } else { "2011-01-21T11:33:21Z" },
        "links": [{"rel": "self", "href": format!("{}/compute/{}/", request.base,
            if newest { "v2.1" } else { "v2" })}],
    })
}

/// The version document of v2.1, as it shows itself.
pub(super) fn own_version(request: &Request, max: u32) -> Value {
    let mut value = version(request, "v2.1", max);
    crate::json::array(&mut value, "/links").push(json!({
        "rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"
    }));
    set(
        &mut value,
        "/media-types",
        json!([{"base": "application/json",
            "type": "application/vnd.openstack.compute+json;version=2.1"}]),
    );
    value
}

/// The URL of a server.
pub(super) fn href(request: &Request, id: &str) -> String {
    format!("{}/compute/v2.1/servers/{id}", request.base)
}

/// The links of a server.
pub(super) fn links(request: &Request, id: &str) -> Value {
    json!([
        {"rel": "self", "href": href(request, id)},
        {"rel": "bookmark", "href": format!("{}/compute/servers/{id}", request.base)},
    ])
}

/// A server as the short list has it.
pub(super) fn brief(call: &Call<'_>, server: &Server) -> Value {
    json!({"id": server.id, "name": server.name, "links": links(call.request, &server.id)})
}

/// A server whose cell is down, from 2.69: little is known of it.
pub(super) fn unknown(world: &World, call: &Call<'_>, server: &Server) -> Value {
    json!({
        "id": server.id,
        "tenant_id": world.cloud.project_id,
        "created": seconds(server.created),
        "status": "UNKNOWN",
        "links": links(call.request, &server.id),
    })
}

/// A server in full.
pub(super) fn detail(world: &World, call: &Call<'_>, server: &Server) -> Value {
    let host_id = format!(
        "{:016x}{:016x}{:016x}{:08x}",
        mix(u64::from(server.number) + 1),
        mix(u64::from(server.number) + 2),
        mix(u64::from(server.number) + 3),
        mix(u64::from(server.number)) as u32
    );
    let addresses = addresses(world, server);
    let image = if server.image.is_empty() {
        json!("")
    } else {
        json!({"id": server.image, "links": [{"rel": "bookmark",
            "href": format!("{}/compute/images/{}", call.request.base, server.image)}]})
    };
    let user = &world.cloud.user_id;
    let mut value = json!({
        "id": server.id,
        "name": server.name,
        "status": server.status(),
        "tenant_id": world.cloud.project_id,
        "user_id": user,
        "metadata": server.metadata,
        "hostId": if server.built { host_id } else { String::new() },
        "image": image,
        "flavor": flavor_in_server(world, call, &server.flavor),
        "created": seconds(server.created),
        "updated": seconds(server.updated),
        "addresses": addresses,
        "accessIPv4": "",
        "accessIPv6": "",
        "links": links(call.request, &server.id),
        "OS-DCF:diskConfig": "MANUAL",
        "OS-EXT-AZ:availability_zone": if server.built { server.zone.clone() } else { String::new() },
        "config_drive": "",
        "key_name": server.key_name,
        "OS-SRV-USG:launched_at": server.launched.map(|at| format!("{}.000000", seconds(at).trim_end_matches('Z'))),
        "OS-SRV-USG:terminated_at": server.terminated.map(|at| format!("{}.000000", seconds(at).trim_end_matches('Z'))),
        "security_groups": server.security_groups.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
        "OS-EXT-STS:task_state": server.task.map(|task| task.name()),
        "OS-EXT-STS:vm_state": if server.terminated.is_some() { "deleted" } else { server.vm_state.name() },
        "OS-EXT-STS:power_state": if server.powered() { 1 } else if server.vm_state == VmState::Stopped { 4 } else { 0 },
        "os-extended-volumes:volumes_attached": [],
    });
    // Nova leaves `progress` out once there is none.
    if matches!(
        server.status(),
        "ACTIVE" | "BUILD" | "REBUILD" | "REBOOT" | "HARD_REBOOT"
    ) {
        set(&mut value, "/progress", 0);
    }
    if let Some(fault) = &server.fault {
        let mut body =
            json!({"code": 500, "created": seconds(fault.created), "message": fault.message});
        if call.admin {
            set(
                &mut body,
                "/details",
                "Traceback (most recent call last): ...",
            );
        }
        set(&mut value, "/fault", body);
    }
    if server.vm_state == VmState::Error && !server.built {
        // Seen: of what never had a host nothing is known.
        crate::json::remove(&mut value, "/security_groups");
    }
    let groups = world.cloud.groups.iter();
    let groups = groups.filter(|(_, group)| group.members.contains(&server.id));
    let groups = groups.map(|(id, _)| id.clone()).collect();
    newer_fields(call, server, groups, &mut value);
    value
}

/// A server as the long list has it: why one has failed that never had a host is told by its
/// id alone (its row is in Nova's cell 0, whose faults the list does not fill in).
pub(super) fn listed(world: &World, call: &Call<'_>, server: &Server) -> Value {
    let mut value = detail(world, call, server);
    if !server.built {
        crate::json::remove(&mut value, "/fault");
    }
    value
}

/// A server as the answers to a change of it have it: without what the list adds.
pub(super) fn changed(world: &World, call: &Call<'_>, server: &Server) -> Value {
    let mut value = detail(world, call, server);
    if let Some(map) = value.as_object_mut() {
        map.retain(|key, _| {
            let more = ["config_drive", "key_name", "security_groups"].contains(&key.as_str());
            key == "OS-DCF:diskConfig"
                || !(more || key.starts_with("OS-") || key.starts_with("os-"))
        });
    }
    let addresses = value
        .pointer_mut("/addresses")
        .and_then(Value::as_object_mut);
    for rows in addresses.into_iter().flat_map(|map| map.values_mut()) {
        for row in rows.as_array_mut().into_iter().flatten() {
            if let Some(row) = row.as_object_mut() {
                row.retain(|key, _| !key.starts_with("OS-"));
            }
        }
    }
    value
}

/// The addresses of a server that was built: of its ports that are still there, or, if it was
/// made without ports of its own, the one that it was given.
fn addresses(world: &World, server: &Server) -> Value {
    let fixed = |address: String, mac: String| {
        json!({"version": 4, "addr": address, "OS-EXT-IPS:type": "fixed",
            "OS-EXT-IPS-MAC:mac_addr": mac})
    };
    if !server.built || server.is_cut_off() {
        return json!({});
    }
    let name = world.options.network_name.as_str();
    if server.ports.is_empty() {
        return json!({name: [fixed(server.address(), mac(server.number))]});
    }
    let mut rows = Vec::new();
    for port in server
        .ports
        .iter()
        .filter_map(|id| world.cloud.ports.get(id))
    {
        rows.push(fixed(port.address(), port.mac()));
        let floating = world.cloud.floating_ips.values();
        for address in floating.filter(|address| address.port.as_ref() == Some(&port.id)) {
            rows.push(json!({"version": 4, "addr": address.address(),
                "OS-EXT-IPS:type": "floating", "OS-EXT-IPS-MAC:mac_addr": port.mac()}));
        }
    }
    if rows.is_empty() {
        json!({})
    } else {
        json!({name: rows})
    }
}

/// The fields that came with later microversions, or are for admins.
fn newer_fields(call: &Call<'_>, server: &Server, groups: Vec<String>, value: &mut Value) {
    if call.minor >= 9 {
        set(value, "/locked", server.locked);
    }
    if call.minor >= 19 {
        set(value, "/description", Value::Null);
    }
    if call.minor >= 26 {
        set(
            value,
            "/tags",
            server.tags.iter().cloned().collect::<Vec<_>>(),
        );
    }
    if call.minor >= 63 {
        set(value, "/trusted_image_certificates", Value::Null);
    }
    if call.minor >= 73 {
        set(value, "/locked_reason", Value::Null);
    }
    if call.minor >= 71 {
        set(value, "/server_groups", groups);
    }
    if call.minor >= 90 {
        set(value, "/OS-EXT-SRV-ATTR:hostname", server.name.clone());
    }
    if call.admin {
        let host = format!("compute-{}", server.number % 2 + 1);
        set(value, "/OS-EXT-SRV-ATTR:host", host.clone());
        set(value, "/OS-EXT-SRV-ATTR:hypervisor_hostname", host);
        set(
            value,
            "/OS-EXT-SRV-ATTR:instance_name",
            format!("instance-{:08x}", server.number + 1),
        );
        if call.minor >= 3 {
            set(
                value,
                "/OS-EXT-SRV-ATTR:user_data",
                server.user_data.clone(),
            );
        }
        if call.minor >= 16 {
            set(value, "/host_status", "UP");
        }
    }
}

/// From 2.47 a server holds its flavor; before that it names it.
fn flavor_in_server(world: &World, call: &Call<'_>, id: &str) -> Value {
    let flavor = world.options.flavors.iter().find(|flavor| flavor.id == id);
    match flavor {
        Some(flavor) if call.minor >= 47 => json!({
            "vcpus": flavor.vcpus, "ram": flavor.ram_mib, "disk": flavor.disk_gib,
            "ephemeral": 0, "swap": 0, "original_name": flavor.name, "extra_specs": {},
        }),
        _ => json!({"id": id, "links": [{"rel": "bookmark",
            "href": format!("{}/compute/flavors/{id}", call.request.base)}]}),
    }
}

/// `GET /limits`.
pub(crate) fn limits(world: &World) -> Answer {
    let quota = world.options.quota;
    let used: Vec<&Flavor> = world
        .cloud
        .servers
        .values()
        .filter_map(|server| {
            world
                .options
                .flavors
                .iter()
                .find(|flavor| flavor.id == server.flavor)
        })
        .collect();
    Answer::json(
        200,
        json!({"limits": {"rate": [], "absolute": {
            "maxTotalInstances": quota.instances,
            "maxTotalCores": quota.cores,
            "maxTotalRAMSize": quota.ram_mib,
            "maxServerMeta": 128,
            "maxTotalKeypairs": 100,
            "maxServerGroups": 10,
            "maxServerGroupMembers": quota.group_members,
            "totalServerGroupsUsed": world.cloud.groups.len(),
            "totalInstancesUsed": world.cloud.servers.len(),
            "totalCoresUsed": used.iter().map(|flavor| flavor.vcpus).sum::<u32>(),
            "totalRAMUsed": used.iter().map(|flavor| flavor.ram_mib).sum::<u32>(),
        }}}),
    )
}

/// `GET /flavors`, `/flavors/detail` and one flavor.
pub(super) fn flavors(world: &World, call: &Call<'_>, rest: &[&str]) -> Answer {
    let short = |flavor: &Flavor| {
        let mut value = json!({"id": flavor.id, "name": flavor.name, "links": [
            {"rel": "self", "href": format!("{}/compute/v2.1/flavors/{}", call.request.base, flavor.id)},
            {"rel": "bookmark", "href": format!("{}/compute/flavors/{}", call.request.base, flavor.id)},
        ]});
        if call.minor >= 55 {
            set(&mut value, "/description", Value::Null);
        }
        value
    };
    let full = |flavor: &Flavor| {
        let mut value = short(flavor);
        for (key, part) in [
            ("vcpus", json!(flavor.vcpus)),
            ("ram", json!(flavor.ram_mib)),
            ("disk", json!(flavor.disk_gib)),
            (
                "swap",
                if call.minor >= 75 {
                    json!(0)
                } else {
                    json!("")
                },
            ),
            ("OS-FLV-EXT-DATA:ephemeral", json!(0)),
            ("OS-FLV-DISABLED:disabled", json!(false)),
            ("os-flavor-access:is_public", json!(true)),
            ("rxtx_factor", json!(1.0)),
        ] {
            set(&mut value, &format!("/{key}"), part);
        }
        if call.minor >= 61 {
            set(&mut value, "/extra_specs", json!({}));
        }
        value
    };
    let all = &world.options.flavors;
    match rest {
        [] => Answer::json(
            200,
            json!({"flavors": all.iter().map(short).collect::<Vec<_>>()}),
        ),
        ["detail"] => Answer::json(
            200,
            json!({"flavors": all.iter().map(full).collect::<Vec<_>>()}),
        ),
        [id] => match all.iter().find(|flavor| flavor.id == *id) {
            Some(flavor) => Answer::json(200, json!({"flavor": full(flavor)})),
            None => error(404, &format!("Flavor {id} could not be found.")),
        },
        _ => error(404, "The resource could not be found."),
    }
}

/// `GET /images` and one image. Nova's proxy of Glance ended with 2.35.
pub(super) fn images(world: &World, call: &Call<'_>, rest: &[&str]) -> Answer {
    if call.minor > 35 {
        return error(404, "The resource could not be found.");
    }
    let show = |(id, name): (&String, &String)| json!({"id": id, "name": name, "status": "ACTIVE"});
    let all = &world.options.images;
    match rest {
        [] | ["detail"] => Answer::json(
            200,
            json!({"images": all.iter().map(show).collect::<Vec<_>>()}),
        ),
        [id] => match all.get_key_value(*id) {
            Some(pair) => Answer::json(200, json!({"image": show(pair)})),
            None => error(404, "Image not found."),
        },
        _ => error(404, "The resource could not be found."),
    }
}

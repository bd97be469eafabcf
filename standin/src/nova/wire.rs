//! Servers, flavors, images and versions as Nova writes them.

use serde_json::{Value, json};

use super::{Call, error};
use crate::cloud::{Server, VmState};
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
        "links": [{"rel": "self", "href": format!("{}/compute/{id}/", request.base)}],
    })
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
    let running = server.powered();
    let host_id = format!(
        "{:016x}{:016x}{:016x}{:08x}",
        mix(u64::from(server.number) + 1),
        mix(u64::from(server.number) + 2),
        mix(u64::from(server.number) + 3),
        mix(u64::from(server.number)) as u32
    );
    let has_network = server.built;
    let addresses = if has_network {
        json!({"private": [{
            "version": 4,
            "addr": server.address(),
            "OS-EXT-IPS:type": "fixed",
            "OS-EXT-IPS-MAC:mac_addr": format!("fa:16:3e:00:{:02x}:{:02x}", server.number >> 8 & 255, server.number & 255),
        }]})
    } else {
        json!({})
    };
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
        "OS-EXT-STS:power_state": if running { 1 } else if server.vm_state == VmState::Stopped { 4 } else { 0 },
        "os-extended-volumes:volumes_attached": [],
    });
    // Nova leaves `progress` out once there is none.
    if matches!(
        server.status(),
        "ACTIVE" | "BUILD" | "REBUILD" | "REBOOT" | "HARD_REBOOT"
    ) {
        set(&mut value, "/progress", if running { 100 } else { 0 });
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
    newer_fields(call, server, &mut value);
    value
}

/// The fields that came with later microversions, or are for admins.
fn newer_fields(call: &Call<'_>, server: &Server, value: &mut Value) {
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
            "totalInstancesUsed": world.cloud.servers.len(),
            "totalCoresUsed": used.iter().map(|flavor| flavor.vcpus).sum::<u32>(),
            "totalRAMUsed": used.iter().map(|flavor| flavor.ram_mib).sum::<u32>(),
        }}}),
    )
}

/// `GET /flavors`, `/flavors/detail` and one flavor.
pub(super) fn flavors(world: &World, call: &Call<'_>, rest: &[&str]) -> Answer {
    let links = |flavor: &Flavor| json!([{"rel": "self", "href": format!("{}/compute/v2.1/flavors/{}", call.request.base, flavor.id)}]);
    let full = |flavor: &Flavor| {
        json!({"id": flavor.id, "name": flavor.name, "vcpus": flavor.vcpus, "ram": flavor.ram_mib,
            "disk": flavor.disk_gib, "swap": "", "OS-FLV-EXT-DATA:ephemeral": 0,
            "OS-FLV-DISABLED:disabled": false, "os-flavor-access:is_public": true,
            "rxtx_factor": 1.0, "links": links(flavor)})
    };
    let all = &world.options.flavors;
    match rest {
        [] => Answer::json(
            200,
            json!({"flavors": all.iter().map(|flavor| json!({"id": flavor.id,
                "name": flavor.name, "links": links(flavor)})).collect::<Vec<_>>()}),
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

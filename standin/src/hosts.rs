//! Where containers that play machines ask what they are, each second:
//! `POST /hosts/{name}` beside OpenStack's own paths.
//!
//! A host that runs nothing is given a server that boots and that nobody plays yet; it plays that
//! server until it is deleted. So machines that are made while no host is free are played here, as
//! ever, and a host that is killed is a machine without power that nobody has switched off. The
//! answer holds what a machine would read from its config drive, whether it has power, and what
//! the work weighs that it does: what its agent is to report.

use serde_json::{Value, json};

use crate::guest::Phase;
use crate::http::{Answer, Request};
use crate::json::text;
use crate::user_data::user_data;
use crate::world::World;

/// Answers a host.
pub(crate) fn handle(world: &mut World, request: &Request) -> Answer {
    let name = request.path.strip_prefix("/hosts/").unwrap_or_default();
    if request.method != "POST" || name.is_empty() || name.contains('/') {
        return Answer::empty(404);
    }
    let Some(said) = request.json() else {
        return Answer::empty(400);
    };
    let Some(server) = world.server_of_host(name) else {
        return Answer::json(200, json!({"server": null}));
    };
    world.keep_on_disk(&server, &said);
    match world.shown_to_host(&server) {
        Some(shown) => Answer::json(200, shown),
        None => Answer::json(200, json!({"server": null})),
    }
}

impl World {
    /// The server that a host plays; one that boots and that nobody plays, if it had none.
    fn server_of_host(&mut self, host: &str) -> Option<String> {
        let own = |guest: &&crate::Guest| guest.host.as_deref() == Some(host);
        if let Some(guest) = self.guests.iter().find(own) {
            return Some(guest.server.clone());
        }
        let free = self
            .guests
            .iter_mut()
            .find(|guest| guest.host.is_none() && matches!(guest.phase, Phase::Booting(_)))?;
        free.host = Some(host.to_owned());
        tracing::info!(host, node = free.node, "a machine boots on a host");
        Some(free.server.clone())
    }

    /// What a host says that the machine has put on its disk, as long as it is the disk of now.
    fn keep_on_disk(&mut self, server: &str, said: &Value) {
        let disk = self.cloud.servers.get(server).map(|server| server.disk);
        let of_disk = said.get("disk").and_then(Value::as_u64);
        if let Some(certificate) = text(said, "/certificate")
            && disk.map(u64::from) == of_disk
            && text(said, "/server") == Some(server)
            && let Some(guest) = self.guests.get_mut(server)
        {
            guest.disk_holds = Some(certificate.to_owned());
        }
    }

    fn shown_to_host(&self, id: &str) -> Option<Value> {
        let guest = self.guests.get(id)?;
        let server = self.cloud.servers.get(id)?;
        let (cpu, memory) = self.use_of(guest);
        Some(json!({
            "server": id,
            "boot": guest.running_boot(),
            "disk": server.disk,
            "node": guest.node,
            "provider_id": format!("openstack:///{id}"),
            "token": crate::user_data::find_token(&user_data(server)),
            "certificate": guest.disk_holds,
            "cpu": cpu,
            "memory": memory,
        }))
    }
}

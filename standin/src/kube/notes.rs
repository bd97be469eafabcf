//! What the ledger learns of nodes when requests change or delete them.

use serde_json::Value;

use super::kinds::Kind;
use super::lifecycle::is_out_of_service;
use crate::json::text;
use crate::ledger::{Fact, Fate};
use crate::world::World;

/// A Node was cordoned or uncordoned, or said to be out of service.
pub(super) fn changed(world: &mut World, kind: Kind, name: &str, old: &Value, new: &Value) {
    if kind != Kind::Node {
        return;
    }
    let cordoned = |node: &Value| node.pointer("/spec/unschedulable") == Some(&Value::Bool(true));
    if cordoned(old) != cordoned(new) {
        world.note(Fact::Cordoned {
            node: name.to_owned(),
            cordoned: cordoned(new),
        });
    }
    if is_out_of_service(new) && !is_out_of_service(old) {
        let (_, fate) = server_of(world, new);
        world.note(Fact::OutOfService {
            node: name.to_owned(),
            fate,
        });
    }
}

/// A Node was deleted. Its Lease goes with it: it is its owner.
pub(super) fn node_deleted(world: &mut World, node: &Value, name: &str) {
    world
        .cluster
        .store
        .remove(Kind::Lease, "kube-node-lease", name);
    let (server, fate) = server_of(world, node);
    world.note(Fact::NodeDeleted {
        node: name.to_owned(),
        server,
        fate,
    });
}

/// The server in a Node's provider id, and what it is just now.
pub(crate) fn server_of(world: &World, node: &Value) -> (Option<String>, Fate) {
    let server = text(node, "/spec/providerID")
        .and_then(|id| id.rsplit('/').next())
        .map(str::to_owned);
    let fate = match server.as_ref().and_then(|id| world.cloud.servers.get(id)) {
        None => Fate::Gone,
        Some(server) if server.powered() => Fate::Running,
        Some(_) => Fate::Off,
    };
    (server, fate)
}

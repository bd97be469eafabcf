//! Invariants, checked over the ledger and the world at any moment.
//!
//! Each is a function of its own that returns what broke it; none where it holds. The
//! numbers are those of the project's invariants. What only holds once everything is over is
//! in [`at_the_end`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use rhizome_engine::names::OperationId;
use rhizome_engine::time::Timestamp;

use crate::cloud::Port;
use crate::json::{text, text_or_empty};
use crate::kube::Kind;
use crate::kube::lifecycle::is_out_of_service;
use crate::kube::notes::server_of;
use crate::kube::pods::is_ready;
use crate::ledger::{Entry, Fact, Fate, Ledger};
use crate::world::World;

/// How long before a deletion its server must have been read (I7).
const READ_BEFORE_DELETE: Duration = Duration::from_secs(10);

/// What must hold in this run.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Most servers of each pool, its surge included (I1). A pool that is not named here may
    /// have none.
    pub most: BTreeMap<String, usize>,
    /// Deletions in any span of this length, of all pools together (I4).
    pub velocity: Vec<(Duration, usize)>,
}

impl Default for Bounds {
    /// No pools; the shipped velocity caps for a cluster: 5 in 10 minutes.
    fn default() -> Self {
        Self {
            most: BTreeMap::new(),
            velocity: vec![(Duration::from_secs(600), 5)],
        }
    }
}

/// Something that must never be, and was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Timestamp,
    /// The invariant, by its function's name.
    pub invariant: &'static str,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.invariant, self.at, self.what)
    }
}

/// Everything that holds at every moment.
pub fn always(world: &World, bounds: &Bounds) -> Vec<Violation> {
    let ledger = &world.ledger;
    let mut found = whole_ledger(world);
    found.extend(pool_size(ledger, bounds));
    found.extend(one_joined_server_per_operation(ledger));
    found.extend(touches_only_its_own(ledger));
    found.extend(deletes_after_a_read(ledger));
    found.extend(velocity(ledger, bounds));
    found.extend(node_deleted_after_its_server(ledger));
    found.extend(out_of_service_after_its_server(ledger));
    found
}

/// What holds once every fault has ended and every operation is over: the above, and nothing
/// left behind.
pub fn at_the_end(world: &World, bounds: &Bounds) -> Vec<Violation> {
    let mut found = always(world, bounds);
    found.extend(no_duplicates(world));
    found.extend(no_orphan_servers(world));
    found.extend(no_orphan_tokens(world));
    found.extend(no_orphan_ports(world));
    found.extend(no_orphan_cordons(world));
    found.extend(no_running_server_out_of_service(world));
    found
}

/// The ledger is whole: an invariant that is checked on half of what happened says nothing.
pub fn whole_ledger(world: &World) -> Vec<Violation> {
    let lost = world.ledger.lost;
    (lost > 0)
        .then(|| Violation {
            at: world.now(),
            invariant: "whole_ledger",
            what: format!("{lost} entries did not fit"),
        })
        .into_iter()
        .collect()
}

/// I1: at every instant the servers of a pool, in whatever status, are at most its maximum
/// and surge.
pub fn pool_size(ledger: &Ledger, bounds: &Bounds) -> Vec<Violation> {
    let mut pools: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut found = Vec::new();
    for (at, fact) in &ledger.facts {
        match fact {
            Fact::ServerCreated {
                id,
                pool: Some(pool),
                ..
            } => {
                let servers = pools.entry(pool).or_default();
                servers.insert(id);
                let most = bounds.most.get(pool).copied().unwrap_or(0);
                if servers.len() > most {
                    found.push(Violation {
                        at: *at,
                        invariant: "pool_size",
                        what: format!(
                            "pool `{pool}` has {} servers, more than {most}",
                            servers.len()
                        ),
                    });
                }
            }
            Fact::ServerGone { id } => {
                for servers in pools.values_mut() {
                    servers.remove(id.as_str());
                }
            }
            _ => {}
        }
    }
    found
}

/// I3: of the servers of one operation at most one ever joins. A rebuilt server that joins
/// again is the same one.
pub fn one_joined_server_per_operation(ledger: &Ledger) -> Vec<Violation> {
    let mut joined: BTreeMap<OperationId, &str> = BTreeMap::new();
    let mut found = Vec::new();
    for (at, fact) in &ledger.facts {
        if let Fact::NodeJoined {
            server,
            operation: Some(operation),
            ..
        } = fact
            && *joined.entry(*operation).or_insert(server) != server
        {
            found.push(Violation {
                at: *at,
                invariant: "one_joined_server_per_operation",
                what: format!("server {server} of {operation} joined beside another"),
            });
        }
    }
    found
}

/// I6: only servers that carry Rhizome's mark at that moment, and no wish to be left alone,
/// are deleted, stopped, rebooted or rebuilt.
pub fn touches_only_its_own(ledger: &Ledger) -> Vec<Violation> {
    ledger
        .mutations()
        .filter(|entry| entry.ours == Some(false) && is_harmful(entry))
        .map(|entry| Violation {
            at: entry.at,
            invariant: "touches_only_its_own",
            what: format!(
                "{} {} on a server that is not ours",
                entry.method, entry.path
            ),
        })
        .collect()
}

fn is_harmful(entry: &Entry) -> bool {
    (entry.method == "DELETE" && entry.path.split('/').count() == 5)
        || entry.path.ends_with("/action")
}

/// I7: each deletion of a server comes at most 10 s after a read of that very server that
/// was answered.
pub fn deletes_after_a_read(ledger: &Ledger) -> Vec<Violation> {
    let mut read: BTreeMap<&str, Timestamp> = BTreeMap::new();
    let mut found = Vec::new();
    for entry in &ledger.requests {
        let Some(id) = entry.server() else { continue };
        let on_itself = entry.path.split('/').count() == 5;
        if entry.method == "GET" && on_itself && entry.status == Some(200) {
            read.insert(id, entry.at);
        }
        let fresh = read
            .get(id)
            .is_some_and(|at| entry.at.since(*at) <= READ_BEFORE_DELETE);
        if entry.method == "DELETE" && on_itself && !fresh {
            found.push(Violation {
                at: entry.at,
                invariant: "deletes_after_a_read",
                what: format!("server {id} was deleted without a look at it just before"),
            });
        }
    }
    found
}

/// I4: in no span of the given lengths are more servers taken away than allowed. A delete
/// that is asked for twice counts once.
pub fn velocity(ledger: &Ledger, bounds: &Bounds) -> Vec<Violation> {
    let mut seen = BTreeSet::new();
    let deletes: Vec<Timestamp> = ledger
        .mutations()
        .filter(|entry| entry.method == "DELETE" && entry.path.split('/').count() == 5)
        .filter_map(|entry| Some((entry.at, entry.server()?)))
        .filter(|(_, id)| seen.insert(*id))
        .map(|(at, _)| at)
        .collect();
    let mut found = Vec::new();
    for (span, most) in &bounds.velocity {
        for (place, at) in deletes.iter().enumerate() {
            let within = deletes
                .iter()
                .take(place + 1)
                .filter(|other| at.since(**other) < *span)
                .count();
            if within > *most {
                found.push(Violation {
                    at: *at,
                    invariant: "velocity",
                    what: format!(
                        "{within} servers deleted within {} s, more than {most}",
                        span.as_secs()
                    ),
                });
            }
        }
    }
    found
}

/// I26: a Node is deleted only when its server is gone or off.
pub fn node_deleted_after_its_server(ledger: &Ledger) -> Vec<Violation> {
    ledger
        .facts
        .iter()
        .filter_map(|(at, fact)| match fact {
            Fact::NodeDeleted {
                node,
                fate: Fate::Running,
                ..
            } => Some(Violation {
                at: *at,
                invariant: "node_deleted_after_its_server",
                what: format!("node `{node}` was deleted while its server may run"),
            }),
            _ => None,
        })
        .collect()
}

/// I16: a Node is said to be out of service only when its server is gone or off: its volumes
/// are given to others by it.
pub fn out_of_service_after_its_server(ledger: &Ledger) -> Vec<Violation> {
    ledger
        .facts
        .iter()
        .filter_map(|(at, fact)| match fact {
            Fact::OutOfService {
                node,
                fate: Fate::Running,
            } => Some(Violation {
                at: *at,
                invariant: "out_of_service_after_its_server",
                what: format!(
                    "node `{node}` was said to be out of service while its server may run"
                ),
            }),
            _ => None,
        })
        .collect()
}

/// I16: no server is left running whose Node is out of service.
pub fn no_running_server_out_of_service(world: &World) -> Vec<Violation> {
    let nodes = world.cluster.list(Kind::Node);
    let out = nodes.filter(|node| is_out_of_service(node));
    out.filter(|node| server_of(world, node).1 == Fate::Running)
        .map(|node| Violation {
            at: world.now(),
            invariant: "no_running_server_out_of_service",
            what: format!(
                "node `{}` is out of service and its server runs",
                text_or_empty(node, "/metadata/name")
            ),
        })
        .collect()
}

/// I3: no two servers of one operation are left.
pub fn no_duplicates(world: &World) -> Vec<Violation> {
    let mut of: BTreeMap<OperationId, Vec<&str>> = BTreeMap::new();
    for server in world.cloud.servers.values() {
        if let Some(operation) = server.operation() {
            of.entry(operation).or_default().push(&server.id);
        }
    }
    of.into_iter()
        .filter(|(_, servers)| servers.len() > 1)
        .map(|(operation, servers)| Violation {
            at: world.now(),
            invariant: "no_duplicates",
            what: format!(
                "{} servers of {operation}: {}",
                servers.len(),
                servers.join(", ")
            ),
        })
        .collect()
}

/// I38: each server of ours is a Ready node.
pub fn no_orphan_servers(world: &World) -> Vec<Violation> {
    let ready: BTreeSet<&str> = world
        .cluster
        .list(Kind::Node)
        .filter(|node| is_ready(node))
        .filter_map(|node| text(node, "/spec/providerID")?.rsplit('/').next())
        .collect();
    world
        .cloud
        .servers
        .values()
        .filter(|server| server.is_marked() && !ready.contains(server.id.as_str()))
        .map(|server| Violation {
            at: world.now(),
            invariant: "no_orphan_servers",
            what: format!(
                "server `{}` ({}) is no ready node",
                server.name,
                server.status()
            ),
        })
        .collect()
}

/// I38: no bootstrap token is left.
pub fn no_orphan_tokens(world: &World) -> Vec<Violation> {
    world
        .cluster
        .list(Kind::Secret)
        .filter(|secret| text(secret, "/type") == Some("bootstrap.kubernetes.io/token"))
        .map(|secret| Violation {
            at: world.now(),
            invariant: "no_orphan_tokens",
            what: format!("`{}` is left", text_or_empty(secret, "/metadata/name")),
        })
        .collect()
}

/// I38: no port and no floating address is left that no server lives on.
pub fn no_orphan_ports(world: &World) -> Vec<Violation> {
    let cloud = &world.cloud;
    let unused = |port: &&Port| {
        let device = port.device.as_ref();
        !device.is_some_and(|id| cloud.servers.contains_key(id))
    };
    let ports = cloud
        .ports
        .values()
        .filter(unused)
        .map(|port| format!("port {} ({}) is left", port.id, port.description));
    let addresses = cloud
        .floating_ips
        .values()
        .filter(|address| address.port.is_none())
        .map(|address| format!("address {} ({}) is left", address.id, address.description));
    ports
        .chain(addresses)
        .map(|what| Violation {
            at: world.now(),
            invariant: "no_orphan_ports",
            what,
        })
        .collect()
}

/// I38: no cordon is left.
pub fn no_orphan_cordons(world: &World) -> Vec<Violation> {
    world
        .cluster
        .list(Kind::Node)
        .filter(|node| node.pointer("/spec/unschedulable") == Some(&serde_json::Value::Bool(true)))
        .map(|node| Violation {
            at: world.now(),
            invariant: "no_orphan_cordons",
            what: format!(
                "node `{}` is still cordoned",
                text_or_empty(node, "/metadata/name")
            ),
        })
        .collect()
}

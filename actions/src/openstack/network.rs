//! Neutron: the ports and floating addresses that are made for a server, and taken away with it.
//!
//! Nova deletes the ports that it makes itself, and keeps those that it was given: so each of
//! ours carries the operation that made it in its description, which is part of its create
//! (`tags` there are taken and thrown away without a word, seen on Neutron 21). It is found by
//! that again after a lost answer, and taken away by it when the server is gone or never came.
//! A port is no lock: what keeps a server from being made twice is in `executor.rs`. What there
//! is of them is looked up in `network/look.rs`.

mod look;

use std::collections::BTreeMap;

use reqwest::Method;
use rhizome_engine::action::{Action, ActionResult, Done, Failure, FailureKind, mark};
use rhizome_engine::event::{PortsView, ServerStatus};
use rhizome_engine::names::{NodeName, OperationId, PoolName, VmId};
use serde_json::{Value, json};

use super::client::{Change, Trace};
use super::protocol::ServerBody;
use super::{Machine, Network, Openstack};
use crate::in_hand::InHand;
use look::Port;

/// Operations whose ports are told of in one look. What is over that is told of in the next.
const MAX_TOLD: usize = 1_000;

/// What the objects of an operation say that they are for.
fn description(cluster: &str, pool: &PoolName, operation: OperationId) -> String {
    format!("{}{pool}:{operation}", prefix(cluster))
}

/// How the descriptions of all our objects begin.
fn prefix(cluster: &str) -> String {
    format!("rhizome:{cluster}:")
}

/// Pool and operation in a description; none if it is not ours.
fn described(cluster: &str, description: &str) -> Option<(PoolName, OperationId)> {
    let (pool, operation) = description
        .strip_prefix(&prefix(cluster))?
        .rsplit_once(':')?;
    Some((PoolName::new(pool), operation.parse().ok()?))
}

impl Openstack {
    /// The `networks` of a create: ports of our own, made or found again, in the pool's order.
    /// Without networks, or in a cloud whose catalog has no network service, Nova makes them.
    pub(super) async fn own_ports(
        &self,
        hand: &InHand<'_>,
        machine: &Machine,
        node: &NodeName,
        trace: &Trace,
    ) -> Result<Option<Vec<String>>, Failure> {
        if !machine.wants_ports() || !self.nova.has_network().await? {
            return Ok(None);
        }
        let Action { pool, key, .. } = hand.action;
        let description = description(&self.options.cluster, pool, key.operation);
        let mut there = self.nova.ports(&description, trace).await?;
        if there.iter().any(|port| !port.device_id.is_empty()) {
            return Err(Failure::new(
                FailureKind::Unknown,
                "a port of this operation is in use, and no server of it is listed yet",
            ));
        }
        let addresses = match &machine.floating_network {
            Some(_) => self.nova.floating_ips(&description, trace).await?.len(),
            None => 1,
        };
        let missing = machine.networks.len().saturating_sub(there.len());
        self.room_on_network(missing, 1_usize.saturating_sub(addresses), trace)
            .await?;
        let groups = self.nova.group_ids(&machine.security_groups, trace).await?;
        let mut ports = Vec::new();
        for network in &machine.networks {
            let found = there.iter().position(|port| network.has(&port.network_id));
            ports.push(match found {
                Some(place) => there.swap_remove(place).id,
                None => {
                    self.make_port(hand, network, node, &description, &groups, trace)
                        .await?
                }
            });
        }
        if let (Some(public), Some(port)) = (&machine.floating_network, ports.first())
            && addresses == 0
        {
            let change = Change::floating_ip(public, port, &description);
            self.make(hand, &change, trace).await?;
        }
        Ok(Some(ports))
    }

    /// Makes a port on the first of the networks that has room for it.
    async fn make_port(
        &self,
        hand: &InHand<'_>,
        network: &Network,
        node: &NodeName,
        description: &str,
        groups: &[String],
        trace: &Trace,
    ) -> Result<String, Failure> {
        let mut last = None;
        for id in network.all() {
            let change = Change::port(id, node.as_str(), description, groups);
            match self.make(hand, &change, trace).await {
                Ok(text) => {
                    let made: Option<Value> = serde_json::from_str(&text).ok();
                    let id = made.as_ref().and_then(|made| made.pointer("/port/id"));
                    return id
                        .and_then(Value::as_str)
                        .map(str::to_owned)
                        .ok_or_else(|| {
                            Failure::new(
                                FailureKind::Retry { after: None },
                                "neutron made a port, but its answer cannot be read",
                            )
                        });
                }
                // Full, or not there: its turn is over.
                Err(failure)
                    if matches!(failure.kind, FailureKind::NoCapacity | FailureKind::Refused) =>
                {
                    tracing::warn!(network = id, error = %failure, "no port can be had here");
                    last = Some(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(last.unwrap_or_else(|| Failure::new(FailureKind::Refused, "the pool has no network")))
    }

    /// Makes one object of ours; the text of its answer.
    async fn make(
        &self,
        hand: &InHand<'_>,
        change: &Change,
        trace: &Trace,
    ) -> Result<String, Failure> {
        match self.change(hand, change, trace).await {
            Ok(answer) => Ok(answer.text),
            // What it was to be made of is not there.
            Err(failure) if failure.kind == FailureKind::NotFound => {
                Err(Failure::new(FailureKind::Refused, failure.message))
            }
            // It is looked for by its description before another is made, and one too many is
            // taken away with the rest.
            Err(failure) if failure.kind == FailureKind::Unknown => Err(Failure::new(
                FailureKind::Retry { after: None },
                failure.message,
            )),
            Err(failure) => Err(failure),
        }
    }

    /// Takes away the ports and addresses of `operation`, unless a server lives on them.
    pub(super) async fn release(
        &self,
        hand: &InHand<'_>,
        operation: OperationId,
        trace: &Trace,
    ) -> ActionResult {
        if !self.nova.has_network().await? {
            return Ok(Done::Already);
        }
        let description = description(&self.options.cluster, &hand.action.pool, operation);
        let addresses = self.nova.floating_ips(&description, trace).await?;
        let ports = self.nova.ports(&description, trace).await?;
        if addresses.is_empty() && ports.is_empty() {
            return Ok(Done::Already);
        }
        if self.is_lived_on(operation, &ports, trace).await? {
            return Err(Failure::new(
                FailureKind::NotOwned,
                format!("a server lives on the ports of {operation}: they are left alone"),
            ));
        }
        let addresses = addresses
            .iter()
            .map(|it| Change::delete_floating_ip(&it.id));
        let ports = ports.iter().map(|it| Change::delete_port(&it.id));
        for change in addresses.chain(ports) {
            match self.change(hand, &change?, trace).await {
                Err(failure) if failure.kind != FailureKind::NotFound => return Err(failure),
                _ => {}
            }
        }
        Ok(Done::Accepted)
    }

    /// Which operations have ports or addresses, whether a server lives on them or not.
    pub(super) async fn look_at_ports(&self, trace: &Trace) -> Result<Vec<PortsView>, Failure> {
        let ports = self.nova.all_ports(trace).await?;
        let addresses = self.nova.all_floating_ips(trace).await?;
        let named = ports.into_iter().map(|port| (port.description, port.name));
        let nameless = addresses
            .into_iter()
            .map(|one| (one.description, String::new()));
        let mut told: BTreeMap<OperationId, PortsView> = BTreeMap::new();
        for (description, name) in named.chain(nameless) {
            let Some((pool, operation)) = described(&self.options.cluster, &description) else {
                continue;
            };
            // Somebody took its name away: then it is called by the operation.
            let node = match name.is_empty() {
                true => NodeName::new(operation.to_string()),
                false => NodeName::new(name),
            };
            let view = PortsView {
                operation,
                pool,
                node,
            };
            told.entry(operation).or_insert(view);
        }
        Ok(told.into_values().take(MAX_TOLD).collect())
    }

    /// Whether a server lives on the ports of `operation`: by its mark, for that a port is bound
    /// to none proves nothing (when two creates name it, Nova unbinds it from the one that
    /// lives), or because a port is bound to it, for marks can be taken off.
    async fn is_lived_on(
        &self,
        operation: OperationId,
        ports: &[Port],
        trace: &Trace,
    ) -> Result<bool, Failure> {
        let operation = operation.to_string();
        let marked = |server: ServerBody| {
            (server.ours(&self.options.cluster)
                && server.mark(mark::NETWORK) == Some(&operation)
                && server.status() != ServerStatus::Deleted)
                .then_some(())
        };
        let listing = self.nova.servers(trace, marked).await?;
        if !listing.complete() {
            return Err(Failure::new(
                FailureKind::Retry { after: None },
                "the list of servers is incomplete: whether the ports are in use cannot be seen",
            ));
        }
        if !listing.servers.is_empty() {
            return Ok(true);
        }
        for bound in ports.iter().filter(|port| !port.device_id.is_empty()) {
            // By its id: a list can lack a server that is there.
            match self.nova.server(&VmId::new(&bound.device_id), trace).await {
                Ok(server) if server.status() != ServerStatus::Deleted => return Ok(true),
                Err(failure) if failure.kind != FailureKind::NotFound => return Err(failure),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(false)
    }
}

impl Change {
    fn port(network: &str, name: &str, description: &str, groups: &[String]) -> Self {
        let mut port = json!({"network_id": network, "name": name, "description": description});
        if let (false, Some(port)) = (groups.is_empty(), port.as_object_mut()) {
            port.insert("security_groups".to_owned(), json!(groups));
        }
        Self::network(
            "create_port",
            Method::POST,
            "/v2.0/ports".to_owned(),
            Some(json!({"port": port})),
        )
    }

    fn floating_ip(network: &str, port: &str, description: &str) -> Self {
        let body = json!({"floatingip": {
            "floating_network_id": network, "port_id": port, "description": description}});
        Self::network(
            "create_floating_ip",
            Method::POST,
            "/v2.0/floatingips".to_owned(),
            Some(body),
        )
    }

    fn delete_port(id: &str) -> Result<Self, Failure> {
        let path = format!("/v2.0/ports/{}", super::client::segment(id)?);
        Ok(Self::network("delete_port", Method::DELETE, path, None))
    }

    fn delete_floating_ip(id: &str) -> Result<Self, Failure> {
        let path = format!("/v2.0/floatingips/{}", super::client::segment(id)?);
        Ok(Self::network(
            "delete_floating_ip",
            Method::DELETE,
            path,
            None,
        ))
    }
}

//! What operations see of their machines: the cluster, as it was observed last.

use crate::cluster::{Node, Server};
use crate::engine::Engine;
use crate::event::ServerStatus;
use crate::names::{NodeName, VmId};
use crate::remediation::{Seen, Sight};
use crate::time::{Monotonic, Now};

/// What operations see of their machines.
pub(super) struct Eyes<'a> {
    pub(super) engine: &'a Engine,
}

impl Seen for Eyes<'_> {
    fn server(&self, id: &VmId) -> Sight<Server> {
        let cluster = &self.engine.world.cluster;
        match cluster.server(id) {
            // Its cell is down: neither what it is nor what is under way on it can be said.
            Some(server) if server.status == ServerStatus::Unknown => Sight::Unknown,
            Some(server) => Sight::There(server.clone()),
            None => gone(cluster.servers().asked()),
        }
    }

    fn node(&self, name: &NodeName) -> Sight<Node> {
        let cluster = &self.engine.world.cluster;
        match cluster
            .find(name.as_str())
            .and_then(|member| member.node.as_ref())
        {
            Some(node) => Sight::There(node.clone()),
            None => gone(cluster.nodes().asked()),
        }
    }

    fn heard(&self, node: &NodeName) -> Option<Now> {
        let slot = self.engine.world.cluster.slot(node.as_str())?;
        let wall = self.engine.world.windows.last_heard(slot)?;
        Some(self.engine.now().at(wall))
    }

    fn lease(&self, node: &NodeName) -> Option<Monotonic> {
        let member = self.engine.world.cluster.find(node.as_str())?;
        Some(member.node.as_ref()?.lease?.seen)
    }
}

fn gone<T>(asked: Option<Now>) -> Sight<T> {
    match asked {
        Some(asked) => Sight::Gone { asked },
        None => Sight::Unknown,
    }
}

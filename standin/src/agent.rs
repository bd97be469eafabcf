//! The metrics agents on the guests, and the work whose weight they report.
//!
//! Work is a demand in cores that the caller sets. It spreads over the Ready nodes that take
//! pods, so a node more lowers the use of all, and a dead one raises it.

use serde_json::json;

use crate::guest::Guest;
use crate::ids::unit;
use crate::json::{text, text_or_empty};
use crate::kube::Kind;
use crate::kube::pods::is_ready;
use crate::world::World;

/// What an idle node uses, as a ratio of its cores.
const IDLE_CPU_RATIO: f64 = 0.03;

/// What an idle node uses, as a ratio of its memory.
const IDLE_MEMORY_RATIO: f64 = 0.20;

/// How far two nodes' shares of the same work lie apart at most: ± 4 %.
const VARIATION: f64 = 0.04;

/// The work that the nodes do.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// How many cores it would keep busy.
    pub demand_cores: f64,
    /// How much memory it fills, in GiB.
    pub memory_gib: f64,
}

impl World {
    /// Sets how many cores the work would keep busy from now on.
    pub fn set_demand(&mut self, cores: f64) {
        self.load.demand_cores = cores;
    }

    /// Sets how much memory the work fills from now on, in GiB.
    pub fn set_memory_demand(&mut self, gib: f64) {
        self.load.memory_gib = gib;
    }

    /// Lets the agents publish whose time has come.
    pub(crate) fn step_agents(&mut self) {
        let now = self.now;
        let interval = self.options.agent_interval;
        let mut due = Vec::new();
        for guest in self.guests.iter_mut() {
            if guest.host.is_some() || !guest.agent_speaks() || guest.next_record > now {
                continue;
            }
            // Each keeps its own beat; one that was silent begins anew.
            let spread = interval.mul_f64(unit(&guest.node, 0));
            let first = guest.next_record.millis() == 0;
            guest.next_record = now.plus(if first { spread } else { interval });
            if !first {
                due.push(guest.clone());
            }
        }
        if due.is_empty() {
            return;
        }
        let (cores, memory) = self.working_size();
        for guest in due {
            let record = self.record(&guest, cores, memory);
            self.outbox.push((guest.node, record));
        }
    }

    /// What a guest uses of its cores and of its memory now, as ratios.
    pub(crate) fn use_of(&self, guest: &Guest) -> (f64, f64) {
        let (cores, memory) = self.working_size();
        self.share(guest, cores, memory)
    }

    /// Cores and GiB of the nodes that the work spreads over.
    fn working_size(&self) -> (f64, f64) {
        self.cluster
            .list(Kind::Node)
            .filter(|node| takes_work(node))
            .filter_map(|node| self.size_of(text_or_empty(node, "/metadata/name")))
            .fold((0.0, 0.0), |(cores, memory), (more, gib)| {
                (cores + more, memory + gib)
            })
    }

    fn size_of(&self, node: &str) -> Option<(f64, f64)> {
        let guest = self.guests.of_node(node)?;
        let server = self.cloud.servers.get(&guest.server)?;
        let flavor = self
            .options
            .flavors
            .iter()
            .find(|flavor| flavor.id == server.flavor)?;
        Some((f64::from(flavor.vcpus), f64::from(flavor.ram_mib) / 1_024.0))
    }

    fn share(&self, guest: &Guest, cores: f64, memory: f64) -> (f64, f64) {
        let works = self
            .cluster
            .get(Kind::Node, "", &guest.node)
            .is_some_and(takes_work);
        let step = self.now.millis().unsigned_abs() / 1_000;
        let share = |of: f64, demand: f64, idle: f64, salt: u64| {
            let part = if works && of > 0.0 { demand / of } else { 0.0 };
            let varied = part * (1.0 + VARIATION * (2.0 * unit(&guest.node, step ^ salt) - 1.0));
            let value = (idle + varied * (1.0 - idle)).clamp(0.0, 1.0);
            (value * 10_000.0).round() / 10_000.0
        };
        (
            share(cores, self.load.demand_cores, IDLE_CPU_RATIO, 1),
            share(memory, self.load.memory_gib, IDLE_MEMORY_RATIO, 2),
        )
    }

    fn record(&self, guest: &Guest, cores: f64, memory: f64) -> Vec<u8> {
        let (cpu, memory) = self.share(guest, cores, memory);
        json!({
            "node": guest.node,
            "time": self.now.to_string(),
            "cpu": cpu,
            "memory": memory,
        })
        .to_string()
        .into_bytes()
    }
}

fn takes_work(node: &serde_json::Value) -> bool {
    is_ready(node)
        && node.pointer("/spec/unschedulable") != Some(&serde_json::Value::Bool(true))
        && text(node, "/metadata/deletionTimestamp").is_none()
}

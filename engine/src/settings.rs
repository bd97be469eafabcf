//! What the engine is told once: the pools and the limits of the guard.
//!
//! The defaults are those of the table of constants in ARCHITECTURE.md, each with its source.
//! An operator may make each one stricter.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::names::PoolName;

/// Everything the engine is told once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The cluster's name: part of every mark.
    pub cluster: String,
    /// The pools, by name.
    pub pools: BTreeMap<PoolName, PoolSettings>,
    /// The limits that no script can pass.
    pub limits: Limits,
    /// How long late samples are taken in.
    pub lateness: Duration,
    /// Whether Kafka or the collector feeds us: the sources that heartbeats depend on.
    pub heartbeat_sources: Vec<crate::event::SourceName>,
    /// Where a pause can be left beside the API, and is looked for.
    #[serde(default)]
    pub pause_sources: Vec<crate::event::PauseSource>,
}

/// One pool. Journaled with its operations, so a key that an older journal lacks has its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolSettings {
    /// Never fewer.
    pub min: u32,
    /// Never more, VMs in flight and silent ones counted.
    pub max: u32,
    /// How many above `max` may exist for a while, so that a replacement can come first.
    pub surge: u32,
    /// False for VMs that are no Kubernetes nodes.
    pub kubernetes: bool,
    /// Labels put on each node after its join.
    pub labels: BTreeMap<String, String>,
    /// What one node will have to give; known from the first node if not told.
    pub node_capacity: crate::event::Requests,
    /// How long a VM may take to become ACTIVE.
    pub build_timeout: Duration,
    /// How long a machine may take from ACTIVE to a Ready node.
    pub join_timeout: Duration,
    /// How long a drain may take before the scale-down is cancelled.
    pub drain_timeout: Duration,
    /// How long a rung of the ladder has to show effect.
    pub rung_timeout: Duration,
    /// Scale-down follows the highest need of this long.
    pub stabilization: Duration,
}

/// The guard's limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Share of a pool that may be silent or ill at once before healing stops.
    pub storm_share: f64,
    /// How long the count must stay below the share before healing begins again.
    pub storm_cooldown: Duration,
    /// Share of a pool that may be under remediation at once.
    pub budget_share: f64,
    /// Removals of VMs in one pool per minute.
    pub removals_per_minute_pool: u32,
    /// Removals of VMs in the cluster per ten minutes.
    pub removals_per_ten_minutes: u32,
    /// Operations under way at once, over all pools.
    pub operations: u32,
    /// Nodes added to one pool at once.
    pub additions_at_once: u32,
    /// A source that lags more than this cannot be heard well.
    pub max_lag: Duration,
    /// A source not reported on for this long cannot be heard.
    pub source_timeout: Duration,
    /// After sight returns, no destructive act for at least this long.
    pub sight_hold: Duration,
    /// Share of a window that must be covered for a destructive act.
    pub min_coverage: f64,
    /// A list smaller by more than this share, and by two, is partial.
    pub inventory_drop: f64,
    /// Two reads this far apart must agree before a smaller list is believed.
    pub inventory_confirm: Duration,
    /// A decision not begun within this is dropped.
    pub decision_expiry: Duration,
    /// How long a create of unknown outcome settles before it is looked for.
    pub settle: Duration,
    /// The second of the two searches comes this much later.
    pub settle_again: Duration,
    /// Failures in a row that open a pool's circuit.
    pub circuit_failures: u32,
    /// How long an open circuit stays so at first; doubled up to `circuit_max`.
    pub circuit_min: Duration,
    /// The longest that an open circuit stays so.
    pub circuit_max: Duration,
    /// Replacements of one node name in 24 hours.
    pub heals_per_node: u32,
    /// A node's lease or condition older than this is a witness.
    pub lease_grace: Duration,
    /// How far wall and monotonic clock may part before destructive acts freeze.
    pub clock_bound: Duration,
    /// How long a bootstrap token lives.
    pub token_ttl: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let minutes = |m: u64| Duration::from_secs(60 * m);
        let seconds = Duration::from_secs;
        Self {
            storm_share: 0.20,
            storm_cooldown: minutes(5),
            budget_share: 0.10,
            removals_per_minute_pool: 1,
            removals_per_ten_minutes: 5,
            operations: 10,
            additions_at_once: 10,
            max_lag: seconds(30),
            source_timeout: seconds(30),
            sight_hold: minutes(5),
            min_coverage: 0.80,
            inventory_drop: 0.20,
            inventory_confirm: seconds(30),
            decision_expiry: seconds(120),
            settle: seconds(120),
            settle_again: seconds(30),
            circuit_failures: 3,
            circuit_min: minutes(2),
            circuit_max: minutes(60),
            heals_per_node: 3,
            lease_grace: seconds(40),
            clock_bound: seconds(30),
            token_ttl: minutes(20),
        }
    }
}

impl Default for PoolSettings {
    fn default() -> Self {
        let minutes = |m: u64| Duration::from_secs(60 * m);
        Self {
            min: 0,
            max: 0,
            surge: 1,
            kubernetes: true,
            labels: BTreeMap::new(),
            node_capacity: crate::event::Requests::default(),
            build_timeout: minutes(20),
            join_timeout: minutes(15),
            drain_timeout: minutes(10),
            rung_timeout: minutes(5),
            stabilization: minutes(5),
        }
    }
}

//! The guard's limits: the operator may make each one stricter where it stands, and looser
//! only under `override`, where a reader of the file sees it.

use std::time::Duration;

use rhizome_engine::settings::Limits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::types::Period;
use rhizome_engine::time::format_duration;

/// Which way a limit is stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stricter {
    Lower,
    Higher,
}

/// A limit that is looser than its ceiling and does not stand under `override`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TooLoose {
    pub(super) key: &'static str,
    pub(super) message: String,
}

/// A kind of number that a limit can be.
trait LimitValue {
    type Inner: PartialOrd + Copy;
    fn inner(&self) -> Self::Inner;
    fn show(value: Self::Inner) -> String;
}

impl LimitValue for Period {
    type Inner = Duration;
    fn inner(&self) -> Duration {
        self.0
    }
    fn show(value: Duration) -> String {
        format_duration(value)
    }
}

impl LimitValue for u32 {
    type Inner = u32;
    fn inner(&self) -> u32 {
        *self
    }
    fn show(value: u32) -> String {
        value.to_string()
    }
}

impl LimitValue for f64 {
    type Inner = f64;
    fn inner(&self) -> f64 {
        *self
    }
    fn show(value: f64) -> String {
        value.to_string()
    }
}

macro_rules! limits {
    ($($(#[doc = $doc:literal])* $(#[schemars($range:meta)])? $name:ident: $kind:ty, $stricter:ident;)+) => {
        /// The hard limits. Each may be made stricter here; to make one looser than the
        /// default, write it under `override`.
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct LimitsConfig {
            $(
                $(#[doc = $doc])*
                $(#[schemars($range)])?
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $name: Option<$kind>,
            )+
            /// Limits that may be looser than the defaults. They can cost machines.
            #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
            pub overrides: Option<LimitOverrides>,
        }

        /// Limits that may be looser than the defaults.
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct LimitOverrides {
            $(
                $(#[doc = $doc])*
                $(#[schemars($range)])?
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $name: Option<$kind>,
            )+
        }

        impl LimitsConfig {
            /// The limits for the guard.
            pub fn to_limits(&self) -> Limits {
                let mut limits = Limits::default();
                let loose = self.overrides.as_ref();
                $(
                    let chosen = loose.and_then(|loose| loose.$name.as_ref()).or(self.$name.as_ref());
                    if let Some(chosen) = chosen {
                        limits.$name = chosen.inner();
                    }
                )+
                limits
            }

            /// What is looser than its ceiling, and may be so under `override` only.
            pub(super) fn too_loose(&self) -> Vec<TooLoose> {
                let ceiling = Limits::default();
                let mut found = Vec::new();
                $(
                    if let Some(chosen) = &self.$name {
                        found.extend(compare::<$kind>(
                            stringify!($name),
                            chosen.inner(),
                            ceiling.$name,
                            Stricter::$stricter,
                        ));
                    }
                )+
                found
            }
        }
    };
}

fn compare<T: LimitValue>(
    key: &'static str,
    chosen: T::Inner,
    ceiling: T::Inner,
    stricter: Stricter,
) -> Option<TooLoose> {
    let (loose, bound) = match stricter {
        Stricter::Lower => (chosen > ceiling, "at most"),
        Stricter::Higher => (chosen < ceiling, "at least"),
    };
    loose.then(|| TooLoose {
        key,
        message: format!(
            "{} is looser than the limit of {bound} {}: if that is meant, write it under `limits.override`",
            T::show(chosen),
            T::show(ceiling)
        ),
    })
}

limits! {
    /// Share of a pool that may be silent or ill at once before healing stops there.
    #[schemars(range(min = 0.0, max = 1.0))]
    storm_share: f64, Lower;
    /// How long the count must stay below the share before healing begins again.
    storm_cooldown: Period, Higher;
    /// Share of a pool that may be under remediation at once.
    #[schemars(range(min = 0.0, max = 1.0))]
    budget_share: f64, Lower;
    /// Removals of VMs in one pool per minute.
    removals_per_minute_pool: u32, Lower;
    /// Removals of VMs in the cluster per ten minutes.
    removals_per_ten_minutes: u32, Lower;
    /// Operations under way at once, over all pools.
    operations: u32, Lower;
    /// Nodes added to one pool at once.
    additions_at_once: u32, Lower;
    /// A source that lags more than this cannot be heard well.
    max_lag: Period, Lower;
    /// A source not reported on for this long cannot be heard.
    source_timeout: Period, Lower;
    /// After sight returns, no destructive act for at least this long.
    sight_hold: Period, Higher;
    /// Share of a window that must be covered for a destructive act.
    #[schemars(range(min = 0.0, max = 1.0))]
    min_coverage: f64, Higher;
    /// A list smaller by more than this share, and by two, is partial.
    #[schemars(range(min = 0.0, max = 1.0))]
    inventory_drop: f64, Lower;
    /// Two reads this far apart must agree before a smaller list is believed.
    inventory_confirm: Period, Higher;
    /// A decision not begun within this is dropped.
    decision_expiry: Period, Lower;
    /// How long a create of unknown outcome settles before it is looked for.
    settle: Period, Higher;
    /// The second of the two searches comes this much later.
    settle_again: Period, Higher;
    /// Failures in a row that open a pool's circuit.
    circuit_failures: u32, Lower;
    /// How long an open circuit stays so at first.
    circuit_min: Period, Higher;
    /// The longest that an open circuit stays so.
    circuit_max: Period, Higher;
    /// Replacements of one node name in 24 hours.
    heals_per_node: u32, Lower;
    /// A node's lease or condition older than this is a witness.
    lease_grace: Period, Higher;
    /// How far wall and monotonic clock may part before destructive acts freeze.
    clock_bound: Period, Lower;
    /// How long a bootstrap token lives.
    token_ttl: Period, Lower;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: serde_json::Value) -> LimitsConfig {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_defaults_are_the_engines() {
        assert_eq!(LimitsConfig::default().to_limits(), Limits::default());
    }

    #[test]
    fn every_limit_of_the_engine_can_be_set() {
        let engine = serde_json::to_value(Limits::default()).unwrap();
        let schema = schemars::schema_for!(LimitsConfig).to_value();
        for key in engine.as_object().unwrap().keys() {
            assert!(schema["properties"].get(key).is_some(), "{key}");
        }
        assert_eq!(
            schema["properties"].as_object().unwrap().len(),
            engine.as_object().unwrap().len() + 1
        );
    }

    #[test]
    fn stricter_is_taken_and_looser_is_not() {
        let config = read(serde_json::json!({
            "storm_share": 0.1, "sight_hold": "10m", "removals_per_ten_minutes": 2,
        }));
        assert_eq!(config.too_loose(), []);
        assert_eq!(config.to_limits().removals_per_ten_minutes, 2);
        let config = read(serde_json::json!({
            "storm_share": 0.5, "sight_hold": "1m", "removals_per_ten_minutes": 50,
        }));
        let keys: Vec<_> = config.too_loose().iter().map(|found| found.key).collect();
        assert_eq!(
            keys,
            ["storm_share", "removals_per_ten_minutes", "sight_hold"]
        );
    }

    #[test]
    fn an_override_may_be_looser_and_wins() {
        let config = read(serde_json::json!({
            "operations": 2, "override": {"operations": 40},
        }));
        assert_eq!(config.too_loose(), []);
        assert_eq!(config.to_limits().operations, 40);
    }
}

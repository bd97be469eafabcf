//! The status of disruption budgets, as the controller manager keeps it.

use serde_json::Value;

use super::kinds::Kind;
use super::pods::{is_ready, set_condition};
use super::select::label_selector_takes;
use super::store::{is_deleting, key_of};
use crate::json::{integer, items, set, text};
use crate::world::World;

impl World {
    /// Counts healthy and expected pods anew for every budget.
    pub(super) fn refresh_budgets(&mut self) {
        let now = self.now;
        for key in self.cluster.store.keys(Kind::Budget) {
            let Some(budget) = self.cluster.store.get(Kind::Budget, &key.0, &key.1) else {
                continue;
            };
            let selector = budget
                .pointer("/spec/selector")
                .cloned()
                .unwrap_or_default();
            let pods: Vec<&Value> = self
                .cluster
                .list(Kind::Pod)
                .filter(|pod| text(pod, "/metadata/namespace") == Some(key.0.as_str()))
                .filter(|pod| label_selector_takes(&selector, pod))
                .collect();
            let healthy = count(pods.iter().filter(|pod| is_ready(pod) && !is_deleting(pod)));
            let (expected, desired) = self.wanted(budget, &pods);
            let allowed = if expected > 0 {
                (healthy - desired).max(0)
            } else {
                0
            };
            let generation = integer(budget, "/metadata/generation").unwrap_or(1);
            // A disrupted pod counts until it is seen to be on its way out.
            let still: Vec<String> = pods
                .iter()
                .filter(|pod| !is_deleting(pod))
                .map(|pod| key_of(pod).1)
                .collect();
            self.cluster.store.update(Kind::Budget, &key, |budget| {
                if let Some(Value::Object(disrupted)) = budget.pointer_mut("/status/disruptedPods")
                {
                    disrupted.retain(|name, _| still.contains(name));
                }
                set(budget, "/status/currentHealthy", healthy);
                set(budget, "/status/desiredHealthy", desired);
                set(budget, "/status/expectedPods", expected);
                set(budget, "/status/disruptionsAllowed", allowed);
                set(budget, "/status/observedGeneration", generation);
                let (status, reason) = match allowed {
                    0 => ("False", "InsufficientPods"),
                    _ => ("True", "SufficientPods"),
                };
                set_condition(budget, now, "DisruptionAllowed", status, reason, "");
                let conditions = crate::json::array(budget, "/status/conditions");
                for condition in conditions {
                    set(condition, "/observedGeneration", generation);
                }
            });
        }
    }

    /// How many pods there should be, and how many of them must stay healthy.
    fn wanted(&self, budget: &Value, pods: &[&Value]) -> (i64, i64) {
        let controlled = |pod: &&&Value| {
            items(pod, "/metadata/ownerReferences")
                .any(|owner| owner.get("controller") == Some(&Value::Bool(true)))
        };
        let scale = self.scale_of(pods.iter().copied().filter(|pod| controlled(&pod)));
        let share = |value: &Value, of: i64| match value {
            Value::Number(number) => number.as_i64().unwrap_or(0),
            Value::String(text) => {
                let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
                // Rounded up, for minAvailable and maxUnavailable alike.
                (of * percent + 99) / 100
            }
            _ => 0,
        };
        if let Some(most) = budget.pointer("/spec/maxUnavailable") {
            return (scale, (scale - share(most, scale)).max(0));
        }
        let least = budget.pointer("/spec/minAvailable").unwrap_or(&Value::Null);
        match least {
            // A plain number needs no controller to be counted against.
            Value::Number(_) => (count(pods.iter()), share(least, 0)),
            _ => (scale, share(least, scale)),
        }
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> i64 {
    i64::try_from(items.count()).unwrap_or(i64::MAX)
}

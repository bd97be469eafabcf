//! `/metrics`: what can be counted, in OpenMetrics. Label values come from closed sets: kinds,
//! reasons, sources, and the pools of the configuration.

mod inputs;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, OnceLock, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rhizome_engine::Counters;
use rhizome_engine::action::FailureKind;
use rhizome_engine::decision::Origin;
use rhizome_engine::journal::Record;
use rhizome_engine::notice::Notice;
use rhizome_engine::overview::Overview;

pub use inputs::InputCounts;

type Labels = Vec<(&'static str, String)>;
type Counts = Family<Labels, Counter>;
type Levels = Family<Labels, Gauge>;
/// By kind and pool: what each notice that holds is about.
type Holding = BTreeMap<(&'static str, String), BTreeSet<Option<String>>>;

/// Every number of the program.
#[derive(Default)]
pub struct Metrics {
    decisions: Counts,
    refusals: Counts,
    intents: Counts,
    outcomes: Counts,
    notices: Counts,
    notifications: Counts,
    policy_reloads: Counts,
    noticed: Levels,
    /// What asks for a human now.
    holding: Mutex<Holding>,
    journal_well: Gauge,
    gate_held: Gauge,
    last: Mutex<Option<Overview>>,
    /// What the inputs count by themselves, from when they are open.
    inputs: OnceLock<InputCounts>,
}

impl Metrics {
    /// Counts what a record of the journal says.
    pub fn follow(&self, record: &Record) {
        match record {
            Record::Decision { decision } => add(
                &self.decisions,
                [
                    ("pool", decision.pool.as_str()),
                    ("origin", origin(&decision.origin)),
                ],
            ),
            Record::Refusal { refusal } => add(
                &self.refusals,
                [
                    ("pool", refusal.pool.as_str()),
                    ("reason", refusal.reason.as_str()),
                ],
            ),
            Record::Intent { action, .. } => add(
                &self.intents,
                [
                    ("pool", action.pool.as_str()),
                    ("action", action.kind.name()),
                ],
            ),
            Record::Outcome { result, .. } => {
                let outcome = result
                    .as_ref()
                    .map_or_else(|failure| failed(failure.kind), |_| "ok");
                add(&self.outcomes, [("outcome", outcome)]);
            }
            _ => {}
        }
    }

    /// Counts a notice, and holds whether anything of its kind asks for a human now.
    pub fn noticed(&self, notice: &Notice) {
        let kind = notice.kind.as_str();
        let pool = notice.pool.as_ref().map_or("", |pool| pool.as_str());
        if notice.on {
            add(&self.notices, [("kind", kind)]);
        }
        if notice.kind.is_event() {
            return;
        }
        let mut holding = self.holding.lock().unwrap_or_else(PoisonError::into_inner);
        let of_kind = holding.entry((kind, pool.to_owned())).or_default();
        if notice.on {
            of_kind.insert(notice.subject.clone());
        } else {
            of_kind.remove(&notice.subject);
        }
        let labels = labels([("kind", kind), ("pool", pool)]);
        self.noticed
            .get_or_create(&labels)
            .set(i64::from(!of_kind.is_empty()));
    }

    /// Counts a notification: `sent`, `failed` or `dropped`.
    pub fn notified(&self, outcome: &'static str) {
        add(&self.notifications, [("outcome", outcome)]);
    }

    /// Counts a change of the policies' folder: `loaded` or `refused`.
    pub fn reloaded(&self, outcome: &'static str) {
        add(&self.policy_reloads, [("outcome", outcome)]);
    }

    /// Holds whether the journal can be written.
    pub fn set_journal_well(&self, well: bool) {
        self.journal_well.set(i64::from(well));
    }

    /// Holds how many calls the gate held back.
    pub fn set_gate_held(&self, held: u64) {
        self.gate_held.set(i64::try_from(held).unwrap_or(i64::MAX));
    }

    /// Holds what the engine shows of itself. Kept, so that a busy engine costs a scrape its
    /// freshness and not its answer.
    pub fn set_engine(&self, overview: Overview) {
        self.set_journal_well(overview.journal_well);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(overview);
    }

    /// From now on what the inputs count is shown as well. They are opened once.
    pub fn set_inputs(&self, counts: InputCounts) {
        let _ = self.inputs.set(counts);
    }

    /// Everything, as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut registry = Registry::with_prefix("rhizome");
        let counts: [(&str, &str, &Counts); 7] = [
            ("decisions", "Proposals granted", &self.decisions),
            (
                "refusals",
                "Proposals not granted, by reason; one each time that is told: when the reason changes, or it is asked for anew",
                &self.refusals,
            ),
            (
                "intents",
                "Actions journaled to be carried out",
                &self.intents,
            ),
            ("outcomes", "How actions ended", &self.outcomes),
            (
                "notices",
                "How often something asked for a human",
                &self.notices,
            ),
            (
                "notifications",
                "What became of notifications to the webhook",
                &self.notifications,
            ),
            (
                "policy_reloads",
                "Changes of the policies, loaded or refused",
                &self.policy_reloads,
            ),
        ];
        for (name, help, family) in counts {
            registry.register(name, help, family.clone());
        }
        registry.register(
            "attention",
            "1 while something asks for a human",
            self.noticed.clone(),
        );
        registry.register(
            "journal_well",
            "1 while the journal can be written",
            self.journal_well.clone(),
        );
        registry.register(
            "gate_held",
            "Calls that the gate held back",
            self.gate_held.clone(),
        );
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(overview) = last.as_ref() {
            register_overview(&mut registry, overview);
            register_counters(&mut registry, overview.counters);
        }
        drop(last);
        if let Some(counts) = self.inputs.get() {
            counts.register(&mut registry);
        }
        let mut text = String::new();
        if encode(&mut text, &registry).is_err() {
            // Writing to a string does not fail; half an answer would be taken for a whole one.
            text.clear();
        }
        text
    }
}

fn register_overview(registry: &mut Registry, overview: &Overview) {
    let nodes = Levels::default();
    let bounds = Levels::default();
    let paused = Levels::default();
    for pool in &overview.pools {
        let name = pool.name.as_str();
        let set = |family: &Levels, key: &'static str, value: &str, to: u32| {
            let labels = labels([("pool", name), (key, value)]);
            family.get_or_create(&labels).set(i64::from(to));
        };
        set(&nodes, "state", "all", pool.size);
        set(&nodes, "state", "ready", pool.ready);
        if let Some(desired) = pool.desired {
            set(&bounds, "bound", "desired", desired);
        }
        set(&bounds, "bound", "min", pool.min);
        set(&bounds, "bound", "max", pool.max);
        let labels = labels([("pool", name)]);
        paused.get_or_create(&labels).set(i64::from(pool.paused));
    }
    registry.register(
        "nodes",
        "Nodes by pool, in flight and silent ones counted in `all`",
        nodes,
    );
    registry.register(
        "pool_size",
        "The desired size of each pool and its bounds",
        bounds,
    );
    registry.register("paused", "1 while the pool is paused", paused);
    let flowing = Levels::default();
    let lag = Levels::default();
    for source in &overview.sources {
        let labels = labels([("source", source.source.as_str())]);
        flowing
            .get_or_create(&labels)
            .set(i64::from(source.flowing));
        let seconds = i64::try_from(source.lag.as_secs()).unwrap_or(i64::MAX);
        lag.get_or_create(&labels).set(seconds);
    }
    registry.register(
        "source_flowing",
        "1 while the input can be heard well",
        flowing,
    );
    registry.register(
        "source_lag_seconds",
        "How far the input is behind its end",
        lag,
    );
    let gauge = |value: usize| {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        gauge
    };
    registry.register(
        "operations",
        "Operations under way",
        gauge(overview.operations),
    );
    registry.register(
        "brakes",
        "Brakes of the guard that hold",
        gauge(overview.brakes),
    );
}

fn register_counters(registry: &mut Registry, counters: Counters) {
    let counts = [
        ("records", "Records taken in", counters.records),
        (
            "unknown_records",
            "Records that named nothing in the inventory",
            counters.unknown,
        ),
        (
            "late_samples",
            "Samples too old for the lateness bound",
            counters.late,
        ),
        (
            "future_samples",
            "Samples too far ahead of the clock",
            counters.future,
        ),
        (
            "duplicate_samples",
            "Samples that were in already",
            counters.duplicates,
        ),
        (
            "crowded_samples",
            "Samples that came faster than once a second",
            counters.crowded,
        ),
        (
            "refused_samples",
            "Samples that are no finite number",
            counters.refused,
        ),
        (
            "policy_bodies",
            "How often a body of a policy was entered",
            counters.bodies,
        ),
    ];
    for (name, help, value) in counts {
        registry.register(name, help, ConstCounter::new(value));
    }
}

fn add<const N: usize>(family: &Counts, pairs: [(&'static str, &str); N]) {
    family.get_or_create(&labels(pairs)).inc();
}

fn labels<const N: usize>(pairs: [(&'static str, &str); N]) -> Labels {
    pairs.map(|(key, value)| (key, value.to_owned())).to_vec()
}

fn origin(origin: &Origin) -> &'static str {
    match origin {
        Origin::Rule(_) => "rule",
        Origin::Operator(_) => "operator",
        Origin::Bounds => "bounds",
        Origin::Sweep => "sweep",
        Origin::Operation(_) => "operation",
    }
}

fn failed(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Retry { .. } => "retry",
        FailureKind::Unknown => "unknown",
        FailureKind::Refused => "refused",
        FailureKind::NoCapacity => "no_capacity",
        FailureKind::NotFound => "not_found",
        FailureKind::NotOwned => "not_owned",
        FailureKind::Gate => "gate",
        FailureKind::NeedsToken => "needs_token",
        FailureKind::Blocked => "blocked",
        FailureKind::TimedOut => "timed_out",
    }
}

#[cfg(test)]
mod tests {
    use rhizome_engine::notice::NoticeKind;
    use rhizome_engine::time::Timestamp;

    use super::*;

    #[test]
    fn a_notice_is_counted_and_held_until_it_is_over() {
        let metrics = Metrics::default();
        let mut notice = Notice {
            at: Timestamp(0),
            kind: NoticeKind::Circuit,
            on: true,
            pool: Some("workers".into()),
            subject: None,
            text: String::new(),
        };
        metrics.noticed(&notice);
        let held = "rhizome_attention{kind=\"circuit\",pool=\"workers\"}";
        assert!(
            metrics.encode().contains(&format!("{held} 1")),
            "{}",
            metrics.encode()
        );
        notice.on = false;
        metrics.noticed(&notice);
        let text = metrics.encode();
        assert!(text.contains(&format!("{held} 0")), "{text}");
        assert!(
            text.contains("rhizome_notices_total{kind=\"circuit\"} 1"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn one_of_two_that_is_over_leaves_the_other_and_what_happened_holds_nothing() {
        let metrics = Metrics::default();
        let notice = |kind, on, subject: &str| Notice {
            at: Timestamp(0),
            kind,
            on,
            pool: None,
            subject: Some(subject.to_owned()),
            text: String::new(),
        };
        let blind = |on, source| metrics.noticed(&notice(NoticeKind::Blind, on, source));
        let holds = |value: u32| {
            let line = format!("rhizome_attention{{kind=\"blind\",pool=\"\"}} {value}");
            assert!(metrics.encode().contains(&line), "{}", metrics.encode());
        };
        blind(true, "kafka");
        blind(true, "openstack");
        blind(false, "kafka");
        holds(1);
        blind(false, "openstack");
        holds(0);
        metrics.noticed(&notice(NoticeKind::OperationEnded, true, "op-1-1"));
        let text = metrics.encode();
        assert!(
            !text.contains("rhizome_attention{kind=\"operation"),
            "{text}"
        );
        assert!(text.contains("kind=\"operation_ended\"} 1"), "{text}");
    }
}

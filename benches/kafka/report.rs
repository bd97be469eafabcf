//! The figures of one fleet, as a table and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cpu::Spent;
use crate::ours::{Start, Took};

/// All that was measured of one fleet.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) nodes: usize,
    pub(crate) rounds: Vec<Round>,
    /// Bodies of policies that ran, for each record.
    pub(crate) entered: f64,
    /// From the record in hand to the call of the executor.
    pub(crate) latencies: Vec<Duration>,
    /// A bare append and sync on the disk of the state.
    pub(crate) syncs: Vec<Duration>,
    /// How long a silence of [`SILENCE`] had lasted when it was noticed.
    pub(crate) silences: Vec<Duration>,
    pub(crate) restart: Restart,
    pub(crate) replay: Replay,
}

/// The same records, read by both.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) records: u64,
    pub(crate) ours: Spent,
    pub(crate) reference: Spent,
}

/// A start with a journal and kept windows.
#[derive(Debug, Default)]
pub(crate) struct Restart {
    pub(crate) start: Start,
    /// The whole inventory, taken in.
    pub(crate) listing: Duration,
    /// From nothing to an engine that answers.
    pub(crate) ready: Duration,
}

/// A backlog that was caught up with.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub(crate) records: u64,
    /// On the wall, with the broker on the same processors.
    pub(crate) per_second: f64,
    pub(crate) ours: Spent,
    pub(crate) reference: Spent,
}

/// What the rules of absence in `fleet.rs` wait for.
const SILENCE: Duration = Duration::from_secs(30);

/// Least, median, greatest.
type Spread = [f64; 3];

impl Round {
    fn ours_us(&self) -> f64 {
        micros(&self.ours, self.records)
    }

    fn reference_us(&self) -> f64 {
        micros(&self.reference, self.records)
    }
}

impl Replay {
    fn share(&self) -> f64 {
        micros(&self.reference, self.records) / micros(&self.ours, self.records)
    }
}

impl Figures {
    fn spread(&self, of: impl Fn(&Round) -> f64) -> Spread {
        let mut values: Vec<f64> = self.rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        [0.0, 0.5, 1.0].map(|share| at(&values, share))
    }

    /// What each group of our threads takes of a record, in microseconds.
    fn parts(&self) -> Vec<(String, f64)> {
        let mut sum = Spent::new();
        let records: u64 = self.rounds.iter().map(|round| round.records).sum();
        for (group, ns) in self.rounds.iter().flat_map(|round| &round.ours) {
            *sum.entry(group.clone()).or_default() += ns;
        }
        sum.into_iter()
            .map(|(group, ns)| (group, ns as f64 / 1e3 / records.max(1) as f64))
            .collect()
    }

    /// How much later than [`SILENCE`] a silence was noticed, as a share of it.
    fn lateness(&self) -> Vec<f64> {
        let late = |lasted: &Duration| lasted.as_secs_f64() / SILENCE.as_secs_f64() - 1.0;
        sorted(self.silences.iter().map(late))
    }

    /// In microseconds.
    fn latencies(&self) -> Vec<f64> {
        sorted(self.latencies.iter().map(|one| one.as_secs_f64() * 1e6))
    }

    /// In microseconds.
    fn syncs(&self) -> Vec<f64> {
        sorted(self.syncs.iter().map(|one| one.as_secs_f64() * 1e6))
    }
}

/// The table of one fleet, with a line on how it was measured above the first.
pub(crate) fn text(figures: &Figures, first: bool) -> String {
    let mut out = String::new();
    if first {
        out += "processor time by thread; least / median / greatest of the rounds\n\n";
    }
    let mut row = |name: &str, value: String| {
        let _ = writeln!(out, "  {name:<34} {value}");
    };
    row("nodes", figures.nodes.to_string());
    row(
        "R, us a record",
        spread(figures.spread(Round::reference_us), 2),
    );
    row(
        "Rhizome, us a record",
        spread(figures.spread(Round::ours_us), 2),
    );
    for (group, us) in figures.parts() {
        row(&format!("  of that {group}"), format!("{us:.2}"));
    }
    let ratio = figures.spread(|round| round.reference_us() / round.ours_us());
    row("R / Rhizome", spread(ratio, 2));
    row(
        "records that enter Rhai",
        format!("{:.3} %", figures.entered * 100.0),
    );
    let latencies = figures.latencies();
    row(
        "record in hand to action start",
        format!(
            "p50 {:.0} us, p99 {:.0} us, of {}",
            at(&latencies, 0.5),
            at(&latencies, 0.99),
            latencies.len()
        ),
    );
    let syncs = figures.syncs();
    row(
        "  a bare append and sync there",
        format!(
            "p50 {:.0} us, p99 {:.0} us",
            at(&syncs, 0.5),
            at(&syncs, 0.99)
        ),
    );
    let late = figures.lateness();
    row(
        "silence noticed after its time-out",
        format!(
            "{:+.2} to {:+.2} % of it, {} of {} nodes",
            at(&late, 0.0) * 100.0,
            at(&late, 1.0) * 100.0,
            late.len(),
            crate::run::SILENT_NODES
        ),
    );
    let Restart {
        start,
        listing,
        ready,
    } = &figures.restart;
    row("restart: journal", took(&start.journal));
    row(
        "restart: windows",
        format!("{} for {} nodes", took(&start.windows), start.restored),
    );
    row("restart: inventory taken in", seconds(*listing));
    row("restart: until it answers", seconds(*ready));
    let replay = &figures.replay;
    row(
        "replay of a backlog",
        format!(
            "{:.0} records a second; R / Rhizome {:.2}",
            replay.per_second,
            replay.share()
        ),
    );
    out
}

/// The same as one JSON object; times in microseconds unless the name says otherwise.
pub(crate) fn json(figures: &Figures) -> Value {
    let latencies = figures.latencies();
    let syncs = figures.syncs();
    let late = figures.lateness();
    let restart = &figures.restart;
    let ratio = figures.spread(|round| round.reference_us() / round.ours_us());
    json!({
        "nodes": figures.nodes,
        "reference_us": figures.spread(Round::reference_us),
        "rhizome_us": figures.spread(Round::ours_us),
        "rhizome_us_by_thread": figures.parts().into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "ratio": ratio,
        "enter_rhai_share": figures.entered,
        "action_start": {
            "count": latencies.len(),
            "p50": at(&latencies, 0.5),
            "p99": at(&latencies, 0.99),
        },
        "sync": { "p50": at(&syncs, 0.5), "p99": at(&syncs, 0.99) },
        "silence_late_share": [at(&late, 0.0), at(&late, 1.0)],
        "silences": late.len(),
        "restart_seconds": {
            "journal": restart.start.journal.wall.as_secs_f64(),
            "windows": restart.start.windows.wall.as_secs_f64(),
            "inventory": restart.listing.as_secs_f64(),
            "answers": restart.ready.as_secs_f64(),
            "restored_nodes": restart.start.restored,
        },
        "replay": {
            "records": figures.replay.records,
            "per_second": figures.replay.per_second,
            "ratio": figures.replay.share(),
        },
    })
}

fn micros(spent: &Spent, records: u64) -> f64 {
    spent.values().sum::<u64>() as f64 / 1e3 / records.max(1) as f64
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The value below which this share of the sorted values lies; not a number if there are none.
fn at(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let place = (last as f64 * share).round() as usize;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

fn spread([least, median, greatest]: Spread, digits: usize) -> String {
    format!("{least:.digits$} / {median:.digits$} / {greatest:.digits$}")
}

fn took(took: &Took) -> String {
    format!(
        "{} ({} of processor)",
        seconds(took.wall),
        seconds(took.cpu)
    )
}

fn seconds(duration: Duration) -> String {
    format!("{:.3} s", duration.as_secs_f64())
}

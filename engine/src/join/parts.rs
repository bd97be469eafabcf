//! What a part is: its core, its state, and its value as a whole number.

use super::{PartSample, instants::CORES};
use crate::event::Form;

/// Units in one percent and in one jiffy a second. Millionths, so that sums are exact.
const UNITS: f64 = 1e6;

/// A hundred percent, and the jiffies in a second of one core (`USER_HZ`, 100 on every Linux).
pub(super) const FULL: u64 = 100_000_000;

/// Whole numbers beyond this are not exact in what an agent sends.
const LARGEST: f64 = 9_007_199_254_740_992.0;

/// The states of a core, idle first (collectd's names, and others' for the same).
const CPU_STATES: [&[&str]; 11] = [
    &["idle"],
    &["user"],
    &["system"],
    &["nice"],
    &["wait", "iowait"],
    &["interrupt", "irq"],
    &["softirq"],
    &["steal"],
    &["guest"],
    &["guest_nice"],
    &["other"],
];

/// The states of memory, used first (collectd on Linux and on the BSDs).
const MEMORY_STATES: [&[&str]; 12] = [
    &["used"],
    &["free"],
    &["buffered", "buffers"],
    &["cached"],
    &["slab_recl", "slab_reclaimable"],
    &["slab_unrecl", "slab_unreclaimable"],
    &["active"],
    &["inactive"],
    &["wired"],
    &["laundry"],
    &["cache"],
    &["arc"],
];

/// Parts of one kind of one node are joined with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) form: Form,
    /// The agent itself sums over the cores, as collectd does with `ReportByCpu false`.
    pub(super) total: bool,
}

/// One part of an instant.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) kind: Kind,
    pub(super) core: usize,
    /// A bit of the set of states; bit 0 is the one that the ratio is of.
    pub(super) state: u16,
    /// Milliseconds since the epoch.
    pub(super) time: i64,
    pub(super) value: u64,
    /// Milliseconds; 0 if not told.
    pub(super) interval: i64,
}

impl Kind {
    pub(super) fn metric(self) -> &'static str {
        match self.form {
            Form::MemoryBytes => "memory",
            Form::Value | Form::CpuPercent | Form::CpuRate | Form::CpuCounter => "cpu",
        }
    }
}

impl Part {
    /// The part that `sample` is; none if it has no meaning.
    pub(super) fn of(sample: &PartSample<'_>) -> Option<Self> {
        let (core, state) = match sample.form {
            Form::Value => return None,
            Form::MemoryBytes => ("", sample.part),
            Form::CpuPercent | Form::CpuRate | Form::CpuCounter => sample.part.split_once('/')?,
        };
        let mut value = sample.value;
        if !(0.0..=LARGEST).contains(&value) {
            return None;
        }
        let mut state = state;
        if sample.form == Form::CpuPercent && state == "active" {
            state = "idle";
            value = (100.0 - value).max(0.0);
        }
        let place = |states: &[&[&str]]| states.iter().position(|names| names.contains(&state));
        let state = match sample.form {
            Form::MemoryBytes => place(&MEMORY_STATES)?,
            // Of percents idle says it all.
            Form::CpuPercent => place(&CPU_STATES).filter(|state| *state == 0)?,
            Form::Value | Form::CpuRate | Form::CpuCounter => place(&CPU_STATES)?,
        };
        let units = match sample.form {
            Form::CpuPercent | Form::CpuRate => UNITS,
            Form::Value | Form::CpuCounter | Form::MemoryBytes => 1.0,
        };
        let number = match core.strip_prefix("cpu").unwrap_or(core) {
            "" => 0,
            number => number.parse().ok().filter(|core| *core < CORES)?,
        };
        Some(Self {
            kind: Kind {
                form: sample.form,
                total: core.is_empty(),
            },
            core: number,
            state: 1 << state,
            time: sample.time.millis(),
            value: (value * units + 0.5) as u64,
            interval: sample
                .interval
                .map_or(0, |it| i64::try_from(it.as_millis()).unwrap_or(i64::MAX)),
        })
    }
}

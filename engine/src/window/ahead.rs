//! Reads what a record of a node will need before it is needed (`engine/ahead.rs`).

use super::series::Metric;
use super::stat::Column;
use super::{NodeSlot, Windows};

/// Bytes that come from memory at a time.
const LINE: usize = 64;

/// The newest samples that are asked for: a quarter of an hour of one every ten seconds. Of longer
/// windows only a rule that cannot be ruled out reads the rest.
const SAMPLES: usize = 96;

/// Metrics whose samples are asked for at most. Some agents send each in a record of its own.
const METRICS: usize = 4;

impl Windows {
    /// Reads a word of all that is kept of the node but its samples, so that it is near when it is
    /// needed.
    pub(crate) fn ask_ahead(&self, slot: NodeSlot) -> i64 {
        let node = slot.0 as usize;
        let heard = self.heard.get(node).copied().unwrap_or_default();
        let pace = self.paces.get(node).map_or(0, |pace| i64::from(pace.told));
        let metrics = self.metrics.iter();
        metrics.fold(heard ^ pace, |sum, metric| sum ^ metric.ask_ahead(node))
    }

    /// The same of its samples.
    pub(crate) fn ask_samples_ahead(&self, slot: NodeSlot) -> i64 {
        let metrics = self.metrics.iter().take(METRICS);
        metrics.fold(0, |sum, metric| {
            sum ^ metric.ask_samples_ahead(slot.0 as usize)
        })
    }
}

impl Metric {
    /// Reads a word of where the samples of a node are.
    fn ask_ahead(&self, node: usize) -> i64 {
        self.series(node).map_or(0, |series| series.newest)
    }

    /// Reads a word of each line of memory that the newest samples of the node are in.
    fn ask_samples_ahead(&self, node: usize) -> i64 {
        let Some(view) = self.view(node) else {
            return 0;
        };
        let ends = [view.times.first(), view.times.last()];
        let sum = ends
            .into_iter()
            .flatten()
            .fold(0, |sum, time| sum ^ i64::from(*time));
        sum ^ match view.values {
            Column::Fixed(values) => words(values).fold(0, |sum, value| sum ^ i64::from(*value)),
            Column::Wide(values) => {
                words(values).fold(0, |sum, value| sum ^ value.to_bits().cast_signed())
            }
        }
    }
}

/// One in each line of the newest, from the newest on.
fn words<T>(values: &[T]) -> impl Iterator<Item = &T> {
    values
        .iter()
        .rev()
        .take(SAMPLES)
        .step_by(LINE / size_of::<T>())
}

//! A record of a known node into its windows: heartbeat, finished values, joined parts.

use std::time::Duration;

use crate::engine::Engine;
use crate::event::{Form, RecordRef, SampleRef};
use crate::join::PartSample;
use crate::time::{Now, Timestamp};
use crate::window::{MetricSlot, NodeSlot, Pushed, Sample, Windows};

/// Values of a record whose metrics are remembered by their place in it.
const PLACES_KEPT: usize = 64;

/// The metrics of the last records, by their place among the values. Agents send the same ones in the same
/// order, so that most need no looking up.
#[derive(Debug, Default)]
pub(crate) struct Places(Vec<(String, Option<MetricSlot>)>);

impl Places {
    /// The plan of the windows is another.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }

    /// The slot of a metric; none if no policy names it.
    fn slot(&mut self, windows: &Windows, place: usize, metric: &str) -> Option<MetricSlot> {
        if let Some((known, slot)) = self.0.get(place)
            && known == metric
        {
            return *slot;
        }
        let slot = windows.metric_slot(metric);
        if let Some((known, kept)) = self.0.get_mut(place) {
            known.clear();
            known.push_str(metric);
            *kept = slot;
        } else if place == self.0.len() && place < PLACES_KEPT {
            self.0.push((metric.to_owned(), slot));
        }
        slot
    }
}

impl Engine {
    /// Takes in one record: every record is also a heartbeat. Says whether a window may have changed.
    pub(crate) fn take_record(
        &mut self,
        now: Now,
        slot: NodeSlot,
        record: RecordRef<'_>,
        refill: bool,
    ) -> bool {
        self.pushed = false;
        let time = record.time();
        let interval = record.interval();
        let windows = &mut self.world.windows;
        let sooner = windows.paced(slot, time, interval, now.wall);
        windows.heard(slot, time, now.wall);
        if sooner {
            // Its silence begins to count earlier than was known.
            self.world.watch(slot);
        }
        let mut place = 0;
        for sample in record.samples() {
            if sample.form == Form::Value {
                let taken = Sample {
                    time,
                    value: sample.value,
                    interval,
                };
                let metric = self.places.slot(&self.world.windows, place, sample.metric);
                place += 1;
                self.take_sample(now, slot, metric, taken, refill);
            } else {
                self.take_part(now, slot, &sample, time, interval, refill);
            }
        }
        self.pushed
    }

    /// Takes in a part, and what it makes whole.
    fn take_part(
        &mut self,
        now: Now,
        slot: NodeSlot,
        sample: &SampleRef<'_>,
        time: Timestamp,
        interval: Option<Duration>,
        refill: bool,
    ) {
        let part = PartSample {
            form: sample.form,
            part: sample.part,
            time,
            value: sample.value,
            interval,
        };
        let mut joined = std::mem::take(&mut self.joined);
        self.joins.push(slot, part, &mut joined);
        for whole in joined.drain(..) {
            let taken = Sample {
                time: whole.time,
                value: whole.value,
                interval: whole.interval,
            };
            let metric = self.world.windows.metric_slot(whole.metric);
            self.take_sample(now, slot, metric, taken, refill);
        }
        self.joined = joined;
    }

    fn take_sample(
        &mut self,
        now: Now,
        slot: NodeSlot,
        metric: Option<MetricSlot>,
        sample: Sample,
        refill: bool,
    ) {
        // A metric that no policy names is not kept.
        let Some(metric) = metric else {
            return;
        };
        self.pushed = true;
        let windows = &mut self.world.windows;
        let pushed = if refill {
            windows.refill(slot, metric, sample, now.wall)
        } else {
            windows.push(slot, metric, sample, now.wall)
        };
        self.count(pushed);
    }

    fn count(&mut self, pushed: Pushed) {
        match pushed {
            Pushed::Taken => {}
            Pushed::Duplicate => self.counters.duplicates += 1,
            Pushed::Late => self.counters.late += 1,
            Pushed::Future => self.counters.future += 1,
            Pushed::Crowded => self.counters.crowded += 1,
            Pushed::Refused => self.counters.refused += 1,
        }
    }
}

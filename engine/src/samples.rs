//! A record of a known node into its windows: heartbeat, finished values, joined parts.

use std::time::Duration;

use crate::engine::Engine;
use crate::event::{Form, RecordRef, SampleRef};
use crate::join::PartSample;
use crate::time::{Now, Timestamp};
use crate::window::{NodeSlot, Pushed, Sample};

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
        for sample in record.samples() {
            if sample.form == Form::Value {
                let taken = Sample {
                    time,
                    value: sample.value,
                    interval,
                };
                self.take_sample(now, slot, sample.metric, taken, refill);
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
            self.take_sample(now, slot, whole.metric, taken, refill);
        }
        self.joined = joined;
    }

    fn take_sample(
        &mut self,
        now: Now,
        slot: NodeSlot,
        metric: &str,
        sample: Sample,
        refill: bool,
    ) {
        let windows = &mut self.world.windows;
        // A metric that no policy names is not kept.
        let Some(metric) = windows.metric_slot(metric) else {
            return;
        };
        self.pushed = true;
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

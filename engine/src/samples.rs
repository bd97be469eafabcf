//! A record of a known node into its windows: heartbeat, finished values, joined parts.

use crate::engine::Engine;
use crate::event::{Form, RecordRef};
use crate::time::Now;
use crate::window::{NodeSlot, Pushed, Sample};

impl Engine {
    /// Takes in one record: every record is also a heartbeat.
    pub(crate) fn take_record(
        &mut self,
        now: Now,
        slot: NodeSlot,
        record: RecordRef<'_>,
        refill: bool,
    ) {
        let time = record.time();
        let interval = record.interval();
        self.world.windows.heard(slot, time, now.wall);
        for sample in record.samples() {
            if sample.form != Form::Value {
                continue;
            }
            // A metric that no policy names is not kept.
            let Some(metric) = self.world.windows.metric_slot(sample.metric) else {
                continue;
            };
            let taken = Sample {
                time,
                value: sample.value,
                interval,
            };
            let windows = &mut self.world.windows;
            let pushed = if refill {
                windows.refill(slot, metric, taken, now.wall)
            } else {
                windows.push(slot, metric, taken, now.wall)
            };
            self.count(pushed);
        }
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

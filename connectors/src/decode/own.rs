//! Rhizome's own record: `{"node", "time", "cpu", "memory", "metrics", "labels"}`.

use super::bad::BadReason;
use super::json::{Number, Object, Scratch};
use super::sink::Sink;

/// A record of Rhizome's own form: a heartbeat, and whatever else is in it.
pub(crate) fn finish(object: &Object<'_>, scratch: &Scratch, sink: &mut Sink<'_>) {
    if !sink.begin(object.node.as_deref(), object.time, None) {
        return;
    }
    for (metric, number) in [("cpu", object.cpu), ("memory", object.memory)] {
        match number {
            Number::Missing => {}
            Number::Value { value, .. } => sink.ratio(metric, value),
            Number::Wrong => sink.refuse_value(BadReason::WrongType, || {
                format!("`{metric}` is not a number")
            }),
        }
    }
    for (metric, number) in scratch.fields() {
        match number {
            Number::Missing => {}
            Number::Value { value, .. } => sink.value(metric, value),
            Number::Wrong => sink.refuse_value(BadReason::WrongType, || {
                format!("the metric `{}` is not a number", super::bad::shown(metric))
            }),
        }
    }
}

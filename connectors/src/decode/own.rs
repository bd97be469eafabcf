//! Rhizome's own record: `{"node", "time", "cpu", "memory", "metrics", "labels"}`.

use super::bad::BadReason;
use super::json::{Number, Object, Scratch};
use super::sink::Sink;
use super::time::Time;

/// A record of Rhizome's own form: a heartbeat, and whatever else is in it.
pub(crate) fn finish(object: &Object<'_>, scratch: &Scratch, sink: &mut Sink<'_>) {
    let node = object.node.as_deref();
    take(node, object.time, object.cpu, object.memory, scratch, sink);
}

/// The same of its parts; the metrics are in `scratch`.
pub(crate) fn take(
    node: Option<&str>,
    time: Time,
    cpu: Number,
    memory: Number,
    scratch: &Scratch,
    sink: &mut Sink<'_>,
) {
    if !sink.begin(node, time, None) {
        return;
    }
    for (metric, number) in [("cpu", cpu), ("memory", memory)] {
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

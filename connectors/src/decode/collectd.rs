//! collectd's value lists, as `write_kafka` and `write_http` send them (`Format JSON`).
//!
//! Seen with collectd 5.12: one value list a record; rates by default, with `null` for the
//! first; `cpu` per core unless configured otherwise; no state of memory called total.

use std::time::Duration;

use rhizome_engine::event::Form;

use super::DecodeOptions;
use super::bad::{BadReason, shown};
use super::json::{Number, Object, Scratch};
use super::sink::Sink;

/// Jiffies that a core can spend in a second, with room for a late reading: there are 100.
///
/// A whole number above this is no rate; collectd prints counters as whole numbers.
const MAX_JIFFIES_A_SECOND: f64 = 200.0;

/// A value list: a heartbeat of its host, and one or more values.
pub(crate) fn finish(
    object: &Object<'_>,
    options: &DecodeOptions,
    scratch: &mut Scratch,
    sink: &mut Sink<'_>,
) {
    let (Some(plugin), Some(type_)) = (object.plugin.as_deref(), object.type_.as_deref()) else {
        sink.refuse(BadReason::UnknownFormat, || {
            "a collectd value list has `host`, `plugin` and `type`".to_owned()
        });
        return;
    };
    // With `time` null or absent there is no event time, as with any other sender.
    let interval = match object.interval {
        Number::Value { value, .. } if value > 0.0 => Duration::try_from_secs_f64(value).ok(),
        _ => None,
    };
    if !sink.begin(object.host.as_deref(), object.time, interval) {
        return;
    }
    let instance = object.plugin_instance.as_deref().unwrap_or_default();
    let state = object.type_instance.as_deref().unwrap_or_default();
    for place in 0..scratch.values.len() {
        let number = scratch.values.get(place).copied().unwrap_or_default();
        let (value, whole) = match number {
            Number::Value { value, whole } => (value, whole),
            // The first value of a rate: there is nothing yet to take it from.
            Number::Missing => continue,
            Number::Wrong => {
                sink.refuse_value(BadReason::WrongType, || {
                    format!("a value of `{}` is not a number", shown(plugin))
                });
                continue;
            }
        };
        match (plugin, type_) {
            ("cpu", "percent") => cpu(Form::CpuPercent, instance, state, value, scratch, sink),
            ("cpu", "cpu") => {
                let counter = options.collectd_counters || (whole && value > MAX_JIFFIES_A_SECOND);
                let form = if counter {
                    Form::CpuCounter
                } else {
                    Form::CpuRate
                };
                cpu(form, instance, state, value, scratch, sink);
            }
            ("memory", "memory") if !state.is_empty() => {
                sink.part("memory", state, Form::MemoryBytes, value, f64::MAX);
            }
            ("memory", "percent") if state == "used" => sink.ratio("memory", value / 100.0),
            _ => {
                scratch.build_value_name(&[plugin, instance, type_, state], place);
                sink.value(scratch.built(), value);
            }
        }
    }
}

/// A state of one core; the engine joins the cores' idle times to the ratio `cpu`. Without a core
/// it is summed over all of them (`ReportByCpu false`).
fn cpu(
    form: Form,
    core: &str,
    state: &str,
    value: f64,
    scratch: &mut Scratch,
    sink: &mut Sink<'_>,
) {
    // `ReportByState false` sends only how busy a core is: its idle time is the rest.
    let (state, value) = match (form, state) {
        (Form::CpuPercent, "active") => ("idle", 100.0 - value),
        _ => (state, value),
    };
    let max = match form {
        Form::CpuPercent => 100.0,
        Form::CpuRate => MAX_JIFFIES_A_SECOND,
        _ => f64::MAX,
    };
    scratch.build_part(core, state);
    sink.part("cpu", scratch.built(), form, value, max);
}

//! Telegraf's metrics, whether they came as JSON or as line protocol.
//!
//! `cpu` is `1 - usage_idle/100` of the row `cpu-total` and `memory` is `used_percent/100` of
//! `mem`. Every other number is `measurement.field`; where one host sends several rows of a
//! measurement (disks, interfaces, cores), the row's own tag stands between, as in
//! `net.eth0.bytes_recv`: without it they would pass for one another.

use super::DecodeOptions;
use super::bad::BadReason;
use super::json::{Number, Scratch};
use super::sink::Sink;
use super::time::Time;

/// The tag that tells a measurement's rows of one host apart.
const ROW_TAGS: [(&str, &str); 7] = [
    ("cpu", "cpu"),
    ("disk", "path"),
    ("diskio", "name"),
    ("net", "interface"),
    ("nvidia_smi", "index"),
    ("sensors", "feature"),
    ("temp", "sensor"),
];

/// The row of `cpu` that stands for the whole machine.
const ALL_CORES: &str = "cpu-total";

/// One metric; its fields and tags are in `scratch`.
pub(crate) fn finish(
    measurement: &str,
    time: Time,
    options: &DecodeOptions,
    scratch: &mut Scratch,
    sink: &mut Sink<'_>,
) {
    if !sink.begin(scratch.tag(&options.node_tag), time, None) {
        return;
    }
    let row_tag = ROW_TAGS
        .iter()
        .find(|(name, _)| *name == measurement)
        .map(|(_, tag)| *tag);
    let all_cores = measurement == "cpu" && scratch.tag("cpu") == Some(ALL_CORES);
    if all_cores {
        // `usage_active` would do as well but includes iowait and is seldom sent. A row without
        // the tag could be any core's, so nothing is made of it.
        if let Some(idle) = scratch.field("usage_idle") {
            sink.ratio("cpu", (100.0 - idle) / 100.0);
        }
    }
    if measurement == "mem" {
        if let Some(used) = scratch.field("used_percent") {
            sink.ratio("memory", used / 100.0);
        } else if let Some(available) = scratch.field("available_percent") {
            sink.ratio("memory", (100.0 - available) / 100.0);
        }
    }
    for place in 0..scratch.len() {
        match scratch.number(place) {
            Number::Value { value, .. } => {
                let row = row_tag.filter(|_| !all_cores);
                scratch.build_field_name(measurement, row, place);
                sink.value(scratch.built(), value);
            }
            // Fields may be text or flags; they are nobody's mistake.
            Number::Missing | Number::Wrong => {}
        }
    }
}

/// Says that a metric has no name.
pub(crate) fn refuse_nameless(sink: &mut Sink<'_>) {
    sink.refuse(BadReason::UnknownFormat, || {
        "a Telegraf metric has `name`, `fields`, `tags` and `timestamp`".to_owned()
    });
}

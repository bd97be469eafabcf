//! The one way from a decoder into the batch: every name, time and value is checked here.

use std::time::Duration;

use rhizome_engine::event::{Batch, Form};

use super::bad::{BadList, BadReason, Scope, shown};
use super::time::Time;
use super::{MAX_METRIC_NAME, MAX_NODE_NAME, MAX_SAMPLES};

/// How far a ratio may lie outside of 0..=1 and still be rounding.
///
/// `100 - usage_idle` of a busy machine comes out as -2e-14; a percentage sent as a ratio is
/// off by far more than this.
const RATIO_SLACK: f64 = 1e-6;

/// Takes what a decoder reads, one record after the other.
pub(crate) struct Sink<'a> {
    batch: &'a mut Batch,
    bad: &'a mut BadList,
    index: usize,
    records: usize,
    samples: usize,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(batch: &'a mut Batch, bad: &'a mut BadList) -> Self {
        Self {
            batch,
            bad,
            index: 0,
            records: 0,
            samples: 0,
        }
    }

    /// How many records were taken.
    pub(crate) fn records(&self) -> usize {
        self.records
    }

    /// Goes on to the next record of the input.
    pub(crate) fn next(&mut self) {
        self.index += 1;
    }

    /// Goes on to the record with this number.
    pub(crate) fn at(&mut self, index: usize) {
        self.index = index;
    }

    /// Puts the present record aside.
    pub(crate) fn refuse(&mut self, reason: BadReason, detail: impl FnOnce() -> String) {
        self.bad.push(self.index, Scope::Record, reason, detail);
    }

    /// Puts a value of the present record aside.
    pub(crate) fn refuse_value(&mut self, reason: BadReason, detail: impl FnOnce() -> String) {
        self.bad.push(self.index, Scope::Value, reason, detail);
    }

    /// Begins a record, if its node and time will do. What is pushed next belongs to it.
    pub(crate) fn begin(
        &mut self,
        node: Option<&str>,
        time: Time,
        interval: Option<Duration>,
    ) -> bool {
        let Some(node) = node else {
            self.refuse(BadReason::NoNode, || "the record names no node".to_owned());
            return false;
        };
        if !is_node_name(node) {
            self.refuse(BadReason::BadNode, || {
                format!(
                    "`{}` is no host name: letters, digits, `.`, `-` and `_`, at most {MAX_NODE_NAME}",
                    shown(node)
                )
            });
            return false;
        }
        let time = match time {
            Time::At(time) => time,
            Time::Missing => {
                self.refuse(BadReason::NoTime, || {
                    format!("the record of `{node}` has no time")
                });
                return false;
            }
            Time::Bad => {
                self.refuse(BadReason::BadTime, || {
                    format!(
                        "the time of the record of `{node}` is neither RFC 3339 nor Unix time in s, ms, us or ns"
                    )
                });
                return false;
            }
        };
        self.batch.push_record(node, time, interval);
        self.records += 1;
        self.samples = 0;
        true
    }

    /// A finished value, as sent; `cpu` and `memory` are ratios whoever sends them.
    pub(crate) fn value(&mut self, metric: &str, value: f64) {
        if metric == "cpu" || metric == "memory" {
            self.ratio(metric, value);
        } else {
            self.push(metric, "", Form::Value, value);
        }
    }

    /// A ratio, 0..=1.
    pub(crate) fn ratio(&mut self, metric: &str, value: f64) {
        if !(-RATIO_SLACK..=1.0 + RATIO_SLACK).contains(&value) {
            self.refuse_value(BadReason::OutOfRange, || {
                format!("`{metric}` of {value} is no ratio: it runs from 0 to 1")
            });
            return;
        }
        self.push(metric, "", Form::Value, value.clamp(0.0, 1.0));
    }

    /// A part that the engine joins: never negative, at most `max`.
    pub(crate) fn part(&mut self, metric: &str, part: &str, form: Form, value: f64, max: f64) {
        if !(-RATIO_SLACK..=max + RATIO_SLACK).contains(&value) {
            self.refuse_value(BadReason::OutOfRange, || {
                format!(
                    "`{metric}` of `{}` is {value}: it runs from 0 to {max}",
                    shown(part)
                )
            });
            return;
        }
        self.push(metric, part, form, value.clamp(0.0, max));
    }

    fn push(&mut self, metric: &str, part: &str, form: Form, value: f64) {
        if !value.is_finite() {
            self.refuse_value(BadReason::OutOfRange, || {
                format!("`{}` is not a finite number", shown(metric))
            });
        } else if !is_metric_name(metric) || (!part.is_empty() && !is_metric_name(part)) {
            self.refuse_value(BadReason::BadMetric, || {
                format!(
                    "`{}` is no name for a metric: it is empty, longer than {MAX_METRIC_NAME} or has control characters",
                    shown(metric)
                )
            });
        } else if self.samples == MAX_SAMPLES {
            self.samples += 1;
            self.refuse_value(BadReason::TooManySamples, || {
                format!("only the first {MAX_SAMPLES} samples are taken")
            });
        } else if self.samples < MAX_SAMPLES {
            self.samples += 1;
            self.batch.push_sample(metric, part, form, value);
        }
    }
}

fn is_node_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NODE_NAME
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

fn is_metric_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_METRIC_NAME
        && (name.bytes().all(|byte| (b' '..=b'~').contains(&byte))
            || !name.chars().any(char::is_control))
}

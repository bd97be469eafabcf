//! Sliding windows over event time, per node and metric.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A node's place in the engine's vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeSlot(pub u32);

/// A metric's place in the plan of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetricSlot(pub u16);

/// What is computed over a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stat {
    /// Arithmetic mean of the samples.
    Mean,
    /// Largest sample.
    Max,
    /// Smallest sample.
    Min,
    /// 95th percentile of the samples, nearest rank.
    P95,
    /// Population standard deviation of the samples.
    StdDev,
    /// Mean with weights that halve every half-life, here the window's length over four.
    Ewma,
    /// Least-squares slope, per second.
    Slope,
    /// Increase of a counter per second, resets taken into account.
    Rate,
    /// Number of samples.
    Count,
    /// The newest sample.
    Last,
    /// Share of the window's panes with a sample, 0..=1.
    Coverage,
}

/// What a window holds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reading {
    /// The value; none if the window holds too little for it. Missing is not zero.
    pub value: Option<f64>,
    /// Share of the window's panes that hold a sample, 0..=1.
    pub coverage: f64,
}

/// The metrics and windows that the policies name, and so what is to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WindowPlan {
    /// Metric names with the windows asked of each; the place is the [`MetricSlot`].
    pub metrics: Vec<(String, Vec<Duration>)>,
}

/// What became of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is in.
    Taken,
    /// One of the same node, metric and time was in: the larger value stays.
    Duplicate,
    /// Too old for the lateness bound.
    Late,
    /// Too far ahead of the clock.
    Future,
}

/// Placeholder for the store of all windows.
#[derive(Debug, Default)]
pub struct Windows {
    _lateness: Duration,
    _last: Option<Timestamp>,
}

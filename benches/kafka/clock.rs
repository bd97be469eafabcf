//! A clock that stands still until it is told to go on, and later runs with the machine's.
//!
//! The throughput runs move it second by second, as the records that were produced say, so
//! that a fleet of any size has its ticks, its looks at the broker and its kept windows as
//! often per record as in real life, however fast or slow the machine is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rhizome_engine::time::{BoxFuture, Clock, Monotonic, Now, Timestamp};

/// Where the monotonic side begins, so that times before the start can be told on it.
const MONOTONIC_START: u64 = 1 << 40;

/// A wall-clock time to begin at.
const WALL_START: i64 = 1_795_333_370_000;

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct StepClock {
    base: Instant,
    stepped_ms: AtomicU64,
    /// When it began to run, in nanoseconds after `base`; 0 while it stands.
    running_ns: AtomicU64,
}

impl StepClock {
    pub(crate) fn new() -> Self {
        Self {
            base: Instant::now(),
            stepped_ms: AtomicU64::new(0),
            running_ns: AtomicU64::new(0),
        }
    }

    pub(crate) fn step(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(0);
        self.stepped_ms.fetch_add(by, Ordering::SeqCst);
    }

    /// From now on it goes as the machine's does.
    pub(crate) fn run(&self) {
        self.running_ns
            .store(self.real_ns().max(1), Ordering::SeqCst);
    }

    /// It stands still again.
    pub(crate) fn halt(&self) {
        let ran = self.ran_ms();
        self.running_ns.store(0, Ordering::SeqCst);
        self.stepped_ms.fetch_add(ran, Ordering::SeqCst);
    }

    fn real_ns(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn ran_ms(&self) -> u64 {
        match self.running_ns.load(Ordering::SeqCst) {
            0 => 0,
            began => self.real_ns().saturating_sub(began) / 1_000_000,
        }
    }
}

impl Clock for StepClock {
    fn now(&self) -> Now {
        let passed = self.stepped_ms.load(Ordering::SeqCst) + self.ran_ms();
        Now {
            wall: Timestamp(WALL_START + i64::try_from(passed).unwrap_or(0)),
            mono: Monotonic(MONOTONIC_START + passed),
        }
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

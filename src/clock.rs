//! The clocks: the wall's own, and one that runs faster for the demo and the simulation.
//!
//! The only file of the program that reads the time of the machine. Both run on tokio's
//! clock: a sleep and the time that passed are told by one source.

#![allow(
    clippy::disallowed_methods,
    reason = "this is where the program's clock is made"
)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rhizome_engine::time::{BoxFuture, Clock, Monotonic, Now, Timestamp};
use tokio::time::Instant;

/// Where the monotonic side of both begins: times before the start can then be told on it too,
/// which is how what a journal holds of an earlier run is carried over.
const MONOTONIC_START: Monotonic = Monotonic(1 << 40);

/// The machine's clocks.
#[derive(Debug, Clone)]
pub struct RealClock {
    base: Instant,
}

/// A clock that runs `factor` times as fast as the machine's, from the same beginning.
#[derive(Debug, Clone)]
pub struct ScaledClock {
    base: Instant,
    wall: Timestamp,
    factor: u32,
}

impl RealClock {
    /// A clock whose monotonic side begins now.
    pub fn new() -> Self {
        Self {
            base: Instant::now(),
        }
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl ScaledClock {
    /// A clock that begins now and runs `factor` times as fast; 0 counts as 1.
    pub fn new(factor: u32) -> Self {
        Self {
            base: Instant::now(),
            wall: wall(),
            factor: factor.max(1),
        }
    }

    /// How many times as fast it runs.
    pub fn factor(&self) -> u32 {
        self.factor
    }
}

impl Clock for RealClock {
    fn now(&self) -> Now {
        Now {
            wall: wall(),
            mono: MONOTONIC_START.plus(self.base.elapsed()),
        }
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

impl Clock for ScaledClock {
    fn now(&self) -> Now {
        let passed = self.base.elapsed().saturating_mul(self.factor);
        Now {
            wall: self.wall.plus(passed),
            mono: MONOTONIC_START.plus(passed),
        }
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(self.real(duration)))
    }

    fn real(&self, duration: Duration) -> Duration {
        duration / self.factor
    }
}

fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since_epoch.unwrap_or_default().as_millis();
    Timestamp(i64::try_from(millis).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_scaled_clock_runs_faster_on_both_sides() {
        let clock = ScaledClock::new(1000);
        let (before, base) = (clock.now(), RealClock::new());
        clock.sleep(Duration::from_secs(20)).await;
        let after = clock.now();
        let real = base.now().mono.since(MONOTONIC_START);
        // The time that the machine itself took is on both clocks, so load changes nothing.
        assert!(after.mono.since(before.mono) >= Duration::from_secs(20));
        assert!(after.mono.since(before.mono) >= real * 900);
        assert_eq!(
            after.wall.since(before.wall),
            after.mono.since(before.mono),
            "both sides move alike"
        );
        assert_eq!(
            clock.real(Duration::from_secs(30)),
            Duration::from_millis(30)
        );
    }

    #[tokio::test]
    async fn the_real_clock_moves_by_what_was_slept() {
        let clock = RealClock::new();
        let before = clock.now();
        clock.sleep(Duration::from_millis(5)).await;
        assert!(clock.now().mono.since(before.mono) >= Duration::from_millis(5));
        assert!(before.wall > Timestamp(1_700_000_000_000));
    }
}

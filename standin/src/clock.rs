//! Two clocks for those who run the stand-ins: one that a test moves by hand, and one that
//! goes faster than the wall's.
//!
//! The stand-ins themselves read whatever [`Clock`] they are given.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rhizome_engine::time::{BoxFuture, Clock, Monotonic, Now, Timestamp};
use tokio::sync::oneshot;

/// A clock that stands still until it is moved.
#[derive(Debug, Clone)]
pub struct ManualClock {
    inner: Arc<Mutex<Manual>>,
}

#[derive(Debug)]
struct Manual {
    now: Now,
    // Sleepers by the time at which they wake, and then in the order in which they came.
    sleepers: BTreeMap<(Monotonic, u64), oneshot::Sender<()>>,
    count: u64,
}

impl ManualClock {
    /// A clock that stands at `wall`.
    pub fn new(wall: Timestamp) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Manual {
                now: Now {
                    wall,
                    mono: Monotonic(0),
                },
                sleepers: BTreeMap::new(),
                count: 0,
            })),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Manual> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the clock on and wakes those whose time has come.
    pub fn advance(&self, by: Duration) {
        let mut manual = self.lock();
        manual.now = manual.now.plus(by);
        let now = manual.now.mono;
        while let Some(entry) = manual.sleepers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            // A sleeper that is gone needs no waking.
            let _ = entry.remove().send(());
        }
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        self.lock().now
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (wake, woken) = oneshot::channel();
        let mut manual = self.lock();
        let due = manual.now.mono.plus(duration);
        manual.count += 1;
        let count = manual.count;
        manual.sleepers.insert((due, count), wake);
        Box::pin(async move {
            // The sender is dropped only with the clock; then nobody waits for time any more.
            let _ = woken.await;
        })
    }
}

/// A clock that goes `speed` times as fast as the machine's, from a chosen start.
#[derive(Debug, Clone)]
pub struct ScaledClock {
    start: Now,
    began: tokio::time::Instant,
    speed: f64,
}

impl ScaledClock {
    /// A clock that shows `wall` now and goes `speed` times as fast as the machine's.
    ///
    /// A speed of zero or less, or one that is no number, counts as 1.
    pub fn new(wall: Timestamp, speed: f64) -> Self {
        Self {
            start: Now {
                wall,
                mono: Monotonic(0),
            },
            began: tokio::time::Instant::now(),
            speed: if speed.is_finite() && speed > 0.0 {
                speed
            } else {
                1.0
            },
        }
    }

    /// How many times as fast as the machine's clock it goes.
    pub fn speed(&self) -> f64 {
        self.speed
    }
}

impl Clock for ScaledClock {
    fn now(&self) -> Now {
        self.start.plus(self.began.elapsed().mul_f64(self.speed))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration.div_f64(self.speed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_clock_reaches_it_and_not_before() {
        let clock = ManualClock::new(Timestamp(1_000));
        let mut sleep = clock.sleep(Duration::from_secs(10));
        clock.advance(Duration::from_secs(9));
        assert!(futures::poll!(&mut sleep).is_pending());
        clock.advance(Duration::from_secs(1));
        sleep.await;
        assert_eq!(clock.now().wall, Timestamp(11_000));
    }

    #[tokio::test]
    async fn a_scaled_clock_goes_as_fast_as_it_says() {
        let clock = ScaledClock::new(Timestamp(0), 10_000.0);
        let machine = tokio::time::Instant::now();
        clock.sleep(Duration::from_secs(10)).await;
        assert!(machine.elapsed() >= Duration::from_millis(1));
        assert!(clock.now().wall >= Timestamp(10_000));
        assert_eq!(ScaledClock::new(Timestamp(0), f64::NAN).speed(), 1.0);
    }
}

//! A clock that stands, for the tests of what listens.

use std::time::Duration;

use rhizome_engine::time::{BoxFuture, Clock, Monotonic, Now, Timestamp};

/// Always 2026-11-22T08:00:00Z, and nothing is waited for to the end.
pub(crate) struct StillClock;

impl Clock for StillClock {
    fn now(&self) -> Now {
        Now {
            wall: Timestamp(1_795_334_400_000),
            mono: Monotonic(1),
        }
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

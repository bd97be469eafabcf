//! What lets an executor act in the tests on real servers: a gate that is open, and the wall's
//! own time.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rhizome_actions::{Gate, Pass};
use rhizome_engine::action::{Action, Failure};
use rhizome_engine::time::Timestamp;
use rhizome_standin::ScaledClock;

/// A gate that lets everything through.
pub struct Open;

impl Gate for Open {
    fn pass(&self, _: &Action, _: &'static str) -> Result<Pass, Failure> {
        Ok(Pass::granted())
    }
}

/// A clock that says what the wall's does, and goes as fast.
pub fn wall_clock() -> Arc<ScaledClock> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let wall = Timestamp(now.as_millis().try_into().unwrap());
    Arc::new(ScaledClock::new(wall, 1.0))
}

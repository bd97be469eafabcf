//! Scenarios: a timeline as text and, under it, the decisions and refusals that must follow.
//!
//! `parse` reads the text, `model` is the cloud and the cluster of the scenario, `play` runs
//! the engine through it on virtual time, `file` is all of that for a file. Nothing here is real:
//! no file but the scenario and its policies is read, and the time is made up, so the same file
//! gives the same lines.
//!
//! ```text
//! policy target-tracking-cpu.rhai
//! pool workers min=2 max=5
//! nodes workers: w1 w2
//!
//! series every 10s
//!   cpu{pool="workers"}: 0.3x60 0.9x90
//!
//! events
//!   20m die w1
//!
//! expect
//!   16m decide add workers-abcdefgh (2 to 3) [target-tracking-cpu.rhai:8] busy
//! ```

mod file;
mod model;
mod parse;
mod play;
mod series;

pub use file::{FileError, Outcome, files, play_file, policies_of};
pub use model::{Fact, Fate};
pub use parse::{Builds, Happening, ParseError, Scenario, Series, parse};
pub use play::{PlayError, Rehearsal};

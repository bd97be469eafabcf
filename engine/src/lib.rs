//! The pure core of Rhizome: events in, decisions and actions out.
//!
//! No I/O, no clock, no tasks, no randomness, no order that depends on hashing: the same
//! inputs give the same bytes out. The walk of a sample goes through these files in order:
//!
//! 1. [`event`]: what can come in; event time apart from arrival time.
//! 2. [`cluster`]: observed state, and the slot by which a name is known from here on.
//! 3. `samples`: a record into its windows; parts are made whole in [`join`].
//! 4. [`window`]: sliding windows over event time.
//! 5. [`policy`]: Rhai files whose conditions are native trees and whose bodies propose.
//! 6. `rules`: which conditions hold since when; proposals stand while they do.
//! 7. `planner`: one arbiter; what is granted begins, what is not has its reason.
//! 8. `guard`: hard limits and brakes that no script can pass.
//! 9. [`remediation`]: the steps of each decision, and which is next; `drive` takes them.
//! 10. [`journal`]: every change of durable state as a record; intents before actions.
//! 11. [`engine`]: [`engine::Engine::step`], the above in that order.

pub mod action;
pub mod cluster;
pub mod decision;
mod drive;
pub mod engine;
pub mod event;
mod guard;
pub mod join;
pub mod journal;
#[cfg(test)]
mod lab;
pub mod names;
pub mod notice;
mod operator;
pub mod overview;
mod planner;
pub mod policy;
pub mod remediation;
mod rules;
mod samples;
pub mod settings;
mod signals;
pub mod snippet;
pub mod status;
mod story;
pub mod sweep;
pub mod time;
pub mod window;

pub use engine::{Answer, Counters, Engine, Output};
pub use rules::Deadline;

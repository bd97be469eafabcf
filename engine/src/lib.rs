//! The pure core of Rhizome: events in, decisions and actions out.
//!
//! No I/O, no clock, no tasks, no randomness, no order that depends on hashing: the same
//! inputs give the same bytes out.

pub mod action;
pub mod decision;
pub mod event;
pub mod journal;
pub mod names;
pub mod policy;
pub mod remediation;
pub mod settings;
pub mod time;
pub mod window;

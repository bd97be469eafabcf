//! The program `rhizome`, as a library for its own binary and its integration tests.
//!
//! This is the only room that knows the others: it reads the configuration, wires connectors,
//! engine, journal and executors together, and answers operators.

pub mod config;
pub mod journal;

pub mod handle;
pub mod scenario;
pub mod snippet;
pub mod windows;

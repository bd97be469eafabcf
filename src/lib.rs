//! The program `rhizome`, as a library for its own binary and its integration tests.
//!
//! This is the only room that knows the others: it reads the configuration, wires connectors,
//! engine, journal and executors together, and answers operators.

pub mod api;
pub mod clock;
pub mod commands;
pub mod config;
pub mod demo;
pub mod engine_thread;
pub mod exit;
pub mod gate;
pub mod handle;
pub mod journal;
pub mod metrics;
pub mod notify;
pub mod policies;
pub mod run;
pub mod scenario;
pub mod standin;
pub mod telemetry;
pub mod tell;
pub mod windows;
